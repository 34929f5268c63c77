"""A MODEL's UNet as training needs it: a frozen copy that gradients flow through, with what is trained inside of it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import comfy.model_management
import comfy.model_sampling
import torch
from comfy.ldm.modules.attention import BasicTransformerBlock
from comfy.ldm.modules.diffusionmodules.openaimodel import ResBlock, UNetModel
from comfy.model_patcher import ModelPatcher
from torch import Tensor, nn

from ...errors import ModelMismatchError
from ...modules.i2v_adapter import I2VAdapter
from ...modules.layers import pooled_with_sizes, whole_image
from ...modules.motion import MotionModule, TemporalTransformer
from ...modules.retention import STEM_CHANNELS, RetentionBranch, RetentionConfig
from ...modules.text import Text
from ...shapes import fold_frames, unfold_frames
from ...sites import UNetConfig
from ...weights.unet_names import HOST_PREFIX, unet_tensors
from ...weights.unet_shape import read_unet_config
from .adapter_patches import AdapterPatches, View
from .motion import MOTION_KEY, injected_motion
from .sites import transformer_at, unet_of

RECOMPUTED = (BasicTransformerBlock, ResBlock, TemporalTransformer)


@dataclass(frozen=True)
class FrozenBase:
    """A copy of a MODEL's UNet and motion module, with its patches (LoRAs) in the weights, on the device.

    Attributes:
        alphas_cumprod: alpha squared of each timestep, (1000,).
        predicts_velocity: whether the model predicts v; else it predicts noise.
    """

    unet: UNetModel
    motion: MotionModule
    alphas_cumprod: Tensor
    predicts_velocity: bool

    @property
    def device(self) -> torch.device:
        return self.alphas_cumprod.device

    @property
    def config(self) -> UNetConfig:
        """Its sizes."""
        config = read_unet_config({HOST_PREFIX + name: weight for name, weight in self.unet.state_dict().items()})
        if config.num_heads is None:  # the width of a head says it
            return config
        return replace(config, num_heads=transformer_at(self.unet, next(iter(config.attention_sites))).attn1.heads)

    def new_adapter(self) -> I2VAdapter:
        """With queries copied from the UNet and output projections zero (arXiv 2312.16693, Section 3.2)."""
        config = self.config
        adapter = I2VAdapter(config.attention_sites, config.heads)
        adapter.copy_queries(lambda site: transformer_at(self.unet, site).attn1.to_q.weight)
        return adapter.to(self.device)

    def new_retention(self) -> RetentionBranch:
        """With the UNet's down blocks copied and projections zero (arXiv 2312.03018)."""
        config = self.config
        branch = RetentionBranch(RetentionConfig(config, replace(self.motion.config, mid=False), STEM_CHANNELS))
        state = {HOST_PREFIX + name: weight for name, weight in self.unet.state_dict().items()}
        branch.copy_base(unet_tensors(state, "diffusers", config), self.motion)
        return branch.to(self.device)


def frozen_base(model: ModelPatcher) -> FrozenBase:
    """Copy what is needed of a MODEL with a motion module; the MODEL stays as it is.

    Raises:
        ModelMismatchError: the model is neither of the Stable Diffusion 1.5 type nor SDXL, or has no motion module.
    """
    unet_of(model.model)
    parts = model.get_additional_models_with_key(MOTION_KEY)
    if not parts:
        raise ModelMismatchError("the model has no motion module: put Apply Motion Module before the training")
    device, sampling = comfy.model_management.get_torch_device(), model.get_model_object("model_sampling")
    loaded = [_unpaged(part) for part in (model, parts[0])]
    comfy.model_management.load_models_gpu(loaded, force_full_load=True)
    with torch.inference_mode(False):
        alphas_cumprod = (1 / (sampling.sigmas.clone().float() ** 2 + 1)).to(device)
        unet, motion = (_copied(module, device) for module in (loaded[0].model.diffusion_model, loaded[1].model))
    return FrozenBase(unet, motion, alphas_cumprod, isinstance(sampling, comfy.model_sampling.V_PREDICTION))


