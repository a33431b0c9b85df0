"""nano: the small VLM, pretrained on pictures of the desk with no robot in the data.

First the eye alone learns what stands where (`PageSource`), then the whole is asked. Two corpora: the brief one asks
what a robot at the board must know (four questions a picture; `mindhand demo --from-scratch`), the whole one is nano's
own (eight a picture of the desk, twelve a picture of toys; `recipes/pretrain.py`). Decisive: dense targets in every
cell, a supervised pointer, answers that read before they solve, several questions a picture, Muon (`recipes/dial.py`).
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

from mindhand.core.batch import Batch
from mindhand.core.checkpoint import load_checkpoint
from mindhand.core.errors import BadData, Refusal
from mindhand.core.intervals import wilson
from mindhand.core.keys import Keys
from mindhand.data.files import read_json
from mindhand.data.synthetic.blend import Corpus, whole
from mindhand.data.synthetic.collate import collate_image_text, collate_pages, collate_text
from mindhand.data.synthetic.compose import page
from mindhand.data.synthetic.corpus import PRETRAIN_FONTS, page_scene, pretraining
from mindhand.data.synthetic.exam import exam, take_exam
from mindhand.data.synthetic.flat import flat_desk, flat_table
from mindhand.data.synthetic.grounding import look_target, looks
from mindhand.data.synthetic.mix import Mix
from mindhand.data.synthetic.picture import Picture, Seen, composed, glyphs_of
from mindhand.data.synthetic.producers import Producers
from mindhand.data.synthetic.samples import ALL, GLYPHS, QA, TRAITS, ImageText
from mindhand.data.synthetic.toy_corpus import TabletopPicture, ToyCorpus
from mindhand.data.synthetic.toy_picture import tabletop
from mindhand.data.synthetic.vocabulary import train_words
from mindhand.model.configs import vlm_config
from mindhand.model.store import copy_weights, load_vla, save_vla
from mindhand.model.vision import StemConfig
from mindhand.model.vla import VLA
from mindhand.model.vlm import VLM
from mindhand.model.words import SAY, Words
from mindhand.train.glyph import GlyphLoss, GlyphReader
from mindhand.train.look import LookLoss
from mindhand.train.loop import train_stage
from mindhand.train.ranks import launch, rank, ranks
from mindhand.train.stage import Optimiser, Stage
from mindhand.worlds.declared import scene_hash
from mindhand.worlds.desk.world import SPEC
from mindhand.worlds.scene import MathsScene

from .bases import FILE, declared
from .live import LiveGates
from .planned import keep_to

BRIEF = Mix(  # what a robot at the board must know, and no more: for trainings of minutes
    early=(("read", 0.40), ("where", 0.40), ("tiles", 0.20)),
    full=(("solve", 0.25), ("where", 0.40), ("tiles", 0.25), ("read", 0.10)),
    until=0.2,
    thoughts=0.6,
    facts=2,
    bare=0.3,
)
DENSE = {"glyph": 1.0, "spot": 2.0}  # weights of what the eye is asked in every cell
DENSE_TRAITS = {"hue": 0.5, "pattern": 0.25, "size": 1.0}
PARTS = ("dense", "pointer", "words", "muon")  # what a pretraining may be tried without
GATES = ("read", "solve", "answer", "calc", "tiles", "where", "which", "colour", "count", "exist")


@dataclass(frozen=True)
class Shown:
    """Who draws a pretraining's pictures, and in which classes of fonts they are written."""

    desk: Picture = composed
    page: Callable[[MathsScene, Keys], Seen] = page  # a full table of digits, for the eye alone
    table: TabletopPicture = tabletop
    fonts: tuple[str, ...] = PRETRAIN_FONTS
    think: bool = True  # whether there is a hand to think about


SEEN = {
    "desk": Shown(),
    "flat": Shown(flat_desk, flat_desk, flat_table, think=False),
    "other fonts": Shown(fonts=("K",)),
}


def toys_of(seen: str, seed: int, rows: int = 32, questions: int = 4) -> ToyCorpus:
    """The corpus of toys of a way of seeing."""
    return ToyCorpus(seed, SEEN[seen].table, rows, questions, (*SEEN[seen].fonts, "H"))


