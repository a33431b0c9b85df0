"""FlashVLA: picture tokens that carry little are dropped, and a steady hand is not asked again (2505.21200).

Seam: Policy, round a VLA. At every pass over a prompt the trunk keeps, behind an early layer, the `kept` tokens of each
picture whose attention output carries most (singular values); where the last two chunks point the same way and the
last two sets of kept tokens are much the same, the last chunk is used again, once. No weight is trained and the VLA
stays as it is. The paper: LIBERO, FLOPs of picture tokens -55.7 %, latency -36.0 %, success -0.7 points. It reuses an
action, here a chunk; its count of tokens and its thresholds were not found and are assumed.
Use: policy = wrap(vla, Config(kept=64))
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mindhand.core.card import Claim, MethodCard
from mindhand.core.errors import BuildError
from mindhand.core.keys import Key
from mindhand.core.nouns import ActionChunk, Observation, smoke_observation
from mindhand.core.seams import Policy, State
from mindhand.core.spec import Spec
from mindhand.kit.notes import noted
from mindhand.kit.probe import told as named
from mindhand.model import fits
from mindhand.serve.rows import put_rows


@dataclass(frozen=True)
class Config:
    """What is kept of a picture, and when the last chunk is used again. In brackets what is assumed of the paper's."""

    kept: int = 64  # K, tokens of a picture behind `layer`: half of nano's; all where it has fewer (128 of 256)
    layer: int = 0  # after whose attention tokens are scored (2 of 32)
    share: float = 0.9  # of the squared singular values, by which the effective rank is told (0.9)
    reuse: bool = True  # False: it prunes alone
    angle: float = math.radians(10)  # between the last two chunks, less than (10 degrees)
    overlap: float = 0.75  # of the last two sets of kept tokens, more than (0.75)
    grip: float = 0.1  # a gripper told to move by more from one chunk to the next is not steady


def information(x: Tensor, share: float) -> Tensor:
    """C(x) = sum_{i <= r} |u_{x,i} sigma_i| of tokens (B,n,d) = U S V^T: (B,n). r is the smallest rank that holds
    `share` of the squared singular values; the Gram matrix is decomposed, which is cheaper where n < d."""
    energy, u = torch.linalg.eigh((x @ x.transpose(1, 2)).float())
    energy, u = energy.flip(-1).clamp_min(0), u.flip(-1)
    before = energy.cumsum(-1) - energy  # what the larger ones hold
    used = before < share * energy.sum(-1, keepdim=True)
    return (u.abs() * (energy.sqrt() * used).unsqueeze(1)).sum(-1)


Chosen = Callable[[Config, int, str, Tensor], Tensor | None]


def keep(c: Config, l: int, name: str, attention: Tensor) -> Tensor | None:
    """As the trunk asks (core.seams.Keep): of a picture (B,n,d), after `layer`, those that carry most, ascending."""
    if l != c.layer or not name.startswith("image/"):
        return None
    if c.kept >= attention.shape[1]:  # nobody is to be chosen
        return torch.arange(attention.shape[1], device=attention.device).expand(len(attention), -1)
    return information(attention, c.share).topk(c.kept, 1).indices.sort(1).values


@contextmanager
def pruned(backbone: Any, c: Config, chosen: Chosen = keep) -> Iterator[None]:
    """While it is open, every pass over a prompt keeps what is chosen; what goes on from one prunes nothing more."""

    def hook(module: Any, args: Any, how: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return args, how if how.get("past") is not None else {**how, "keep": lambda *told: chosen(c, *told)}

    handle = backbone.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def steady(c: Config, memory: Mapping[str, np.ndarray], grippers: Sequence[int]) -> np.ndarray:
    """FlashTrigger: bool (B,), whether the last chunk is used again, from what `Flash` remembers. An angle to nothing
    is a right one; never before two full runs, nor twice in a row, nor where a gripper was just told to move."""
    last, before = (memory[n].astype(np.float64) for n in ("last", "before"))
    a, b = last.reshape(len(last), -1), before.reshape(len(last), -1)
    norm = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    small = np.minimum(np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)) < 1e-6
    cosine = np.where(small, 0.0, (a * b).sum(1) / np.where(small, 1.0, norm))
    common = (memory["kept"][:, :, None] == memory["kept_before"][:, None, :]).any(2).mean(1)
    moved = np.abs(last[..., grippers] - before[..., grippers]).reshape(len(last), -1).max(1, initial=0.0)
    same = (np.arccos(cosine.clip(-1, 1)) < c.angle) & (common > c.overlap) & (moved <= c.grip)
    return same & (memory["runs"] >= 2) & ~memory["reused"]


