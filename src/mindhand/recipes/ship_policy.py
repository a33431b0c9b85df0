"""Ship a policy with the package: its checkpoint in bfloat16, its plan, the licence and a card of what was measured.

python -m mindhand.recipes.ship_policy runs/policy     after `mindhand train nano-desk`, in runs/policy
mindhand prove chatvla2 --queue                        measures what is shipped, among other cells of the grid
mindhand bench chatvla2                                writes the records
python -m mindhand.recipes.ship_policy                 writes the card anew, from the records

Everything is made beside its place and moved there at the end: a refusal leaves what is shipped as it was.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from mindhand.core import provenance
from mindhand.core.checkpoint import load_checkpoint
from mindhand.core.errors import Refusal
from mindhand.core.files import write_atomic
from mindhand.core.folder import replacing_folder
from mindhand.core.nouns import smoke_observation
from mindhand.core.record import Record, read_records, read_rows
from mindhand.data.files import read_json
from mindhand.model.shipped import MOST, POLICY, WEIGHTS, shipped, shipped_bytes
from mindhand.model.store import load_vla, save_vla

from .bases import of_this_world
from .places import read_thought

MEASURE = "mindhand prove chatvla2 --queue && mindhand bench chatvla2"
ROW = "chatvla2/shipped"  # where its records are
FAMILIES = {"maths": "sums", "placing": "toys"}
CLASSES = {
    "r": "R, as in its demonstrations", "k-dev": "K-dev, only its VLM has met them",
    "k-test": "K-test, the same and never tuned on", "x": "X, nobody has met them",
}  # fmt: skip
CARD = """# {name}

The policy of `mindhand demo`: nano, the VLM beside it, as a robot policy. It reads a sum on a whiteboard, works it out
in words and puts the tiles of the answer into the tray; or puts a toy where a sentence says. Of {millions:.2f} million
parameters {hand:.2f} are the hand and its eyes. It knows one simulated desk and one simulated arm, and nothing of a
real robot.

    mindhand demo
    mindhand demo --equation 12+7

## What it was trained on

{episodes} demonstrations of a scripted expert, sums and toys of class R in turn, and the image-text of the same
classes beside them, 1 : 3. First all of nano learns gently to think as the demonstrations do, and no loss of the hand
reaches it (`{variant}` of the grid of `mindhand prove chatvla2`); then it is frozen and the hand learns alone. It is
ChatVLA-2's recipe without its experts, which would not fit into a package. Sums, toys and relations of class K are in
no demonstration: only nano has met them. Of class X nothing has met any.

    mindhand data record desk --episodes {episodes} --run runs/desk
    mindhand train nano-desk --data runs/desk --run runs/policy --seed {seed}

## What it does

Shares of episodes with 95 % intervals, of one training; *right first*: the first thing it takes is the right one.

| | done | right first | by chance |
|---|---|---|---|
{rows}

{others}

Weights in bfloat16. Licence: Apache-2.0 (`LICENSE` beside this card), as the project's.
"""


def _share(record: Record | None) -> str:
    return "not measured" if record is None else f"{record.value:.3f} ({record.low:.3f} to {record.high:.3f})"


def card(home: Path, name: str, records: Mapping[str, Record]) -> str:
    """The card of the policy of this name in `home`, from its plan, its weights and the records that are of them."""
    plan, vla = read_json(home / "plan.json", "plan"), load_vla(home / "checkpoint")
    hand = [*vla.expert.parameters(), *(p for s in vla.streams for p in s.parameters())]
    rows = []
    for family, what in FAMILIES.items():
        for split, told in CLASSES.items():
            done, first = (records.get(f"{ROW}/{family}/{split}/{m}") for m in ("success", "choice"))
            if done is not None:
                chance = "-" if first is None or first.chance is None else f"{first.chance:.2f}"
                rows.append(f"| {what}, {told} | {_share(done)} | {_share(first)} | {chance} |")
    scans = records.get(f"{ROW}/scanned_digits_success")
    rows += [f"| sums of K-dev in scanned digits that no training shows | {_share(scans)} | - | - |"] * (
        scans is not None
    )
    kept = {n.rpartition("/")[2]: r for n, r in records.items() if n.startswith(f"{ROW}/retention/")}
    told = ", ".join(f"{part} {r.value:.2f}" for part, r in kept.items())
    return CARD.format(
        name=name,
        variant=plan["variant"]["name"],
        millions=sum(p.numel() for p in {id(p): p for p in vla.parameters()}.values()) / 1e6,
        hand=sum(p.numel() for p in hand) / 1e6,
        episodes=plan["plan"]["episodes"],
        seed=plan["plan"]["seed"],
        rows="\n".join(rows) or "| not measured yet | - | - | - |",
        others=f"Of what nano knew it keeps, by part of the scorecard: {told}." if kept else "",
    )


def ship(run: Path, name: str = POLICY, to: Path = WEIGHTS, *, most: int = MOST) -> Path:
    """Put the policy of the training in `run` into the package. Refusal, and nothing changes, for one that began with
    another VLM than nano as it is shipped, or where the weights together are more than `most` bytes."""
    root = provenance.checkout(__file__)
    if root is None:
        raise Refusal("this copy of mindhand is no checkout", "one to ship from", "clone the repository")
    of_this_world(run / "checkpoint")
    vla, home = load_vla(run / "checkpoint", parse=read_thought), to / name
    with replacing_folder(home) as fresh:
        save_vla(vla, fresh / "checkpoint", smoke=smoke_observation(vla.spec), half=True)
        write_atomic(fresh / "plan.json", (run / "plan.json").read_text())
        shutil.copy(root / "LICENSE", fresh / "LICENSE")
        (fresh / "README.md").write_text(card(fresh, name, {}))
        if (size := shipped_bytes(to) - shipped_bytes(home)) > most:  # with the new folder, without the old one
            raise Refusal(f"{size:,} bytes of weights in the package", f"at most {most:,}", "ship a smaller model")
    return home


def measured(policy: str, results: Path | None = None) -> dict[str, Record]:
    """The records of what is shipped. Refusal where one is of other weights than those of fingerprint `policy`."""
    found = {n: r for n, r in read_records(results).items() if n.startswith(f"{ROW}/")}
    of = {n: {row["training"] for row in read_rows(r, results) if "training" in row} for n, r in found.items()}
    if odd := sorted(n for n, policies in of.items() if policies - {policy}):
        raise Refusal(f"{len(odd)} records of other weights, {odd[0]} one of them", f"of {policy}", MEASURE)
    return found


def main(run: Path | None) -> None:
    """Ship the training in `run`, or write the card of what is shipped from its records."""
    if run is not None:
        print(ship(run))
        return
    checkpoint = shipped(POLICY)
    home, records = checkpoint.parent, measured(load_checkpoint(checkpoint, None).fingerprint)
    write_atomic(home / "README.md", card(home, home.name, records))
    print(home / "README.md")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else None)