def _unpaged(part: ModelPatcher) -> ModelPatcher:
    """One whose weights are all there, where the host pages them (dynamic VRAM)."""
    is_paged = getattr(part, "is_dynamic", None)
    return part.clone(disable_dynamic=True) if is_paged is not None and is_paged() else part


def _copied(module: Any, device: torch.device) -> Any:
    """With weights of its own, in the type that trains. Copies are no tensors of inference mode."""
    return copy.deepcopy(module).to(device, training_type(device)).requires_grad_(False).eval()


def training_type(device: torch.device) -> torch.dtype:
    """Of the frozen weights."""
    has_bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported()
    return torch.bfloat16 if has_bf16 else torch.float32


@dataclass(frozen=True)
class ClipUNet:
    """The base with one module inside that is trained."""

    base: FrozenBase
    part: I2VAdapter | RetentionBranch

    @property
    def recomputed(self) -> Iterator[nn.Module]:
        """The modules whose activations can be computed twice in place of being stored."""
        for network in (self.base.unet, self.base.motion, self.part):
            yield from (module for module in network.modules() if isinstance(module, RECOMPUTED))

    def __call__(self, noisy: Tensor, timestep: Tensor, text: Text, images: Tensor | None) -> Tensor:
        """Noisy clips (B, C, F, h, w), timesteps (B,) and B texts to predictions (B, C, F, h, w) in fp32.

        ``images`` are frame 0, (B, 3, 8h, 8w) in [0, 1], for a retention branch. SDXL is told that no image was scaled
        or cropped, as when it samples.
        """
        num_frames, dtype = noisy.shape[2], training_type(self.base.device)
        rows, steps = fold_frames(noisy).to(dtype), timestep.repeat_interleave(num_frames)
        told = Text(text.states, self._pooled(text, noisy))
        words, pooled = told.map(lambda tensor: tensor.repeat_interleave(num_frames, 0).to(dtype))
        control = self._control(noisy, timestep, told, images)
        options = self._options(noisy)
        with self._autocast(), injected_motion(self.base.unet, self.base.motion, num_frames, 1.0):
            output = self.base.unet(rows, steps, context=words, y=pooled, control=control, transformer_options=options)
        return unfold_frames(output, num_frames).float()

    def _autocast(self) -> Any:
        """The trained module has fp32 weights beside a base in bf16."""
        dtype = training_type(self.base.device)
        return nullcontext() if dtype is torch.float32 else torch.autocast(self.base.device.type, dtype)

    def _pooled(self, text: Text, noisy: Tensor) -> Tensor | None:
        """SDXL's pooled text with the sizes of images, (B, P)."""
        if self.base.unet.num_classes is None:
            return None
        if text.pooled is None:
            raise ModelMismatchError("SDXL needs pooled text: encode the captions with the CLIP of an SDXL checkpoint")
        sizes = whole_image(8 * noisy.shape[-2], 8 * noisy.shape[-1], len(noisy), noisy.device)
        return pooled_with_sizes(text.pooled, sizes)

    def _control(self, noisy: Tensor, timestep: Tensor, text: Text, images: Tensor | None) -> Any:
        if not isinstance(self.part, RetentionBranch):
            return None
        assert images is not None
        with self._autocast():
            features = self.part.encode(images)
            residuals = self.part(noisy, timestep, text.states, features, pooled=text.pooled)
        return {"middle": [], "output": list(residuals)}

    def _options(self, noisy: Tensor) -> dict[str, Any]:
        """The adapter projects its keys and values itself: the base's own are gone where activations are recomputed."""
        if not isinstance(self.part, I2VAdapter):
            return {}
        clips, _, num_frames, height, width = noisy.shape
        view = View(num_frames, (height, width), seeing=[slice(0, clips * num_frames)])
        return AdapterPatches(self.base.unet, self.part, view, {}).added_to({})
