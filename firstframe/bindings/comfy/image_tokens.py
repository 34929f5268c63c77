"""Image tokens on a MODEL: every cross-attention reads them beside the text.

Each conditioning carries its own tokens in its ``model_conds``: those of the image, or those of no image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from comfy.conds import CONDRegular
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ...errors import check_finite
from ...modules.image_prompt import ImageTokenAdapter
from ...sites import Site
from .evaluation import Evaluation, attach
from .sites import attention_width, check_fits, check_heads
from .weights import HOST

IMAGE_TOKENS_KEY = "firstframe_image_tokens"
TOKENS = "firstframe_tokens"

Replacement = Callable[[Tensor, Tensor, Tensor, dict[str, Any]], Tensor]


def with_tokens(conditioning: list[Any], tokens: Tensor) -> list[Any]:
    """A copy of a CONDITIONING that carries image tokens (1, M, token_dim)."""
    carried = {TOKENS: CONDRegular(tokens)}
    return [
        [embedding, {**extra, "model_conds": {**extra.get("model_conds", {}), **carried}}]
        for embedding, extra in conditioning
    ]


def with_tokens_of(conditioning: list[Any], other: list[Any]) -> list[Any]:
    """A copy of a CONDITIONING that carries the image tokens of another one, if that has any."""
    found = [extra["model_conds"][TOKENS] for _, extra in other if TOKENS in extra.get("model_conds", {})]
    return with_tokens(conditioning, found[0].cond) if found else conditioning


def apply_image_tokens(model: ModelPatcher, projections: ModelPatcher, scale: float) -> ModelPatcher:
    """A clone of ``model`` that reads the conditionings' image tokens, ``scale`` times.

    At scale 0, and for conditionings without tokens, it equals the model without them. Raises ModelMismatchError where
    projections and model do not belong together, InjectionError where there are some already.
    """
    check_finite("the strength of the content adapter", scale)
    check_fits(model.model, projections.model.widths, attention_width, "the content adapter")
    check_heads(model.model, projections.model.heads, "the content adapter")

    def evaluate(module: ImageTokenAdapter, call: Evaluation) -> Tensor:
        carried = call.arguments.get(TOKENS)
        if carried is None or scale == 0.0 or call.blind:
            return call.run(call.options)
        tokens = call.on_device(TOKENS, carried)
        seeing = [slice(first * call.num_frames, behind * call.num_frames) for first, behind in call.runs]
        return call.run(with_image_tokens(call.options, call.unet.num_res_blocks[0], module, tokens, scale, seeing))

    return attach(model, IMAGE_TOKENS_KEY, projections, evaluate, "a content adapter")


def with_image_tokens(
    options: dict[str, Any],
    layers_per_block: int,
    projections: ImageTokenAdapter,
    tokens: Tensor,
    scale: float,
    seeing: Sequence[slice],
) -> dict[str, Any]:
    """A copy of the transformer options in which every cross-attention sees ``tokens`` (B*F, M, D) beside the text.

    ``seeing`` are the rows of the batch that do.
    """

    def attend(site: Site, text_attention: Replacement) -> Replacement:
        def replacement(query: Tensor, key: Tensor, value: Tensor, extra: dict[str, Any]) -> Tensor:
            out = text_attention(query, key, value, extra)
            for rows in seeing:
                out[rows].add_(scale * projections[site](query[rows], tokens[rows].to(query.dtype)))
            return out

        return replacement

    replacements = options.get("patches_replace", {})
    attn2 = dict(replacements.get("attn2", {}))
    for site in projections:
        block = site.ldm(layers_per_block)
        place = (*block, site.depth)
        attn2[place] = attend(site, attn2.get(place, attn2.get(block, _text_attention)))
    return {**options, "patches_replace": {**replacements, "attn2": attn2}}


def _text_attention(query: Tensor, key: Tensor, value: Tensor, extra: dict[str, Any]) -> Tensor:
    return HOST.attention(query, key, value, extra["n_heads"])
