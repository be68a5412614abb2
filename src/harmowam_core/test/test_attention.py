"""Both ways of attention are one function."""

import torch

from harmowam_core.attention import attention


def test_written_out_equals_fused_and_has_its_gradients() -> None:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 3, tokens, 16, generator=generator, requires_grad=True) for tokens in (5, 7, 7))
    written = attention(q, k, v)
    with torch.no_grad():
        fused = attention(q, k, v)
    torch.testing.assert_close(written, fused)
    wanted = torch.autograd.grad(torch.nn.functional.scaled_dot_product_attention(q, k, v).square().sum(), (q, k, v))
    torch.testing.assert_close(torch.autograd.grad(written.square().sum(), (q, k, v)), wanted)
