"""CAST's unit checks, numbered as in its specification, and what becomes of chunks that a simulator refuses."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from mindhand.core.errors import BadData, BuildError
from mindhand.core.keys import Key, Keys
from mindhand.core.nouns import ActionChunk
from mindhand.core.spec import Part
from mindhand.data.cache import FrameCache
from mindhand.data.lerobot_read import LeRobotReader
from mindhand.data.lerobot_write import LeRobotWriter
from mindhand.data.mixture import Mixture
from mindhand.data.record import Noise
from mindhand.data.relabelled import ADDED, Relabelled, Told
from mindhand.data.robot import RobotFrames
from mindhand.kit.atomic import CLOSE, COMMANDS, MOVES, NONE, OPEN, ROTATE, STOP, Labeller, drives, named
from mindhand.methods.relabel import cast
from mindhand.methods.relabel.cast import HIDDEN, HITS, KEPT, NEAR, OTHER, REACH, SAME, Config, Maker
from mindhand.worlds.desk.kinematics import tool_down
from mindhand.worlds.desk.otherwise import SceneFacts
from mindhand.worlds.desk.spec import SPEC as DESK
from mindhand.worlds.metaworld_spec import SPEC as METAWORLD

from ..contract.bases import BASES, HORIZON, SPEC, desk, policy, recorded
from ..contract.bases import relabelled as made_by
from ..data.make import make_episode, write
from ..model.tiny import words

H = 8


# ---- (1) the labeller --------------------------------------------------------------------------------------


def still(n: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Chunks of the desk that hold what is measured: the hand over the table, open."""
    state = np.concatenate([[0.4, 0.1, 0.15], tool_down(0.2)[:, :2].T.ravel(), [1.0]]).astype(np.float32)
    return np.tile(state, (n, H, 1)), np.ones((n, H), bool), np.tile(state, (n, 1))


def labels(*chunk: np.ndarray) -> list[str]:
    return [COMMANDS[c] for c in Labeller(DESK)(*chunk)]


