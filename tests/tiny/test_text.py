"""The tiny model's tokens are CLIP's, restricted to the words of captions."""

from __future__ import annotations

import torch
from transformers import CLIPTextModel

from firstframe.bindings.diffusers.text import fill_text_encoder
from firstframe.tiny.model import new_text_encoder, text_config
from firstframe.tiny.scenes import caption_words
from firstframe.tiny.text import (
    CLIP_VOCABULARY,
    EMBEDDING,
    END,
    START,
    expand,
    known_tokens,
    tokenize,
    unknown_words,
    vocabulary,
)


def test_every_word_of_a_caption_is_known() -> None:
    assert set(vocabulary()) == set(caption_words())


def test_prompts_are_padded_as_stable_diffusion_does() -> None:
    rows = tokenize(["A red STAR, wombat"])[0]
    ids = [*known_tokens(), -1]
    words = [vocabulary()[word] for word in ("a", "red", "star", ",")]
    assert [ids[row] for row in rows[:6]] == [START, *words, -1]
    assert all(ids[row] == END for row in rows[6:])
    assert len(rows) == 77


def test_long_prompts_keep_their_end() -> None:
    rows = tokenize(["red " * 200])[0]
    assert len(rows) == 77 and known_tokens()[rows[-1]] == END


def test_unknown_words() -> None:
    assert unknown_words("A ladybird, a red fish; walks along the stem 7!") == [
        "ladybird",
        "walks",
        "along",
        "the",
        "stem",
        "7",
    ]
    assert unknown_words("a red fish moves left slowly, still camera") == []


def test_expanded_embedding_speaks_clip_ids() -> None:
    """The same text states, whether rows are looked up or CLIP's ids in the expanded table."""
    model = new_text_encoder()
    weights = {f"text_model.{key.removeprefix('text_model.')}": w for key, w in model.state_dict().items()}
    full = expand(weights)[EMBEDDING]
    assert full.shape == (CLIP_VOCABULARY, 128)
    rows = tokenize(["a red wombat"])[0]
    ids = torch.tensor([[*known_tokens(), 42][row] for row in rows])
    assert torch.equal(full[ids], weights[EMBEDDING][rows])
    again = fill_text_encoder(CLIPTextModel, text_config(), weights)
    assert torch.equal(again(rows[None]).last_hidden_state, model(rows[None]).last_hidden_state)
