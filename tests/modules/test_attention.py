from __future__ import annotations

import torch

from firstframe.modules.attention import CrossFrameAttention, scaled_dot_product_attention


def test_attention_is_the_equation(generator: torch.Generator) -> None:
    query = torch.randn(2, 5, 12, generator=generator)
    key, value = torch.randn(2, 2, 7, 12, generator=generator)
    heads = []
    for head in range(3):
        part = slice(4 * head, 4 * head + 4)
        scores = query[..., part] @ key[..., part].transpose(1, 2) / 4**0.5
        heads.append(scores.softmax(-1) @ value[..., part])
    torch.testing.assert_close(scaled_dot_product_attention(query, key, value, 3), torch.cat(heads, -1))


def test_frames_do_not_mix(generator: torch.Generator) -> None:
    leaf = CrossFrameAttention(8, 2)
    torch.nn.init.normal_(leaf.to_out.weight, generator=generator)
    x = torch.randn(2, 3, 4, 8, generator=generator)
    key0, value0 = torch.randn(2, 2, 4, 8, generator=generator)
    together = leaf(x, key0, value0)
    for frame in range(3):
        alone = leaf(x[:, frame : frame + 1], key0, value0)
        torch.testing.assert_close(together[:, frame : frame + 1], alone)


def test_untrained_adds_exact_zero(generator: torch.Generator) -> None:
    leaf = CrossFrameAttention(8, 2)
    x = torch.randn(1, 3, 4, 8, generator=generator)
    key0, value0 = torch.randn(2, 1, 4, 8, generator=generator)
    assert leaf(x, key0, value0).eq(0).all()


def test_a_host_provides_operations_and_attention(generator: torch.Generator) -> None:
    class Operations:
        class Linear(torch.nn.Linear):
            pass

    calls = []

    def attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, heads: int) -> torch.Tensor:
        calls.append((tuple(query.shape), tuple(key.shape), heads))
        return query

    leaf = CrossFrameAttention(8, 2, Operations, attention)
    assert type(leaf.to_q) is Operations.Linear
    leaf(torch.randn(2, 3, 4, 8), torch.randn(2, 4, 8), torch.randn(2, 4, 8))
    assert calls == [((2, 12, 8), (2, 4, 8), 2)]
