"""The nodes: one file for each thing that a user does. They only pass on to ``firstframe.bindings.comfy``."""

from __future__ import annotations

from comfy.model_management import throw_exception_if_processing_interrupted
from comfy_api.latest import ComfyExtension, io

from ..firstframe.errors import INTERRUPT
from . import (
    adapter,
    color,
    content,
    exact,
    extend,
    folders,
    guidance,
    load,
    measure,
    motion,
    prior,
    reference,
    retention,
    sampler,
    strength,
    train,
    video,
    video_prior,
    windows,
)


class FirstFrame(ComfyExtension):
    """The pack, as ComfyUI sees it."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """Every node of the pack. Called once, when the host starts; their folders are registered then."""
        folders.register()
        INTERRUPT.check = throw_exception_if_processing_interrupted
        return [
            load.LoadTinyModel,
            load.ExampleImage,
            load.LoadMotionModule,
            load.LoadAdapter,
            retention.LoadRetention,
            content.LoadContentAdapter,
            motion.ApplyMotionModule,
            motion.MotionLoRA,
            reference.EncodeReference,
            reference.AddImage,
            adapter.ApplyAdapter,
            content.ApplyContentAdapter,
            retention.ApplyRetention,
            strength.StrengthOverTimeAndSpace,
            prior.SimilarityPrior,
            video_prior.VideoPrior,
            windows.ContextWindows,
            guidance.DualCFGGuider,
            sampler.Sampler,
            extend.ExtendClip,
            extend.JoinClips,
            color.ColorMatch,
            exact.ExactFirstFrame,
            measure.Measure,
            train.TrainAdapter,
            train.TrainRetention,
            video.SaveVideo,
            load.LoadMotionAndAdapter,
        ]
