"""MemoryVLA (2508.19236): a bank of past tokens that is asked, gated and compressed at every step.

Seam: Stream to the expert, with explicit state. The bank is tensors with rows first and of fixed shape, so that rows
of unlike age share a batch, a row can be reset alone, and a state can be branched.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from mindhand.core.keys import Keys
from mindhand.core.seams import Code, Context, Inputs, Segment, State, Stream, StreamOut, Trunk
from mindhand.model.attention import attend
from mindhand.model.expert import sinusoid
from mindhand.serve.rows import put_rows, take_rows

from ..model.tiny import expert, segments, vlm
from .build import close, observation, vla


@dataclass(frozen=True)
class MemoryConfig:
    """The paper's values where they are not sizes."""

    trunk: int  # D of the language tower
    width: int  # of the expert
    tokens: int  # of the camera in the trunk
    camera: str = "front"
    perceptual: int = 16  # d_p
    squeeze: int = 4  # reduction of the channel gate (paper: 16)
    length: int = 16  # L, of the bank
    heads: int = 4


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
    """One bank: retrieval, gate, consolidation. State: memory (B,L,N,d), time and count (B,L), length (B,)."""

    def __init__(self, tokens: int, width: int, length: int, heads: int):
        super().__init__()
        self.shape = (length, tokens, width)
        self.time = nn.Sequential(nn.Linear(256, width), nn.SiLU(), nn.Linear(width, width))
        self.blocks = nn.ModuleList(CrossBlock(width, heads) for _ in range(2))
        self.gate = nn.Linear(2 * width, width)
        nn.init.normal_(self.gate.weight, std=1e-3)
        nn.init.normal_(self.gate.bias, std=1e-3)

    def start(self, rows: int) -> dict[str, Tensor]:
        length = self.shape[0]
        return {
            "memory": torch.zeros(rows, *self.shape),
            "time": torch.zeros(rows, length),
            "count": torch.zeros(rows, length, dtype=torch.int64),
            "length": torch.zeros(rows, dtype=torch.int64),
        }

    def retrieve(self, x: Tensor, now: Tensor, bank: Mapping[str, Tensor]) -> Tensor:
        """x (B,N,d) asks the bank; where it is empty, x itself is the memory."""
        length, tokens, _ = self.shape
        stored = torch.cat([bank["memory"], x.unsqueeze(1)], 1)  # one more place, for x itself
        times = torch.cat([bank["time"], now.unsqueeze(1)], 1)
        place = torch.arange(length + 1)
        used = (place < bank["length"].unsqueeze(1)) | ((place == length) & (bank["length"] == 0).unsqueeze(1))
        when = self.time(sinusoid(times.flatten(), 256)).view(*times.shape, 1, -1)
        keys, mask = (stored + when).flatten(1, 2), used.repeat_interleave(tokens, 1)
        out = x
        for block in self.blocks:
            out = block(out, keys, stored.flatten(1, 2), mask)
        return out

    def fuse(self, x: Tensor, recalled: Tensor) -> Tensor:
        """The paper's order: the gate opens for what was recalled."""
        g = self.gate(torch.cat([x, recalled], -1)).sigmoid()
        return g * recalled + (1 - g) * x

    def keep(self, x: Tensor, now: Tensor, bank: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A new bank: x appended, and where that is one too many, the most similar neighbours merged."""
        length = self.shape[0]
        memory = torch.cat([bank["memory"], torch.zeros_like(bank["memory"][:, :1])], 1)
        time, count = (torch.cat([bank[n], torch.zeros_like(bank[n][:, :1])], 1) for n in ("time", "count"))
        row, end = torch.arange(len(x)), bank["length"]
        memory[row, end], time[row, end], count[row, end] = x.detach(), now, 1
        mean = memory.mean(2)
        alike = F.cosine_similarity(mean[:, :-1], mean[:, 1:], dim=-1)  # (B,L)
        first = alike.argmax(1, keepdim=True)
        full = (end == length).unsqueeze(1)
        place = torch.arange(length).expand(len(x), -1)
        source = torch.where(full & (place > first), place + 1, place)  # behind the pair all move up
        merged = full & (place == first)

        def take(old: Tensor, join: Tensor) -> Tensor:
            kept = old[row.unsqueeze(1), source]
            pair = old[row.unsqueeze(1), (place + 1)]
            return torch.where(merged.view(*merged.shape, *[1] * (old.ndim - 2)), join * (kept + pair), kept)

        half = torch.tensor(0.5)
        return {
            "memory": take(memory, half), "time": take(time, half), "count": take(count, torch.tensor(1)),
            "length": (end + 1).clamp_max(length),
        }  # fmt: skip

    def forward(self, x: Tensor, now: Tensor, bank: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        fused = self.fuse(x, self.retrieve(x, now, bank))
        return fused, self.keep(fused, now, bank)


class Memory(nn.Module):
    """Stream: perceptual tokens (the camera's, squeezed) and a cognitive one (the last of the words), remembered."""

    feeds: Literal["expert"] = "expert"
    needs: frozenset[str] = frozenset({"text", "image"})
    provides: frozenset[str] = frozenset({"memory"})

    def __init__(self, c: MemoryConfig):
        super().__init__()
        self.config = c
        small = max(c.trunk // c.squeeze, 1)
        self.squeeze = nn.Sequential(nn.Linear(c.trunk, small), nn.ReLU(), nn.Linear(small, c.trunk), nn.Sigmoid())
        self.thin = nn.Linear(c.trunk, c.perceptual)
        self.seen = Bank(c.tokens, c.perceptual, c.length, c.heads)
        self.thought = Bank(1, c.trunk, c.length, c.heads)
        self.enter = nn.ModuleDict(
            {"seen": nn.Linear(c.perceptual, c.width), "thought": nn.Linear(c.trunk, c.width)}
        )  # fmt: skip

    def start(self, rows: int) -> State:
        return {"step": torch.zeros(rows), "seen": self.seen.start(rows), "thought": self.thought.start(rows)}

    def read(self, trunk: Trunk) -> dict[str, Tensor]:
        """Perceptual tokens (B,N,d_p) and the cognitive token (B,1,D)."""
        picture = trunk.hidden[f"image/{self.config.camera}"]
        words = max((n for n in trunk.hidden if n.startswith(("text", "reasoning"))), key=list(trunk.hidden).index)
        last = trunk.valid[words].long().cumsum(1).argmax(1)
        gated = picture * self.squeeze(picture.mean(1, keepdim=True))
        return {
            "seen": self.thin(gated),
            "thought": trunk.hidden[words][torch.arange(len(last)), last].unsqueeze(1),
        }

    def forward(self, inputs: Inputs, trunk: Trunk | None, state: State) -> StreamOut:
        assert trunk is not None
        after: State = {"step": state["step"] + 1}
        out = []
        for name, x in self.read(trunk).items():
            bank: Bank = getattr(self, name)
            fused, after[name] = bank(x, state["step"], state[name])
            ones = torch.ones(fused.shape[:2], dtype=torch.bool)
            place = torch.zeros(*ones.shape, 3, dtype=torch.int64)
            out.append(Segment(f"memory/{name}", self.enter[name](fused), ones, place))
        return StreamOut(tuple(out), after)


CONFIG = MemoryConfig(trunk=32, width=32, tokens=8)


def stream(length: int = 16) -> Memory:
    torch.manual_seed(0)
    return Memory(replace(CONFIG, length=length))


def episode(model: nn.Module, steps: int, seed: int = 0) -> list[Trunk]:
    """Finished passes of one row, a picture and words each."""
    torch.manual_seed(seed)
    out = []
    for _ in range(steps):
        segs = segments(model)[0]
        image, text = (
            replace(s, **{f: getattr(s, f)[seed % 2 :][:1] for f in ("x", "valid", "position")}) for s in segs[:2]
        )
        image = replace(image, x=image.x + torch.randn(image.x.shape))
        with torch.no_grad():
            out.append(model([image, text]))
    return out


def together(trunks: Sequence[Trunk]) -> Trunk:
    """One row each -> a batch, padded on the right."""
    names = trunks[0].hidden

    def pad(x: Tensor, n: int) -> Tensor:
        return torch.cat([x, x.new_zeros(1, n - x.shape[1], *x.shape[2:])], 1)

    def joined(what: str) -> dict[str, Tensor]:
        parts = {n: [getattr(t, what)[n] for t in trunks] for n in names}
        return {n: torch.cat([pad(x, max(y.shape[1] for y in xs)) for x in xs]) for n, xs in parts.items()}

    end = torch.cat([t.end for t in trunks])
    return replace(trunks[0], hidden=joined("hidden"), valid=joined("valid"), end=end)


NOTHING = Inputs({}, {}, None)


def walk(s: Memory, trunks: Sequence[Trunk], state: State | None = None) -> tuple[list[StreamOut], State]:
    state = s.start(len(trunks[0].end)) if state is None else state
    outs = []
    with torch.no_grad():
        for t in trunks:
            outs.append(s(NOTHING, t, state))
            state = outs[-1].state
    return outs, state


def flat(state: Mapping) -> dict[str, Tensor]:
    out = {}
    for name, x in state.items():
        out.update({f"{name}.{n}": y for n, y in flat(x).items()} if isinstance(x, dict) else {name: x})
    return out


def test_is_a_stream_whose_rows_can_be_told_apart():
    s = stream()
    assert isinstance(s, Stream)
    state = s.start(3)
    assert take_rows(state, [2, 0], 3) is not None
    assert put_rows(state, s.start(3), [1], 3) is not None


@given(st.integers(1, 5), st.integers(0, 12), st.integers(0, 99))
def test_1_the_bank_never_exceeds_its_length_and_loses_no_mass(length, steps, seed):
    """(1) At most L entries, in order of time, and their counts add up to the steps: against a plain list."""
    bank, g = Bank(2, 4, length, 2), torch.Generator().manual_seed(seed)
    state, plain = bank.start(2), [[], []]
    for t in range(steps):
        x = torch.randn(2, 2, 4, generator=g)
        state = bank.keep(x, torch.full((2,), float(t)), state)
        for row, entries in enumerate(plain):
            entries.append((float(t), x[row], 1))
            while len(entries) > length:
                means = [e[1].mean(0) for e in entries]
                near = [float(F.cosine_similarity(a, b, dim=0)) for a, b in pairwise(means)]
                i = near.index(max(near))
                (ta, xa, na), (tb, xb, nb) = entries[i : i + 2]
                entries[i : i + 2] = [((ta + tb) / 2, (xa + xb) / 2, na + nb)]
    for row, entries in enumerate(plain):
        n = int(state["length"][row])
        assert n == len(entries) == min(length, steps)
        assert int(state["count"][row, :n].sum()) == steps and not state["count"][row, n:].any()
        times = state["time"][row, :n].tolist()
        assert times == sorted(times) == pytest.approx([e[0] for e in entries])
        if n:
            close(state["memory"][row, :n], torch.stack([e[1] for e in entries]), 1e-5)


def test_2_an_empty_bank_is_attention_to_oneself():
    """(2) Whatever L is, and whatever lies in the unused places."""
    g = torch.Generator().manual_seed(0)
    x, now = torch.randn(2, 8, 16, generator=g), torch.tensor([0.0, 7.0])
    seen = []
    for length in (1, 4, 64):
        torch.manual_seed(3)
        bank = Bank(8, 16, length, 4)
        empty = bank.start(2)
        empty["memory"] += 9
        seen.append(bank.retrieve(x, now, empty))
        keys = x + bank.time(sinusoid(now, 256)).unsqueeze(1)
        want, mask = x, torch.ones(2, 8, dtype=torch.bool)
        for block in bank.blocks:
            want = block(want, keys, x, mask)
        close(seen[-1], want)
    close(seen[0], seen[1])
    close(seen[0], seen[2])


def test_2_a_bank_of_one_is_attention_to_that_entry():
    """The current tokens do not take part once there is a past."""
    bank = Bank(8, 16, 4, 4)
    g = torch.Generator().manual_seed(0)
    past, x = torch.randn(1, 8, 16, generator=g), torch.randn(1, 8, 16, generator=g)
    state = bank.keep(past, torch.zeros(1), bank.start(1))
    keys = past + bank.time(sinusoid(torch.zeros(1), 256)).unsqueeze(1)
    want, mask = x, torch.ones(1, 8, dtype=torch.bool)
    for block in bank.blocks:
        want = block(want, keys, past, mask)
    close(bank.retrieve(x, torch.ones(1), state), want)


def test_3_episodes_do_not_leak():
    """(3) A second episode is the same, bit for bit, whether or not a first was run; without reset it is not."""
    model, s = vlm(), stream(3)
    one, two = episode(model, 6, 0), episode(model, 5, 1)
    alone, _ = walk(s, two)
    _, left = walk(s, one)
    after, _ = walk(s, two)
    forgotten, _ = walk(s, two, left)
    for a, b, c in zip(alone, after, forgotten):
        assert torch.equal(a.segments[0].x, b.segments[0].x) and torch.equal(a.segments[1].x, b.segments[1].x)
        assert (a.segments[0].x - c.segments[0].x).abs().max() > 1e-4


def test_rows_of_unlike_age_share_a_batch():
    """One row in its sixth step, one that begins: each as it would be alone, and so are the banks."""
    model, s = vlm(), stream(4)
    old, new = episode(model, 9, 0), episode(model, 3, 1)
    want_old, end_old = walk(s, old)
    want_new, end_new = walk(s, new)
    _, state = walk(s, [together([t, t]) for t in old[:6]])
    state = put_rows(state, s.start(2), [1], 2)  # the second row's episode ended: it alone begins anew
    assert state is not None
    outs, end = walk(s, [together(pair) for pair in zip(old[6:], new)], state)
    for i, out in enumerate(outs):
        for segment, a, b in zip(out.segments, want_old[6 + i].segments, want_new[i].segments):
            close(segment.x[:1], a.x)
            close(segment.x[1:], b.x)
    assert end["seen"]["length"].tolist() == [4, 3]
    for row, alone in enumerate((end_old, end_new)):
        picked = take_rows(end, [row], 2)
        assert picked is not None
        got, want = flat(picked), flat(alone)
        assert got.keys() == want.keys()
        for name, x in got.items():
            close(x.float(), want[name].float())


def test_state_is_branched_not_changed():
    """Looking ahead from a state leaves it as it was; two futures of one past do not meet."""
    model, s = vlm(), stream(3)
    _, state = walk(s, episode(model, 5, 0))
    before = {n: x.clone() for n, x in flat(state).items()}
    left, right = episode(model, 2, 1), episode(model, 2, 3)
    (a, _), (b, _), (c, _) = (walk(s, t, state) for t in (left, right, left))
    assert all(torch.equal(x, before[n]) for n, x in flat(state).items())
    assert torch.equal(a[1].segments[0].x, c[1].segments[0].x)
    assert not torch.equal(a[1].segments[0].x, b[1].segments[0].x)


def test_gradients_stop_at_the_past():
    """Stored tokens are detached; the step's own tokens train every part of the stream, and the hand reads them."""
    model, s, hand = vlm(), stream(2), expert()
    state, loss = s.start(1), torch.zeros(())
    g = torch.Generator().manual_seed(0)
    for t in episode(model, 3):
        alive = replace(t, hidden={n: h.clone().requires_grad_() for n, h in t.hidden.items()})
        out = s(NOTHING, alive, state)
        assert not any(x.requires_grad for x in flat(out.state).values())
        ctx = Context(alive, {"memory": out}, Inputs({}, {}, torch.randn(1, 1, 5, generator=g)))
        actions = Code(torch.rand(1, 4, 3, generator=g), torch.ones(1, 4, dtype=torch.bool))
        loss = hand.loss(ctx, actions, Keys.seeded(1, "step"))["action"].sum()
        state = out.state
    first = alive.hidden["image/front"]
    loss.backward()
    assert first.grad.abs().max() > 0
    assert all(
        p.grad is not None and bool(p.grad.abs().max() > 0) for n, p in s.named_parameters() if "k.bias" not in n
    )


def test_in_a_vla_the_past_reaches_the_hand():
    """Through act: what was seen before changes the chunk for one and the same picture, and the state is joinable."""
    made = vla(expert(), streams=[stream(3)])
    now, other = observation(seed=1), observation(seed=2)

    def after(*past) -> tuple:
        state = made.start(now.keys)
        for obs in past:
            _, state = made.act(obs, state)
        state = {**state, "query": state["query"] * 0}  # the same noise, whatever the past
        return made.act(now, state)

    (a, _), (b, end), (c, _) = after(), after(other, other), after(now, now)
    assert abs(a.actions - b.actions).max() > 1e-5 and abs(b.actions - c.actions).max() > 1e-5
    assert put_rows(end, made.start(now.keys), [0], 2) is not None
    assert math.isclose(float(end["streams"]["0/Memory"]["step"][0]), 3.0)
