"""FlashVLA's unit checks, numbered as in its specification, and what a wrapper owes the policy that it wraps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mindhand.core.errors import BuildError
from mindhand.core.seams import Policy
from mindhand.methods.run.flashvla import Config, information, pruned, steady, wrap
from mindhand.serve.rows import put_rows

from ..model.tiny import expert, segments, vlm
from ..seams.build import HORIZON, close, observation, vla

TOKENS = 8  # of the picture in the tiny trunk
C = Config(kept=5)
SHARE = C.share


def tokens(seed: int = 0, n: int = 12, d: int = 20) -> Tensor:
    return torch.randn(3, n, d, generator=torch.Generator().manual_seed(seed)) * torch.linspace(3, 0.1, d)


def test_it_is_a_policy_round_a_vla():
    flash = wrap(vla(expert()), C)
    assert isinstance(flash, Policy)
    with pytest.raises(BuildError, match="Flash"):
        wrap(flash)


@pytest.mark.parametrize("kept", [TOKENS, 3 * TOKENS])
def test_a_keeping_everything_is_the_base_exactly(kept):
    """(a) K = N and no reuse: the same bits, call after call."""
    plain, flash = vla(expert()), wrap(vla(expert()), Config(kept=kept, reuse=False))
    obs = observation()
    p, q = plain.start(obs.keys), flash.start(obs.keys)
    for seed in range(3):
        obs = observation(seed=seed)
        a, p = plain.act(obs, p)
        b, q = flash.act(obs, q)
        assert np.array_equal(a.actions, b.actions) and np.array_equal(a.valid, b.valid)
        assert not b.extra["reused"].any()


def test_a_dropped_tokens_are_gone_from_later_layers():
    """(a) K < N: the picture's tokens after the layer are the K most informative, ascending; words are untouched."""
    model = vlm()
    attention: list[Tensor] = []
    model.towers["vlm"].layers[0].attn.out.register_forward_hook(lambda m, i, o: attention.append(o))
    segs = segments(model)[0]
    with pruned(model, C):
        trunk = model(segs[:2])
    score = information(attention[0][:, :TOKENS], SHARE)
    for row in range(2):
        assert set(trunk.kept["image/front"][row].tolist()) == set(score[row].topk(5).indices.tolist())
        assert trunk.kept["image/front"][row].tolist() == sorted(trunk.kept["image/front"][row].tolist())
    assert [layer[0].k.shape[2] for layer in trunk.cache] == [TOKENS, 5]
    assert trunk.hidden["text"].shape == segs[1].x.shape and "text" not in trunk.kept
    with pruned(model, C):
        longer = trunk.extend([segs[2]])  # a decode step prunes nothing and sees what is left
    assert torch.equal(longer.kept["image/front"], trunk.kept["image/front"])
    alone = vlm()(segs[:2]).extend([segs[2]])
    assert (alone.hidden["reasoning"] - longer.hidden["reasoning"]).abs().max() > 1e-4


def test_b_signs_and_order_do_not_matter():
    """(b) Invariant to the signs of singular vectors; permutes with the tokens. Against the decomposition itself."""
    x = tokens()
    score = information(x, SHARE)
    u, s, _ = torch.linalg.svd(x, full_matrices=False)
    for row in range(3):
        share = (s[row] ** 2).cumsum(0) / (s[row] ** 2).sum()
        r = int((share < 0.9).sum()) + 1
        assert 1 < r < 12
        for flip in (torch.ones(r), -torch.ones(r), torch.tensor([(-1.0) ** i for i in range(r)])):
            close(score[row], ((u[row, :, :r] * flip) * s[row, :r]).abs().sum(1), 1e-3)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(1))
    close(information(x[:, order], SHARE), score[:, order], 1e-3)
    close(information(-x, SHARE), score, 1e-3)
    close(information(2 * x, SHARE), 2 * score, 1e-2)


def test_c_a_token_of_zeros_scores_nothing():
    """(c) And tokens that are all zero score zero without a NaN; more rank never lowers a score."""
    x = tokens()
    x[:, 4] = 0
    score = information(x, SHARE)
    assert score[:, 4].abs().max() < 1e-3 * score.max() and score[:, :4].min() > 0.1
    assert torch.equal(information(torch.zeros(1, 6, 4), SHARE), torch.zeros(1, 6))
    assert bool((information(x, 0.99) >= information(x, 0.5) - 1e-4).all())
    one = torch.randn(1, 6, 1) @ torch.randn(1, 1, 4)  # of rank one: a token's norm
    close(information(one, SHARE), one.norm(dim=-1), 1e-4)


def memory(**changes: Any) -> dict[str, np.ndarray]:
    """One row that would be reused: two full runs, equal chunks, equal tokens."""
    chunk = np.tile(np.array([0.3, -0.2, 0.5], np.float32), (1, HORIZON, 1))
    index = np.arange(4)[None]
    fields = {"last": chunk, "before": chunk, "kept": index, "kept_before": index}
    fields |= {"runs": np.array([2]), "reused": np.array([False])}
    return {**fields, **{n: np.asarray(x) for n, x in changes.items()}}


