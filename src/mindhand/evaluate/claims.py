"""What ChatVLA-2 (arXiv 2505.21906, NeurIPS 2025) claims, as tests on rows: reproduced, refuted, or not known yet.

Metrics, bounds and rule were written before the first result, and `fingerprint` freezes them. Where the plan left
something open, the claim's `note` says what is meant here and why. `claim_kinds.RULE` gives every verdict.

    judge(Evidence({"B7": {"0": Training(episodes=rows, scorecard=...), "1": ...}, ...}))  ->  a Finding a claim

"K" is the open world: equations and toys that pretraining holds and neither the robot's data nor the co-training.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from rich.table import Table
from rich.text import Text

from mindhand.core.errors import BadData
from mindhand.core.intervals import DRAWS, Interval

from .claim_evidence import CELLS, Evidence
from .claim_kinds import (
    ITEMS,
    LEAST,
    RULE,
    Range,
    Test,
    Verdict,
    above,
    ahead,
    at_least,
    at_most,
    below,
    equal,
    shown,
    together,
)
from .claim_measures import KNOWN, MEASURES, Estimate, Quantity, estimate, lacking
from .page import Cell, Raw

SPLITS = ("K-dev", "K-test")
PAPER = "arXiv 2505.21906"
Q = Quantity


@dataclass(frozen=True)
class Claim:
    """One claim. says: with the paper's number. where: that is printed. metric, reproduced, refuted: as planned, in
    words. tests: the same, in numbers; they give the verdict. reported: numbers without which it is missing. beside:
    numbers shown where there are rows of them. note: what the words left open."""

    id: str
    says: str
    where: str
    metric: str
    reproduced: str
    refuted: str
    tests: tuple[Test, ...]
    reported: tuple[Quantity, ...] = ()
    beside: tuple[Quantity, ...] = ()
    note: str = ""

    @property
    def needs(self) -> tuple[Quantity, ...]:
        """What there must be rows of."""
        return (*(t.quantity for t in self.tests), *self.reported)

    @property
    def cells(self) -> tuple[str, ...]:
        """The cells it needs."""
        return tuple(dict.fromkeys(c for q in self.needs for c in q.cells))

    def find(self, evidence: Evidence, split: str = "K-dev") -> Finding:
        """The verdict on the evidence. split: the open world that is judged."""
        if split not in SPLITS:
            raise BadData(f"split '{split}'", f"one of {SPLITS}", "claims are about what robots were not shown")
        known = {q: estimate(evidence, q, split) for q in self.needs if not lacking(evidence, q, split)}
        extra = {q: estimate(evidence, q, split) for q in self.beside if not lacking(evidence, q, split)}
        tested = [(t, t.verdict(known[t.quantity])) for t in self.tests if t.quantity in known]
        gone = list(dict.fromkeys(why for q in self.needs for why in lacking(evidence, q, split)))
        verdict: Verdict = "missing" if gone else together([v for _, v in tested])
        # What decided: the tests that refute, those that are open, or all of them.
        said = [t.said(known[t.quantity]) for t, v in tested if v == verdict or verdict == "missing"]
        said += [f"{q} is {shown(known[q].interval, q.unit)}" for q in self.reported if q in known]
        if not self.tests and not gone:
            said.append("reported, not judged: no value that would refute it was declared")
        why = "; ".join(gone + said)
        return Finding(self, verdict, _named(known), _named(extra), f"{verdict} ({split}): {why}.")


def _named(estimates: Mapping[Quantity, Estimate]) -> dict[str, Interval]:
    return {str(q): e.interval for q, e in estimates.items()}


@dataclass(frozen=True)
class Finding:
    """A verdict; the intervals that it rests on and those shown beside, by the name of the quantity; why, in words."""

    claim: Claim
    verdict: Verdict
    numbers: Mapping[str, Interval]
    beside: Mapping[str, Interval]
    why: str

    @property
    def id(self) -> str:
        """The claim's."""
        return self.claim.id


