"""The corpus: pictures of the desk with questions, each a pure function of (seed, step, row). Nothing is stored.

Who may see what is decided here and nowhere else: a corpus draws equations, on boards and in words, from its
`splits` alone and fonts from its `fonts` alone. Class X is refused: it is in no corpus.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

from mindhand.core.errors import BadData
from mindhand.core.keys import Keys
from mindhand.worlds.draw import Draw
from mindhand.worlds.sampling import layout
from mindhand.worlds.scene import (
    APART,
    AREA,
    FACES,
    INSTRUCTIONS,
    KNOWN,
    TILE_INKS,
    TILES,
    YAW,
    MathsScene,
    Tile,
    equations,
    sample_maths,
    write_board,
)

from .mix import COTRAIN, PRETRAIN, Mix
from .moments import MISLED, Moment, moment
from .picture import Picture, Seen, composed, glyphs_of
from .questions import PHRASES, addressed, ask_fact, joined, make, pool, word
from .samples import QA, ImageText
from .toy_corpus import known_sums, pens

COTRAIN_SPLITS = ("R", "C")
OWN = 0.5  # share of the thoughts about classes R and C that the robot's instruction asks for
Sort = Literal["thought", "joined", "single"]
PRETRAIN_FONTS, COTRAIN_FONTS = ("R", "K"), ("R",)


@lru_cache(maxsize=4)
def _chances(seed: int, step: int, *shares: float) -> list[bool]:
    """Of each share, whether it comes up in a step: asked several times a sample."""
    draw = Draw(Keys.seeded(1, "desk corpus", seed, step))
    return [draw.chance(share) for share in shares]


@dataclass(frozen=True)
class DeskCorpus:
    """Image-text samples without end.

    steps: length of the training, which the mix's curriculum is a share of; later steps keep its last phase.
    rows: pictures a step. questions: asked about each. picture: who draws a scene. think: the step from
    which pictures show moments on the way to the answer, and thoughts are asked for.
    """

    seed: int
    splits: tuple[str, ...]
    fonts: tuple[str, ...]
    mix: Mix
    steps: int
    rows: int = 32
    questions: int = 4
    picture: Picture = composed
    think: float = math.inf
    wide: float = 0.0  # share of the pictures asked single questions whose board has a sum that no robot meets

    def __post_init__(self) -> None:
        if not self.splits or set(self.splits) - set(KNOWN):
            raise BadData(f"a corpus of the classes {self.splits}", f"classes among {KNOWN}", "X is for exams only")
        if not self.fonts or set(self.fonts) - set(PRETRAIN_FONTS):
            raise BadData(f"a corpus in the fonts {self.fonts}", f"fonts among {PRETRAIN_FONTS}", "X is for exams only")
        if self.steps < 1 or self.rows < 1 or self.questions < 1:
            raise BadData(
                f"steps={self.steps}, rows={self.rows}, questions={self.questions}", "at least 1 each", "correct it"
            )

    def _keys(self, step: int, row: int) -> Keys:
        return Keys.seeded(1, "desk corpus", self.seed, step, row)

    def sort(self, step: int) -> Sort:
        """What a step's pictures are asked, all of them alike, so that short questions are not padded to long ones:
        one thought, pairs of questions joined into one, or single questions."""
        thought, pairs = _chances(self.seed, step, self.mix.thoughts, self.mix.joined)
        if thought and step >= self.think:
            return "thought"
        return "joined" if pairs and self.questions > 1 else "single"

    def scene(self, step: int, row: int) -> MathsScene:
        """The scene of one sample. Equations are drawn evenly from all classes together; half of the scenes have
        none of the answer's tiles (`Mix.bare`). What is to be thought about has its tiles."""
        keys, thought = self._keys(step, row), self.sort(step) == "thought"
        draw = Draw(keys.fold("scene"))
        sizes = [len(equations(s)) for s in self.splits]
        at, split = draw.index(sum(sizes)), 0
        while at >= sizes[split]:
            at -= sizes[split]
            split += 1
        bare, fonts = draw.chance(self.mix.bare) and not thought, draw.pick(self.fonts)
        scene = sample_maths(keys, self.splits[split], answer_tiles=not bare, fonts=fonts)
        if not thought and draw.chance(self.wide):
            e = draw.pick(known_sums()[1])
            scene = replace(scene, equation=e, board=write_board(draw, e.text, pens(fonts)))
        return scene

    def asked(self, step: int, row: int, now: Moment, seen: Seen | None = None) -> tuple[QA, ...]:
        """The questions of one sample, thoughts aside; without the picture `seen` no answer has a point."""
        draw = Draw(self._keys(step, row).fold("questions"))
        at = None if seen is None else now.pixels(seen)
        tiles = None if at is None else [at[k] for k in now.loose]
        asked = [
            now.next(draw, seen) if kind == "next" else make(kind, now.table, draw, self.splits, tiles)
            for kind in self.mix.kinds(draw, self.questions, step / self.steps)
        ]
        if self.sort(step) == "joined":
            asked = [joined(*pair) for pair in zip(asked[::2], asked[1::2])]
        return tuple(addressed(qa, draw) for qa in asked)

    def moment(self, step: int, row: int, scene: MathsScene) -> Moment:
        """The moment of a scene that its picture shows: its beginning, before thoughts are asked for. A hand that hides
        what it reaches for is shown where what is to be done is asked, and not where tiles are."""
        reach = self.sort(step) == "thought"
        found = moment(scene, self._keys(step, row), reach) if step >= self.think else None
        return found or Moment(scene)

    def sample(self, step: int, row: int) -> ImageText:
        """One sample, a pure function of (seed, step, row)."""
        scene, keys = self.scene(step, row), self._keys(step, row)
        now = self.moment(step, row, scene)
        shown = now.visible
        seen = self.picture(shown, keys.fold("picture"), now.hand)
        if self.sort(step) == "thought":
            draw = Draw(keys.fold("thought"))
            # The robot's own instruction is never asked of what K holds before the robot is.
            own = draw.chance(OWN) and scene.split in COTRAIN_SPLITS
            qa = now.thought(seen, draw.pick(INSTRUCTIONS)) if own else now.next(draw, seen)
            qa = now.misled(qa, seen, draw) if draw.chance(MISLED) else qa
            asked = (addressed(qa, draw),)
        else:
            asked = self.asked(step, row, now, seen)
        return ImageText(seen.image, asked, glyphs_of(shown, seen))

    def facts(self, step: int, rows: Iterable[int]) -> list[QA]:
        """Facts in words alone, without a picture: `rows` of step `step` of a stream of their own."""
        known, out = pool(self.splits), []
        for row in rows:
            draw = Draw(Keys.seeded(1, "desk facts", self.seed, step, row))
            fact = ask_fact(draw.pick(known), draw.chance(0.5))
            out.append(addressed(word("calc", fact, draw.index(len(PHRASES[fact.phrases]))), draw))
        return out

    def batch(self, step: int) -> list[ImageText]:
        """All rows of a step."""
        return [self.sample(step, row) for row in range(self.rows)]


