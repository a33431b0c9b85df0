"""The generated part of docs/chatvla2.md: claim by claim, what was found, each number with its record.

python -m mindhand.recipes.claims_page      writes it between its marks; a stale page fails a test
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from mindhand.core.record import OLDER, Record, older_code, read_records
from mindhand.evaluate.claim_measures import Quantity
from mindhand.evaluate.claims import CLAIMS, Claim

PAGE = Path(__file__).resolve().parents[3] / "docs" / "chatvla2.md"
MARKS = re.compile(r"<!-- claims -->\n.*?<!-- /claims -->", re.DOTALL)
UNREAD = ("desk/unread_choice/maths_matching", "desk/deaf_choice/maths_matching")
VERDICTS = {1.0: "reproduced", 0.0: "undecided", -1.0: "refuted"}
WHERE = {  # measures of claims, and the records that show them
    "ID success": "maths/r/success", "K success": "maths/{k}/success", "K choice": "maths/{k}/choice",
    "K OCR": "maths/{k}/ocr", "K RAC": "maths/{k}/rac", "K CFR": "maths/{k}/cfr",
    "toy K success": "placing/{k}/success", "ms a chunk": "cost/latency_ms",
}  # fmt: skip


def name_of(cell: str) -> str:
    """A cell's name in records."""
    return "chatvla2/" + cell.lower().replace("/", "-")


def shown(quantity: Quantity, records: Mapping[str, Record]) -> list[str]:
    """The records behind a quantity, one a cell, as "B7 82.1 % (...) `name`"; none where it has none yet."""
    out = []
    for cell in (quantity.cell, *([quantity.versus] if quantity.versus else [])):
        for split in ("k-test", "k-dev"):
            name = f"{name_of(cell)}/{WHERE.get(quantity.measure, '-').format(k=split)}"
            if name in records:
                old = OLDER if older_code(records[name]) else ""
                out.append(f"{cell}: {records[name].show()}{old} `{name}`")
                break
    return out


def _line(claim: Claim, records: Mapping[str, Record]) -> str:
    verdict = records.get(f"chatvla2/claims/verdicts/{claim.id.lower()}")
    said = "not measured yet" if verdict is None else VERDICTS[verdict.value]
    numbers = dict.fromkeys(x for q in claim.needs for x in shown(q, records))
    cells = (claim.id, claim.says, claim.reproduced, claim.refuted, f"**{said}**", "<br>".join(numbers) or "-")
    return "| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |"


def unread(records: Mapping[str, Record]) -> str:
    """What choices of class R are worth, by records of who cannot read the board and of who only looks; "" without."""
    some = {name: records[name] for name in UNREAD if name in records}
    if len(some) < len(UNREAD):
        return ""
    tiles, table = (f"{r.show()}{OLDER if older_code(r) else ''} `{name}`" for name, r in some.items())
    return (
        "\nChoices of class R are no evidence of reading: who sees the tiles and not the board takes a right one in "
        f"{tiles}; who sees the board too, and has met every sum of R there is, in {table}.\n"
    )


def table(records: Mapping[str, Record]) -> str:
    """A line a claim, and what choices of class R are worth."""
    head = "| | the paper says | reproduced if | refuted if | here | measured |\n|---|---|---|---|---|---|"
    lines = "\n".join(_line(c, records) for c in CLAIMS)
    return f"<!-- claims -->\n{head}\n{lines}\n{unread(records)}<!-- /claims -->"


def filled(text: str, records: Mapping[str, Record]) -> str:
    """The page with its table as the records give it now."""
    return MARKS.sub(lambda _: table(records), text)


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(), read_records()))
