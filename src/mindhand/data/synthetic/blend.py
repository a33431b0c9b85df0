"""The whole of nano's pretraining: the robot's desk and the table of toys, a step of one or of the other."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from mindhand.core.errors import BadData
from mindhand.core.keys import Keys
from mindhand.worlds.draw import Draw

from .corpus import DeskCorpus
from .mix import Mix
from .samples import QA, ImageText
from .toy_corpus import ToyCorpus

TOYS = 0.6  # share of the steps
FACTS = 4  # sums in words beside every picture: a seventh of a step
BESIDE = 2  # sums asked of every picture: known by heart in words alone, they were wrong where a picture was shown
QUESTIONS = {"desk": 8, "toys": 12}  # a picture
WIDE = 0.4  # of the desk's boards that no thought is about


@dataclass(frozen=True)
class Blend:
    """Steps of `desk` and of `toys`, pure functions of (seed, step); rows are the same in both. beside: sums asked of
    every picture besides its own questions."""

    desk: DeskCorpus
    toys: ToyCorpus
    share: float = TOYS
    beside: int = 0

    def __post_init__(self) -> None:
        ours, theirs = ((c.rows, c.seed) for c in (self.desk, self.toys))
        if ours != theirs:
            raise BadData(f"a blend of corpora with rows and seeds {ours} and {theirs}", "the same", "correct")

    @property
    def rows(self) -> int:
        """Pictures a step."""
        return self.desk.rows

    @property
    def mix(self) -> Mix:
        """The desk's."""
        return self.desk.mix

    def _toys(self, step: int) -> bool:
        return Draw(Keys.seeded(1, "blend", self.desk.seed, step)).chance(self.share)

    def sample(self, step: int, row: int) -> ImageText:
        """One sample."""
        made = (self.toys if self._toys(step) else self.desk).sample(step, row)
        first = self.mix.facts * self.rows + self.beside * row  # behind those in words alone
        return replace(made, questions=(*made.questions, *self.facts(step, range(first, first + self.beside))))

    def batch(self, step: int) -> list[ImageText]:
        """All rows of a step."""
        return [self.sample(step, row) for row in range(self.rows)]

    def facts(self, step: int, rows: Iterable[int]) -> list[QA]:
        """Sums in words alone, of both universes."""
        return self.toys.facts(step, rows)


def whole(desk: DeskCorpus, toys: ToyCorpus) -> Blend:
    """nano's corpus, made of these two: as many questions a picture, sums to 99 and facts as it has."""
    desk = replace(desk, questions=QUESTIONS["desk"], wide=WIDE, mix=replace(desk.mix, facts=FACTS))
    return Blend(desk, replace(toys, questions=QUESTIONS["toys"]), beside=BESIDE)


Corpus = DeskCorpus | Blend
