"""Policies that are compared: ChatVLA-2, what it is measured against, and ablations of it.

A `Variant` says what differs; backbone, demonstrations, scenes, hand and eyes are shared. Names are those by which
`evaluate/claims.py` speaks of them (chatvla2.md 7.7). A variant without the last stage has its steps in those it has.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from mindhand.core.errors import BadData
from mindhand.model.expert import Process
from mindhand.model.ffn_edits import PerTask, Widen
from mindhand.model.following import Place
from mindhand.model.fresh import Fresh
from mindhand.model.low_rank import ADDED, LoRA, LowRankConfig, LowRankExperts
from mindhand.model.moe import MoEConfig, Upcycle
from mindhand.model.shipped import POLICY

Name = Literal["warm-up", "robot", "alignment", "fine-tuning"]
Hand = Literal["expert", "cascade", "tokens"]
PAPER: tuple[Name, ...] = ("warm-up", "alignment", "fine-tuning")
CAREFUL: tuple[Name, ...] = ("alignment", "fine-tuning")  # without experts there is nothing to warm up
EXPERTS = Upcycle()  # the paper's: 8, 2 active


@dataclass(frozen=True)
class Variant:
    """One policy of a comparison; the defaults are ChatVLA-2 (2505.21906).

    words: it reasons before it acts; False: the same model learns and acts without a word. eyes: the hand sees
    (wrist and gaze); False: words and proprioception only, the control for layouts that can be guessed. place: of
    reasoning-following. edit: surgery on the pretrained VLM; None: it stays as it is. stages, in this order:

        warm-up      the VLM alone, on image-text
        robot        all of it, on robot data alone
        alignment    all of it, on image-text and robot data, 1:3 (`texts`)
        fine-tuning  the VLM is frozen, the hand alone learns

    What is None by default came after trainings were begun: their plans lack it, and are still theirs
    (`planned.require_plan`).
    """

    name: str
    words: bool = True
    eyes: bool = True
    place: Place = "latter"
    edit: Any = EXPERTS
    stages: tuple[Name, ...] = PAPER
    process: Process | None = None  # of the hand; None: the plan's
    hand: Hand = "expert"  # "cascade": it hears words alone; "tokens": it is more words of the mind's
    horizon: int | None = None  # H; None: the plan's
    digits: bool | None = None  # whether image-text of the robot's stages holds digits; None: as the plan says
    learns: tuple[str, ...] = ("backbone.*",)  # of the mind, before the last stage
    anchored: bool = False  # beside the robot's data the mind is drawn back to what it was
    insulated: bool = False  # the hand's losses do not reach the mind
    says: bool = False  # the mind learns to say the actions, too, in FAST's tokens
    after: str = ""  # a variant whose trained policy this one goes on from (`derived`), to ...
    keeps: int = 0  # ... keep a thought for so many queries; 0: recover what its VLM lost
    own: bool | None = None  # the hand is fine-tuned on thoughts that the mind writes itself; None: on given ones
    texts: float | None = None  # image-text samples a robot frame, in alignment; None: the paper's 1/3
    ships: str = ""  # weights that come with the package (`model.shipped`): nothing is trained, they are measured

    @property
    def acts(self) -> bool:
        """Whether it is still a policy: a mind that recovers alone is no longer that of its hand."""
        return not self.after or bool(self.keeps)

    def __post_init__(self) -> None:
        known = [s for s in Name.__args__ if s in self.stages]
        if not self.stages or list(self.stages) != known:
            raise BadData(f"stages {self.stages}", f"some of {Name.__args__}, in that order", "correct the variant")
        if self.hand == "cascade" and self.stages != ("fine-tuning",):
            raise BadData(f"a cascade with stages {self.stages}", "the last alone: its mind is frozen", "correct it")
        if self.hand == "tokens" and "fine-tuning" in self.stages:
            raise BadData(f"a hand of tokens with stages {self.stages}", "none with a frozen mind", "correct it")
        if self.texts is not None and not (self.texts > 0 and "alignment" in self.stages):
            raise BadData(
                f"image-text {self.texts}:1", "more than none, in alignment; none is stage robot", "correct it"
            )
        if self.own and not (self.words and self.hand == "expert" and "fine-tuning" in self.stages):
            raise BadData("thoughts of its own", "a mind with words, an expert and fine-tuning", "correct the variant")


def experts(count: int, active: int, **more: Any) -> Upcycle:
    """The edit to so many experts."""
    return Upcycle(MoEConfig(count, active, **more))


OURS = Variant("reasoning")
SILENT = Variant("silent", words=False, place="none")
BLIND = Variant("blind", eyes=False)
GRID = {
    v.name: v
    for v in (
        Variant("B7"),
        Variant("B7-cached", after="B7", keeps=6),
        Variant("B7-digits", digits=True),
        Variant("F0", edit=None, stages=("fine-tuning",)),
        Variant("F0-blind", edit=None, stages=("fine-tuning",), eyes=False),
        Variant("F0-deaf", edit=None, stages=("fine-tuning",), words=False, place="none"),
        Variant("F1", edit=None, stages=("fine-tuning",), hand="cascade"),
        Variant("B0", words=False, place="none", edit=Fresh(), stages=("robot",)),
        Variant("B1", words=False, place="none", edit=None, stages=("robot",), process="flow"),
        Variant("B1-recovered", words=False, place="none", edit=None, stages=("robot",), after="B1"),
        Variant("B2", words=False, place="none", edit=None, stages=("robot",), hand="tokens", horizon=8),
        Variant("B3", place="film", edit=None, stages=("robot",)),
        Variant("B4", place="film", edit=None, stages=("alignment",)),
        Variant("B5", place="film", edit=PerTask(), stages=("robot", "alignment")),
        *(
            Variant(f"{name}-{how}", edit=experts(8, 2, mixture=mixture, rescale=how == "rescaled"))
            for name, mixture in (("B6a", "static+dynamic"), ("B6b", "shared+dynamic"))
            for how in ("raw", "rescaled")
        ),
        Variant("B8a", edit=Widen(2)),
        Variant("B8b", edit=Widen(8)),
        *(Variant(f"B9-lora-{rank}", edit=LoRA(rank, 2.0 * rank), stages=CAREFUL, learns=ADDED) for rank in (16, 64)),
        Variant("B9-insulated", edit=None, stages=CAREFUL, insulated=True),
        Variant("B9-ki", edit=None, stages=CAREFUL, insulated=True, says=True),
        Variant("B9-anchored", edit=None, stages=CAREFUL, anchored=True),
        Variant("B7-low-rank", edit=LowRankExperts(LowRankConfig(rank=4)), learns=ADDED),
        Variant("shipped", edit=None, stages=CAREFUL, insulated=True, ships=POLICY),
        Variant("S1-only", stages=("warm-up", "alignment")),
        Variant("S2-robot-only", stages=("robot", "fine-tuning")),
        Variant("experts-4/2", edit=experts(4, 2)),
        Variant("experts-6/3", edit=experts(6, 3)),
        Variant("RF-film", place="film"),
        Variant("RF-former", place="former"),
        Variant("RF-all", place="all"),
        Variant("RF-attend", place="attend"),
        Variant("B7-own", own=True),
        Variant("mix-0", stages=("warm-up", "robot", "fine-tuning")),
        Variant("mix-1/9", texts=1 / 9),
        Variant("mix-1/1", texts=1.0),
    )
}
SAME = {"RF-latter": "B7", "experts-8/2": "B7", "S2-frozen-pretrained": "F0"}  # the last: upcycling keeps the function
