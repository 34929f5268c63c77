"""The device that the host's tests run on: the GPU where there is one, or what FIRSTFRAME_DEVICE says."""

from __future__ import annotations

import os

import torch

CPU, CUDA = "cpu", "cuda"


def chosen_device() -> str:
    """cpu or cuda. SystemExit for another word, or for a GPU that is not there."""
    found = CUDA if torch.cuda.is_available() else CPU
    chosen = os.environ.get("FIRSTFRAME_DEVICE", found)
    if chosen not in (CPU, CUDA) or (chosen, found) == (CUDA, CPU):
        raise SystemExit(f"FIRSTFRAME_DEVICE is {chosen!r}; this machine has {found}: give cpu or cuda")
    return chosen


def server_options() -> list[str]:
    """For the command line of a server, which computes in the type that it picks for the device."""
    return ["--cpu"] if chosen_device() == CPU else []


def in_process_options() -> list[str]:
    """For a host in the tests' own process: in 32 bit on a GPU too, so that two ways can be asked for the same result.

    What is computed in 16 bit there is looked at on tensors that claim to be on a GPU.
    """
    return ["--cpu"] if chosen_device() == CPU else ["--force-fp32"]


def use_full_precision() -> None:
    """No TF32 in products and convolutions: its ten bits would hide what the tests compare."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
