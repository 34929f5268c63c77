"""The public Python API, for type checkers. ``__init__.py`` exports these names lazily."""

from .bindings.diffusers import (
    Parts as Parts,
    PartScales as PartScales,
    Pooled as Pooled,
    Prompts as Prompts,
    SamplingSettings as SamplingSettings,
    animatediff_scheduler as animatediff_scheduler,
    inject as inject,
    sample as sample,
)
from .bindings.diffusers.animate import Animation as Animation, animate_image as animate_image
from .bindings.diffusers.models import ModelFiles as ModelFiles, load_model as load_model
from .bindings.diffusers.pipeline import (
    VideoModel as VideoModel,
    animate_sequence as animate_sequence,
    reference_of as reference_of,
    sample_clip as sample_clip,
)
from .clips.color import match_color as match_color
from .clips.extend import join_clips as join_clips, split_at_best as split_at_best
from .clips.reference import Reference as Reference, prepare_image as prepare_image
from .clips.video import contact_sheet as contact_sheet, read_clip as read_clip, write_clip as write_clip
from .errors import FirstFrameError as FirstFrameError
from .modules.backend import TORCH as TORCH, Backend as Backend
from .modules.i2v_adapter import CrossFrameAttention as CrossFrameAttention, I2VAdapter as I2VAdapter
from .modules.image_prompt import ImageTokenAdapter as ImageTokenAdapter, Resampler as Resampler
from .modules.motion import MotionConfig as MotionConfig, MotionModule as MotionModule
from .modules.retention import RetentionBranch as RetentionBranch, RetentionConfig as RetentionConfig
from .sampling.guidance import DualGuidance as DualGuidance, LowPass as LowPass
from .sampling.prior import frame_similarity_prior as frame_similarity_prior, mask_generator as mask_generator
from .sampling.schedule import Schedule as Schedule
from .sampling.strength import Curve as Curve, StrengthSchedule as StrengthSchedule
from .sites import SD15 as SD15, SDXL as SDXL, Site as Site, UNetConfig as UNetConfig
from .tiny.model import TinyModel as TinyModel, load_tiny as load_tiny
from .weights import (
    I2V_ADAPTER as I2V_ADAPTER,
    IMAGE_TOKENS as IMAGE_TOKENS,
    MOTION_MODULE as MOTION_MODULE,
    RESAMPLER as RESAMPLER,
    RETENTION as RETENTION,
    load as load,
    save as save,
)

__version__: str