CLAIMS: tuple[Claim, ...] = (
    Claim(
        "C1", "tuning on robot data alone erases the VLM's skill: 0 of it is kept by OpenVLA, 0.27 by DiVLA",
        f"{PAPER}, table 5, against Qwen2-VL-2B's model card", "R of B1, B2, B3",
        "R(B3) > R(B1) by >= 0.1 and both < 0.6", "R(B1) > 0.8",
        (
            Test(Q("R", "B3", "B1"), at_least(0.1)),
            Test(Q("R", "B1"), below(0.6), above(0.8)),
            Test(Q("R", "B3"), below(0.6)),
        ),
        beside=(Q("R", "B2"), *(Q(m, c) for c in ("B1", "B2", "B3") for m in ("R by likelihood", "R worst part"))),
        note="R is of written answers, as the paper's benchmarks are; B2 has no bound, so it is shown and not needed",
    ),
    Claim(
        "C2", "part of that loss is spurious: the knowledge is there, the form of an answer is gone (no number)",
        "arXiv 2502.14420 (ChatVLA), its diagnosis of three trainings", "R by likelihood of options less R written",
        "gap >= 0.2", "gap < 0.05",
        (Test(Q("R gap", "B1"), at_least(0.2), below(0.05)),),
        beside=(Q("R gap", "B2"), Q("R gap", "B3"), Q("R", "B1-recovered"), Q("R", "B1")),
        note="the gap of B1: the diagnosis is of robot data without text; recovery has no bound and is shown",
    ),
    Claim(
        "C3", "co-training restores it: 0.86 is kept by ChatVLA, 0.95 by ChatVLA-2",
        f"{PAPER}, table 5, against Qwen2-VL-2B's model card", "R of B4, B5, B7",
        "B7 >= 0.90 and > B4", "B4 >= B7",
        (Test(Q("R", "B7"), at_least(0.9)), ahead("R", "B7", "B4")),
        beside=(Q("R", "B4"), Q("R", "B5"), Q("R worst part", "B7"), Q("R by likelihood", "B7")),
        note="B7 below 0.90 does not refute: only the order does",
    ),
    Claim(
        "C4", "in-domain, pi0, DexVLA and ChatVLA-2 are equal: 12, 12 and 11 of 13",
        f"{PAPER}, table 1", "success on R",
        "yes: differences < 5 points, 90 % or more", "B7 lower by > 10",
        (
            equal("ID success", "B7", "B1", 0.05, below(-0.1)),
            equal("ID success", "B7", "B3", 0.05, below(-0.1)),
            equal("ID success", "B1", "B3", 0.05),
            *(Test(Q("ID success", c), at_least(0.9)) for c in ("B1", "B3", "B7")),
        ),
        beside=(Q("ID success", "B2"), Q("ID success", "B4")),
        note="'all' are the arms that the paper gives 11 or 12 of 13; 'yes' is what was expected, the 90 % with it",
    ),
    Claim(
        "C5", "open-world equations: ChatVLA-2 82.7 %, DexVLA 19.2 %, pi0 15.4 %, ChatVLA 7.7 %",
        f"{PAPER}, table 1", "success on K",
        "B7 - best of B1-B3 >= 30", "< 15",
        tuple(Test(Q("K success", "B7", c), at_least(0.3), below(0.15)) for c in ("B1", "B2", "B3")),
        beside=(*(Q(m, c) for c in ("B7", "B1", "B2", "B3") for m in ("K success", "K choice")), Q("K success", "B5")),
        note="'best of' is a test against each: no interval of a maximum is needed, and all three have to be there",
    ),
    Claim(
        "C6", "dynamic experts beat a dense VLM: 43 of 52, against 2 (3B) and 8 (7B)",
        f"{PAPER}, table 3", "success on K, OCR",
        "CI of difference > 0", "iso-FLOPs dense >= B7",
        (ahead("K success", "B7", "B8a"),),
        beside=(Q("K OCR", "B7", "B8a"), Q("K success", "B7", "B8b"), Q("K success", "B7"), Q("K success", "B8a")),
        note="success decides, as the numbers quoted are; B8a is the dense arm of equal FLOPs",
    ),
    Claim(
        "C7", "dynamic experts beat static + dynamic and shared + dynamic: 43 of 52, against 11 and 25",
        f"{PAPER}, table 3", "success on K, OCR",
        "raw gap and rescaled gap both reported", "rescaled gap <= 0",
        (ahead("K success", "B7", "B6a-rescaled"), ahead("K success", "B7", "B6b-rescaled")),
        reported=(Q("K success", "B7", "B6a-raw"), Q("K success", "B7", "B6b-raw")),
        beside=tuple(Q("K OCR", "B7", f"B6{x}-{how}") for x in "ab" for how in ("rescaled", "raw")),
        note="the raw gaps have to be there; the verdict is whether the rescaled gaps, of both mixes, exclude 0",
    ),
    Claim(
        "C8", "both stages are needed: 43 of 52, against 12 with stage 1 alone and 3 with stage 2 alone",
        f"{PAPER}, table 4", "success on K, OCR",
        "both directions", "S1-only within 5 points",
        (
            Test(Q("K success", "B7", "S1-only"), above(0.05), at_most(0.05)),
            Test(Q("K OCR", "B7", "S2-robot-only"), above(0)),
        ),
        beside=(
            Q("K OCR", "B7", "S1-only"), Q("K success", "B7", "S2-robot-only"),
            Q("K success", "B7", "S2-frozen-pretrained"), Q("K OCR", "B7", "S2-frozen-pretrained"),
        ),
        note="directions: stage 1 alone loses success, stage 2 alone loses OCR; stage 1 alone ahead of B7 refutes too",
    ),
    Claim(
        "C9", "reasoning belongs into the latter half: 43 of 52, all layers 36, former half 22",
        f"{PAPER}, table 7", "success on K, success in-domain",
        "former clearly worst", "former >= latter",
        (
            ahead("K success", "RF-latter", "RF-former"),
            Test(Q("K success", "RF-all", "RF-former"), above(0)),
            equal("K success", "RF-latter", "RF-all", 0.07),
        ),
        beside=tuple(Q("ID success", f"RF-{x}") for x in ("latter", "all", "former")),
        note="K decides, as the numbers quoted are; the expected 'latter about all (+-7)' is asked for too",
    ),
    Claim(
        "C10", "reasoning-following makes actions obey the text (no number)",
        f"{PAPER}, its section on the reasoning-following module", "CFR, RAC",
        "RF - FiLM >= 0.15", "<= 0.05",
        (Test(Q("K CFR", "RF-latter", "RF-film"), at_least(0.15), at_most(0.05)),),
        beside=(
            Q("K CFR", "RF-latter"), Q("K CFR", "RF-film"),
            Q("K RAC", "RF-latter"), Q("K RAC", "RF-film"), Q("K RAC", "RF-latter", "RF-film"),
        ),
        note="CFR decides: RAC is high too where hand and text only agree on what is right",
    ),
    Claim(
        "C11", "more experts help: OCR 1.87 with 4/2, 2.42 with 6/3, 3.58 with 8/2",
        f"{PAPER}, table 6", "OCR, R",
        "8/2 > 4/2", "reversed",
        (ahead("K OCR", "experts-8/2", "experts-4/2"),),
        beside=(Q("K OCR", "experts-6/3"), *(Q("R", f"experts-{x}") for x in ("4/2", "6/3", "8/2"))),
        note="OCR decides, as the numbers quoted are; equal OCR counts with 'reversed'",
    ),
    Claim(
        "C12", "toys of the open world: 81.4 %, DexVLA 23.1 %, pi0 16.0 %; recognition 0.94, 0.23, ChatVLA 0.71",
        f"{PAPER}, table 2", "success on K, recognition, spatial",
        ">= 25 over B3", "< 10",
        (Test(Q("toy K success", "B7", "B3"), at_least(0.25), below(0.1)),),
        beside=(
            Q("toy K success", "B7"), Q("toy K success", "B3"), Q("toy K success", "B1"),
            *(Q(f"toy K {m}", c) for m in ("recognition", "spatial") for c in ("B7", "B3")),
        ),
        note="success decides; recognition and spatial have no bound and are shown",
    ),
    Claim(
        "C13", "what reasoning costs (the paper gives no latency)",
        f"{PAPER}: in no table", "ms a chunk",
        "reasoning 60-85 % of latency; cached reasoning cuts >= 3x at <= 2 points loss", "loss > 10 points",
        (
            Test(Q("share of reasoning", "B7"), Range(0.6, 0.85)),
            Test(Q("ms a chunk", "B7", "B7-cached", ratio=True), at_least(3)),
            Test(Q("K success", "B7", "B7-cached"), at_most(0.02), above(0.1)),
        ),
        beside=(Q("ms a chunk", "B7"), Q("ms a chunk", "B7-cached")),
        note="means over queries, not medians: a cache that thinks rarely would hide its thinking in a median",
    ),
    Claim(
        "C14", "image-text data without digits and operators suffice (OCR 3.58 without them)",
        f"{PAPER}, section on data; table 1", "OCR on K of B7 with and without digits in the image-text data",
        "both reported", "-",
        (),
        reported=(Q("K OCR", "B7"), Q("K OCR", "B7-digits"), Q("K OCR", "B7-digits", "B7")),
        beside=(Q("K success", "B7-digits", "B7"), Q("R", "B7-digits", "B7")),
        note="nothing can refute it, so it is never called reproduced either: both numbers are reported",
    ),
)  # fmt: skip


