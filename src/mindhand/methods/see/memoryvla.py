"""MemoryVLA: a small bank of past tokens that is asked, gated and compressed at every query (2508.19236).

Seam: streams, with state. Perceptual tokens (the camera's, squeezed) and a cognitive one (the last of the words) ask
each a bank of their past by attention; what is recalled is gated in, stored, and of a full bank the two neighbours most
alike are merged. Differs from the heart: the hand has a past. It trains on runs of consecutive frames
(`data/mixture.Runs`), the bank empty at the beginning of each. The paper: SimplerEnv Bridge 71.9 % (CogACT 57.3), real
temporal tasks 83 (57). Here both kinds of token go to the hand as tokens of one attention, without guidance.
Use: VLA(streams=[..., Memory(Config(...))], ...)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mindhand.core.card import Claim, MethodCard
from mindhand.core.errors import BuildError
from mindhand.core.keys import Key
from mindhand.core.nouns import Observation
from mindhand.core.parts import Entry
from mindhand.core.seams import Inputs, Segment, State, StreamOut, Trunk
from mindhand.core.spec import Spec
from mindhand.model import fits
from mindhand.model.attention import attend
from mindhand.model.expert import sinusoid


@dataclass(frozen=True)
class Config:
    """Two banks, and what is kept in them. In brackets the paper's values."""

    trunk: int  # D
    width: int  # of the hand
    tokens: int  # of the camera in the trunk
    rate: float  # control steps a second, in which the time is told
    camera: str = "front"  # whose past is kept
    perceptual: int = 64  # d_p (256)
    squeeze: int = 16  # reduction of the channel gate (16)
    length: int = 16  # L, of a bank (16; 256 in long tasks); 0, with "first": no past
    heads: int = 4  # of its attention (4)
    full: Literal["merge", "first"] = "merge"  # of a full bank: merge the neighbours most alike, or drop the oldest


