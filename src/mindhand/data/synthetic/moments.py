"""Scenes on the way to their answer, and what a robot would think there: thoughts without a robot's data.

A `Moment` has the leading digits of the answer in the tray and perhaps the next tile in a hand. It is shown in a
picture like any other, and what is to be done next is a question about that picture, answered in the words of the
robot's reasoning (ChatVLA-2, 2505.21906, reuses its reasoning template likewise). The robot's own instruction, with
the state of its hand, asks the same; it is a `thought` then, and given of classes R and C alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from mindhand.core.errors import BadData
from mindhand.core.keys import Keys
from mindhand.core.nouns import told
from mindhand.worlds.desk.spec import HAND, HOME
from mindhand.worlds.draw import Draw
from mindhand.worlds.scene import AREA, PLACES, MathsScene, place_words

from .picture import Hand, Seen
from .questions import PHRASES, ask_next, word
from .samples import QA, Pixel

HELD = 0.3  # share of the moments with a tile in the hand
LOWERED = 0.5  # share of those in which it is over its place, or about to be let go there
OVER = (0.015, 0.08)  # TCP heights (m) then
REACH, NEAR = 0.8, 0.5  # share of the others in which it is on its way to a tile; of those, it is nearly there
ABOVE, ALONG = (0.012, 0.12), (0.06, 0.10, 0.06)  # TCP heights (m) then, and before: least, most, and more when far
MARGIN, ASKEW = 0.02, 0.2  # how far (m) beyond the tiles' area it may be, and how far (rad) from the tile's yaw
MISSED = 0.1  # share of the others in which the hand has closed on nothing
MISLED = 0.25  # share of the thoughts that are given another tile to take: where they look follows what is said
TOLD = 0.7  # share of the questions for what is to be done next that tell the state of the hand
THINK = "think"  # a kind of its own: never in an exam
BESIDE, TURNED, DONE = 0.006, 0.1, 0.03  # m and rad that a placed tile is off its place; share of finished answers


@dataclass(frozen=True)
class Moment:
    """`scene` with its tiles where they lie now; those `taken` lie in the tray, in order; the next is `held` or not; a
    hand that holds nothing may have `missed`. `reach` (x, y, z, yaw; m, rad): where the hand is, if it is about to take
    the next tile, or to let it go."""

    scene: MathsScene
    taken: tuple[int, ...] = ()
    held: bool = False
    missed: bool = False
    reach: tuple[float, ...] | None = None

    @property
    def target(self) -> int | None:
        """The tile that is to be taken, or is held; None when all are placed."""
        done = len(self.taken) == len(self.scene.equation.digits)
        return None if done else self.scene.order(self.taken)[len(self.taken)]

    @property
    def hand(self) -> Hand | None:
        """What the hand does that must be seen."""
        if self.held and self.target is not None:
            return Hand(tile=self.scene.tiles[self.target], at=self.reach)
        return Hand(at=self.reach) if self.reach else None

    @property
    def state(self) -> str:
        """The state of the hand in words."""
        return HAND[1] if self.held else HAND[0] if self.missed else HAND[2]

    @property
    def lying(self) -> tuple[int, ...]:
        """The tiles that are not in the hand."""
        return tuple(k for k in range(len(self.scene.tiles)) if not (self.held and k == self.target))

    @property
    def loose(self) -> tuple[int, ...]:
        """The tiles on the table, neither in the hand nor in the tray."""
        return tuple(k for k in self.lying if k not in self.taken)

    def _only(self, tiles: tuple[int, ...]) -> MathsScene:
        return replace(self.scene, tiles=tuple(self.scene.tiles[k] for k in tiles))

    @property
    def visible(self) -> MathsScene:
        """The scene without what is in the hand."""
        return self._only(self.lying)

    @property
    def table(self) -> MathsScene:
        """The scene as far as it lies on the table: what can be asked about tiles."""
        return self._only(self.loose)

    def pixels(self, seen: Seen) -> dict[int, Pixel]:
        """Where each tile that lies is in `seen`, the picture of `visible`."""
        return dict(zip(self.lying, seen.tiles, strict=True))

    def next(self, draw: Draw, seen: Seen | None = None) -> QA:
        """What is to be done next, as a question about the picture, often with the state of the hand behind it, as an
        instruction has it: the question itself then does not tell whether there is a tile in it. Without `seen` it has
        no point."""
        asked = ask_next(self.scene, self.taken, self.held)
        at, places = (None, ()) if seen is None else (self.pixels(seen), seen.places)
        if not draw.chance(TOLD):
            return word("next", asked, draw.index(len(PHRASES[asked.phrases])), at, places)
        qa = word("next", replace(asked, phrases="next"), draw.index(len(PHRASES["next"])), at, places)
        return replace(qa, question=told(qa.question.rstrip("?"), self.state))

    def thought(self, seen: Seen, instruction: str) -> QA:
        """The robot's instruction as a question, the thought as its answer. seen: the picture of `visible`."""
        asked = word("next", ask_next(self.scene, self.taken, self.held), 0, self.pixels(seen), seen.places)
        return replace(asked, kind=THINK, question=told(instruction, self.state))

    def misled(self, qa: QA, seen: Seen, draw: Draw) -> QA:
        """A thought that is given another tile to take than it would: of a digit that is not wanted. The same thought
        where it takes none, or where there is no other."""
        head, _, deed = qa.answer.rpartition(". take ")
        others = [k for k in self.loose if self.scene.tiles[k].digit != int(deed[0])] if head else []
        if not others:
            return qa
        k = draw.pick(others)
        tile = self.scene.tiles[k]
        given = f" take {tile.digit} {place_words(tile.x, tile.y)}."
        return replace(qa, answer=f"{head}.{given}", given=given, point=self.pixels(seen)[k])


