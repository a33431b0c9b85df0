"""Image-text of one's own beside a robot's data: LLaVA files as what `RobotSource.corpus` asks for.

mine = LlavaSet("mine.json")
sets = [SampleSet("mine", "image-text", np.arange(len(mine))), SampleSet("demos", "robot", frames.cache.frames)]
mixture = Mixture(sets, 32, seed)
source = RobotSource(frames, mixture, seed, LlavaSource({"mine": mine}, mixture, frames, seed))
"""

from __future__ import annotations

from collections.abc import Mapping

from mindhand.core.errors import BadData
from mindhand.core.keys import Keys

from .llava import LlavaSet
from .mixture import Mixture, Runs
from .robot import RobotFrames
from .synthetic.samples import QA, ImageText


class LlavaSource:
    """One picture and one question a row: of the conversation that the mixture drew, a turn drawn anew each time
    (`Conversation.sample`), without those before it. Pictures become as large as the trunk's camera gives them.

    sets: by the names of the mixture's image-text sets, whose rows number the conversations. BadData for a set or a
    conversation that is not there, one without a picture, and characters that the tokenizer would drop.
    """

    def __init__(self, sets: Mapping[str, LlavaSet], mixture: Mixture | Runs, frames: RobotFrames, seed: int = 0):
        self.sets, self.mixture, self.seed = dict(sets), mixture, seed
        self.camera = frames.reader.spec.camera(frames.camera)
        self._at: tuple[int, list[tuple[str, int]]] = (-1, [])
        asked = {s.name: s.rows for s in mixture.sets if s.kind == "image-text"}
        if asked.keys() != self.sets.keys():
            raise BadData(f"files {sorted(self.sets)} for the sets {sorted(asked)}", "one for each", "name them alike")
        for name, rows in asked.items():
            found, many = self.sets[name], len(self.sets[name])
            if rows.min() < 0 or rows.max() >= many:
                what = f"set '{name}' draws conversations {rows.min()} .. {rows.max()}"
                raise BadData(what, f"0 .. {many - 1}, as in {found.path}", "rows=np.arange(len(the file's set))")
            for talk in (found.conversations[int(i)] for i in rows):
                lost = frames.words.unknown("".join(t.question + t.answer for t in talk.turns))
                if talk.image is None or lost:
                    what = f"the characters {lost}" if lost else "no picture"
                    raise BadData(
                        f"{found.path}: conversation '{talk.name}' has {what}",
                        "a picture, and characters of the model's tokenizer",
                        "leave it out of the set's rows, or rewrite it",
                    )

    def __call__(self, step: int, row: int) -> ImageText:
        """The `row`-th image-text sample of a step, a pure function of both."""
        if self._at[0] != step:
            rows, sets = self.mixture.rows(step), self.mixture.sets
            drawn = ((sets[int(s)], int(i)) for s, i in zip(rows.set, rows.index))
            self._at = step, [(s.name, i) for s, i in drawn if s.kind == "image-text"]
        name, index = self._at[1][row]
        keys = Keys.seeded(1, self.seed, name, step, row)
        turns = self.sets[name].turns(index, keys)
        turn = turns[int(keys.fold("turn").integers(len(turns), 1)[0, 0])]
        picture = self.sets[name].picture(index, self.camera.height, self.camera.width)
        assert picture is not None  # asked of each when the file was opened
        return ImageText(picture, (QA("said", turn.question, turn.answer),))
