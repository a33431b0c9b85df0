"""CAST: a policy listens where one frame was shown with several instructions and what each then means (2508.13446).

Seams: Source, World, Policy. At frames before contact something else that is seen is asked for. A chunk that goes there
comes from the scripted expert of `World.restore` (the upper bound), or from an atomic policy: a policy of ours trained
on the same frames, each told its own motion (`commanded`). A simulator tries each chunk; one that hits something, is
out of reach, or moves as the demonstration does is dropped and counted. Differs from the heart: data alone. From the
paper: arms, not navigation (`kit.atomic.drives` has its labels); a scene's facts propose instead of a VLM; a chunk is a
sample of its own, on the source's very frame, masked behind its end. Frames whose words name another motion than
theirs, and demonstrations that failed, are left out.
The paper: instructions followed in navigation 53 %, without counterfactuals 26 %.
Use: Mixture(relabel(LeRobotReader("runs/demos"), "runs/cast", DeskWorld(), policy=atomic).sets(frames), batch, seed)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from rich.console import Console

from mindhand.core.card import Claim, MethodCard
from mindhand.core.errors import BadData
from mindhand.core.keys import Key, Keys
from mindhand.core.nouns import Observation
from mindhand.core.seams import Policy, World
from mindhand.core.spec import Spec
from mindhand.data.episodes import Episode, gather
from mindhand.data.lerobot_read import LeRobotReader
from mindhand.data.lerobot_write import LeRobotWriter
from mindhand.data.record import Noise
from mindhand.data.relabelled import ADDED, Relabelled, Told, gathered, relabelled
from mindhand.evaluate.gallery import Before, write_samples
from mindhand.kit.atomic import COMMANDS, NONE, STOP, Labeller, Thresholds, named
from mindhand.kit.probe import fingerprint
from mindhand.worlds.desk.otherwise import Ask, SceneFacts

KEPT, HIDDEN, IMPOSSIBLE, SPARED = "kept", "not visible", "cannot be done", "enough others at this frame"
SAME, OTHER, NEAR = "moves as the demonstration, or another one here", "not the motion asked for", "is there already"
REACH, HITS = "out of reach, or too fast", "hits something"
EACH = 6  # figures of each outcome on the page
LEAD = "What else could have been asked for at frames of demonstrations, and what became of it."
FACTS, NOISE = SceneFacts(), Noise()  # of the desk


@dataclass(frozen=True)
class Config:
    """What is made, and what counts as a motion. In brackets the paper's, which is of navigation."""

    steps: int = 8  # control steps of a chunk (8 waypoints)
    stride: int = 4  # of so many frames before contact one is a decision point (a VLM chooses)
    most: int = 2  # other instructions tried at one (one for each command)
    move: float = 0.02  # m a chunk along one axis: a move (0.5 m)
    turn: float = 0.3  # rad: "rotate" (0.9)
    grip: float = 0.3  # of the gripper's numbers: "open", "close"
    hit: float = 0.005  # m: a thing that is moved so far was hit (not tried)

    def labeller(self, spec: Spec) -> Labeller:
        """Of this spec's chunks."""
        return Labeller(spec, Thresholds(self.move, self.turn, self.grip))


class Scene(Protocol):
    """What proposes, in the place of a VLM: `asks` what else could be asked for in a row of the world, `drive` lets the
    world's expert do it, `things` (n,3) m is where things are, so that it is known whether one was hit."""

    def asks(self, world: Any, row: int) -> Sequence[Ask]: ...
    def drive(self, world: Any, row: int, ask: Ask) -> None: ...
    def things(self, world: Any, row: int) -> np.ndarray: ...


# ---- labels ------------------------------------------------------------------------------------------------


def commands(reader: LeRobotReader, config: Config = Config()) -> np.ndarray:
    """The motion of every frame's chunk, int64 (N,) of `COMMANDS`."""
    end = np.repeat(reader.ends, reader.ends - reader.begins)
    return config.labeller(reader.spec)(*gather(reader.action, np.arange(len(reader)), end, config.steps), reader.state)


def commanded(reader: LeRobotReader, config: Config = Config()) -> Told:
    """The dataset as an atomic policy learns from it: each frame is told its own motion, "move left"."""
    return Told(reader, [COMMANDS[c] for c in commands(reader, config)])


def contradicted(reader: LeRobotReader, found: np.ndarray) -> np.ndarray:
    """Frames whose instruction or thought names another motion ("move left to the cup") than `found` (N,): int64."""
    said: dict[tuple[str, str], int] = {}
    out = []
    for i, command in enumerate(found):
        words = reader.instruction(i), reader.reasoning(i)
        name = said.setdefault(words, named(". ".join(words)))
        if name not in (NONE, command):
            out.append(i)
    return np.array(out, np.int64)


