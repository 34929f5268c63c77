"""The content adapter's image tokens on a MODEL."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ...image_tokens import ImageTokenAdapter
from .evaluation import attach, frames_per_clip
from .layout import attention_width, check_fits
from .weights import attention

IMAGE_TOKENS_KEY = "firstframe_image_tokens"
TOKENS = "firstframe_tokens"

Replacement = Callable[[Tensor, Tensor, Tensor, dict[str, Any]], Tensor]


def apply_image_tokens(model: ModelPatcher, image_tokens: ModelPatcher, scale: float) -> ModelPatcher:
    """A clone of ``model`` that reads image tokens in its cross-attention.

    Each conditioning carries its own tokens: the last ``num_tokens`` rows of the text embedding. At scale 0 they are
    ignored, which equals the model without them.
    """
    check_fits(model, image_tokens.model.widths, attention_width, "the content adapter")

    def evaluate(
        module: ImageTokenAdapter,
        unet: UNetModel,
        run: Callable[..., Tensor],
        x: Tensor,
        options: dict[str, Any],
        seeing: Tensor | None,
    ) -> Tensor:
        of_rows = scale if seeing is None else scale * seeing.repeat_interleave(frames_per_clip(x, options)).to(x)
        return run(with_image_tokens(options, unet.num_res_blocks[0], module, of_rows))

    return attach(model, IMAGE_TOKENS_KEY, image_tokens, evaluate, "a content adapter")


def with_image_tokens(
    options: dict[str, Any], layers_per_block: int, image_tokens: ImageTokenAdapter, scale: float | Tensor
) -> dict[str, Any]:
    """A copy of the transformer options in which every cross-attention sees the text, then the image tokens.

    ``scale`` may be a number for each row of the batch, (B*F,).
    """

    def split(states: Tensor, context: Tensor, value: Tensor, extra: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
        text = context.shape[1] - image_tokens.num_tokens
        extra[TOKENS] = context[:, text:]
        return states, context[:, :text], value[:, :text]

    def attend(site: Any, text_attention: Replacement) -> Replacement:
        def replacement(query: Tensor, key: Tensor, value: Tensor, extra: dict[str, Any]) -> Tensor:
            out = text_attention(query, key, value, extra)
            if isinstance(scale, Tensor):
                return out + scale[:, None, None] * image_tokens[site](query, extra[TOKENS])
            if scale == 0.0:
                return out
            return out + scale * image_tokens[site](query, extra[TOKENS])

        return replacement

    patches = options.get("patches", {})
    replacements = options.get("patches_replace", {})
    attn2 = dict(replacements.get("attn2", {}))
    for site in image_tokens:
        block = site.ldm(layers_per_block)
        attn2[(*block, 0)] = attend(site, attn2.get((*block, 0), attn2.get(block, _text_attention)))
    return {
        **options,
        "patches": {**patches, "attn2_patch": [split, *patches.get("attn2_patch", [])]},
        "patches_replace": {**replacements, "attn2": attn2},
    }


def _text_attention(query: Tensor, key: Tensor, value: Tensor, extra: dict[str, Any]) -> Tensor:
    return attention(query, key, value, extra["n_heads"])
