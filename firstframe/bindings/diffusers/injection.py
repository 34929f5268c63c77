"""The parts that go into a UNet, and what is attached to one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from types import TracebackType
from typing import NamedTuple

from diffusers import UNet2DConditionModel
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from ...errors import check_finite
from ...modules.i2v_adapter import I2VAdapter
from ...modules.image_prompt import ImageTokenAdapter
from ...modules.motion import MotionModule
from ...modules.retention import RetentionBranch

ATTACHED = "_firstframe_injection"


@dataclass(frozen=True)
class PartScales:
    """How strong each part is: 1 is as trained, 0 takes it out of the computation, bit for bit.

    Raises:
        FirstFrameError: a scale is not a finite number.
    """

    motion: float = 1.0
    adapter: float = 1.0
    image_tokens: float = 1.0
    retention: float = 1.0

    def __post_init__(self) -> None:
        for name, scale in asdict(self).items():
            check_finite(f"the strength of {name}", scale)


AS_TRAINED = PartScales()


@dataclass(frozen=True)
class Parts:
    """What `sample` attaches to a UNet."""

    motion: MotionModule | None = None
    adapter: I2VAdapter | None = None
    image_tokens: ImageTokenAdapter | None = None
    retention: RetentionBranch | None = None
    scales: PartScales = AS_TRAINED


class Retention(NamedTuple):
    """A branch and what its stem made of the image, (1, C, h, w)."""

    branch: RetentionBranch
    features: Tensor


@dataclass
class Injection:
    """What `inject` attached. All but the UNet, motion, adapter and image tokens may be changed between calls.

    A scale of 0 takes the part out of the computation, bit for bit; without ``sees_image`` all parts but the motion
    module are out. ``clean_frames`` are those whose keys and values the adapter's attention reads, with
    ``clean_detail`` of their resolution; below 1, it needs the latent's height and width in ``latent_size``.
    ``positions`` are frame numbers (F,) for the temporal attention, 0 to F-1 where None. As a context manager it ejects
    at the end.
    """

    unet: UNet2DConditionModel
    num_frames: int
    motion: MotionModule | None = None
    adapter: I2VAdapter | None = None
    image_tokens: ImageTokenAdapter | None = None
    retention: Retention | None = None
    motion_scale: float = 1.0
    adapter_scale: float = 1.0
    image_token_scale: float = 1.0
    retention_scale: float = 1.0
    clean_frames: tuple[int, ...] = (0,)
    clean_detail: float = 1.0
    latent_size: tuple[int, int] = (0, 0)
    sees_image: bool = True
    positions: Tensor | None = None
    _handles: list[RemovableHandle] = field(default_factory=list, repr=False)

    def attach(self, handles: Iterator[RemovableHandle]) -> None:
        """Keep the handles of hooks, for `eject`."""
        self.unet.__dict__[ATTACHED] = self
        self._handles.extend(handles)

    def eject(self) -> None:
        """Detach everything; the UNet is as it was. A second call does nothing."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        if self.unet.__dict__.get(ATTACHED) is self:
            del self.unet.__dict__[ATTACHED]

    @contextmanager
    def blind(self) -> Iterator[None]:
        """Within this context no part conditions on the image."""
        self.sees_image = False
        try:
            yield
        finally:
            self.sees_image = True

    def __enter__(self) -> Injection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.eject()
