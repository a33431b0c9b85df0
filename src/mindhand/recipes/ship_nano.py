"""Ship a pretraining with the package: its checkpoint and a card, if its records pass every gate.

python -m mindhand.recipes.ship_nano runs/nano [note for the card]   after `mindhand bench nano`, which writes them
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from mindhand.core.errors import Refusal
from mindhand.core.record import Record, read_records
from mindhand.data.files import read_json
from mindhand.data.synthetic.gates import BARS
from mindhand.evaluate.scorecard import PARTS
from mindhand.model.shipped import WEIGHTS

CARD = """# {name}

A vision-language model of {millions:.2f} million parameters that mindhand trained itself: it reads a
whiteboard, works sums out, and names, counts, finds and compares toys on a table, in pictures of 128 x 128
pixels. It is a test-bed for keeping knowledge while a robot is learned, not a general model: it knows what is
listed here and nothing else.

    mindhand chat --image board.png --ask "read the board"

## What it was trained on

{pictures:,} generated pictures ({pages:,} more for the eye alone), no robot data and no data of others but
for 1,797 scanned digits (Alpaydin and Kaynak, 1998, UCI Machine Learning Repository, doi 10.24432/C50P49), of
which a fifth of the samples are held out. Everything that can be asked is declared in `worlds/` (hash {scene});
equations, toys and relations of class X are in no picture and in no sentence. It took {seconds:,.0f} seconds
of one CPU core.

    {command}

{note}## What it knows

Share right of fixed items ({items:,} a gate) on pictures and pens as episodes have them, with 95 % intervals;
one training.

| gate | right | chance | bar |
|---|---|---|---|
{gates}

Scorecard, by writing and by the likeliest of the options:

| part | written | likeliest option |
|---|---|---|
{parts}

## Limits

English of some seven hundred words, lower case, in the phrasings of `data/synthetic`. Pictures other than the
desk's are answered all the same, and wrongly. Sums of pairs that it never met are right as often as the gate
`arithmetic_unseen` says.

Weights in bfloat16. Licence: Apache-2.0, as the project's.
"""


def failing(records: Mapping[str, Record]) -> list[str]:
    """The gates whose record is missing or below its bar, a line each."""
    out = []
    for gate, bar in BARS.items():
        record = records.get(f"nano/gate/{gate}")
        if record is None:
            out.append(f"{gate}: no record")
        elif bar is not None and record.value < bar:
            out.append(f"{gate}: {record.value:.3f}, bar {bar:.2f}")
    return out


def card(run: Path, name: str, records: Mapping[str, Record], note: str = "") -> str:
    """The model card of the pretraining in `run`, from its plan and its records; note: how it was made besides."""
    plan = read_json(run / "plan.json", "plan")

    def share(record: Record) -> str:
        return f"{record.value:.3f} ({record.low:.3f} to {record.high:.3f})"

    gates = [records[f"nano/gate/{g}"] for g in BARS]
    return CARD.format(
        name=name,
        millions=records["nano/model/parameters"].value / 1e6,
        pictures=plan["pictures"],
        pages=plan["pages"],
        scene=plan["scene"],
        seconds=records["nano/pretrain/core_seconds"].value,
        command=f"mindhand pretrain --run runs/nano --seed {plan['seed']}",
        note=f"{note}\n\n" if note else "",
        items=gates[0].n,
        gates="\n".join(
            f"| {g.replace('_', ' ')} | {share(r)} | {r.chance:.2f} | {'-' if BARS[g] is None else f'{BARS[g]:.2f}'} |"
            for g, r in zip(BARS, gates)
        ),
        parts="\n".join(
            f"| {p} | {share(records[f'nano/scorecard/{p}'])} | {share(records[f'nano/scorecard/{p}_likely'])} |"
            for p in PARTS
        ),
    )


def ship(run: Path, name: str = "nano", to: Path = WEIGHTS, note: str = "") -> Path:
    """Copy the checkpoint of `run` and its plan into the package, with a card. Refusal where a gate is not passed."""
    records = read_records()
    if short := failing(records):
        raise Refusal(f"gates that are not passed: {'; '.join(short)}", "every gate at its bar", "train longer")
    home = to / name
    shutil.rmtree(home, ignore_errors=True)
    shutil.copytree(run / "checkpoint", home / "checkpoint")
    shutil.copy(run / "plan.json", home / "plan.json")
    (home / "README.md").write_text(card(run, name, records, note))
    return home


if __name__ == "__main__":
    print(ship(Path(sys.argv[1]), note=" ".join(sys.argv[2:])))