class Flash:
    """Policy round a VLA; others go round this one. Rows first in all that it remembers."""

    def __init__(self, base: Any, config: Config, chosen: Chosen):
        if fits.TRUNK not in base.provides:
            what = f"FlashVLA round {named(base)}, which has no trunk"
            raise BuildError(what, "a VLA", "put other wrappers round FlashVLA")
        self.base, self.config, self.chosen, self.spec = base, config, chosen, base.spec
        self.provides: frozenset[str] = base.provides & {fits.HIDDEN}
        self.grippers = _grippers(base.spec)
        obs = smoke_observation(base.spec)
        chunk, kept, _ = self._run(obs, base.start(obs.keys), ())  # how long its chunks are, and how many are kept
        self.shapes = {"last": chunk.actions.shape[1:], "kept": kept.shape[1:]}
        self.felt = {n: x[:1].zero_() for n, x in chunk.extra.items() if n in self.provides}

    def _run(self, obs: Observation, state: State, want: Sequence[str]) -> tuple[ActionChunk, np.ndarray, State]:
        """The VLA on fewer tokens: its chunk, numbers of those that it kept (B,n), its state."""
        with pruned(self.base.backbone, self.config, self.chosen):
            chunk, after = self.base.act(obs, state, want=(*want, "context", *self.provides))
        kept = chunk.extra["context"].trunk.kept
        told = [kept[n].cpu().numpy() * len(kept) + i for i, n in enumerate(sorted(kept))]  # no two pictures' alike
        return chunk, np.concatenate(told, 1), after

    def start(self, keys: Sequence[Key]) -> State:
        """Nothing is remembered."""
        rows = len(keys)
        chunk = np.zeros((rows, *self.shapes["last"]), np.float32)
        index = np.full((rows, *self.shapes["kept"]), -1)
        return {
            "base": self.base.start(keys), "last": chunk, "before": chunk, "kept": index, "kept_before": index,
            "runs": np.zeros(rows, np.int64), "reused": np.zeros(rows, bool), "saved": np.zeros(rows, np.int64),
            **{n: x.repeat(rows, 1, 1) for n, x in self.felt.items()},
        }  # fmt: skip

    def act(self, obs: Observation, state: State, *, want: Sequence[str] = ()) -> tuple[ActionChunk, State]:
        """Extra "reused" (B,), and a note of it. The VLA is asked for all rows unless none needs it: what a row gets
        does not depend on its neighbours, so calls are saved where all rows rest, as one alone does. A wanted "hidden"
        is what was felt of the chunk that is taken; nothing else that is wanted is told of a row that rests."""
        rows, c = len(obs), self.config
        again = steady(c, state, self.grippers) if c.reuse else np.zeros(rows, bool)
        after = {**state, "reused": again, "saved": state["saved"] + again}
        told: dict[str, Any] = {"reused": again, "note": ["the last chunk again" if r else "" for r in again]}
        asked = self.provides & {*want}
        if again.all():
            told |= {n: state[n] for n in asked}
            return ActionChunk(state["last"], np.ones(state["last"].shape[:2], bool), extra=told), after
        chunk, kept, base = self._run(obs, state["base"], want)
        joined = put_rows(state["base"], base, np.flatnonzero(~again).tolist(), rows)
        if joined is None:
            raise BuildError("a policy whose state cannot be told by row", "arrays with rows first", "run one row")
        new = {
            "last": chunk.actions, "before": state["last"], "kept": kept, "kept_before": state["kept"],
            "runs": state["runs"] + 1,
        }  # fmt: skip
        for name, x in new.items():
            after[name] = np.where(again.reshape(-1, *[1] * (x.ndim - 1)), state[name], x)
        rests = torch.from_numpy(again).view(-1, 1, 1)
        for name in self.provides:
            after[name] = torch.where(rests.to(chunk.extra[name].device), state[name], chunk.extra[name])
        after["base"] = joined
        actions = np.where(again[:, None, None], state["last"], chunk.actions)
        inside = noted(chunk.extra, [""] * rows)  # of a row that rests, what was noted is of a chunk that nobody takes
        told["note"] = [own or other for own, other in zip(told["note"], inside)]
        told |= {n: after[n] for n in asked}
        extra = {n: x for n, x in chunk.extra.items() if n not in ("context", *self.provides) or n in want} | told
        return ActionChunk(actions, chunk.valid | again[:, None], chunk.reasoning, extra), after


def _grippers(spec: Spec) -> list[int]:
    parts = [spec.part(p.name) for p in spec.action if p.kind == "gripper"]
    return [i for where in parts for i in range(where.start, where.stop)]


CARD = MethodCard(
    name="flashvla",
    title="FlashVLA",
    arxiv="2505.21200",
    area="run",
    seams=("Policy",),
    claim=Claim("a query takes less time than of the VLA as it is", "latency", "lower"),
    base="tokens",
    needs=frozenset({fits.TRUNK}),
)


def wrap(policy: Policy, config: Config = Config(), chosen: Chosen = keep) -> Policy:
    """Round a VLA. chosen: by what tokens are kept, the paper's unless another is to be compared with."""
    return Flash(policy, config, chosen)


def probe(on: Any, off: Any) -> bool:
    """A picture's tokens are fewer behind its layer, asked of the trunk that the answer came from."""
    obs = smoke_observation(on.spec)

    def kept(policy: Any) -> list[int]:
        trunk = policy.act(obs, policy.start(obs.keys), want=("context",))[0].extra["context"].trunk
        return [index.shape[1] for name, index in trunk.kept.items() if name.startswith("image/")]

    return bool(kept(on)) and not kept(off)
