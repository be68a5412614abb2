"""Scaled dot-product attention that is quick on a CPU both ways."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """(B, H, N, D), (B, H, M, D), (B, H, M, D) to (B, H, N, D).

    While gradients are recorded it is written out: for some hundred tokens the fused kernel's way back takes as long as all the rest
    of a transformer on a CPU (PyTorch 2.13). Otherwise the fused one, which the compilers know.
    """
    if torch.is_grad_enabled() and q.device.type == "cpu":
        return ((q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)).softmax(-1).to(v.dtype) @ v
    return F.scaled_dot_product_attention(q, k, v)
