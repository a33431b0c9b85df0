"""Surgery on every FFN of a tower that keeps its function: wider, or one copy a task. See `moe.py` for experts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mindhand.core.errors import BuildError

from . import fits
from .trunk import FFN, Tower


def tower_of(vla: nn.Module, name: str) -> Tower:
    """A tower of a VLM, or of what holds one as `backbone`; BuildError where there is none of that name."""
    backbone: Any = getattr(vla, "backbone", vla)
    if name not in backbone.towers:
        raise BuildError(f"no tower '{name}'", f"one of {list(backbone.towers)}", "add the tower before it is edited")
    return backbone.towers[name]


def replace_ffns(vla: nn.Module, tower: str, make: Callable[[FFN], nn.Module]) -> None:
    """Put `make(ffn)` where every layer of a tower has its plain FFN. `vla` is a VLM or holds one as `backbone`."""
    for l, block in enumerate(tower_of(vla, tower).layers):
        kinds = [type(m) for m in block.ffn.modules() if not isinstance(m, nn.Identity)]
        if kinds != [FFN, nn.Linear, nn.Linear]:
            raise BuildError(
                f"layer {l} of tower '{tower}' holds {[k.__name__ for k in kinds]}",
                "a plain FFN to copy",
                "upcycle, or widen, once and before other edits of the FFN",
            )
        block.ffn = make(block.ffn)


def like(ffn: FFN, inner: int) -> FFN:
    """An FFN of that inner width, elsewhere as this one; its weights are still arbitrary."""
    with torch.device(ffn.down.weight.device):
        return FFN(ffn.gate_up.in_features, inner).to(ffn.down.weight.dtype)


def copied(ffn: FFN) -> FFN:
    """The same FFN, with weights of its own."""
    out = like(ffn, ffn.down.in_features)
    out.load_state_dict(ffn.state_dict())
    return out


class TaskFFN(nn.Module):
    """One FFN a task, all alike at first (ChatVLA, 2502.14420: image-text and robot data share attention alone)."""

    def __init__(self, ffn: FFN, tasks: int):
        super().__init__()
        self.each = nn.ModuleList(copied(ffn) for _ in range(tasks))

    def forward(self, x: Tensor, task: Tensor | None = None, valid: Tensor | None = None) -> Tensor:
        """(B,n,D) -> (B,n,D); `task` (B,n) int64 chooses."""
        if task is None:
            raise BuildError("static experts without a task", "Segment.task: 0 image-text, 1 robot", "pass it")
        outs = torch.stack([ffn(x) for ffn in self.each])  # static experts are few and small
        return outs.gather(0, task.view(1, *task.shape, 1).expand(1, *outs.shape[1:]))[0]


@dataclass(frozen=True)
class PerTask:
    """Edit: replace the FFN of every layer of a tower by a copy for each task, image-text (0) and robot (1)."""

    tasks: int = 2
    tower: str = "vlm"

    @property
    def provides(self) -> frozenset[str]:
        """The tower's FFN, which it alone may have."""
        return fits.layers(self.tower)

    def apply(self, vla: nn.Module) -> None:
        """`vla` is a VLM or holds one as `backbone`."""
        replace_ffns(vla, self.tower, lambda ffn: TaskFFN(ffn, self.tasks))


@dataclass(frozen=True)
class Widen:
    """Edit: make the FFN of every layer of a tower `times` as wide (Net2Net, 1511.05641): what a mixture with as many
    active experts costs, without experts. A neuron's copies share its output in unequal parts, drawn by `seed`: equal
    ones would have equal gradients, and stay one neuron."""

    times: int = 2
    tower: str = "vlm"
    seed: int = 0

    def apply(self, vla: nn.Module) -> None:
        """`vla` is a VLM or holds one as `backbone`."""
        if self.times < 2:
            raise BuildError(f"an FFN {self.times} times as wide", "2 or more", "leave the edit out")
        draw = torch.Generator().manual_seed(self.seed)

        def wider(ffn: FFN) -> FFN:
            inner = ffn.down.in_features
            parts = 0.5 + torch.rand(self.times, inner, generator=draw)
            parts = (parts / parts.sum(0)).to(ffn.down.weight)
            out = like(ffn, self.times * inner)
            gate, up = ffn.gate_up.weight.detach().chunk(2)
            with torch.no_grad():
                out.gate_up.weight.copy_(torch.cat([gate] * self.times + [up] * self.times))
                out.down.weight.copy_(torch.cat([ffn.down.weight * p for p in parts], 1))
            return out

        replace_ffns(vla, self.tower, wider)
