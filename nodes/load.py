"""Models and images from files."""

from __future__ import annotations

from pathlib import Path

from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io

from ..firstframe.bindings.comfy import weights
from ..firstframe.bindings.comfy.motion import apply_motion
from ..firstframe.clips.reference import prepare_image
from ..firstframe.tiny import comfy as tiny
from ..firstframe.tiny.config import SIZE
from ..firstframe.weights import I2V_ADAPTER, MOTION_MODULE
from . import folders
from .aliases import search_aliases
from .types import I2VAdapter, MotionModule, Retention

CATEGORY = "FirstFrame/load"
EXAMPLE_IMAGE = Path(__file__).parent.parent / "firstframe" / "tiny" / "example.png"


class LoadTinyModel(io.ComfyNode):
    """The model that ships with the pack."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FirstFrameLoadTinyModel",
            display_name="Load Tiny Model",
            category=CATEGORY,
            **search_aliases("demo model", "example model", "test model", "CPU model"),
            description=(
                "The small image-to-video model that ships with FirstFrame. It needs no download and no GPU. It knows "
                "only moving shapes and sprites, in 16 frames of 128x128 pixels. Its motion module is already "
                "applied."
            ),
            outputs=[
                io.Model.Output(display_name="MODEL"),
                io.Clip.Output(display_name="CLIP"),
                io.Vae.Output(display_name="VAE"),
                I2VAdapter.Output(display_name="I2V_ADAPTER"),
                Retention.Output(display_name="RETENTION"),
            ],
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        return io.NodeOutput(
            tiny.load_tiny_model(),
            tiny.load_tiny_clip(),
            tiny.load_tiny_vae(),
            tiny.load_tiny_adapter(),
            tiny.load_tiny_retention(),
        )


class ExampleImage(io.ComfyNode):
    """An image of the kind that the tiny model was trained on."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FirstFrameExamplePicture",
            display_name="Example Image",
            category=CATEGORY,
            **search_aliases("example image", "sample image", "test image"),
            description="An image that ships with FirstFrame, to try the tiny model with.",
            outputs=[io.Image.Output(display_name="IMAGE")],
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        return io.NodeOutput(prepare_image(EXAMPLE_IMAGE, SIZE, SIZE).movedim(1, -1))


class LoadMotionModule(io.ComfyNode):
    """A motion module file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FirstFrameLoadMotionModule",
            display_name="Load Motion Module",
            category=CATEGORY,
            **search_aliases("AnimateDiff loader", "load AnimateDiff model", "AnimateLCM", "Hotshot-XL", "mm_sd_v15"),
            description="A motion module: AnimateDiff (v1, v2, v3), AnimateLCM; for SDXL AnimateDiff or Hotshot-XL.",
            inputs=[
                io.Combo.Input(
                    "motion_module",
                    options=folders.files_in(folders.MOTION_MODULES),
                    tooltip="A file in models/animatediff_models.",
                ),
            ],
            outputs=[MotionModule.Output(display_name="MOTION_MODULE")],
        )

    @classmethod
    def validate_inputs(cls, motion_module: str) -> bool | str:
        return folders.is_there(folders.MOTION_MODULES, motion_module)

    @classmethod
    def execute(cls, motion_module: str) -> io.NodeOutput:
        file = folders.path_of(folders.MOTION_MODULES, motion_module)
        return io.NodeOutput(weights.load_in_host(MOTION_MODULE, file))


class LoadAdapter(io.ComfyNode):
    """An I2V adapter file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FirstFrameLoadAdapter",
            display_name="Load I2V Adapter",
            category=CATEGORY,
            **search_aliases("I2V-Adapter loader", "image to video adapter", "i2v_module"),
            description="An I2V-Adapter, which lets every frame attend to the first one.",
            inputs=[
                io.Combo.Input(
                    "adapter", options=folders.files_in(folders.ADAPTERS), tooltip="A file in models/firstframe."
                ),
            ],
            outputs=[I2VAdapter.Output(display_name="I2V_ADAPTER")],
        )

    @classmethod
    def validate_inputs(cls, adapter: str) -> bool | str:
        return folders.is_there(folders.ADAPTERS, adapter)

    @classmethod
    def execute(cls, adapter: str) -> io.NodeOutput:
        return io.NodeOutput(weights.load_in_host(I2V_ADAPTER, folders.path_of(folders.ADAPTERS, adapter)))


class LoadMotionAndAdapter(io.ComfyNode):
    """Both files that turn a checkpoint into an image-to-video model."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FirstFrameLoadMotionAndAdapter",
            display_name="Load Motion Module and Adapter",
            category=CATEGORY,
            **search_aliases("image to video", "i2v", "AnimateDiff loader", "I2V-Adapter loader", "图生视频"),
            description=(
                "Loads a motion module and an I2V adapter, and applies the motion module to a Stable Diffusion 1.5 "
                "model. Connect both outputs to Apply I2V Adapter."
            ),
            inputs=[
                io.Model.Input("model", tooltip="A Stable Diffusion 1.5 model, with its LoRAs if you use any."),
                io.Combo.Input(
                    "motion_module",
                    options=folders.files_in(folders.MOTION_MODULES),
                    tooltip="A file in models/animatediff_models.",
                ),
                io.Combo.Input(
                    "adapter", options=folders.files_in(folders.ADAPTERS), tooltip="A file in models/firstframe."
                ),
            ],
            outputs=[io.Model.Output(display_name="MODEL"), I2VAdapter.Output(display_name="I2V_ADAPTER")],
        )

    @classmethod
    def validate_inputs(cls, motion_module: str, adapter: str) -> bool | str:
        motion_is_there = folders.is_there(folders.MOTION_MODULES, motion_module)
        return folders.is_there(folders.ADAPTERS, adapter) if motion_is_there is True else motion_is_there

    @classmethod
    def execute(cls, model: ModelPatcher, motion_module: str, adapter: str) -> io.NodeOutput:
        motion = weights.load_in_host(MOTION_MODULE, folders.path_of(folders.MOTION_MODULES, motion_module))
        loaded = weights.load_in_host(I2V_ADAPTER, folders.path_of(folders.ADAPTERS, adapter))
        return io.NodeOutput(apply_motion(model, motion, 1.0, "auto"), loaded)