@pytest.mark.parametrize("far, moves", [(0.0199, False), (0.0202, True)])
def test_1_absolute_poses_by_axis_and_threshold(far, moves):
    """(1) Scripted motions of the desk: forward, left and up of the robot (away from its base, which is to the right in
    the picture), and back; 2 cm along one axis from where the tool is measured, nothing less."""
    actions, valid, state = still(6)
    for k in range(6):
        way = far * (-1) ** k
        actions[k, :, k // 2] += np.linspace(0.3, 1, H, dtype=np.float32) * way
    assert labels(actions, valid, state) == (list(MOVES) if moves else ["stop"] * 6)
    assert np.allclose(np.abs(Labeller(DESK).way(actions, valid, state)).max(1), far, atol=1e-5)


def test_1_turns_and_grips():
    """(1) The tool turns by 0.3 rad: rotate. The gripper's command falls or rises by 0.3: close, open, whatever moves
    besides; a thing that is held, measured wider than commanded, is no closing."""
    actions, valid, state = still(6)
    for k, turn in enumerate((0.29, 0.31)):
        actions[k, :, 3:9] = tool_down(0.2 + turn)[:, :2].T.ravel()
    actions[2, 4:, 9], actions[2, :, 0] = 0.0, 0.6
    actions[3, :, 9], state[3, 9] = np.linspace(0, 1, H), 0.0
    actions[4, :, 9], state[4, 9] = 0.0, 0.4
    actions[5, 6:, 0] = 0.8  # behind the chunk's end
    valid[5, 5:] = False
    assert labels(actions, valid, state) == ["stop", "rotate", "close", "open", "stop", "stop"]
    assert Labeller(DESK)(actions, np.zeros_like(valid), state).tolist() == [NONE] * 6


def test_1_deltas_in_other_units_and_frames():
    """(1) Meta-World's hand: centimetres a step, added up over what is valid; a gripper whose larger number closes."""
    moved = np.zeros((4, H, 4), np.float32)
    moved[0, :, 0], moved[1, :, 1], moved[2, :, 2] = 0.26, -0.26, 0.24  # 2.08 cm, and 1.92
    moved[3, :, 3] = np.linspace(-1, 1, H)
    valid, state = np.ones((4, H), bool), np.zeros((4, METAWORLD.state_size), np.float32)
    assert Labeller(METAWORLD)(moved, valid, state).tolist() == [0, 3, STOP, CLOSE]
    valid[0, 5:] = False
    assert Labeller(METAWORLD)(moved, valid, state)[0] == STOP
    opened = replace(METAWORLD, action=(METAWORLD.action[0], replace(METAWORLD.action[1], polarity="open")))
    assert Labeller(opened)(moved, valid, state)[3] == OPEN


def test_1_relative_and_turning_deltas():
    """(1) A chunk that is relative to the measured state is its last step; turns that are deltas are made one after the
    other."""
    spec = replace(
        DESK, action=(Part("tcp", "position", ("x", "y", "z"), "mm", "relative", "arm_base"),
                      Part("tool", "rotation", ("z",), "deg", "delta", "arm_base", "yaw")),
    )  # fmt: skip
    chunk = np.zeros((2, H, 4), np.float32)
    chunk[0, -1, 1] = -30
    chunk[1, :, 3] = 2.5  # 20 degrees in all
    state = still(2)[2]
    assert Labeller(spec)(chunk, np.ones((2, H), bool), state).tolist() == [COMMANDS.index("move right"), ROTATE]
    assert Labeller(spec).turn(chunk, np.ones((2, H), bool), state)[1] == pytest.approx(np.radians(20))


def test_1_each_chunk_for_itself():
    """(1) Many chunks at once are each as it is alone."""
    rng = np.random.default_rng(0)
    actions, _, state = still(64)
    actions[..., :3] += rng.normal(0, 0.02, (64, 1, 3)).astype(np.float32)
    actions[..., 9] = rng.uniform(0, 1, (64, H))
    valid = np.arange(H) < rng.integers(0, H + 1, (64, 1))
    whole = Labeller(DESK)(actions, valid, state)
    assert [int(Labeller(DESK)(*(x[k : k + 1] for x in (actions, valid, state)))[0]) for k in range(64)] == [*whole]
    assert len(set(whole.tolist())) > 6


def test_1_paths_of_a_wheeled_robot():
    """(1) The paper's own labels: chunks grow to 0.9 rad or 10 steps; what turns between 0.5 and 0.9 is left out."""

    def path(turn: float, step: float, steps: int = 10) -> np.ndarray:
        yaw = turn * np.arange(steps + 1)
        return np.stack([np.cumsum(step * np.cos(yaw)), np.cumsum(step * np.sin(yaw)), yaw], 1)

    cases = {
        (0.005, 0.1): "go forward", (0.03, 0.1): "adjust left", (-0.03, 0.1): "adjust right", (0.0, 0.01): "stop",
        (0.2, 0.1): "turn left", (-0.2, 0.1): "turn right", (0.07, 0.1): None,
    }  # fmt: skip
    for (turn, step), said in cases.items():
        found = drives(path(turn, step))
        assert (found[0][2] if found else None) == said
    assert drives(path(0.2, 0.1))[0][:2] == (0, 5)
    assert [c[:2] for c in drives(path(0.0, 0.1, 23))] == [(0, 10), (10, 20), (20, 23)]


def test_1_what_cannot_be_labelled_is_refused():
    """(1) Two arms, or joints alone, have no one tool point."""
    for action in ((*DESK.action, replace(DESK.action[0], name="other")), SPEC.action):
        with pytest.raises(BuildError, match="atomic commands"):
            Labeller(replace(DESK, action=action))


def test_contact_is_where_the_gripper_begins_to_close():
    action = still(1)[0][0]
    assert Labeller(DESK).contact(action) == H
    action[5:, 9] = 0.2
    assert Labeller(DESK).contact(action) == 5


# ---- (2) samples -------------------------------------------------------------------------------------------


def test_2_a_sample_is_the_sources_frame_with_another_motion():
    """(2) For every sample picture and state are the source frame's bits, the instruction is another, and so is the
    motion, told anew from both chunks. A demonstration that the world shows otherwise is refused."""
    source, made = recorded(), made_by("cast")
    kept = [row for row in made.rows if row["outcome"] == KEPT]
    added = {str(e.key): e for e in made.reader.episodes if e.key.protocol == ADDED}
    assert len(kept) == len(added) >= 4 and len({row["other"] for row in kept}) >= 2
    own, other = cast.commands(source), cast.commands(made.reader)
    for row in kept:
        e, i = added[row["key"]], source.episodes[row["episode"]].begin + row["frame"]
        assert np.array_equal(made.reader.state[e.begin], source.state[i]) and len(e) == Config().steps
        for role in source.spec.roles:
            assert np.array_equal(made.reader.images(role, [e.begin]), source.images(role, [i]))
        assert made.reader.instruction(e.begin) == row["instead"] != row["said"] == source.instruction(i)
        assert COMMANDS[other[e.begin]] == row["other"] != row["motion"] == COMMANDS[own[i]]
        assert not np.isfinite(made.reader.label("gaze")[e.begin]).any() and made.reader.reasoning(e.begin) == ""
    assert sum(made.report["counts"].get(x, 0) for x in (KEPT, SAME)) == made.report["counts"]["proposed"]


@pytest.mark.parametrize("what", ["picture", "state", "noise"])
def test_2_what_cannot_be_replayed_is_refused(what):
    """(2) One pixel, one number of a state, or another noise than that of the recording."""
    whole, noise = recorded().episode(0), Noise()
    if what == "picture":
        pictures = whole.images["front"].copy()
        pictures[0, 5, 5] ^= 1
        whole = replace(whole, images={**whole.images, "front": pictures})
    elif what == "state":
        state = whole.state.copy()
        state[1, 0] += 1e-4
        whole = replace(whole, state=state)
    else:
        noise = Noise(sd=0.02, share=1.0)
    maker = replace(making(), noise=noise)
    with pytest.raises(BadData, match="is not what the world shows"):
        [*maker.replayed(0, whole, np.array([0, 6]))]


# ---- (3) what is learned -----------------------------------------------------------------------------------


def tagged(path) -> Relabelled:
    """One demonstration, and one short sample that was added."""
    long, short = make_episode(0, 20, SPEC), make_episode(1, 5, SPEC)
    short = replace(short, key=Key(ADDED, "pick", 0), instruction="pick another")
    return Relabelled(LeRobotReader(write(path, [long, short], SPEC)))


def test_3_what_is_behind_a_samples_end_teaches_nothing(tmp_path):
    """(3) Of a sample that ends within the horizon, steps behind the end change no loss and no gradient; those before
    do."""
    made = tagged(tmp_path / "demos")
    cache_, vla = FrameCache.build(tmp_path / "frames", made.reader), policy(BASES["flow"]())
    frames = RobotFrames(made.reader, cache_, vla.backbone.words, HORIZON)
    (index,) = [s.rows for s in made.sets(cache_.frames) if s.name == ADDED]
    batch = frames.batch(index, Keys.seeded(1, "sample"))
    assert index.tolist() == [20] and batch.action_valid.sum() == 5 < HORIZON

    def learned(change: slice) -> tuple[Any, dict[str, torch.Tensor]]:
        actions = batch.actions.clone()
        actions[:, change] += 3.0
        vla.zero_grad()
        loss = vla.losses(replace(batch, actions=actions), Keys.seeded(1, 0))["action"].sum()
        loss.backward()
        return loss.detach(), {n: p.grad.clone() for n, p in vla.named_parameters() if p.grad is not None}

    loss, gradients = learned(slice(0, 0))
    behind, same = learned(slice(5, None))
    assert torch.equal(loss, behind) and all(torch.equal(g, same[n]) for n, g in gradients.items())
    before, _ = learned(slice(0, 5))
    assert not torch.equal(loss, before) and any(bool(g.any()) for g in gradients.values())


def test_3_a_sample_of_the_desk_ends_with_its_chunk():
    """(3) What is behind the chunk is the next episode's, and is masked."""
    made = made_by("cast")
    (added,) = [s.rows for s in made.sets(np.arange(len(made.reader))) if s.name == ADDED]
    frames = RobotFrames(made.reader, FrameCache(np.arange(len(made.reader)), {}), words(), 2 * H)
    _, valid = frames.chunks(added)
    assert (valid.sum(1) == H).all() and not valid[:, H:].any()


def test_originals_and_samples_come_one_to_one(tmp_path):
    """As often as each other, whatever their numbers; and not where a sample's frame is missing."""
    made = tagged(tmp_path / "demos")
    sets = made.sets(np.arange(25))
    assert [(s.name, len(s.rows)) for s in sets] == [("original", 20), (ADDED, 1)]
    rows = Mixture(sets, 40, 0).rows(0)
    assert (rows.set == 1).mean() == 0.5 and set(rows.index[rows.set == 1]) == {20}
    assert [len(s.rows) for s in replace(made, report={"contradicted": [3, 4]}).sets(np.arange(25))] == [18, 1]
    with pytest.raises(BadData, match="not among the frames"):
        made.sets(np.arange(20))


# ---- what a simulator says of a chunk ----------------------------------------------------------------------


class Straight:
    """A policy that knows nothing but words: it moves by `far` (m) as it is told, or the other way; before that by
    `aside` (m) the way in which its fingers close."""

    name, spec, provides = "straight", DESK, frozenset()

    def __init__(self, far: float, steps: int = H, aside: float = 0.0):
        self.far, self.steps, self.aside = far, steps, aside

    def start(self, keys):
        return {}

    def act(self, obs, state, *, want=()):
        (said,) = obs.text["instruction"]
        actions = np.repeat(obs.state, self.steps, 1)
        axis, back = divmod(MOVES.index(said), 2)
        part = np.arange(1, self.steps + 1, dtype=np.float32)[:, None] / self.steps
        actions[0, :, :3] += self.aside * np.minimum(2 * part, 1) * obs.state[0, 0, 6:9]
        actions[0, :, axis] += (-1) ** back * self.far * (np.maximum(2 * part - 1, 0) if self.aside else part)[:, 0]
        return ActionChunk(actions, np.ones((1, self.steps), bool)), state


def making(moves: Straight | None = None, **config) -> Maker:
    c = Config(**config)
    return Maker(recorded(), desk(), c, moves, SceneFacts(), Noise(), c.labeller(DESK))


@cache
def frame(t: int) -> tuple[bytes, Any]:
    """The world at a frame of the demonstration, and what else is asked for there."""
    maker = making()
    snaps = dict(maker.replayed(0, recorded().episode(0), np.array([16, 34])))
    desk().restore([0], [snaps[t]])
    (ask,) = SceneFacts().asks(desk(), 0)
    return snaps[t], ask


def becomes(t: int, moves: Straight | None, taken: frozenset[int] = frozenset(), **config: Any) -> tuple[str, int, Any]:
    snap, ask = frame(t)
    maker, whole = making(moves, **config), recorded().episode(0)
    return maker.tried(whole, t, snap, ask, set(taken), Key(ADDED, whole.key.task, t))


def test_an_atomic_policy_is_told_the_way_to_another_thing():
    """What is kept is its chunk, at the source's frame; who goes the other way, or does not go, is not believed."""
    outcome, motion, made = becomes(16, Straight(0.04))
    _, ask = frame(16)
    state, whole = recorded().state[16], recorded().episode(0)
    way = ask.at - state[:3]
    assert outcome == KEPT and motion == 2 * np.abs(way).argmax() + (way[np.abs(way).argmax()] < 0)
    assert made.instruction == ask.instruction != whole.instruction and len(made) == H
    assert np.array_equal(made.images["wrist"][0], whole.images["wrist"][16])
    assert np.allclose(np.abs(made.action[-1] - state).max(), 0.04, atol=1e-6)
    assert np.linalg.norm(made.state[-1, :3] - state[:3]) > 0.015, "what follows is what the world then showed"
    for wrong in (Straight(-0.04), Straight(0.01), Straight(0.04, steps=0)):
        assert becomes(16, wrong)[::2] == (OTHER, None)
    assert becomes(16, Straight(0.04), frozenset({motion}))[0] == SAME
    assert becomes(16, Straight(0.04), move=1.0)[0] == NEAR


def test_what_collides_or_is_too_fast_is_dropped():
    """Round a ball, a hand that goes the way in which its fingers close takes it along, and one that goes between them
    does not; a jump is cut short by the arm."""
    assert becomes(34, Straight(0.05, aside=0.035))[0] == HITS
    assert becomes(34, Straight(0.05, aside=0.035), hit=1.0)[0] == KEPT
    assert becomes(34, Straight(0.06))[0] == KEPT
    assert becomes(16, Straight(0.3, steps=1))[0] == REACH


def test_only_what_is_seen_is_proposed():
    snap, ask = frame(16)
    desk().restore([0], [snap])
    (unseen,) = SceneFacts(least=10**4).asks(desk(), 0)
    assert ask.visible and ask.possible and not unseen.visible
    at = desk().geometry([0])[0]["toys"][ask.belief.target, :2] - np.array([-0.41, 0.0])
    assert np.allclose(ask.at[:2], at, atol=1e-3), "in the frame of the robot, where the thing stands"
    maker, whole = replace(making(), scene=SceneFacts(least=10**4)), recorded().episode(0)
    short = replace(whole, images={r: x[:2] for r, x in whole.images.items()}, state=whole.state[:2], labels={},
                    action=whole.action[:2], reasoning=whole.reasoning[:2])  # fmt: skip
    assert [(row["outcome"], made) for row, made in maker.samples(0, short, np.zeros(2, int))] == [(HIDDEN, None)]


# ---- words -------------------------------------------------------------------------------------------------


def test_each_frame_of_the_atomic_policys_data_is_told_its_motion():
    source = recorded()
    told = cast.commanded(source)
    said = [told.instruction(i) for i in range(len(told))]
    assert said == [COMMANDS[c] for c in cast.commands(source)] and {"move down", "close", "open"} <= set(said)
    assert told.spec is source.spec and len(told) == len(source) and source.instruction(0) not in said
    with pytest.raises(BadData, match="one a frame"):
        Told(source, said[1:])


def test_words_that_name_another_motion_are_found(tmp_path):
    """In an instruction or a thought; what names none, or several, contradicts nothing."""
    assert [named(x) for x in ("Move left to the cup", "left of the cup", "move up or move down")] == [2, NONE, NONE]
    whole = recorded().episode(0)
    with LeRobotWriter(tmp_path / "d", DESK, pictures="model", labels=recorded().about["labels"]) as writer:
        thoughts = ["move forward." if t % 2 else "go on." for t in range(len(whole))]
        writer.append(replace(whole, reasoning=thoughts))
    reader = LeRobotReader(tmp_path / "d")
    found = cast.commands(reader)
    wrong = [t for t in range(len(whole)) if t % 2 and found[t] != 0]
    assert cast.contradicted(reader, found).tolist() == wrong and 0 < len(wrong) < len(whole) / 2
    assert cast.contradicted(recorded(), cast.commands(recorded())).size == 0


# ---- on disk -----------------------------------------------------------------------------------------------


def test_the_page_shows_what_was_made_and_counts_the_rest():
    made = made_by("cast")
    page = (made.reader.path.parent / "samples.html").read_text()
    kept = sum(row["outcome"] == KEPT for row in made.rows)
    assert page.count("<figure>") == sum(min(n, cast.EACH) for n in (kept, len(made.rows) - kept))
    assert made.rows[-1]["instead"] in page and SAME in page and "<script" not in page and 'src="http' not in page