def turned(degrees: float) -> np.ndarray:
    """The remembered chunk with its first two dimensions turned, the gripper left alone."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    out = memory()["last"].copy()
    out[..., :2] = out[..., :2] @ np.array([[c, -s], [s, c]], np.float32)
    return out


@pytest.mark.parametrize(
    "changes,reuses",
    [
        ({}, True),
        ({"runs": [1]}, False),  # s <= 2
        ({"runs": [0]}, False),
        ({"runs": [7]}, True),
        ({"reused": [True]}, False),  # not twice
        ({"last": turned(8)}, True),
        ({"last": turned(60)}, False),
        ({"last": -memory()["last"]}, False),
        ({"last": 3 * memory()["last"]}, False),  # the same direction, but the gripper moved
        ({"last": 0 * memory()["last"]}, False),  # an angle to nothing is a right one
        ({"last": 0 * memory()["last"], "before": 0 * memory()["last"]}, False),
        ({"kept": [[0, 1, 2, 9]]}, False),  # three of four is not more than 0.75
        ({"kept": [[3, 2, 1, 0]]}, True),  # a set has no order
        ({"kept": [[5, 6, 7, 9]]}, False),
        ({"last": memory()["last"] + np.array([0, 0, 0.2], np.float32)}, False),  # the gripper was just commanded
    ],
)
def test_d_the_trigger_s_truth_table(changes, reuses):
    """(d) On hand-made memories, each broken in one place."""
    assert steady(C, memory(**changes), [2]).tolist() == [reuses]


def test_d_the_angle_is_the_angle():
    """Just inside and just outside ten degrees, without the guard on grippers."""
    flat = {"last": np.array([[[1.0, 0.0]]]), "kept": np.zeros((1, 1)), "kept_before": np.zeros((1, 1))}
    for degrees, reuses in ((9.9, True), (10.1, False), (-9.9, True), (170.0, False)):
        way = np.array([[[math.cos(math.radians(degrees)), math.sin(math.radians(degrees))]]])
        assert steady(C, memory(**flat, before=way), []).tolist() == [reuses]


def resting() -> tuple[Any, list[tuple[int, ...]]]:
    """A wrapped VLA whose hand answers a picture always alike, and a list that grows with every pass."""
    model = vlm()
    passes: list[tuple[int, ...]] = []
    model.towers["vlm"].layers[0].out.register_forward_hook(lambda m, i, o: passes.append(tuple(o.shape)))
    hand = expert("none")
    nn.init.zeros_(hand.leave.weight)  # what remains is noise scaled down and clipped: much the same each time
    with torch.no_grad():
        hand.leave.bias.copy_(torch.tensor([-3.0, -3.0, -3.0]))
    flash = wrap(vla(hand, model), C)
    passes.clear()  # it asked once how long a chunk is
    return flash, passes


def test_d_a_steady_scene_is_reused_every_third_call():
    """Full, full, reused, full, reused, ...: a reused chunk is the last one, and costs no pass."""
    flash, passes = resting()
    obs = observation(texts=("pick",))
    state = flash.start(obs.keys)
    reused, costs, chunks = [], [], []
    for _ in range(6):
        before = len(passes)
        chunk, state = flash.act(obs, state)
        reused.append(bool(chunk.extra["reused"][0]))
        costs.append(len(passes) - before)
        chunks.append(chunk.actions)
    assert reused == [False, False, True, False, True, False]
    assert costs == [0 if r else 1 for r in reused]
    assert all(np.array_equal(chunks[i], chunks[i - 1]) for i, r in enumerate(reused) if r)
    assert state["saved"].tolist() == [2] and state["runs"].tolist() == [4]
    assert state["base"]["query"].tolist() == [4]  # the base did not age while it slept


def test_d_a_row_does_not_feel_its_neighbour():
    """One row rests while the other's picture changes: each gets what it would get beside any other."""

    def run(neighbour: Sequence[int]) -> list[np.ndarray]:
        flash, _ = resting()
        still = observation(seed=0)
        state, out = flash.start(still.keys), []
        for seed in neighbour:
            pictures = still.images["front"].copy()
            pictures[1] = observation(seed=seed).images["front"][1]
            chunk, state = flash.act(replace(still, images={"front": pictures}), state)
            out.append((chunk.actions[0], bool(chunk.extra["reused"][0]), state["base"]["query"][0]))
        return out

    for (a, again, asked), (b, also, also_asked) in zip(run([0] * 5), run([0, 11, 12, 13, 14])):
        assert np.array_equal(a, b) and again == also and asked == also_asked


def test_e_a_new_episode_remembers_nothing():
    """(e) After a reset nothing is reused before two full runs; one row can be reset alone; no state is shared."""
    flash, _ = resting()
    obs = observation()
    state = flash.start(obs.keys)
    for _ in range(2):
        _, state = flash.act(obs, state)
    old = {n: x.copy() for n, x in state.items() if isinstance(x, np.ndarray)}
    assert steady(C, state, flash.grippers).all()
    assert not steady(C, flash.start(obs.keys), flash.grippers).any()
    half = put_rows(state, flash.start(obs.keys), [1], 2)
    assert half is not None
    chunk, after = flash.act(obs, half)
    assert chunk.extra["reused"].tolist() == [True, False] and after["runs"].tolist() == [2, 1]
    assert all(np.array_equal(x, state[n]) for n, x in old.items())


def test_the_vla_inside_stays_as_it_is():
    """Wrapped and asked, the VLA alone still answers as before, and from whole pictures."""
    base = vla(expert())
    obs = observation()
    before = base.act(obs, base.start(obs.keys))[0].actions
    flash = wrap(base, C)
    assert not np.array_equal(flash.act(obs, flash.start(obs.keys))[0].actions, before)
    after, _ = base.act(obs, base.start(obs.keys), want=("context",))
    assert np.array_equal(after.actions, before) and not after.extra["context"].trunk.kept
