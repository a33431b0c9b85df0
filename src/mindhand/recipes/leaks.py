"""Does a task leak? How often a policy that cannot see, or is not told, chooses right all the same.

    mindhand bench leaks            about 25 minutes on one core, into results/

A blind or deaf policy that learned from demonstrations would need hours of training, and if it failed, nobody knew
whether the task was closed or the policy weak. So what is trained here gets all that such a policy could get at best:
thousands of scenes, the things themselves for pixels, and a hand that arrives where it is sent.

    blind     the words of the instruction alone; says where to reach, and takes what lies nearest to that
    deaf      every thing and what is on the board, and no instruction; picks one of the things
    unread    of maths matching: as deaf, without the board (there the board says what to do, and words do not)

Each is trained on scenes of class R, of the obstacle course on the level nearest to it, and asked about others. Near
chance: sight, or language, is needed. On the course obstacles are seen as things that nobody can take: they stand where
they do because of what is asked for.

Of requests that may be impossible ("/absent") half are, twins in turn, and what is chosen is to do or to refuse. What
is missing must be read in the words and looked for on the table, so whoever lacks either has a chance of one half.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn

from mindhand.core.errors import BadData
from mindhand.core.keys import Key
from mindhand.core.progress import progress
from mindhand.core.record import Record, write_record
from mindhand.worlds import absent, course, placing, scene
from mindhand.worlds.placing import PlacingScene
from mindhand.worlds.scene import FACES, TILE_INKS, MathsScene
from mindhand.worlds.things import BY_NAME, COLOURS, MATERIALS, RELATIONS

from .bench_desk import SOURCES, Row

SCENES, HELD, ASKED = 8000, 1000, 1000  # to learn from, to choose the best epoch by, to be asked about
EPOCHS, ROWS, WIDTH, TRAININGS = 30, 256, 64, 3
MOST = 9  # things in a scene, obstacles among them
CHARS = "0123456789+-x=? abcdefghijklmnopqrstuvwxyz"
LINE = 6  # characters of the board that are seen each in its place
NEAR = 0.1  # m, one unit of place
MATHS, PLACING, COURSE = scene.FAMILY, placing.FAMILY, course.FAMILY
_ABSENT = tuple(f"{family}/{absent.WORD}" for family in (MATHS, PLACING))  # requests that may be impossible
SENSES = {
    MATHS: ("blind", "deaf", "unread"), PLACING: ("blind", "deaf"), COURSE: ("blind", "deaf"),
    _ABSENT[0]: ("blind", "deaf", "unread"), _ABSENT[1]: ("blind", "deaf"),
}  # fmt: skip
SPLITS = {  # of each family: what is learned from, then what is asked about besides
    **{family: ("R", "K-dev") for family in SENSES if family != COURSE},
    COURSE: ("near", "across"),
}


@dataclass(frozen=True, eq=False)
class Asked:
    """A scene as arrays: things (n,F) and their places (n,2), what is on the board (C,), what is said (W,), which of
    the things could be chosen, and which are right, bool (n,)."""

    key: Key
    things: np.ndarray
    places: np.ndarray
    board: np.ndarray
    words: np.ndarray
    choices: np.ndarray
    right: np.ndarray


def _one(word: Any, of: Sequence[Any]) -> list[float]:
    return [float(word == x) for x in of]


def _written(text: str) -> np.ndarray:
    """The first characters in their places, then all of them in any."""
    placed = [one for c in text[:LINE].ljust(LINE) for one in _one(c, CHARS)]
    return np.array([*placed, *(float(text.count(c)) for c in CHARS)], np.float32)


def _maths(key: Key) -> Asked:
    s: MathsScene = absent.sample_maths_task(key)
    things = [
        [*_one(t.digit, range(10)), *_one(t.face, list(FACES)), *_one(t.ink, list(TILE_INKS)), np.sin(t.yaw)]
        for t in s.tiles
    ]
    fit, n = s.candidates(0), len(s.tiles)
    return Asked(
        key, np.array(things, np.float32), np.array([(t.x, t.y) for t in s.tiles], np.float32), _written(s.board.text),
        np.array(_one(s.instruction, scene.INSTRUCTIONS), np.float32), np.ones(n, bool),
        np.array([k in fit for k in range(n)]),
    )  # fmt: skip


def _placing(key: Key) -> Asked:
    return _toys(key, absent.sample_placing_task(key))


def _toys(key: Key, s: PlacingScene) -> Asked:
    toys, names, n = s.toys.toys, list(BY_NAME), len(s.toys.toys)
    things = [
        [*_one(t.thing, names), *_one(t.colour, list(COLOURS)), *_one(t.material, MATERIALS), np.sin(t.yaw),
         np.cos(t.yaw)]
        for t in toys
    ]  # fmt: skip
    words: list[float] = _one(s.relation, list(RELATIONS))
    for role in placing.ROLES:
        colour, _, name = s.called(role).rpartition(" ")
        words += [*_one(name, names), *_one(colour, list(COLOURS))]
    written = s.writing.text if isinstance(s.writing, scene.Board) else " ".join(s.writing.lines)
    return Asked(
        key, np.array(things, np.float32), np.array([(t.x, t.y) for t in toys], np.float32), _written(written),
        np.array(words, np.float32), np.array([k in s.choices() for k in range(n)]),
        np.array([k == s.target for k in range(n)]),
    )  # fmt: skip


def _joined(a: Asked, more: np.ndarray, places: np.ndarray, **others: Any) -> Asked:
    """With more things (m,F') at places (m,2) behind its own, which have nothing in the columns past theirs."""
    own = np.pad(a.things, ((0, 0), (0, more.shape[1] - a.things.shape[1])))
    return replace(a, things=np.concatenate([own, more]), places=np.concatenate([a.places, places]), **others)


def _course(key: Key) -> Asked:
    """As of placing, and behind the toys the obstacles: how they are turned, how large, and that they are none."""
    s = course.sample_course_task(key)
    a, boxes = _toys(key, s), s.boxes
    m = a.things.shape[1]
    more = np.zeros((len(boxes), m + 4), np.float32)
    for row, (_, _, yaw, long, deep, high) in zip(more, boxes):
        row[m - 2 :] = np.sin(yaw), np.cos(yaw), long / NEAR, deep / NEAR, high / NEAR, 1.0
    places = np.array([b[:2] for b in boxes], np.float32).reshape(-1, 2)
    none = np.zeros(len(boxes), bool)
    choices, right = (np.concatenate([x, none]) for x in (a.choices, a.right))
    return _joined(a, more, places, choices=choices, right=right)


def _possible(key: Key, read: Callable[[Key], Asked], words: Sequence[str]) -> Asked:
    """A request that can be met, and at the next index its twin that cannot: two more things, to do and to refuse, are
    all that can be chosen."""
    family, _, split = key.task.split("/")
    word = words[key.index // 2 % len(words)] if key.index % 2 else ""
    a = read(replace(key, task=f"{family}/{split}" + (f"/{word}" if word else ""), index=key.index // 2))
    n, m = a.things.shape
    more = np.zeros((2, m + 2), np.float32)
    more[:, m:] = np.eye(2)
    places = np.array([[0.0, 0.0], [NEAR, 0.0]], np.float32)  # who hears only reaches for one or the other
    which = np.arange(n + 2)
    return _joined(a, more, places, key=key, choices=which >= n, right=which == n + bool(word))


_READ: dict[str, Callable[[Key], Asked]] = {
    MATHS: _maths, PLACING: _placing, COURSE: _course,
    _ABSENT[0]: partial(_possible, read=_maths, words=absent.WORDS[MATHS]),
    _ABSENT[1]: partial(_possible, read=_placing, words=absent.WORDS[PLACING]),
}  # fmt: skip


def scenes(family: str, split: str, count: int, use: str, console: Console | None = None) -> list[Asked]:
    """`count` scenes of a class; those of another `use` are others."""
    if family not in _READ:
        raise BadData(f"family '{family}'", f"one of {tuple(_READ)}", "correct it")
    out = []
    with progress(console, f"{family} {split}", count, 0, "scenes") as tell:
        for index in range(count):
            out.append(_READ[family](Key(f"leaks-{use}", f"{family}/{split}", index)))
            tell(index + 1)
    return out


def _padded(some: Sequence[Asked]) -> dict[str, Tensor]:
    out: dict[str, Tensor] = {}
    for name in ("things", "places", "choices", "right"):
        whole = [getattr(a, name) for a in some]
        rows = np.zeros((len(some), MOST, *whole[0].shape[1:]), whole[0].dtype)
        for row, x in zip(rows, whole):
            row[: len(x)] = x
        out[name] = torch.from_numpy(rows)
    out |= {name: torch.from_numpy(np.stack([getattr(a, name) for a in some])) for name in ("board", "words")}
    out["there"] = torch.tensor([[k < len(a.things) for k in range(MOST)] for a in some])
    return out


class Reacher(nn.Module):
    """Words to a place; the nearer a thing lies to it, the likelier it is taken."""

    def __init__(self, words: int):
        super().__init__()
        self.place = nn.Sequential(nn.Linear(words, WIDTH), nn.GELU(), nn.Linear(WIDTH, 2))
        self.sharp = nn.Parameter(torch.zeros(()))

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        """(B,n) scores of the things."""
        far = (x["places"] / NEAR - self.place(x["words"]).unsqueeze(1)).square().sum(-1)
        return -far * self.sharp.exp()


class Picker(nn.Module):
    """Everything there is to see, to one of the things. board: whether what is written is seen, too."""

    def __init__(self, things: int, board: int | None):
        super().__init__()
        self.thing = nn.Linear(things + 2, WIDTH)
        self.board = None if board is None else nn.Sequential(nn.Linear(board, 2 * WIDTH), nn.GELU())
        self.seen = nn.Linear(2 * WIDTH, WIDTH)
        layer = nn.TransformerEncoderLayer(WIDTH, 4, 2 * WIDTH, dropout=0.1, batch_first=True, norm_first=True)
        self.mix = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.score = nn.Linear(WIDTH, 1)

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        """(B,n) scores of the things."""
        h = self.thing(torch.cat([x["things"], x["places"] / NEAR], -1))
        if self.board is not None:
            h = h + self.seen(self.board(x["board"])).unsqueeze(1)
        return self.score(self.mix(h, src_key_padding_mask=~x["there"])).squeeze(-1)


def chooser(family: str, sense: str, like: Asked) -> nn.Module:
    """An untrained policy with that sense missing, for scenes like this one."""
    if sense not in SENSES.get(family, ()):
        raise BadData(f"a policy '{sense}' for '{family}'", f"one of {SENSES.get(family)}", "correct it")
    if sense == "blind":
        return Reacher(len(like.words))
    return Picker(like.things.shape[1], None if sense == "unread" else len(like.board))


def _scores(model: nn.Module, x: dict[str, Tensor]) -> Tensor:
    return model(x).masked_fill(~x["choices"], float("-inf"))


@torch.no_grad()
def chosen(model: nn.Module, some: Sequence[Asked]) -> np.ndarray:
    """Whether what it takes is right, bool (len(some),)."""
    model.eval()
    x = _padded(some)
    picked = _scores(model, x).argmax(-1, keepdim=True)
    return x["right"].gather(1, picked).squeeze(1).numpy()


def learn(family: str, sense: str, some: Sequence[Asked], held: Sequence[Asked], seed: int = 0) -> nn.Module:
    """The policy of the epoch that chose best on `held`: one that learned by heart would hide a leak."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = chooser(family, sense, some[0])
        optimiser = torch.optim.AdamW(model.parameters(), 2e-3, weight_decay=0.05)
        x, best, kept = _padded(some), -1.0, model.state_dict()
        for _ in range(EPOCHS):
            model.train()
            for rows in torch.randperm(len(some)).split(ROWS):
                batch = {name: t[rows] for name, t in x.items()}
                likely = _scores(model, batch).log_softmax(-1)
                right = likely.masked_fill(~batch["right"], float("-inf")).logsumexp(-1)
                optimiser.zero_grad()
                (-right.mean()).backward()
                optimiser.step()
            if (now := float(chosen(model, held).mean())) > best:
                best, kept = now, {n: t.clone() for n, t in model.state_dict().items()}
    model.load_state_dict(kept)
    return model.eval()


def rows(sense: str, model: nn.Module, asked: Sequence[Asked], seed: int) -> list[Row]:
    """One row a scene: what was chosen, and by what chance a guess is right."""
    return [
        {"key": a.key, "training": seed, "sense": sense, "choice": bool(c),
         "choice_chance": float(a.right.sum() / a.choices.sum())}
        for a, c in zip(asked, chosen(model, asked))
    ]  # fmt: skip


def leaks(
    family: str, splits: Sequence[str] | None = None, console: Console | None = None
) -> dict[tuple[str, str], list[Row]]:
    """Rows by (missing sense, class), of scenes that nothing was trained on; of several trainings. splits: the first is
    learned from; those of `SPLITS` unless given.

    Expected: at chance (.25 to .27 of maths matching, .33 of placing), but for what reads the board in class R, and
    for unread there, which is right twice as often as chance, because nearly half of R's answers begin with a 1: the
    records desk/unread_choice/maths_matching, and desk/unread_choice/maths_matching_k_dev, which is at chance.
    """
    splits = SPLITS[family] if splits is None else splits
    some, held = (scenes(family, splits[0], n, use, console) for n, use in ((SCENES, "learned"), (HELD, "held")))
    asked = {split: scenes(family, split, ASKED, "asked", console) for split in splits}
    out: dict[tuple[str, str], list[Row]] = {}
    for sense in SENSES[family]:
        for seed in range(TRAININGS):
            model = learn(family, sense, some, held, seed)
            for split in splits:
                out.setdefault((sense, split), []).extend(rows(sense, model, asked[split], seed))
    return out


def publish(folder: str | None = None) -> list[Record]:
    """The records of every family, under results/ or as drafts under `folder`."""
    torch.set_num_threads(1)
    out, sources = [], (*SOURCES, Path(__file__))
    for family in SENSES:
        for (sense, split), got in leaks(family, console=Console()).items():
            end = "" if split == "R" else f"_{split.lower().replace('-', '_')}"
            name = f"desk/{sense}_choice/{family.replace('/', '_')}{end}"
            out.append(
                write_record(
                    name, rows=got, field="choice", kind="rate", unit="1", chance="choice_chance", sources=sources,
                    folder=folder, command="mindhand bench leaks",
                )
            )  # fmt: skip
    return out
