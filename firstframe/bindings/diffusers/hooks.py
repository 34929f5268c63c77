"""The forward hooks that carry the core's modules into a diffusers UNet.

Each function registers hooks and returns their handles; removing them leaves no trace. Frames are the
batch here, ``(B*F, ...)``; ``injection`` says how many there are and how strong each part is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ...modules.i2v_adapter import I2VAdapter
from ...modules.image_prompt import ImageTokenAdapter, ImageTokenAttention
from ...modules.layers import pooled_with_sizes
from ...modules.motion import MotionModule
from ...sampling.guidance import softened_tokens
from ...sampling.strength import size_of
from ...shapes import fold_frames, unfold_frames
from ...sites import Site
from .injection import Injection


def hook_motion(layer: nn.Module, site: Site, motion: MotionModule, injection: Injection) -> Iterator[RemovableHandle]:
    """The motion module after ``layer``, a spatial transformer or, where there is none, a ResBlock."""

    def move(states: Tensor) -> Tensor:
        clip = unfold_frames(states, injection.num_frames)
        return fold_frames(motion(site, clip, injection.motion_scale, injection.positions))

    def hook(_: nn.Module, args: Any, output: Any) -> Any:
        return (move(output[0]),) if isinstance(output, tuple) else move(output)

    yield layer.register_forward_hook(hook)


def hook_adapter(
    attention: nn.Module, site: Site, adapter: I2VAdapter, injection: Injection
) -> Iterator[RemovableHandle]:
    """Cross-frame attention beside the self-attention ``attention``, through its to_k and to_v."""

    def hook(attn: Any, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        if injection.adapter_scale == 0.0 or not injection.sees_image:
            return output
        states = rearrange(args[0], "(b f) n c -> b f n c", f=injection.num_frames)
        clean = torch.cat([states[:, frame] for frame in injection.clean_frames], dim=1)  # (B, R*N, C)
        if injection.clean_detail < 1.0:
            size = size_of(injection.latent_size, states.shape[2])
            clean = softened_tokens(clean, size, injection.clean_detail)
        key0, value0 = adapter[site].project(clean, attn)
        residual: Tensor = adapter(site, states, key0, value0, injection.adapter_scale)
        return output + rearrange(residual, "b f n c -> (b f) n c")

    yield attention.register_forward_hook(hook)


class TextHooks:
    """One prompt ``(B, N, D)`` for all frames of a clip: frames become part of the query's length.

    A prompt for each frame, ``(B*F, N, D)``, goes the usual way.
    """

    def __init__(self, injection: Injection) -> None:
        self.injection = injection
        self.folded = False

    def fold(self, _: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Any]) -> Any:
        """Before the attention."""
        self.folded = len(kwargs["encoder_hidden_states"]) != len(args[0])
        if not self.folded:
            return None
        return (rearrange(args[0], "(b f) n c -> b (f n) c", f=self.injection.num_frames),), kwargs

    def unfold(self, _: nn.Module, args: Any, output: Tensor) -> Tensor | None:
        """After the attention."""
        if not self.folded:
            return None
        return rearrange(output, "b (f n) c -> (b f) n c", f=self.injection.num_frames)


def hook_text(attention: nn.Module, injection: Injection) -> Iterator[RemovableHandle]:
    """One prompt for all frames in the text cross-attention ``attention``."""
    hooks = TextHooks(injection)
    yield attention.register_forward_pre_hook(hooks.fold, with_kwargs=True)
    yield attention.register_forward_hook(hooks.unfold)


class ImageTokenHooks:
    """Image tokens beside the text in one cross-attention.

    The prompt carries them as its last ``num_tokens`` tokens. They are taken off before the attention,
    attended to with its own query, and the result is added before its output projection.
    """

    def __init__(self, leaf: ImageTokenAttention, num_tokens: int, injection: Injection) -> None:
        self.leaf = leaf
        self.num_tokens = num_tokens
        self.injection = injection
        self.tokens: Tensor
        self.residual: Tensor

    @property
    def _used(self) -> bool:
        return self.injection.image_token_scale != 0.0 and self.injection.sees_image

    def split(self, _: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Any]) -> Any:
        """Before the attention."""
        context = kwargs["encoder_hidden_states"]
        self.tokens = context[:, -self.num_tokens :]
        return args, kwargs | {"encoder_hidden_states": context[:, : -self.num_tokens]}

    def attend(self, _: nn.Module, args: Any, query: Tensor) -> None:
        """After the query's projection."""
        if self._used:
            self.residual = self.injection.image_token_scale * self.leaf(query, self.tokens)
        del self.tokens

    def add(self, _: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        """Before the output projection. Nothing is kept for longer than one call."""
        if not self._used:
            return None
        states = args[0] + self.residual
        del self.residual
        return (states,)


def hook_image_tokens(
    attention: Any, site: Site, image_tokens: ImageTokenAdapter, injection: Injection
) -> Iterator[RemovableHandle]:
    """Image tokens in the text cross-attention ``attention``."""
    hooks = ImageTokenHooks(image_tokens[site], image_tokens.num_tokens, injection)
    yield attention.register_forward_pre_hook(hooks.split, with_kwargs=True)
    yield attention.to_q.register_forward_hook(hooks.attend)
    yield attention.to_out[0].register_forward_pre_hook(hooks.add)


def hook_retention(unet: nn.Module, injection: Injection) -> Iterator[RemovableHandle]:
    """The branch's residuals on the skip connections, added to those of a ControlNet if there are any."""

    def retain(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if injection.retention is None or injection.retention_scale == 0.0 or not injection.sees_image:
            return None
        branch, features = injection.retention
        sample, timestep, text = (
            args[i] if i < len(args) else kwargs[name]
            for i, name in enumerate(("sample", "timestep", "encoder_hidden_states"))
        )
        noisy = unfold_frames(sample, injection.num_frames)
        clips = len(noisy)
        pooled = _pooled_of_each_clip(kwargs.get("added_cond_kwargs"), clips)
        if injection.image_tokens is not None:
            text = text[:, : -injection.image_tokens.num_tokens]
        each = _timestep_of_each_clip(timestep, clips, noisy)
        residuals = branch(noisy, each, text, features.expand(clips, -1, -1, -1), injection.positions, pooled)
        scaled = [injection.retention_scale * residual for residual in residuals]
        others = kwargs.get("down_block_additional_residuals") or [0.0] * len(scaled)
        middle = kwargs.get("mid_block_additional_residual")
        return args, {
            **kwargs,
            "down_block_additional_residuals": tuple(ours + other for ours, other in zip(scaled, others, strict=True)),
            # the UNet takes the other residuals for a ControlNet's only where this one is given
            "mid_block_additional_residual": sample.new_zeros(()) if middle is None else middle,
        }

    yield unet.register_forward_pre_hook(retain, with_kwargs=True)


def _timestep_of_each_clip(timestep: Any, clips: int, like: Tensor) -> Tensor:
    """A number, one for all or one for each image, as one for each clip (B,)."""
    steps = torch.as_tensor(timestep, device=like.device).reshape(-1)
    return steps.expand(clips) if len(steps) == 1 else steps[:: len(steps) // clips]


def _pooled_of_each_clip(added: dict[str, Tensor] | None, clips: int) -> Tensor | None:
    """SDXL's pooled text and sizes of each clip, (B, P)."""
    if not added:
        return None
    pooled = pooled_with_sizes(added["text_embeds"], added["time_ids"])
    return pooled[:: len(pooled) // clips]


def hook_pooled(unet: nn.Module, injection: Injection) -> Iterator[RemovableHandle]:
    """SDXL's pooled text and sizes, given for each clip, for each frame."""

    def each_frame(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        added = kwargs.get("added_cond_kwargs")
        if not added:
            return None
        frames = len(args[0] if args else kwargs["sample"]) // len(added["text_embeds"])
        return args, kwargs | {
            "added_cond_kwargs": {name: rows.repeat_interleave(frames, dim=0) for name, rows in added.items()}
        }

    yield unet.register_forward_pre_hook(each_frame, with_kwargs=True)


def hook_pooled_norm(norm: nn.Module, injection: Injection) -> Iterator[RemovableHandle]:
    """Let the GroupNorm ``norm`` take its statistics over all frames of a clip (AnimateDiff v1, Hotshot-XL)."""

    def pool(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor]:
        return (rearrange(args[0], "(b f) c h w -> b c (f h) w", f=injection.num_frames),)

    def split(_: nn.Module, args: Any, output: Tensor) -> Tensor:
        return rearrange(output, "b c (f h) w -> (b f) c h w", f=injection.num_frames)

    yield norm.register_forward_pre_hook(pool)
    yield norm.register_forward_hook(split)
