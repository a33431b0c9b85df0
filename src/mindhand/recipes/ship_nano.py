"""Ship a pretraining with the package: its checkpoint, a card and a gallery, if its records pass every gate.

python -m mindhand.recipes.ship_nano runs/nano [note for the card]   after `mindhand bench nano`, which writes them

Everything is made beside its place and moved there at the end: a refusal leaves what is shipped as it was.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from mindhand.core import provenance
from mindhand.core.checkpoint import load_checkpoint
from mindhand.core.errors import BadData, Refusal
from mindhand.core.files import write_atomic
from mindhand.core.folder import replacing_folder
from mindhand.core.record import Record, read_records, read_rows
from mindhand.data.files import read_json
from mindhand.data.synthetic.gates import BARS
from mindhand.evaluate.scorecard import PARTS
from mindhand.model.shipped import MOST, WEIGHTS, shipped_bytes
from mindhand.model.store import load_vla

from .bench_nano import ITEMS
from .pretrain import WHOLE, gallery

MEASURE = "mindhand bench nano, with this pretraining in runs/nano"
GALLERY = Path("docs/nano-gallery.html")  # in the checkout
ASSET = (
    "| `{path}/checkpoint/*` | {name}: a vision-language model of {millions:.2f} million parameters, bfloat16 | trained"
    " by this project (`{command}`) on what it draws itself, and on the scanned digits above | Apache-2.0 |"
)

CARD = """# {name}

A vision-language model of {millions:.2f} million parameters that mindhand trained itself: it reads a
whiteboard, works sums out, and names, counts, finds and compares toys on a table, in pictures of 128 x 128
pixels. It is a test-bed for keeping knowledge while a robot is learned, not a general model: it knows what is
listed here and nothing else.

    mindhand chat board.png --ask "read the board"

[{shown} pictures with what it answered]({gallery}), right and wrong.

## What it was trained on

{pictures:,} generated pictures ({pages:,} more for the eye alone), no robot data and no data of others but
for 1,797 scanned digits (Alpaydin and Kaynak, 1998, UCI Machine Learning Repository, doi 10.24432/C50P49,
licence CC BY 4.0), of which a fifth of the samples are held out. Everything that can be asked is declared in
`worlds/` (hash {scene}); equations, toys and relations of class X are in no picture and in no sentence. {took}

    {command}

{note}## How it is asked

    (picture)<ask>how many cup toys are on the table?<end><say>1 2 3<end>

The picture comes first, as the tokens of its 8 x 16 cells; then the question between `<ask>` and `<end>`; it is given
`<say>` and writes up to `<end>`. Every question is put afresh behind the picture: none hears what was said before.
Digits are single tokens, and so are the parts of a place: `<x3><y5>` is one of 32 x 32 cells of the picture. The
tokenizer is `checkpoint/tokenizer.json`, in the format of the library `tokenizers`.

## What it knows

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

Weights in bfloat16. Licence: Apache-2.0 (`LICENSE` beside this card), as the project's.
"""


def command_of(plan: Mapping[str, Any]) -> str:
    """The command that makes the pretraining of the plan's size and seed."""
    return f"mindhand pretrain {plan['size']} --run runs/nano --seed {plan['seed']}"


def unlike(plan: Mapping[str, Any]) -> list[str]:
    """In what a plan differs from that of its command, a phrase each; not in how many processes share the work."""
    usual = json.loads(json.dumps(asdict(replace(WHOLE, size=plan["size"], seed=plan["seed"]))))
    free = {"ranks", "producers"}
    return [f"{k} {plan.get(k)} for {v}" for k, v in usual.items() if k not in free and plan.get(k) != v]


def quoted() -> dict[str, float | None]:
    """The records that a card quotes, by name, with the bar of those that have one."""
    parts = [f"nano/scorecard/{p}{how}" for p in PARTS for how in ("", "_likely")]
    others = dict.fromkeys((*parts, "nano/model/parameters", "nano/pretrain/core_seconds"))
    return {**{f"nano/gate/{g}": bar for g, bar in BARS.items()}, **others}


def failing(
    records: Mapping[str, Record], policy: str, results: Path | None = None, items: int = ITEMS
) -> tuple[list[str], dict[str, list[dict[str, Any]]]]:
    """Why these records do not ship the checkpoint of fingerprint `policy`, a line a record: missing, below its bar, of
    fewer than `items` items or of another checkpoint; and the rows of those that were read, by name. results: the
    folder of the records (results/ of the checkout unless given)."""
    out, found = [], {}
    for name, bar in quoted().items():
        record = records.get(name)
        if record is None:
            out.append(f"{name}: no record")
            continue
        many = items if name.startswith(("nano/gate/", "nano/scorecard/")) else 1
        if record.n < many:
            out.append(f"{name}: {record.n} items of {many}")
        elif bar is not None and record.value < bar:
            out.append(f"{name}: {record.value:.3f}, bar {bar:.2f}")
        else:
            found[name] = read_rows(record, results)
            if others := {str(r.get("policy")) for r in found[name]} - {policy}:
                out.append(f"{name}: of the checkpoint {', '.join(sorted(others))}, and this is {policy}")
    return out, found


