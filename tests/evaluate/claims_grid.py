"""Grids of trainings with a known truth: every number is drawn from counters, so that a grid is the same each time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mindhand.core.keys import Key, Keys
from mindhand.evaluate.claim_evidence import BASE, CELLS, Evidence, Training

PARTS = {"ocr": ("7", 0.25), "maths": ("12", 0.25), "existence": ("yes", 0.5)}  # an answer, and chance by likelihood
USUAL = {"id": 0.97, "k": 0.2, "ocr": 0.5, "follow": 0.5, "toy": 0.2, "written": 0.3, "likely": 0.6, "share": 0.7}
Truth = Mapping[str, float]

# What the paper claims, as the plan expects it here: every claim with a bound holds.
CLAIMED: Mapping[str, Truth] = {
    BASE: {"written": 0.96, "likely": 0.96},
    "B1": {"written": 0.02, "likely": 0.5},
    "B2": {},
    "B3": {"written": 0.3, "likely": 0.6},
    "B4": {"written": 0.8, "likely": 0.85},
    "B7": {"k": 0.85, "ocr": 0.9, "toy": 0.8, "written": 0.94, "likely": 0.95, "ms": 100},
    "B7-digits": {"ocr": 0.95},
    "B7-cached": {"k": 0.9, "ms": 25},
    **{c: {"k": 0.6} for c in ("B6a-raw", "B6a-rescaled", "B6b-raw", "B6b-rescaled", "B8a")},
    "S1-only": {"k": 0.55, "ocr": 0.85},
    "S2-robot-only": {"ocr": 0.1},
    "experts-4/2": {"ocr": 0.6},
    "experts-8/2": {"ocr": 0.9},
    "RF-film": {"follow": 0.5},
    "RF-former": {"k": 0.5},
    "RF-latter": {"k": 0.97, "follow": 0.9},
    "RF-all": {"k": 0.97},
}
# The opposite: every claim that can be refuted is false.
OPPOSITE: Mapping[str, Truth] = {
    **{c: {} for c in CLAIMED},
    BASE: {"written": 0.96, "likely": 0.96},
    "B1": {"written": 0.94, "likely": 0.94},
    "B4": {"written": 0.8, "likely": 0.8},
    "B7": {"k": 0.2, "id": 0.6, "written": 0.5, "likely": 0.5, "ms": 100},
    "B7-cached": {"k": 0.03, "ms": 100},
    **{c: {"k": 0.4} for c in ("B6a-rescaled", "B8a", "S1-only", "RF-former")},
    "RF-latter": {"k": 0.2},
    "experts-4/2": {"ocr": 0.9},
    "experts-8/2": {"ocr": 0.6},
}


def hits(p: float, n: int, *words: str | int) -> list[bool]:
    """n draws of a truth."""
    return (Keys.seeded(1, "grid", *words).uniform(n)[0] < p).tolist()


def training(truth: Truth, cell: str, name: str, n: int = 150, items: int = 60, seed: int = 0) -> Training:
    """One training: n episodes a task, `items` of a part of the scorecard, n queries."""
    of, at = {**USUAL, **truth}, (cell, name, seed)

    def episodes(task: str, exam: str, **columns: float) -> list[dict]:
        keys = [str(Key("tests-1", task, i)) for i in range(n)]
        drawn = {c: hits(p, n, *at, exam, task, c) for c, p in columns.items()}
        return [{"key": k, "task": task, **{c: x[i] for c, x in drawn.items()}} for i, k in enumerate(keys)]

    maths = episodes("maths_matching/R", "own", success=of["id"])
    maths += episodes("maths_matching/K-dev", "own", success=of["k"], choice=of["k"], ocr=of["ocr"], rac=of["follow"])
    maths = [{**row, "ocr": 4 * row["ocr"]} if "ocr" in row else row for row in maths]
    toys = episodes("spatial_placing/K-dev", "own", success=of["toy"])
    swapped = episodes("maths_matching/K-dev", "swapped", rac=of["follow"])
    card = []
    for part, (answer, chance) in PARTS.items():
        least = 0.5 if answer == "yes" else 0.0
        right = hits(least + (1 - least) * of["written"], items, *at, part, "right")
        likely = hits(chance + (1 - chance) * of["likely"], items, *at, part, "likely")
        card += [
            {"key": f"card-1/{part}/{i}/0", "part": part, "expected": answer, "chance": chance,
             "right": right[i], "likely": likely[i]} for i in range(items)
        ]  # fmt: skip
    noise = Keys.seeded(1, "grid", *at, "ms").uniform(n)[0]
    latency = [
        {"key": str(i), "ms": ms, "reasoning_ms": of["share"] * ms, "device": "a cpu"}
        for i, ms in enumerate(of.get("ms", 80) * (0.8 + 0.4 * noise))
    ]
    return Training(maths + toys, swapped, card, latency)


def grid(cells: Mapping[str, Truth], names: Sequence[str] = ("0", "1", "2"), **how: int) -> Evidence:
    """Evidence of that truth; the base has one training."""
    assert set(cells) <= set(CELLS)
    return Evidence(
        {
            c: {t: training(truth, c, t, **how) for t in (names[:1] if c == BASE else names)}
            for c, truth in cells.items()
        }
    )
