"""MemoryVLA's unit checks, numbered as in its specification, and what a stream with state owes its seam."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from mindhand.core.batch import Target
from mindhand.core.errors import BadData, BuildError
from mindhand.core.keys import Keys
from mindhand.core.seams import Code, Context, Inputs, State, Stream, StreamOut, Trunk
from mindhand.data.mixture import Mixture, Runs, SampleSet
from mindhand.methods.see.memoryvla import Bank, Config, Memory
from mindhand.model.expert import sinusoid
from mindhand.serve.rows import put_rows, take_rows

from ..model.tiny import expert, segments, vlm
from ..seams.build import batch, close, observation, vla

CONFIG = Config(32, 32, 8, 10.0, perceptual=16, squeeze=4)


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
    """(1) A bank holds at most L entries, in order of time, and their counts add up to the steps: a plain list's."""
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
    """(2) An empty bank is attention to oneself, whatever L is and whatever lies in the unused places."""
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
    """(2) A bank of one is attention to that entry: the current tokens take no part once there is a past."""
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


def test_remembered_thoughts_are_refused():
    """A batch of them has no picture to remember."""
    made = vla(expert(), streams=[stream(3)])
    one = Target(torch.zeros(2, 32), torch.ones(2, dtype=torch.bool))
    b = replace(batch(made.backbone), text={}, targets={"kept/prompt": one, "kept/reasoning": one})
    with pytest.raises(BuildError, match=r"Memory of 'image/front' on a pass of \['reasoning', 'text'\]"):
        made.losses(b, Keys.seeded(2))


def test_the_oldest_of_a_full_bank_may_be_dropped_instead():
    bank = Bank(2, 4, 3, 2, "first")
    state = bank.start(1)
    for t in range(5):
        state = bank.keep(torch.full((1, 2, 4), float(t)), torch.tensor([float(t)]), state)
    assert state["time"].tolist() == [[2.0, 3.0, 4.0]] and state["count"].tolist() == [[1, 1, 1]]


def test_without_places_a_bank_has_no_past():
    """The same parameters, and what came before changes nothing; neither does what time it is."""
    torch.manual_seed(0)
    bank, other = Bank(4, 16, 0, 4, "first").eval(), Bank(4, 16, 8, 4, "first")
    assert {n: p.shape for n, p in bank.named_parameters()} == {n: p.shape for n, p in other.named_parameters()}
    past, now = torch.randn(2, 4, 16), torch.randn(2, 4, 16)
    _, after = bank(past, torch.zeros(2), bank.start(2))
    told, _ = bank(now, torch.full((2,), 8.0), after)
    fresh, _ = bank(now, torch.full((2,), 80.0), bank.start(2))
    assert torch.allclose(told, fresh, atol=1e-6) and not after["length"].any()
    other.load_state_dict(bank.state_dict())
    _, after = other(past, torch.zeros(2), other.start(2))
    assert not torch.allclose(other(now, torch.full((2,), 8.0), after)[0], fresh, atol=1e-3)


def test_batches_are_read_as_runs_as_acting_reads_an_episode():
    """Rows of a run remember those before them, as at a query after the other; rows of other runs do not meet."""
    model, s = vlm(), stream(3)
    one, two = episode(model, 5, 0), episode(model, 4, 1)
    want = [out.segments for trunks in (one, two) for out in walk(s, trunks)[0]]
    order = [*one, *two]
    ends, steps = torch.tensor([0] * 5 + [1] * 4), torch.tensor([*range(5), *range(4)])
    inputs = Inputs({}, {}, None, {"episode": ends, "step": steps})
    with torch.no_grad():
        out = s(inputs, together(order), s.start(9))
        for k, alone in enumerate(want):
            for got, a in zip(out.segments, alone):
                close(got.x[k : k + 1], a.x)
        shuffled = Inputs({}, {}, None, {"episode": ends, "step": -steps})  # no run goes on
        lonely = s(shuffled, together(order), s.start(9))
    assert (lonely.segments[0].x[4] - out.segments[0].x[4]).abs().max() > 1e-4


def test_time_is_told_in_control_steps():
    s = stream(3)
    (trunk,) = episode(vlm(), 1)
    _, state = walk(s, [trunk])
    seconds = Inputs({}, {}, None, {"time": torch.tensor([[0.4]])})
    with torch.no_grad():
        after = s(seconds, trunk, state).state
    assert after["seen"]["time"][0, :2].tolist() == pytest.approx([0.0, 4.0])  # at 10 a second


@given(st.integers(1, 9), st.integers(0, 30))
def test_runs_are_consecutive_frames_of_one_episode(length, step):
    episode_of = np.repeat(np.arange(6), [3, 12, 7, 1, 20, 9])
    robot = SampleSet("robot", "robot", np.arange(len(episode_of))[::2])
    text = SampleSet("text", "image-text", np.arange(40))
    mixture = Mixture([text, robot], 8, 0)
    runs, drawn = Runs(mixture, episode_of, length).rows(step), mixture.rows(step)
    robots = int((drawn.set == 1).sum())
    assert len(runs) == robots * length + 8 - robots
    own = runs.index[runs.set == 1].reshape(robots, length)
    for run, end in zip(own, drawn.index[drawn.set == 1]):
        assert len(set(episode_of[run])) == 1 and episode_of[run[0]] == episode_of[end] and (np.diff(run) >= 0).all()
        assert set(np.diff(run)) <= {0, 2} and end in run
    with pytest.raises(BadData, match="runs of 0"):
        Runs(mixture, episode_of, 0)