def _parts(plan: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """A plan and those of the weights that it went on from."""
    return [plan, *(_parts(plan["before"]) if "before" in plan else [])]


def card(
    plan: Mapping[str, Any], name: str, records: Mapping[str, Record], gallery: str, shown: int, note: str = ""
) -> str:
    """The model card of the pretraining of `plan`, from its records; gallery: where the page of `shown` pictures is, as
    seen from the card; note: how it was made besides."""

    def share(record: Record) -> str:
        return f"{record.value:.3f} ({record.low:.3f} to {record.high:.3f})"

    gates = [records[f"nano/gate/{g}"] for g in BARS]
    last = f"The last {plan['pictures']:,} pictures" if "before" in plan else "It"
    whole = "before" not in plan  # else the note says what was done behind the command
    other = f"The plan differs from the command's: {', '.join(unlike(plan))}.\n\n" if whole and unlike(plan) else ""
    return CARD.format(
        name=name,
        millions=records["nano/model/parameters"].value / 1e6,
        gallery=gallery,
        shown=shown,
        pictures=sum(p["pictures"] for p in _parts(plan)),
        pages=sum(p["pages"] for p in _parts(plan)),
        scene=plan["scene"],
        took=f"{last} took {records['nano/pretrain/core_seconds'].value:,.0f} seconds of one CPU core.",
        command=command_of(_parts(plan)[-1]),
        note=other + (f"{note}\n\n" if note else ""),
        items=min(g.n for g in gates),
        gates="\n".join(
            f"| {g.replace('_', ' ')} | {share(r)} | {r.chance:.2f} | {'-' if BARS[g] is None else f'{BARS[g]:.2f}'} |"
            for g, r in zip(BARS, gates)
        ),
        parts="\n".join(
            f"| {p} | {share(records[f'nano/scorecard/{p}'])} | {share(records[f'nano/scorecard/{p}_likely'])} |"
            for p in PARTS
        ),
    )


def ship(
    run: Path, name: str = "nano", to: Path = WEIGHTS, note: str = "", *,
    results: Path | None = None, page: Path | None = None, most: int = MOST,
) -> Path:  # fmt: skip
    """Put the checkpoint of `run` with its plan, a card and the licence into the package, and the gallery of its gates'
    first items at `page` (docs/ of the checkout unless given). most: bytes of all that is shipped under `to`.

    Refusal, and nothing changes, where a record (under `results`, by default the checkout's) is missing, below its
    bar, of too few items or of other weights, where the weights are too large, or where the plan is not that of the
    command and no note says why.
    """
    root = provenance.checkout(__file__)
    if root is None:
        raise Refusal("this copy of mindhand is no checkout", "one to ship from", "clone the repository")
    records, plan = read_records(results), read_json(run / "plan.json", "plan")
    if (other := unlike(plan)) and not note:
        raise Refusal(
            f"the plan is not that of `{command_of(plan)}`: {', '.join(other)}",
            "a pretraining that its command makes again",
            "say in a note for the card how it was made",
        )
    short, rows = failing(records, load_checkpoint(run / "checkpoint", None).fingerprint, results)
    if short:
        raise Refusal(f"{len(short)} records do not ship it: {'; '.join(short)}", "every gate passed", MEASURE)
    home, page = to / name, root / GALLERY if page is None else page
    with replacing_folder(home) as fresh:
        shutil.copytree(run / "checkpoint", fresh / "checkpoint")
        shutil.copy(run / "plan.json", fresh / "plan.json")
        shutil.copy(root / "LICENSE", fresh / "LICENSE")
        taken = [row for gate in BARS for row in rows[f"nano/gate/{gate}"]]
        made = gallery(load_vla(fresh / "checkpoint"), fresh / "gallery.html", taken)
        told = made.read_text()
        made.unlink()
        link, many = os.path.relpath(page, home), told.count("<figure>")
        (fresh / "README.md").write_text(card(plan, name, records, Path(link).as_posix(), many, note))
        if (size := shipped_bytes(to) - shipped_bytes(home)) > most:  # with the new folder, without the old one
            raise Refusal(f"{size:,} bytes of weights in the package", f"at most {most:,}", "ship a smaller model")
        write_atomic(page, told)
    return home


def asset(home: Path) -> str:
    """The row of ASSETS.md that names the weights in `home`; one commit adds both."""
    root, plan = provenance.checkout(__file__), read_json(home / "plan.json", "plan")
    if root is None or not home.is_relative_to(root):
        raise BadData(f"{home} is in no checkout", "weights that are shipped", "ship them first")
    size = sum(p.numel() for p in load_vla(home / "checkpoint").backbone.parameters()) / 1e6
    path = home.relative_to(root).as_posix()
    return ASSET.format(path=path, name=home.name, millions=size, command=command_of(_parts(plan)[-1]))


if __name__ == "__main__":
    here = ship(Path(sys.argv[1]), note=" ".join(sys.argv[2:]))
    print(f"{here}\nthe row of ASSETS.md, for the same commit:\n{asset(here)}")
