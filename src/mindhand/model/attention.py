"""One attention for all of mindhand: grouped queries, a boolean mask, and the kernel that is fastest here."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """softmax(q k^T / sqrt(d) + mask) v for grouped queries.

    q (B,N,nq,d), k and v (B,G,nk,d) with G dividing N; mask broadcastable to (B,1,nq,nk), bool (True means seen)
    or additive in the type of q, or None. Every query must see at least one key. Returns (B,nq,N*d).

    On CPU the backward of the fused kernel is about four times slower in bf16 than plain matrix products
    (58 against 14 ms for B32 N4 n128 d32), so training on CPU takes the plain path and everything else the fused.
    """
    batch, heads, count, size = q.shape
    groups = k.shape[1]
    if q.device.type == "cpu" and torch.is_grad_enabled() and (q.requires_grad or k.requires_grad):
        q = q.reshape(batch, groups, heads // groups * count, size)  # queries of a group share its keys
        shape = batch, groups, heads // groups, count, k.shape[2]
        score = torch.matmul(q * size**-0.5, k.transpose(-1, -2)).view(shape)
        if mask is not None and mask.dtype == torch.bool:
            mask = torch.zeros_like(mask, dtype=score.dtype).masked_fill_(~mask, float("-inf"))
        if mask is not None:
            score = score + mask.unsqueeze(2)
        weight = score.softmax(-1).view(batch, groups, heads // groups * count, k.shape[2])
        out = torch.matmul(weight, v).view(batch, heads, count, size)
    else:
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=groups != heads)
    return out.transpose(1, 2).reshape(batch, count, heads * size)


def attend_runs(q: Tensor, k: Sequence[Tensor], v: Sequence[Tensor], mask: Tensor | None) -> Tensor:
    """`attend` over keys and values in several runs (B,G,nk_i,d). A word at a time on a CPU, the runs stay where they
    are: to copy the whole prefix for each word at every layer took longer than to attend to it."""
    batch, heads, count, size = q.shape
    if count > 1 or len(k) == 1 or torch.is_grad_enabled() or q.device.type != "cpu":
        return attend(q, *(runs[0] if len(runs) == 1 else torch.cat(runs, 2) for runs in (k, v)), mask)
    q = (q * size**-0.5).reshape(batch, k[0].shape[1], -1, size)  # queries of a group share its keys
    score = torch.cat([torch.matmul(q, run.transpose(-1, -2)) for run in k], -1)
    if mask is not None:
        score = score.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else score + mask
    weights = score.softmax(-1).split([run.shape[2] for run in v], -1)
    out = torch.stack([torch.matmul(w, run) for w, run in zip(weights, v)]).sum(0)
    return out.reshape(batch, 1, heads * size)


def lying(x: Tensor) -> Tensor:
    """Keys or values (B,G,n,d) as `attend_runs` reads them again and again without a copy; in training as they are."""
    return x if torch.is_grad_enabled() else x.contiguous()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position: x (B,N,n,d), cos and sin (B,1,n,d) of `rotary`; dimension i pairs with i + d/2
    (RoFormer, 2104.09864)."""
    a, b = x.chunk(2, -1)
    return x * cos + torch.cat((b, a), -1) * sin


def rotary(
    position: Tensor, size: int, theta: float, sections: tuple[int, ...], dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """cos and signed sin (B,1,n,size) of positions (B,n,3), for `rotate`; angles are computed in float32.

    `sections` says how many of the size/2 frequencies follow the temporal, height and width position
    (Qwen2-VL, 2409.12191, sec. 2.1: 16, 24, 24 of 64); they keep the order of the frequencies.
    """
    if sum(sections) != size // 2:
        raise ValueError(f"rotary sections {sections} must add up to {size // 2}, half of the head size {size}")
    axis = torch.repeat_interleave(
        torch.arange(len(sections), device=position.device), torch.tensor(sections, device=position.device)
    )
    rate = theta ** (-torch.arange(0, size, 2, device=position.device, dtype=torch.float32) / size)
    angle = position.float()[..., axis] * rate
    cos, sin = angle.cos(), angle.sin()
    return torch.cat((cos, cos), -1).unsqueeze(1).to(dtype), torch.cat((-sin, sin), -1).unsqueeze(1).to(dtype)
