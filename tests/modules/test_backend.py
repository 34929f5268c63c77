from __future__ import annotations

import torch

from firstframe.modules.backend import Backend, scaled_dot_product_attention
from firstframe.modules.i2v_adapter import CrossFrameAttention


def test_attention_is_the_equation(generator: torch.Generator) -> None:
    query = torch.randn(2, 5, 12, generator=generator)
    key, value = torch.randn(2, 2, 7, 12, generator=generator)
    heads = []
    for head in range(3):
        part = slice(4 * head, 4 * head + 4)
        scores = query[..., part] @ key[..., part].transpose(1, 2) / 4**0.5
        heads.append(scores.softmax(-1) @ value[..., part])
    torch.testing.assert_close(scaled_dot_product_attention(query, key, value, 3), torch.cat(heads, -1))


def test_a_host_provides_operations_and_attention(generator: torch.Generator) -> None:
    class Operations:
        class Linear(torch.nn.Linear):
            pass

    calls = []

    def attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, heads: int) -> torch.Tensor:
        calls.append((tuple(query.shape), tuple(key.shape), heads))
        return query

    leaf = CrossFrameAttention(8, 2, Backend(Operations, attention))
    assert type(leaf.to_q) is Operations.Linear
    leaf(torch.randn(2, 3, 4, 8), torch.randn(2, 4, 8), torch.randn(2, 4, 8))
    assert calls == [((2, 12, 8), (2, 4, 8), 2)]
