"""CLIP's tokenizer, from the vocabulary that a package on this machine brings."""

from __future__ import annotations

import gzip
from functools import cache
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

from transformers import CLIPTokenizer

from ....errors import FirstFrameError

PACKAGES = ("open_clip", "clip")
VOCABULARY = "bpe_simple_vocab_16e6.txt.gz"
MERGES = 49152 - 256 - 2
START, END = "<|startoftext|>", "<|endoftext|>"


@cache
def clip_tokenizer() -> CLIPTokenizer:
    """The tokenizer of Stable Diffusion 1.5's text encoder: byte pairs, 77 tokens, padded with the end token.

    Raises:
        FirstFrameError: no package with the vocabulary is installed.
    """
    with gzip.open(_vocabulary(), "rt", encoding="utf-8") as file:
        merges = [tuple(line.split()) for line in islice(file, 1, MERGES + 1)]  # the first line is a header
    letters = _letters_of_bytes()
    words = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(pair) for pair in merges), START, END]
    vocabulary = {word: number for number, word in enumerate(words)}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=77)


def _vocabulary() -> Path:
    """Without importing the package, which would import much more."""
    for name in PACKAGES:
        spec = find_spec(name)
        for folder in spec.submodule_search_locations or () if spec else ():
            if (file := Path(folder) / VOCABULARY).is_file():
                return file
    raise FirstFrameError(
        "CLIP's vocabulary is needed for the text encoder of Stable Diffusion 1.5, and no package that has it is "
        "installed. Install one with: pip install open-clip-torch"
    )


def _letters_of_bytes() -> list[str]:
    """A printable letter for each byte, in CLIP's order: printable bytes stand for themselves, then the others."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = 256 - len(printable)
    return [chr(byte) for byte in printable] + [chr(256 + number) for number in range(others)]