# ---- counterfactuals ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Maker:
    """Samples of one dataset, in one world. policy None: the expert moves. noise: of the demonstrations."""

    reader: LeRobotReader
    world: Any
    config: Config
    policy: Policy | None
    scene: Scene
    noise: Noise
    labeller: Labeller

    def replayed(self, number: int, whole: Episode, frames: np.ndarray) -> Iterator[tuple[int, bytes]]:
        """Each of these frames of an episode, as the world was there. BadData where it is not what was recorded."""
        if whole.key is None:
            raise BadData(f"episode {number} of {self.reader.path} without a key", "one by which it is begun", "record")
        noise, roles = self.noise.steps(whole.key), self.reader.spec.roles
        self.world.reset([whole.key], [0])
        for t in range(int(frames.max(initial=-1)) + 1):
            wanted = t in frames
            seen = self.world.observe([0], None if wanted else ())
            same = np.array_equal(seen.state[0, -1], whole.state[t])
            if not same or (wanted and any((seen.images[r][0, -1] != whole.images[r][t]).any() for r in roles)):
                what = f"frame {t} of episode {number} ({whole.key}) is not what the world shows when it is replayed"
                raise BadData(what, "a dataset of this world, scene and noise", "record it again")
            if wanted:
                yield t, self.world.snapshot([0])[0]
            self.world.disturb([0], noise(t)[None])
            self.world.step(whole.action[None, t], [0])

    def chunk(self, whole: Episode, t: int, command: int, key: Key) -> np.ndarray:
        """The atomic policy's actions (n,A), n at most `steps`, at a frame, told this command."""
        obs = Observation(
            images={role: x[None, t : t + 1] for role, x in whole.images.items()},
            state=whole.state[None, t : t + 1],
            text={"instruction": (COMMANDS[command],)},
            time=np.array([[t / self.reader.spec.rate]]),
            keys=(key,),
        )
        assert self.policy is not None
        made, _ = self.policy.act(obs, self.policy.start([key]))
        return made.actions[0, : min(self.config.steps, int(made.valid[0].sum()))].astype(np.float32)

    def label(self, actions: np.ndarray, state: np.ndarray) -> int:
        """The motion of a chunk (n,A), n of at least 1, that begins in state (S,)."""
        return int(self.labeller(actions[None], np.ones((1, len(actions)), bool), state[None])[0])

    def tried(
        self, whole: Episode, t: int, snap: bytes, ask: Ask, taken: set[int], key: Key
    ) -> tuple[str, int, Episode | None]:
        """What becomes of another instruction at a frame: why not, or `KEPT`; the motion, NONE where there was none;
        and what was made. taken: motions that are none of its own."""
        world, state, actions = self.world, whole.state[t], None
        world.restore([0], [snap])
        if self.policy is not None:
            way = ask.at - self.labeller.place(state[None])
            wanted = int(self.labeller.towards(way)[0])
            if wanted == STOP or wanted in taken:
                return (NEAR if wanted == STOP else SAME), wanted, None
            actions = self.chunk(whole, t, wanted, key)
            if not len(actions) or self.label(actions, state) != wanted:
                return OTHER, wanted, None
        else:
            self.scene.drive(world, 0, ask)
        before, done, states = self.scene.things(world, 0), [], [state]
        images = {role: [x[t]] for role, x in whole.images.items()}  # the source's very frame
        for i in range(self.config.steps if actions is None else len(actions)):
            if i:
                seen = world.observe([0])
                states.append(seen.state[0, -1])
                for role, x in images.items():
                    x.append(seen.images[role][0, -1])
            done.append(np.asarray(world.expert([0])[0] if actions is None else actions[i], np.float32))
            (facts,) = world.step(done[-1][None], [0]).facts
            if facts["clipped"] or facts["limited"]:
                return REACH, NONE, None
        found = self.label(np.stack(done), state)
        if np.linalg.norm(self.scene.things(world, 0) - before, axis=1).max(initial=0.0) > self.config.hit:
            return HITS, found, None
        if found in taken:
            return SAME, found, None
        unknown = {n: np.full((len(done), k), np.nan) for n, k in self.reader.about["labels"].items()}
        pictures = {role: np.stack(x) for role, x in images.items()}
        made = Episode(pictures, np.stack(states), np.stack(done), ask.instruction, key=key, labels=unknown)
        return KEPT, found, made

    def samples(self, number: int, whole: Episode, own: np.ndarray) -> Iterator[tuple[dict[str, Any], Episode | None]]:
        """All that is proposed in an episode, a row each, and what was made of it. own (T,): its motions."""
        assert whole.key is not None
        frames = np.arange(0, self.labeller.contact(whole.action), self.config.stride)
        for t, snap in [*self.replayed(number, whole, frames)]:  # the row is used for what is tried
            self.world.restore([0], [snap])
            asks, taken, count = self.scene.asks(self.world, 0), {int(own[t])}, 0
            for k in Keys.of([whole.key]).fold("cast", t).generators()[0].permutation(len(asks)):
                ask, made, found = asks[k], None, NONE
                if not (ask.visible and ask.possible) or count == self.config.most:
                    outcome = HIDDEN if not ask.visible else SPARED if ask.possible else IMPOSSIBLE
                else:
                    key = Key(ADDED, whole.key.task, (number * 4096 + t) * 16 + int(k), whole.key.seed)
                    outcome, found, made = self.tried(whole, t, snap, ask, taken, key)
                    count += 1
                if made is not None:
                    taken.add(found)
                words = {n: "" if c == NONE else COMMANDS[c] for n, c in (("motion", own[t]), ("other", found))}
                told = {"said": whole.instruction, "instead": ask.instruction, **words, "outcome": outcome}
                yield {"episode": number, "frame": t, "key": str(made.key) if made else None, **told}, made