@dataclass(frozen=True)
class NanoPlan:
    """How nano is pretrained. `pictures` is the dial: 12 thousand read, 36 thousand also calculate."""

    size: str = "nano"  # of the model: test, nano, small
    pictures: int = 36_000
    pages: int = 16_000  # pictures of characters that the eye alone learns to read first
    rows: int = 16  # pictures a step
    sheets: int = 32  # pages a step
    rate: float = 0.01  # Muon's, once questions are asked; AdamW's is a tenth of it
    decay: float = 0.5  # of the steps, the share at the end over which the rate falls to 0
    eye: float = 1.0  # the eye's share of the learning rate once questions are asked: it has learned before
    beside: int = 0  # pages for the eye beside every step's pictures: where things lie thick, names turn late
    questions: int = 4  # a picture, of the brief corpus; the whole one has its own
    producers: int = 1  # processes that render beside a single rank
    ranks: int = 2  # processes that train
    brief: bool = True  # ask only what the maths task needs; False: all ten kinds of question
    think: float = 0.4  # from this share of the training on, some answers are in the words of a robot's thoughts
    seen: str = "desk"  # of `SEEN`: the desk, flat pictures only, or the desk without the fonts of robots
    without: tuple[str, ...] = ()  # for ablations, of `PARTS`
    seed: int = 0

    def __post_init__(self) -> None:
        if odd := sorted(set(self.without) - set(PARTS)):
            raise BadData(f"a pretraining without {odd}", f"some of {PARTS}", "correct the plan")
        if self.seen not in SEEN or (self.brief and self.seen != "desk"):
            raise BadData(
                f"pictures '{self.seen}' for a {'brief' if self.brief else 'whole'} pretraining",
                f"one of {tuple(SEEN)}, and the desk for a brief one",
                "correct the plan",
            )

    @property
    def steps(self) -> int:
        """Optimiser steps."""
        return self.pictures // self.rows


class CorpusSource:
    """Source: image-text batches of a corpus in the corpus' own order, each with one of facts in words alone
    (`Mix.facts`) and, where there are `pages`, with some of those; a rank takes its share of the rows.

    One process alone renders ahead in `producers` others; ranks render for themselves.
    """

    def __init__(
        self,
        corpus: Corpus,
        words: Words,
        grid: tuple[int, int],
        producers: int = 1,
        facts: int | None = None,
        pages: PageSource | None = None,
    ):
        self.corpus, self.words, self.grid, self.count, self.pages = corpus, words, grid, producers, pages
        self.facts = corpus.mix.facts if facts is None else facts
        self.ahead: Producers | None = None

    def batch(self, vla: Any, step: int) -> list[Batch]:
        """The batches of a step; steps out of order restart the producers."""
        samples = [self._sorted(s) for s in self._samples(step)]
        pictures = collate_image_text(samples, self.words, self.grid)
        seen = [looks(qa, s, self.words) for s in samples for qa in s.questions]
        look = look_target(
            pictures.text["reasoning"], seen, samples[0].image.shape[:2], self.grid, len(self.words.cue(SAY))
        )
        out = [replace(pictures, targets={**pictures.targets, "look": look})]
        if count := self.facts:
            facts = self._by_length(self.corpus.facts(step, range(rank(), count * self.corpus.rows, ranks())))
            many = len(facts) // count
            dealt = [facts[place * many + row] for row in range(many) for place in range(count)]
            out.append(collate_text(dealt, self.words, count))
        if self.pages is not None:
            out.append(self.pages.batch(vla, step))
        return out

    def _sorted(self, sample: ImageText) -> ImageText:
        return replace(sample, questions=tuple(self._by_length(sample.questions)))

    def _by_length(self, asked: Sequence[QA]) -> list[QA]:
        """What is asked of a row in one pass, shortest first: the questions of one place are padded to the longest."""
        return sorted(asked, key=lambda qa: len(self.words.encode(qa.question)) + len(self.words.encode(qa.answer)))

    def _samples(self, step: int) -> list[ImageText]:
        if ranks() > 1:
            return [self.corpus.sample(step, row) for row in range(rank(), self.corpus.rows, ranks())]
        if self.ahead is None or self.ahead.step != step:
            self.close()
            self.ahead = Producers(self.corpus, self.count, step)
        return next(self.ahead)

    def close(self) -> None:
        """End the producers."""
        if self.ahead is not None:
            self.ahead.close()
            self.ahead = None


