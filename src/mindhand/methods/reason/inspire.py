"""InSpire: before it acts, a policy says in which direction what it is asked to handle lies (2505.13888).

Seam: reasoner. A question about what is taken, one about where it goes, an answer of one word out of seven each, so
that what merely goes along with success counts for less. Answers to learn from are read off demonstrations, from states
alone: where the gripper closed is where the thing was, where it opened is where it goes. Differs from the heart: no
thought is annotated, none is written freely; from the paper: a word is kept until another is better by 1 cm, a tenth of
the answers is random, and where a thing goes beside another that place is asked about. The paper: better than MiniVLA
and pi0-FAST on seen and unseen tasks of LIBERO and of a robot, by figures that only its pictures give.
Use: VLA(reasoner=InSpire(config), ...), and in training RobotFrames(..., turns=Lessons(reader, config))
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mindhand.core.card import Claim, MethodCard
from mindhand.core.errors import BadData, BuildError
from mindhand.core.keys import Key, Keys
from mindhand.core.nouns import Observation, Reasoning
from mindhand.core.parts import Entry
from mindhand.core.seams import State, Turn
from mindhand.core.spec import Spec
from mindhand.model.asking import Question
from mindhand.model.words import SAY

if TYPE_CHECKING:
    from mindhand.data.lerobot_read import LeRobotReader

HELD = "grasped"
ANSWERS = ("right", "left", "up", "down", "front", "back", HELD)
QUESTION = "In which direction is the {} relative to the robot?"
Axes = tuple[tuple[str, str], ...]  # of x, y and z: the words towards more and towards less
FROM_BEHIND: Axes = (("right", "left"), ("back", "front"), ("up", "down"))  # the paper's real robot, and the desk
FACING: Axes = (("front", "back"), ("right", "left"), ("up", "down"))  # LIBERO: its camera looks at the robot


@dataclass(frozen=True)
class Config:
    """How answers are made; to say them none of it is needed. Comments give the paper's values."""

    axes: Axes = FROM_BEHIND  # in the frame of the state's position
    change: float = 0.15  # of the widest opening: narrower by this is a grasp, wider a release (0.25 of the first)
    margin: float = 0.01  # m by which another direction must be better (0)
    noise: float = 0.1  # share of the answers drawn at random, since a policy's own can be wrong (0); 1: the control

    def __post_init__(self) -> None:
        if sorted(word for pair in self.axes for word in pair) != sorted(set(ANSWERS) - {HELD}):
            raise BuildError(f"directions {self.axes}", f"each of {ANSWERS[:-1]} once", "correct Config.axes")


# ---- which things ------------------------------------------------------------------------------------------

_INTO = ("in", "into", "inside", "on", "onto", "on top of", "to")  # what is named is where the thing goes
_BESIDE = ("left of", "right of", "in front of", "behind", "beside", "next to", "near", "under", "over", "above")
_HOWS = "|".join(sorted((*_INTO, *_BESIDE), key=len, reverse=True))
_ENDS = "and|then|from|of|off|out|with|that|which|it|them|so|at|by|for|up|down|away|is|are|the|a|an|its|this|both"
_THING = rf"(?:(?:both )?(?:the|a|an|its|this) )?(?P<thing>(?:(?!(?:{_HOWS}|{_ENDS})\b)[\w-]+ ?\b)+)"
_TAKE = r"\b(?:put|place|lay|take|pick|lift|grasp|grab|move|push|pull|stack|drop|bring|set|insert|hang|open|close|turn)"
_NAMED = re.compile(rf"{_TAKE}(?: up| on| off)? {_THING}")
_BEFORE = re.compile(rf"\bthe {_THING}.*{_TAKE}(?: up)? it\b")
_WHERE = re.compile(rf"\b(?P<how>{_HOWS}) {_THING}")


def things(instruction: str) -> tuple[str, ...]:
    """What is to be taken, and where to, as an English instruction says: ("red ball", "bowl"), ("red ball", "place left
    of the blue cup"); one where it says no more ("open the drawer"), none where it names nothing that a hand takes."""
    said = " ".join(instruction.lower().split())
    taken = _NAMED.search(said) or _BEFORE.search(said)
    if taken is None:
        return ()
    where = _WHERE.search(said, taken.end() if taken.re is _BEFORE else taken.end("thing"))
    if where is None or where["thing"].strip() in ("left", "right", "front", "back", "side", "top"):
        return (taken["thing"].strip(),)
    goal = where["thing"].strip() if where["how"] in _INTO else f"place {where['how']} the {where['thing'].strip()}"
    return taken["thing"].strip(), goal


# ---- in which direction ------------------------------------------------------------------------------------