def moment(scene: MathsScene, keys: Keys, reach: bool = False) -> Moment | None:
    """Some moment of the scene, its beginning and its end included; None for one that lacks a tile of the answer.
    reach: in some of them the hand is about to take the next tile, and hides it: where it goes tells what it wants; or
    to let it go, which is not to have placed it."""
    try:
        order = scene.order()
    except BadData:
        return None
    draw, digits = Draw(keys.fold("moment")), len(scene.equation.digits)
    if draw.chance(DONE):
        placed, held = digits, False
    else:
        placed, held = draw.index(digits), draw.chance(HELD)
    poses = [(t.x, t.y, t.yaw) for t in scene.tiles]
    for k, (x, y) in zip(order[:placed], PLACES):
        off = [draw.uniform(-BESIDE, BESIDE) for _ in range(2)]
        poses[k] = (x + off[0], y + off[1], draw.uniform(-TURNED, TURNED))
    now = Moment(scene.moved(poses), order[:placed], held, not held and draw.chance(MISSED))
    if reach and held and placed < digits and draw.chance(LOWERED):
        x, y = (c + draw.uniform(-BESIDE, BESIDE) for c in PLACES[placed])
        return replace(now, reach=(x, y, draw.uniform(*OVER), draw.uniform(-TURNED, TURNED)))
    if not reach or held or placed == digits or not draw.chance(REACH):
        return now
    return replace(now, reach=_reach(draw, poses[order[placed]], PLACES[placed - 1] if placed else HOME[:2]))


def _reach(draw: Draw, tile: tuple[float, float, float], start: tuple[float, float]) -> tuple[float, ...]:
    """A pose of the hand on its way from above `start` to the tile: x, y, z, yaw."""
    x, y, yaw = tile
    turn = draw.uniform(-ASKEW, ASKEW)
    if not draw.chance(NEAR):
        left = draw.uniform(0.1, 1.0)  # of the way
        u, v = (c + left * (s - c) + draw.uniform(-MARGIN, MARGIN) for c, s in zip((x, y), start))
        return u, v, draw.uniform(ALONG[0], ALONG[1] + left * ALONG[2]), (1 - left) * yaw + turn
    z = draw.uniform(*ABOVE)
    beside = 0.005 + 0.4 * (z - ABOVE[0])  # the higher, the further from where it goes
    # Further from the tiles' area the arm does not reach at every height.
    u, v = (
        min(max(c + draw.uniform(-beside, beside), low - MARGIN), high + MARGIN) for c, (low, high) in zip((x, y), AREA)
    )
    return u, v, z, yaw + turn
