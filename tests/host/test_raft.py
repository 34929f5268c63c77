"""RAFT by torchvision, which every ComfyUI has, from a file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from comfyui_firstframe_pack.firstframe.errors import FirstFrameError
from comfyui_firstframe_pack.firstframe.experiments.evaluation.flow import Raft
from comfyui_firstframe_pack.firstframe.weights.files import save_state_dict
from torchvision.models import optical_flow


@pytest.mark.parametrize("kind", ["raft_small", "raft_large"])
def test_the_same_flow_as_torchvision(tmp_path: Path, kind: str) -> None:
    torch.manual_seed(0)
    network = getattr(optical_flow, kind)(weights=None).eval()
    torch.save(network.state_dict(), tmp_path / "raft.pth")
    frames = torch.randint(0, 256, (3, 128, 136, 3), dtype=torch.uint8)
    raft = Raft(tmp_path / "raft.pth", torch.device("cpu"))
    assert kind in raft.name and "raft.pth" in raft.name
    images = frames.movedim(-1, 1) / 127.5 - 1
    with torch.inference_mode():
        expected = torch.cat([network(images[i : i + 1], images[i + 1 : i + 2])[-1] for i in range(2)])
    torch.testing.assert_close(torch.from_numpy(raft(frames)), expected.movedim(1, -1), rtol=1e-4, atol=1e-4)
    assert raft(frames[:, :60, :100]).shape == (2, 60, 100, 2)


def test_other_weights_are_refused(tmp_path: Path) -> None:
    save_state_dict(tmp_path / "other.safetensors", {"a": torch.zeros(1)}, {})
    with pytest.raises(FirstFrameError, match="RAFT"):
        Raft(tmp_path / "other.safetensors", torch.device("cpu"))