def directions(far: np.ndarray, held: np.ndarray, axes: Axes, margin: float = 0.0) -> list[str]:
    """A word for each of T moments: `HELD`, or the direction in which a thing lies furthest from the gripper.

    far (T,3): from the gripper to the thing (m), along the `axes`; held bool (T,). A word is kept until another is
    better by `margin`, and what was let go is at first below; of equal ones the first along x, y, z, more before less.
    """
    words = [word for pair in axes for word in pair]
    reach = np.stack([far, -far], -1).reshape(len(far), -1)
    out, last, below = [], int(reach[0].argmax()), words.index("down")
    for now, shut in zip(reach, held):
        best = int(now.argmax())
        last = below if shut else best if now[best] - now[last] > margin else last
        out.append(HELD if shut else words[last])
    return out


def grips(opening: np.ndarray, change: float) -> list[tuple[int, int]]:
    """When things were held: (first step of it, first step after it), from openings (T,), 1 at the widest. A gripper
    closes on something where it is narrower than it just was by `change`, and lets go where it is wider than it just
    was by as much: around thin things it shuts far, and in a bowl it opens hardly further than it must."""
    out: list[tuple[int, int]] = []
    begin, edge = -1, float(opening[0])
    for t, now in enumerate(opening.tolist()):
        edge = max(edge, now) if begin < 0 else min(edge, now)
        if begin < 0 and now < edge - change:
            begin, edge = t, now
        elif begin >= 0 and now > edge + change:
            out.append((begin, t))
            begin, edge = -1, now
    return [*out, (begin, len(opening))] if begin >= 0 else out


def answers(tip: np.ndarray, opening: np.ndarray, config: Config) -> list[tuple[str, str]] | None:
    """At each of T steps of one demonstration: where what is taken is, and where it goes. None where nothing was held.

    tip (T,3): the gripper (m); opening (T,), 1 at the widest. What is taken lay where the gripper closed, is in it,
    and then lies where it opened, which is also where it goes. Of several things each has the time until it is let go.
    """
    held = grips(opening, config.change)
    if not held:
        return None
    taken, goal, shut = np.empty_like(tip), np.empty_like(tip), np.zeros(len(tip), bool)
    for (begin, end), since in zip(held, (0, *(end for _, end in held))):
        put = tip[min(end, len(tip) - 1)]
        taken[since:begin], taken[begin:], goal[since:], shut[begin:end] = tip[begin], put, put, True
    never = np.zeros(len(tip), bool)
    found = (directions(x - tip, on, config.axes, config.margin) for x, on in ((taken, shut), (goal, never)))
    return list(zip(*found))


# ---- the reasoner ------------------------------------------------------------------------------------------


class InSpire:
    """Reasoner: asks itself about each thing, before every chunk. A thought is the words of the answers, "left front";
    given one without a word it asks nothing."""

    part_name = "inspire"
    keeps = False
    needs: frozenset[str] = frozenset({"text"})
    provides: frozenset[str] = frozenset({"reasoning"})

    def __init__(self, config: Config = Config()):
        self.config = config

    def turns(self, sample: Mapping[str, Any]) -> list[Turn]:
        """As many as the row with most things needs. sample: "instruction" (B strings), and "reasoning" (B thoughts)
        where they are given; BadData for thoughts that do not answer what is asked."""
        told, given = sample["instruction"], sample.get("reasoning")
        named, said = [things(text) for text in told], None
        if given is not None:
            said = [text.split() for text in given]
            for text, names, words in zip(told, named, said, strict=True):
                if words and (len(words) != len(names) or set(words) - set(ANSWERS)):
                    what = f"the thought '{' '.join(words)}' about '{text}'"
                    raise BadData(what, f"one of {ANSWERS} for each of {names}", "give these, or no word")
            named = [names if words else () for names, words in zip(named, said)]
        out: list[Turn] = []
        for k in range(max(1, *map(len, named))):
            asked = tuple(QUESTION.format(names[k]) if k < len(names) else "" for names in named)
            forced = None if said is None else tuple(words[k] if k < len(words) else "" for words in said)
            out.append(Question(SAY, given=forced, asked=asked, among=ANSWERS))
        return out

    def due(self, obs: Observation, state: State) -> np.ndarray:
        """Always."""
        return np.ones(len(obs), bool)

    def read(self, texts: Sequence[str]) -> Reasoning:
        """The texts, and "directions", the words of each; None where nothing was asked."""
        return Reasoning(tuple(texts), {"directions": tuple(tuple(text.split()) or None for text in texts)})

    def apply(self, obs: Observation, reasoning: Reasoning) -> Observation:
        """Words change no picture."""
        return obs