class CrossBlock(nn.Module):
    """Attention to a memory, post-norm, and an FFN of four times the width."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.o = (nn.Linear(width, width) for _ in range(4))
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.ffn = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        """x (B,n,d), keys and values (B,m,d), mask (B,m) -> (B,n,d)."""
        parts = (self.q(x), self.k(keys), self.v(values))
        q, k, v = (p.unflatten(-1, (self.heads, -1)).transpose(1, 2) for p in parts)
        x = self.norm1(x + self.o(attend(q, k, v, mask.view(len(mask), 1, 1, -1))))
        return self.norm2(x + self.ffn(x))


class Bank(nn.Module):
    """Retrieval, gate, consolidation. State: memory (B,L,N,d), time and count (B,L), length (B,)."""

    def __init__(self, tokens: int, width: int, length: int, heads: int, full: str = "merge"):
        super().__init__()
        self.shape, self.full = (length, tokens, width), full
        self.time = nn.Sequential(nn.Linear(256, width), nn.SiLU(), nn.Linear(width, width))
        self.blocks = nn.ModuleList(CrossBlock(width, heads) for _ in range(2))
        self.gate = nn.Linear(2 * width, width)
        nn.init.normal_(self.gate.weight, std=1e-3)
        nn.init.normal_(self.gate.bias, std=1e-3)

    def start(self, rows: int) -> dict[str, Tensor]:
        """Empty banks."""
        length, at = self.shape[0], self.gate.weight
        return {
            "memory": at.new_zeros(rows, *self.shape),
            "time": at.new_zeros(rows, length),
            "count": torch.zeros(rows, length, dtype=torch.int64, device=at.device),
            "length": torch.zeros(rows, dtype=torch.int64, device=at.device),
        }

    def retrieve(self, x: Tensor, now: Tensor, bank: Mapping[str, Tensor]) -> Tensor:
        """x (B,N,d) at `now` (B,) asks the bank; where it is empty, x itself is the memory."""
        length, tokens, _ = self.shape
        stored = torch.cat([bank["memory"], x.unsqueeze(1)], 1)  # one more place, for x itself
        times = torch.cat([bank["time"], now.unsqueeze(1)], 1)
        place = torch.arange(length + 1, device=x.device)
        used = (place < bank["length"].unsqueeze(1)) | ((place == length) & (bank["length"] == 0).unsqueeze(1))
        when = self.time(sinusoid(times.flatten(), 256).to(x.dtype)).view(*times.shape, 1, -1)
        keys, mask = (stored + when).flatten(1, 2), used.repeat_interleave(tokens, 1)
        out = x
        for block in self.blocks:
            out = block(out, keys, stored.flatten(1, 2), mask)
        return out

    def fuse(self, x: Tensor, recalled: Tensor) -> Tensor:
        """The paper's order, not its code's: the gate opens for what was recalled."""
        g = self.gate(torch.cat([x, recalled], -1)).sigmoid()
        return g * recalled + (1 - g) * x

    def keep(self, x: Tensor, now: Tensor, bank: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A new bank: x appended without its gradient, and where that is one too many, one fewer (`Config.full`)."""
        length = self.shape[0]
        memory = F.pad(bank["memory"], (0, 0, 0, 0, 0, 1))
        time, count = (F.pad(bank[n], (0, 1)) for n in ("time", "count"))
        row, end = torch.arange(len(x), device=x.device), bank["length"]
        memory[row, end], time[row, end], count[row, end] = x.detach().to(memory), now.to(time), 1
        place = torch.arange(length, device=x.device).expand(len(x), -1)
        over = (end == length).unsqueeze(1)
        if self.full == "first":
            source, merged = torch.where(over, place + 1, place), torch.zeros_like(over)
        else:
            mean = memory.mean(2)
            first = F.cosine_similarity(mean[:, :-1], mean[:, 1:], dim=-1).argmax(1, keepdim=True)
            source = torch.where(over & (place > first), place + 1, place)  # behind the pair all move up
            merged = over & (place == first)

        def take(old: Tensor, join: Tensor) -> Tensor:
            kept, pair = old[row.unsqueeze(1), source], old[row.unsqueeze(1), place + 1]
            both = (join * (kept + pair)).to(kept)
            return torch.where(merged.view(*merged.shape, *[1] * (old.ndim - 2)), both, kept)

        half = torch.tensor(0.5, device=x.device)
        return {
            "memory": take(memory, half), "time": take(time, half), "count": take(count, 2 * half),
            "length": (end + 1).clamp_max(length),
        }  # fmt: skip

    def forward(self, x: Tensor, now: Tensor, bank: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Fused tokens (B,N,d) and the bank with them."""
        fused = self.fuse(x, self.retrieve(x, now, bank))
        return fused, self.keep(fused, now, bank)


class Memory(nn.Module):
    """Stream: tokens of now and of the past, to the hand. A batch of a training is read as runs: rows of one episode
    behind one another, in the order of their steps, remember those before them."""

    part_name = "memoryvla"
    feeds: Literal["expert"] = "expert"
    provides: frozenset[str] = frozenset({"memory"})

    def __init__(self, config: Config):
        super().__init__()
        c = self.config = config
        self.needs = frozenset({"text", "image", fits.trunk(c.trunk), fits.HEARS, fits.tokens(c.width)})
        small = max(c.trunk // c.squeeze, 1)
        self.squeeze = nn.Sequential(nn.Linear(c.trunk, small), nn.ReLU(), nn.Linear(small, c.trunk), nn.Sigmoid())
        self.thin = nn.Linear(c.trunk, c.perceptual)
        sizes = {"seen": (c.tokens, c.perceptual), "thought": (1, c.trunk)}
        self.banks = nn.ModuleDict({n: Bank(*size, c.length, c.heads, c.full) for n, size in sizes.items()})
        self.enter = nn.ModuleDict({n: nn.Linear(width, c.width) for n, (_, width) in sizes.items()})

    def start(self, rows: int) -> State:
        """Empty banks, before the first query."""
        at = self.thin.weight
        return {"step": at.new_zeros(rows), **{n: bank.start(rows) for n, bank in self.banks.items()}}

    def read(self, trunk: Trunk) -> dict[str, Tensor]:
        """Perceptual tokens (B,N,d_p) and the cognitive token (B,1,D)."""
        name = f"image/{self.config.camera}"
        if name not in trunk.hidden:
            what = f"Memory of '{name}' on a pass of {sorted(trunk.hidden)}"
            raise BuildError(what, "that picture's tokens, which remembered thoughts are not", "train the mind with it")
        picture = trunk.hidden[name]
        words = max((n for n in trunk.hidden if n.startswith(("text", "reasoning"))), key=list(trunk.hidden).index)
        last = trunk.valid[words].long().cumsum(1).argmax(1)
        gated = picture * self.squeeze(picture.mean(1, keepdim=True))
        row = torch.arange(len(last), device=last.device)
        return {"seen": self.thin(gated), "thought": trunk.hidden[words][row, last].unsqueeze(1)}

    def forward(self, inputs: Inputs, trunk: Trunk | None, state: State) -> StreamOut:
        """Tokens of now, with what they recall; the banks with them."""
        assert trunk is not None
        found, more = self.read(trunk), inputs.more
        if "episode" in more and "step" in more:
            return self._out(self._runs(found, more["episode"], more["step"].to(state["step"])), state)
        now = more["time"][:, -1].to(state["step"]) * self.config.rate if "time" in more else state["step"]
        fused, after = {}, {"step": state["step"] + 1}
        for name, x in found.items():
            fused[name], after[name] = self.banks[name](x, now, state[name])
        return self._out(fused, after)

    def _runs(self, found: Mapping[str, Tensor], episode: Tensor, step: Tensor) -> dict[str, Tensor]:
        """Each row with the memory of its run's rows before it."""
        goes_on = torch.zeros_like(episode, dtype=torch.bool)
        goes_on[1:] = (episode[1:] == episode[:-1]) & (step[1:] >= step[:-1])
        run = (~goes_on).long().cumsum(0) - 1
        rows = torch.arange(len(run), device=run.device)
        place = rows - rows[~goes_on][run]
        fused = {n: torch.zeros_like(x) for n, x in found.items()}
        banks = {n: self.banks[n].start(int(run[-1]) + 1) for n in found}
        for k in range(int(place.max()) + 1):
            here = (place == k).nonzero()[:, 0]
            of = run[here]
            for n, x in found.items():
                out, after = self.banks[n](x[here], step[here], {f: b[of] for f, b in banks[n].items()})
                fused[n] = fused[n].index_put((here,), out)
                banks[n] = {f: b.index_put((of,), after[f]) for f, b in banks[n].items()}
        return fused

    def _out(self, fused: Mapping[str, Tensor], after: State) -> StreamOut:
        out = []
        for name, x in fused.items():
            ones = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
            place = torch.zeros(*ones.shape, 3, dtype=torch.int64, device=x.device)
            out.append(Segment(f"memory/{name}", self.enter[name](x), ones, place))
        return StreamOut(tuple(out), after)


PART = Entry("memoryvla", Config, lambda config, **_: Memory(config))
CARD = MethodCard(
    name="memoryvla",
    title="MemoryVLA",
    arxiv="2508.19236",
    area="see",
    seams=("streams",),
    claim=Claim("where a picture does not tell what was done, a hand with a past succeeds more often", "effect"),
)


def plug(parts: Mapping[str, Any], spec: Spec, **more: Any) -> dict[str, Any]:
    """One more stream, on the first camera."""
    camera, backbone = spec.cameras[0], parts["backbone"]
    with torch.no_grad():
        seen = backbone.see({camera.role: torch.zeros(1, 1, 3, camera.height, camera.width)})[camera.role]
    sizes = backbone.width, parts["expert"].config.width, seen.x.shape[1]
    return {**parts, "streams": [*parts.get("streams", ()), Memory(Config(*sizes, spec.rate, camera.role, **more))]}


def probe(on: Any, off: Any) -> bool:
    """What was seen before changes what is done at one and the same picture."""
    camera, rng = on.spec.cameras[0], np.random.default_rng(0)
    pictures = rng.integers(0, 255, (3, 1, 1, camera.height, camera.width, 3), dtype=np.uint8)
    key = Key("probe", "memory", 0)

    def chunk(vla: Any, past: int) -> np.ndarray:
        state = vla.start((key,))
        for k in (past, 0):  # a past, then the same now
            text, still = {"instruction": ("pick",)}, np.zeros((1, 1, vla.spec.state_size), np.float32)
            obs = Observation({camera.role: pictures[k]}, still, text, np.zeros((1, 1)), (key,))
            answer, state = vla.act(obs, {**state, "query": state["query"] * 0})
        return answer.actions

    return all((not np.allclose(chunk(v, 1), chunk(v, 2), atol=1e-6)) == (v is on) for v in (on, off))
