"""The sound of a clip."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from ...errors import FirstFrameError


@dataclass(frozen=True)
class Sound:
    """A waveform and its pace. Raises FirstFrameError for another shape, NaN, or a rate below 1.

    Attributes:
        waveform: (channels, samples) floats in [-1, 1].
        sample_rate: samples per second.
    """

    waveform: Tensor
    sample_rate: int

    def __post_init__(self) -> None:
        if self.waveform.ndim != 2 or self.waveform.numel() == 0:
            raise FirstFrameError(f"a sound is (channels, samples), got shape {tuple(self.waveform.shape)}")
        if self.waveform.isnan().any():
            raise FirstFrameError("the sound has values that are not a number (NaN): see what made it")
        if self.sample_rate < 1:
            raise FirstFrameError(f"a sound's sample rate is above 0, got {self.sample_rate}")

    def lasting(self, seconds: float) -> Sound:
        """Cut at the end, or with silence after it, so that it lasts so long."""
        samples = round(seconds * self.sample_rate)
        missing = max(0, samples - self.waveform.shape[1])
        return Sound(functional.pad(self.waveform[:, :samples], (0, missing)), self.sample_rate)

    def interleaved(self) -> bytes:
        """Little-endian 32-bit floats, sample by sample."""
        return self.waveform.detach().float().cpu().clamp(-1, 1).T.contiguous().numpy().astype("<f4").tobytes()