def relabel(
    reader: LeRobotReader,
    folder: Path | str,
    world: World,
    config: Config = Config(),
    *,
    policy: Policy | None = None,
    scene: Scene = FACTS,
    noise: Noise = NOISE,
    console: Console | None = None,
) -> Relabelled:
    """The dataset with its counterfactuals, in `folder`, with a page to look at (samples.html). A function of its
    arguments; a folder that is finished is read, one that was begun goes on where it was stopped. world: the one of the
    demonstrations, of which row 0 is used. policy: an atomic one, trained on `commanded(reader)`; None: the expert.
    BadData for demonstrations of another world."""
    world.spec.require(reader.spec, "the world", f"dataset {reader.path}")
    if policy is not None:
        policy.spec.require(reader.spec, "the atomic policy", f"dataset {reader.path}")
    if reader.pictures != "model" or "labels" not in reader.about:
        raise BadData(f"dataset {reader.path} without the pictures that a world shows", "'model'", "record it here")
    by = "expert" if policy is None else getattr(policy, "name", None) or fingerprint(policy)
    of = {"method": "cast", "source": reader.fingerprint(), "by": by, "scene": str(scene), "noise": asdict(noise)}
    maker = Maker(reader, world, config, policy, scene, noise, config.labeller(reader.spec))
    return relabelled(folder, {**of, "config": asdict(config)}, partial(_make, maker, console))


def _make(maker: Maker, console: Console | None, fresh: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    reader, own, about = maker.reader, commands(maker.reader, maker.config), maker.reader.about
    every = {e.number: e for e in reader.episodes if e.success is not False}

    def tried(number: int) -> Iterator[tuple[dict[str, Any] | None, Episode | None]]:
        whole, e = reader.episode(number), every[number]
        yield None, whole
        yield from maker.samples(number, whole, own[e.begin : e.end])

    how = {"pictures": "model", "labels": about["labels"], "scene": about["scene"]}
    with LeRobotWriter(fresh / "dataset", reader.spec, **how) as writer:
        rows = gathered(fresh, writer, [*every], tried, console)
    again = Relabelled(LeRobotReader(fresh / "dataset"))
    bad = contradicted(again.reader, commands(again.reader, maker.config))
    bad = bad[~again.added[bad]]
    counts = {"demonstrations": len(reader.episodes), "of them failed, left out": len(reader.episodes) - len(every)}
    counts |= {"frames whose words name another motion, left out": len(bad), "proposed": len(rows)}
    seen: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        seen.setdefault(row["outcome"], []).append(row)
    shown = [_shown(row, reader, again.reader) for n in sorted(seen, key=lambda n: n != KEPT) for row in seen[n][:EACH]]
    counts |= {outcome: len(some) for outcome, some in seen.items()}
    write_samples(fresh / "samples.html", "Counterfactual samples", LEAD, list(counts.items()), shown)
    return rows, {"counts": counts, "contradicted": bad.tolist()}


def _shown(row: Mapping[str, Any], source: LeRobotReader, made: LeRobotReader) -> Before:
    role, begin = source.spec.roles[0], next(e.begin for e in source.episodes if e.number == row["episode"])
    pictures = [source.images(role, [begin + row["frame"]])[0]]
    pictures += [made.images(role, [e.end - 1])[0] for e in made.episodes if str(e.key) == row["key"]]
    at, tried = f"episode {row['episode']}, frame {row['frame']}", f"{row['instead']}: {row['other'] or 'not tried'}"
    return Before(row["outcome"], pictures, [tried, f"said: {row['said']}: {row['motion']}", at])


CARD = MethodCard(
    name="cast",
    title="CAST",
    arxiv="2508.13446",
    area="relabel",
    seams=("Source", "World", "Policy"),
    claim=Claim("what is asked for is done more often where demonstrations of such scenes never did it", "effect"),
)


def probe(on: Relabelled, off: Relabelled) -> bool:
    """One frame, bit for bit, has several instructions, each with actions of its own."""
    return _several(on) and not _several(off)


def _several(it: Relabelled) -> bool:
    r, roles = it.reader, it.reader.spec.roles
    frames = np.concatenate([s.rows for s in it.sets(np.arange(len(r)))])
    for i in np.flatnonzero(it.added & (r.frame_index == 0)):
        for j in frames[(r.state[frames] == r.state[i]).all(1) & ~it.added[frames]]:
            alike = all(np.array_equal(*r.images(role, [i, j])) for role in roles)
            if alike and r.instruction(i) != r.instruction(j) and not np.array_equal(r.action[i], r.action[j]):
                return True
    return False