def pretraining(seed: int, steps: int, rows: int = 32, questions: int = 4, picture: Picture = composed) -> DeskCorpus:
    """The corpus of VLM pretraining: all known classes and fonts, reading first."""
    return DeskCorpus(seed, KNOWN, PRETRAIN_FONTS, PRETRAIN, steps, rows, questions, picture)


def cotraining(seed: int, steps: int, rows: int = 32, questions: int = 4, picture: Picture = composed) -> DeskCorpus:
    """The corpus that is mixed with robot data: classes R and C and the robot's fonts only, on boards and in words."""
    return DeskCorpus(seed, COTRAIN_SPLITS, COTRAIN_FONTS, COTRAIN, steps, rows, questions, picture)


def page_scene(keys: Keys, fonts: tuple[str, ...] = PRETRAIN_FONTS) -> MathsScene:
    """A scene to learn characters from: a full table of digits, all equally often, and a board of any equation that
    pretraining holds. One in name only: the tiles answer nothing."""
    draw = Draw(keys.fold("page"))
    scene = sample_maths(keys, draw.pick(KNOWN), fonts=draw.pick(fonts))
    faces = list(FACES)
    tiles = tuple(
        Tile(draw.index(10), x, y, yaw, draw.pick(faces), draw.pick(TILE_INKS), "other")
        for x, y, yaw in layout(draw, TILES[1], AREA, APART, YAW)
    )
    return replace(scene, tiles=tiles)
