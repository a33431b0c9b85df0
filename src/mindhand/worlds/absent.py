"""Requests that cannot be met: what they need is not there. A good policy says so and leaves everything alone.

No simulator here. Tasks are those of the two families with one more word behind:

    maths_matching/R/absent              tiles that the answer needs are not on the table: some of them, or all
    spatial_placing/R/absent-target      the toy that is to be put is not there
    spatial_placing/R/absent-reference   the toy that it is to be put to is not there

A scene is that of the task without the word, of the same index, but for what is absent: a tile has another digit, "the
ball" is another thing of its colour, "the red ball" (there are other balls) has exchanged colours with something else.
So instruction and board are exactly as likely before a request that can be met, and tell nothing; every impossible
scene has a possible twin; and what lies there tempts whoever looks at half of what was said.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mindhand.core.errors import BadData
from mindhand.core.keys import Key, Keys

from . import asked, biased, placing, scene
from .draw import Draw
from .placing import ROLES, Missing, PlacingScene, pools
from .placing_layout import TURNS, Layout, lay
from .sampling import distractors
from .scene import REFUSAL, MathsScene, prior
from .things import COLOURS, RELATIONS, Toy, ToyScene

VERSION = "absent-1"  # bump when the sampler changes what it draws: it is part of the hash
WORD = "absent"
WORDS = {scene.FAMILY: (WORD,), placing.FAMILY: tuple(f"{WORD}-{role}" for role in ROLES)}  # of tasks, by family


def possible(task: str) -> tuple[str, str]:
    """A task's name without the word that makes it impossible, and that word: "maths_matching/R" and "absent"; "" where
    there is none."""
    family, *rest = task.split("/")
    words = [w for w in rest if w in WORDS.get(family, ())]
    if len(words) > 1:
        raise BadData(f"task '{task}'", "one thing absent", "name one of them")
    word = words[0] if words else ""
    return "/".join([family, *(w for w in rest if w != word)]), word


def sample_maths_task(key: Key) -> MathsScene:
    """The scene an episode's key names, of any task of maths matching: as `asked.sample_task`, or `lacking` a tile."""
    task, word = possible(key.task)
    made = asked.sample_task(replace(key, task=task))
    return without_tiles(made, Draw(Keys.of([key]).fold(WORD))) if word else made


def sample_placing_task(key: Key) -> PlacingScene:
    """The same of placing: as `biased.sample_task`, or with a toy `missing`."""
    task, word = possible(key.task)
    made = biased.sample_task(replace(key, task=task))
    return without_toy(made, word.partition("-")[2], Draw(Keys.of([key]).fold(WORD))) if word else made


# ---- maths ---------------------------------------------------------------------------------------------


def without_tiles(made: MathsScene, draw: Draw) -> MathsScene:
    """The scene without some of the answer's tiles: of two digits both, the first or the second are absent, equally
    often; of two equal ones both or one. Whoever looks for the first alone would begin what cannot be finished.

    Every tile of an absent digit shows another digit, which is on no other tile, so that twins stay twins."""
    e, digits = made.equation, [t.digit for t in made.tiles]
    spared = -1
    if len(set(e.digits)) == len(e.digits):
        gone = draw.pick([{d} for d in e.digits] + [set(e.digits)] * (len(e.digits) > 1))
    else:
        gone = set(e.digits)
        if draw.chance(0.5):
            spared = draw.pick([k for k, d in enumerate(digits) if d in gone])
    every = distractors(draw, e, 10 - len(set(e.digits)), prior(made.split))
    fresh = dict(zip(sorted(gone), (new for new in every if new[0] not in digits)))
    tiles = list(made.tiles)
    for k, tile in enumerate(tiles):
        if tile.digit in gone and k != spared:
            digit, why = fresh[tile.digit]
            tiles[k] = replace(tile, digit=digit, why=tile.why if tile.why == "twin" else why)
    return replace(made, tiles=tuple(tiles))


# ---- placing -------------------------------------------------------------------------------------------


def without_toy(made: PlacingScene, role: str, draw: Draw) -> PlacingScene:
    """The scene without the toy of a role, and with another one in its place, that nothing in the instruction names: of
    another colour where the instruction says its colour, else another thing."""
    at, said = getattr(made, role), made.called(role)
    if made.toys.toys[at].colour in said.split():
        toys = _recoloured(made, at, draw)
    else:
        layout = _other_thing(made, at, draw)
        poses = zip(made.toys.toys, layout.things, layout.poses)
        toys = [replace(t, thing=thing.name, x=x, y=y, yaw=yaw) for t, thing, (x, y, yaw) in poses]
    return replace(made, toys=ToyScene(tuple(toys)), missing=Missing(role, said))


def _recoloured(made: PlacingScene, at: int, draw: Draw) -> list[Toy]:
    """The toys after one of them has exchanged colours with another thing: as many things of each name and of each
    colour as before, so that neither tells. Where none can, one time of five, it has a colour that is new."""
    toys, old = list(made.toys.toys), made.toys.toys[at]
    there = {(t.thing, t.colour) for t in toys}
    told = {getattr(made, role) for role in ROLES if len(made.called(role).split()) > 1}  # named by their colour
    some = [
        k for k, t in enumerate(toys)
        if t.thing != old.thing and k not in told and not {(old.thing, t.colour), (t.thing, old.colour)} & there
    ]  # fmt: skip
    if some:
        k = draw.pick(some)
        toys[at], toys[k] = replace(old, colour=toys[k].colour), replace(toys[k], colour=old.colour)
    else:
        toys[at] = replace(old, colour=draw.pick([c for c in COLOURS if (old.thing, c) not in there]))
    return toys


def _other_thing(made: PlacingScene, at: int, draw: Draw) -> Layout:
    """The layout with something else in a toy's place: a container in that of a container; neither of the name of what
    the instruction speaks of, nor like another toy in name and colour. Where nothing has room there, one time of fifty,
    all are laid afresh."""
    toys, split = made.toys.toys, str(made.split)
    about = ("relation" if RELATIONS[made.relation] == "K" else "object") if split.startswith("K") else ""
    named = {toys[k].thing for k in (made.target, made.reference)}
    alike = {t.thing for t in toys if t.colour == toys[at].colour}
    small, wide = pools(split, about)
    some = [t for t in (wide if toys[at].kind.holds else small) if t.name not in named | alike]
    layout = Layout(tuple(t.kind for t in toys), tuple((t.x, t.y, t.yaw) for t in toys))
    for thing in draw.shuffled(some):
        if (found := layout.swapped(draw, at, thing)) is not None:
            return found
    while True:
        things = [draw.pick(some) if k == at else t.kind for k, t in enumerate(toys)]
        if (found := lay(draw, things)) is not None:
            return found


def declared() -> dict[str, Any]:
    """Everything of this file that the hash of the declaration covers."""
    return {"version": VERSION, "words": [WORDS, REFUSAL, ROLES], "turns": TURNS}