class Lessons:
    """What is to be said at the frames of a dataset (`RobotFrames.turns`), from its states and instructions alone.

    covered: the share of the frames at which something is asked; BadData where it is none."""

    def __init__(self, reader: LeRobotReader, config: Config = Config()):
        self.config, self.reasoner = config, InSpire(config)
        tip, opening = gripper(reader.spec, reader.state)
        self.words: list[tuple[str, ...]] = []
        for begin, end in zip(reader.begins.tolist(), reader.ends.tolist()):
            self.words += answers(tip[begin:end], opening[begin:end], config) or [()] * (end - begin)
        named = [bool(things(text)) for text in reader.tasks]
        self.covered = float(np.mean([bool(w) and named[k] for w, k in zip(self.words, reader.task_index.tolist())]))
        if not self.covered:
            what = f"{reader.path}: no frame to ask anything at, of tasks such as '{reader.instruction(0)}'"
            expected = "a gripper that closes on something, told as 'put the red ball in the bowl'"
            raise BadData(what, expected, "try `grips` on its openings and `things` on its instructions")

    def thoughts(self, index: np.ndarray, instructions: Sequence[str], keys: Keys) -> list[str]:
        """At global frames, by as many words as there are things; some of them drawn at random, by the frames' keys."""
        out, drawn = [], keys.fold("inspire").uniform(2, 2)
        for i, text, (when, which) in zip(index.tolist(), instructions, drawn):
            right = zip(self.words[i][: len(things(text))], when, which)
            words = (ANSWERS[int(b * len(ANSWERS))] if a < self.config.noise else word for word, a, b in right)
            out.append(" ".join(words))
        return out

    def __call__(self, index: np.ndarray, instructions: list[str], keys: Keys) -> list[Turn]:
        """Given turns of these frames."""
        given = self.thoughts(index, instructions, keys)
        return self.reasoner.turns({"instruction": instructions, "reasoning": given})


def gripper(spec: Spec, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the gripper is (N,3) in m, and how open (N,), 1 where it is widest, of states (N,S). BadData for a spec
    whose state has not one position and one gripper."""
    places, hands = ([p for p in spec.state if p.kind == kind] for kind in ("position", "gripper"))
    if [p.size for p in (*places, *hands)] != [3, 1]:
        what = f"a state of {[(p.name, p.kind) for p in spec.state]}"
        raise BadData(what, "one position of three numbers and one gripper", "use a dataset of one arm that has them")
    tip = state[:, spec.part(places[0].name, "state")] / (1000.0 if places[0].unit == "mm" else 1.0)
    wide = state[:, spec.part(hands[0].name, "state")][:, 0]
    wide = wide if hands[0].polarity == "open" else wide.max() - wide
    return tip, wide / max(float(wide.max()), 1e-6)


PART = Entry("inspire", Config, lambda config, **_: InSpire(config))
CARD = MethodCard(
    name="inspire",
    title="InSpire",
    arxiv="2505.13888",
    area="reason",
    seams=("reasoner",),
    claim=Claim("where a colour no longer goes along with a place, a hand that asks succeeds more often", "effect"),
    base="tokens",
)


def plug(parts: Mapping[str, Any], spec: Spec, config: Config | None = None) -> dict[str, Any]:
    """Instead of the reasoner that was there."""
    return {**parts, "reasoner": InSpire(config or Config())}


def probe(on: Any, off: Any) -> bool:
    """It says one of the seven words for each thing and nothing where there is none, and acts by what it said."""
    camera, rng = on.spec.cameras[0], np.random.default_rng(0)
    told = ("put the red ball in the cup", "open the box", "wait")
    keys = tuple(Key("probe", "inspire", k) for k in range(len(told)))
    picture = rng.integers(0, 255, (1, 1, camera.height, camera.width, 3), dtype=np.uint8).repeat(len(told), 0)

    def chunk(vla: Any, **thought: Sequence[str]) -> Any:
        state, time = np.zeros((len(told), 1, vla.spec.state_size), np.float32), np.zeros((len(told), 1))
        obs = Observation({camera.role: picture}, state, {"instruction": told, **thought}, time, keys)
        return vla.act(obs, vla.start(keys))[0]

    def effect(vla: Any) -> bool:
        said = [text.split() for text in chunk(vla).reasoning.texts]
        if [len(words) for words in said] != [2, 1, 0] or not {w for words in said for w in words} <= set(ANSWERS):
            return False
        left, right = (chunk(vla, thought=(f"{word} up", word, "")).actions for word in ("left", "right"))
        return [np.allclose(a, b, atol=1e-6) for a, b in zip(left, right)] == [False, False, True]

    return effect(on) and not effect(off)
