"""CLIP's byte-pair encoding, with the vocabulary that the packages openai-clip and open_clip_torch ship."""

from __future__ import annotations

import gzip
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import BPE
from torch import Tensor, tensor

from ...errors import FirstFrameError

PACKAGES = ("clip", "open_clip")
"""Only the vocabulary is read; nothing of them is imported."""
START, END, LENGTH = 49406, 49407, 77
MERGES = slice(1, 49152 - 256 - 2 + 1)
LONGEST_WORD = 8
"""Words of so many tokens may be cut in two where a section is full."""
_WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


@cache
def tokenizer() -> Tokenizer:
    """The tokenizer of CLIP's text encoder, without its start and end tokens.

    Raises:
        FirstFrameError: none of these packages is installed.
    """
    merges = [(first, second) for first, second in map(str.split, _vocabulary().split("\n")[MERGES])]
    letters = _letters()
    words = [*letters, *(f"{letter}</w>" for letter in letters), *map("".join, merges), "<|startoftext|>"]
    ids = {word: number for number, word in enumerate([*words, "<|endoftext|>"])}
    built = Tokenizer(BPE(ids, merges, end_of_word_suffix="</w>", unk_token="<|endoftext|>"))
    built.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    split = pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True)
    built.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    return built


def tokenize(prompt: str) -> Tensor:
    """Token ids (S, 77) of a prompt: a section for every 75 tokens, each with its start and end, padded with the end.

    Stable Diffusion 1.5 encodes each section by itself and reads them one behind the other.
    """
    ids = tokenizer().encode(prompt).ids
    rows = [ids[at : at + LENGTH - 2] for at in range(0, max(1, len(ids)), LENGTH - 2)]
    return tensor([[START, *row, *[END] * (LENGTH - 1 - len(row))] for row in rows])


def _vocabulary() -> str:
    for package in PACKAGES:
        spec = find_spec(package)
        file = Path(spec.origin).with_name("bpe_simple_vocab_16e6.txt.gz") if spec and spec.origin else None
        if file and file.is_file():
            return gzip.decompress(file.read_bytes()).decode("utf-8")
    raise FirstFrameError(
        "the prompts of Stable Diffusion need CLIP's vocabulary, which the package openai-clip has: "
        "pip install openai-clip"
    )


def _letters() -> list[str]:
    """A printable letter for each byte, in CLIP's order: printable ones stand for themselves."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + index) for index in range(len(others))]