def judge(evidence: Evidence, split: str = "K-dev") -> list[Finding]:
    """A finding for every claim, in order. split "K-dev" or "K-test": the open world that is judged."""
    return [claim.find(evidence, split) for claim in CLAIMS]


def fingerprint() -> str:
    """sha256 of everything declared: claims, measures, the cells they speak of, the rule and its numbers."""
    spoken = {c for claim in CLAIMS for q in (*claim.needs, *claim.beside) for c in q.cells}
    cells = [(name, text) for name, text in CELLS.items() if name in spoken]
    declared = (CLAIMS, sorted(MEASURES.items()), cells, RULE, LEAST, ITEMS, KNOWN, DRAWS, SPLITS)
    return hashlib.sha256(repr(declared).encode()).hexdigest()


COLUMNS = ("claim", "verdict", "numbers", "reproduced if", "refuted if")
HEADING = f"Claims of ChatVLA-2 ({PAPER})"


def _lines(finding: Finding) -> tuple[list[str], list[str]]:
    """The numbers it rests on and those beside, a line each."""
    claim = finding.claim
    units = {str(q): q.unit for q in (*claim.needs, *claim.beside)}
    first, more = ([f"{k}: {shown(v, units[k])}" for k, v in x.items()] for x in (finding.numbers, finding.beside))
    return first, more


