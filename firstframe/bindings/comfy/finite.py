"""A sampling that turns to NaN stops, and says at which step and with which network."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import CallbacksMP, WrappersMP
from torch import Tensor

from ...errors import NotFiniteError
from ...sampling.finite import Network, Watch, name_of, not_finite

FINITE_KEY = "firstframe_finite"
NEARLY = 1e-4


def stop_at_nan(model: ModelPatcher) -> None:
    """Let each sampling of ``model`` stop where its clean latents are not finite. Twice is once."""
    if model.get_wrappers(WrappersMP.PREDICT_NOISE, FINITE_KEY):
        return
    watch = Watch()
    model.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, FINITE_KEY, _predict(watch))
    model.add_wrapper_with_key(WrappersMP.SAMPLER_SAMPLE, FINITE_KEY, _sample(watch))
    model.add_callback_with_key(CallbacksMP.ON_CLEANUP, FINITE_KEY, watch.clear)


def _predict(watch: Watch) -> Any:
    def predict(
        executor: Any, x: Tensor, timestep: Tensor, model_options: dict[str, Any], *args: Any, **kwargs: Any
    ) -> Tensor:
        latents = x.clone()  # some samplers write into it
        denoised: Tensor = executor(x, timestep, model_options, *args, **kwargs)

        def explain() -> NotFiniteError:
            step = _step(timestep, model_options["transformer_options"].get("sample_sigmas"))
            networks = list(_networks(executor.class_obj))
            again = partial(executor, latents, timestep, model_options, *args, **kwargs)
            return not_finite(step, latents, networks, again)

        watch.note(denoised, explain)
        return denoised

    return predict


def _sample(watch: Watch) -> Any:
    def sample(executor: Any, *args: Any, **kwargs: Any) -> Tensor:
        samples: Tensor = executor(*args, **kwargs)
        watch.finish()
        return samples

    return sample


def _step(sigma: Tensor, sigmas: Tensor | None) -> str:
    """Which step has the noise level ``sigma`` (B,): the number of levels from the first down to it."""
    level = sigma.max().item()
    if sigmas is None or not len(sigmas):
        return f"the step at sigma {level:.3g}"
    number = int((sigmas >= level * (1 - NEARLY)).sum().item())
    return f"step {max(number, 1)} of {max(len(sigmas) - 1, 1)} (sigma {level:.3g})"


def _networks(guider: Any) -> Iterator[Network]:
    """What computes in a step: what is attached to the model, the controls of the prompts, and the model."""
    patchers = {id(patcher.model): patcher.model for patcher in guider.model_patcher.get_nested_additional_models()}
    for entries in guider.conds.values():
        for entry in entries or ():
            if "control" in entry:
                patchers |= {id(patcher.model): patcher.model for patcher in entry["control"].get_models()}
    yield from ((name_of(network), network) for network in patchers.values())
    yield f"the model ({type(guider.inner_model).__name__})", guider.inner_model.diffusion_model