@dataclass(frozen=True)
class PageSource:
    """Source: pages of characters, nothing asked; a rank takes its share of the rows. toys: two in three of them show
    toys instead, and handwriting. name: of the stage that they belong to, whose pages no other has."""

    seed: int
    rows: int
    grid: tuple[int, int]
    toys: bool = False
    seen: str = "desk"
    name: str = "pages"

    def batch(self, vla: Any, step: int) -> Batch:
        """The pages of a step, a pure function of it."""
        samples = []
        for row in range(rank(), self.rows, ranks()):
            keys = Keys.seeded(1, self.name, self.seed, step, row)
            if self.toys and (row // ranks()) % 3:
                samples.append(toys_of(self.seen, self.seed).page(keys))
                continue
            how = SEEN[self.seen]
            scene = page_scene(keys, how.fonts)
            shown = how.page(scene, keys)
            samples.append(ImageText(shown.image, (), glyphs_of(scene, shown)))
        return collate_pages(samples, self.grid)


def token_grid(vlm: VLM) -> tuple[int, int]:
    """Rows and columns of the front camera's tokens."""
    camera = SPEC.camera("front")
    with torch.no_grad():
        return vlm.see({"front": torch.zeros(1, 1, 3, camera.height, camera.width)})["front"].grid[1:]


def build_reader(plan: NanoPlan, words: Words) -> VLA:
    """The untrained VLM with the glyph objective around it. Weights are a function of the seed."""
    with torch.random.fork_rng():
        torch.manual_seed(plan.seed)
        vlm = VLM(vlm_config(plan.size, len(words)), words)
        assert isinstance(vlm.config.vision, StemConfig)
        seen, traits = (GLYPHS, {}) if plan.brief else (ALL, TRAITS)
        glyph = GlyphLoss(vlm.width, seen, layer=vlm.config.tower.layers // 2, traits=traits)
        return VLA(spec=SPEC, backbone=vlm, objectives=[glyph, looking(vlm)])


def looking(vlm: VLM) -> LookLoss:
    """The head that looks, in the layer before the last."""
    return LookLoss(max(vlm.config.tower.layers - 2, 0))


def corpus_of(plan: NanoPlan) -> Corpus:
    """What it is pretrained on."""
    think = plan.think * plan.steps
    if plan.brief:
        desk = pretraining(plan.seed, plan.steps, plan.rows, plan.questions)
        return replace(desk, think=think, mix=BRIEF)
    shown = SEEN[plan.seen]
    desk = replace(pretraining(plan.seed, plan.steps, plan.rows, picture=shown.desk), fonts=shown.fonts)
    return whole(replace(desk, think=think if shown.think else math.inf), toys_of(plan.seen, plan.seed, plan.rows))


def _train(
    folder: Path,
    plan: NanoPlan,
    loud: bool,
    watch: Callable[[int, Any], None] | None,
    live: int,
    base: Path | None,
) -> None:
    words = train_words(not plan.brief)
    vla = build_reader(plan, words)
    if base is not None:
        copy_weights(load_vla(base).backbone, vla.backbone)
    corpus = corpus_of(plan)
    facts = 0 if "words" in plan.without else corpus.mix.facts
    dense = {} if "dense" in plan.without or base is not None else DENSE if plan.brief else DENSE | DENSE_TRAITS
    grid = token_grid(vla.backbone)
    pages = PageSource(plan.seed, plan.sheets, grid, not plan.brief, plan.seen)
    more = replace(pages, rows=plan.beside, name="pages beside") if plan.beside and dense else None
    source = CorpusSource(corpus, words, grid, plan.producers, facts, more)

    def optimiser(adam: str, rate: float, eye: float = 1.0) -> Optimiser:
        muon = 0.0 if "muon" in plan.without else rate
        return Optimiser(lr=rate / 10, muon=muon, adam=(adam,), slow=(("backbone.vision.*", eye),), decay=plan.decay)

    stage = Stage(
        "pretrain",
        source,
        plan.steps,
        ("*",),
        {"text": 1.0, **({} if "pointer" in plan.without else {"look": 0.5}), **dense},
        optimiser("objectives.*", plan.rate, plan.eye),
        seed=plan.seed,
    )
    console = Console() if loud else None  # made here: one does not travel to another process
    if plan.pages and dense:
        eye = GlyphReader(vla.backbone.vision, vla.objectives[0])
        read = Stage(
            "characters",
            pages,
            max(plan.pages // plan.sheets, 1),
            ("vision.*", "glyph.*"),
            dense,
            optimiser("glyph.*", Optimiser.muon),
        )
        train_stage(eye, read, folder / read.name, console=console)
    gates = LiveGates(folder / "metrics.jsonl", plan.steps, live, console)

    def after(step: int, vla: Any) -> None:
        gates(step, vla)
        if watch is not None:
            watch(step, vla)

    try:
        train_stage(vla, stage, folder, console=console, watch=after)
    finally:
        source.close()
    if rank() == 0:
        # Rounded here and not when it is shipped, so that what is examined is what is shipped.
        kept = {FILE: json.dumps(declared()).encode()}
        save_vla(VLA(spec=SPEC, backbone=vla.backbone.bfloat16()), folder / "checkpoint", files=kept)


def pretrain_nano(
    folder: Path,
    plan: NanoPlan = NanoPlan(),
    *,
    console: Console | None = None,
    watch: Callable[[int, Any], None] | None = None,
    live: int = 0,
    base: Path | None = None,
) -> VLA:
    """Pretrain (or resume, or find finished) in `folder`; the checkpoint is `folder`/checkpoint.

    watch(step, vla) sees every step of a single rank's training; with several ranks it must be None. live: so many
    items of every gate are taken at each tenth of the training, and go to metrics.jsonl (`LiveGates`). base: a
    checkpoint whose VLM is gone on from, of the same size and words; its eye is asked nothing in every cell then, since
    what it answered with was not kept. Refuses a folder of another plan, unless it is only longer, or other processes
    share it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    about = {**asdict(plan), "scene": scene_hash()}
    if base is not None:
        before = base.parent / "plan.json"
        about |= {"after": load_checkpoint(base, None).fingerprint}
        about |= {"before": read_json(before, "plan")} if before.exists() else {}
    keep_to(folder / "plan.json", about, free=("ranks", "producers"), grows=("pictures",))
    try:
        launch(_train, plan.ranks if watch is None else 1, folder, plan, console is not None, watch, live, base)
    except (ProcessRaisedException, ProcessExitedException) as error:
        raise Refusal(f"pretraining stopped: {error}", f"{plan.steps} steps", "the same command goes on") from error
    return load_vla(folder / "checkpoint")


def examine(
    vla: VLA, splits: Sequence[str] = ("R", "K-dev", "X"), count: int = 60, kinds: Sequence[str] = GATES
) -> list[dict[str, Any]]:
    """Rows of the exam, one an item."""
    was = vla.training
    vla.eval()
    rows = [row for split in splits for row in take_exam(vla.answer, exam(split, count, kinds))]
    vla.train(was)
    return rows


def exam_table(rows: Sequence[dict[str, Any]], title: str = "exam") -> Table:
    """Share right by kind and split, with Wilson intervals and chance."""
    splits = list(dict.fromkeys(r["split"] for r in rows))
    table = Table("kind", *splits, "chance", title=title)
    cells: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for r in rows:
        cells[r["kind"], r["split"]].append(r)
    for kind in dict.fromkeys(r["kind"] for r in rows):
        line = []
        for split in splits:
            got = cells[kind, split]
            w = wilson(sum(r["right"] for r in got), len(got))
            line.append(f"{w.value:.2f} ({w.low:.2f}..{w.high:.2f})")
        table.add_row(kind, *line, f"{cells[kind, splits[0]][0]['chance']:.2f}")
    return table