def rich_table(findings: Sequence[Finding]) -> Table:
    """For a terminal: a line a claim, the numbers that it rests on, what is missing."""
    colours = {"reproduced": "green", "refuted": "red", "undecided": "yellow", "missing": "dim"}
    out = Table(*COLUMNS, title=HEADING, show_lines=True)
    for f in findings:
        numbers = _lines(f)[0] + [f.why] * (f.verdict == "missing")
        words = (f"{f.id} {f.claim.says}", f.verdict, "\n".join(numbers), f.claim.reproduced, f.claim.refuted)
        out.add_row(*(Text(w, colours.get(w, "")) for w in words))  # no markup: a word may hold brackets
    return out


def for_report(findings: Sequence[Finding]) -> tuple[str, list[str], list[list[Cell]]]:
    """(heading, columns, rows) for `write_report(beside=...)`, with the numbers shown beside."""
    tags = {"reproduced": "tag yes", "refuted": "tag no"}
    rows: list[list[Cell]] = []
    for f in findings:
        first, more = ("".join(f"<div>{escape(x)}</div>" for x in lines) for lines in _lines(f))
        about = f"<small>{escape(f.why)}</small>" if f.verdict == "missing" or not f.claim.tests else ""
        numbers = Raw(f"{first}<small>{more}</small>{about}")
        verdict = Raw(f'<span class="{tags.get(f.verdict, "tag")}">{f.verdict}</span>')
        rows.append([f"{f.id} {f.claim.says} ({f.claim.where})", verdict, numbers, f.claim.reproduced, f.claim.refuted])
    return HEADING, list(COLUMNS), rows
