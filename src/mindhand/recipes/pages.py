"""The catalogue's pages: docs/catalogue.md and docs/methods/<name>.md, with a picture of the proof beside it.

    python -m mindhand.recipes.pages        writes what is stale; `make pages` does, and the README's table too

Everything on them comes from the methods' files, their tests and the records; nothing is written there by hand.
"""

from __future__ import annotations

import ast
import inspect
import io
import re
import sys
import textwrap
import tokenize
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mindhand.core import provenance
from mindhand.core.card import AREAS, LEVELS, TRAININGS, MethodCard, fidelity
from mindhand.core.errors import BadData
from mindhand.core.files import write_atomic
from mindhand.core.record import OLDER, Record, older_code, read_records, read_rows
from mindhand.evaluate.plot import Span, draw_spans
from mindhand.methods import Method, catalogue

from .checks import Check, file_of, numbered

COMMAND = "make pages"
MADE = f"<!-- Made by `{COMMAND}` from methods, tests and records. Change those. -->\n\n"
CATALOGUE, PAGES = "docs/catalogue.md", "docs/methods"
PARTS = re.compile(r"(?:^|(?<=[.)] ))(Seams?|Differs from the heart|The paper|Use): ")  # of a method's docstring
NONE = "–"


@dataclass(frozen=True)
class Evidence:
    """What is known of the methods beside their files: the records; by method, the numbered checks, and what became of
    each when they were run; the names of records that were measured with older code."""

    records: Mapping[str, Record]
    checks: Mapping[str, Sequence[Check]]
    outcomes: Mapping[str, Mapping[str, Mapping[str, Any]]]
    older: frozenset[str]

    def said(self, name: str) -> str:
        """A record's number, marked where the code is older; a dash where there is no record."""
        return self.records[name].show() + self.mark(name) if name in self.records else NONE

    def mark(self, name: str) -> str:
        """What stands behind a number of older code."""
        return OLDER if name in self.older else ""


def evidence(root: Path, methods: Mapping[str, Method]) -> Evidence:
    """All there is in a checkout."""
    home = root / "results"
    records = read_records(home)
    checks = {name: numbered(file_of(root, name)) for name in methods}
    units = {name: records[f"checks/{name}/unit"] for name in methods if f"checks/{name}/unit" in records}
    outcomes = {name: {str(row["key"]): row for row in read_rows(record, home)} for name, record in units.items()}
    ours = {n: r for n, r in records.items() if n.startswith(("checks/", "proofs/"))}
    return Evidence(ours, checks, outcomes, frozenset(n for n, r in ours.items() if older_code(r, root)))


# ---- what a method's file says -----------------------------------------------------------------------


def settings(config: type) -> list[tuple[str, str, str]]:
    """(field, default, comment) of a dataclass, as its source has them: no default is ""."""
    source = textwrap.dedent(inspect.getsource(config))
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    notes = {t.start[0]: t.string.lstrip("# ") for t in tokens if t.type == tokenize.COMMENT}
    (made,) = ast.parse(source).body
    out = []
    for node in made.body if isinstance(made, ast.ClassDef) else ():
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            default = (ast.get_source_segment(source, node.value) or "") if node.value else ""
            if "\n" in default:
                default = ast.unparse(node.value)
            lines = range(node.lineno, (node.end_lineno or node.lineno) + 1)
            out.append((node.target.id, default, " ".join(notes[n] for n in lines if n in notes)))
    return out


def told(method: Method) -> dict[str, str]:
    """A method's docstring in parts: "" the idea, then "Seams", "Differs from the heart", "The paper", "Use"."""
    text = inspect.cleandoc(method.module.__doc__ or "")
    idea, *parts = PARTS.split(" ".join(text.split()))
    return {"": idea.strip(), **{label: body.strip() for label, body in zip(parts[::2], parts[1::2])}}


def asked(method: Method) -> list[tuple[str, str, str]]:
    """(part, needs, provides) of the method's classes that state them, and of its card if that does."""
    classes = [c for c in vars(method.module).values() if inspect.isclass(c)]
    here = [(c.__name__, c) for c in classes if c.__module__ == method.module.__name__]
    found: list[tuple[str, Any]] = [(n, c) for n, c in here if isinstance(getattr(c, "needs", None), frozenset)]
    if method.card.needs or method.card.provides:
        found.insert(0, ("the method", method.card))

    def names(part: Any, which: str) -> str:
        return ", ".join(sorted(getattr(part, which, ())))

    return [(name, names(part, "needs"), names(part, "provides")) for name, part in found]


# ---- Markdown ----------------------------------------------------------------------------------------


def plain(text: str) -> str:
    """Words that mean nothing to Markdown, but for `code`."""
    parts = text.split("`")
    parts[::2] = [re.sub(r"([*<])", r"\\\1", p) for p in parts[::2]]
    return "`".join(parts)


def code(text: str) -> str:
    """As `code`; a dash for nothing."""
    return f"`{text}`" if text else NONE


def table(columns: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table of cells that are Markdown already; an empty one is a dash. A bar ends a cell, even in `code`."""
    body = ([cell.replace("|", "\\|") or NONE for cell in line] for line in lines)
    each = [columns, ["---"] * len(columns), *body]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in each) + "\n"


def paper(card: MethodCard) -> str:
    """A link to it."""
    return f"[{card.arxiv}](https://arxiv.org/abs/{card.arxiv})" if card.arxiv else NONE


def reached(card: MethodCard, known: Evidence) -> str:
    """The levels of fidelity that records show."""
    return ", ".join(level + known.mark(r.name) for level, r in fidelity(card, known.records).items())


# ---- a method's page ---------------------------------------------------------------------------------


def _proof(name: str, known: Evidence) -> list[Record]:
    """The records of a proof: baseline, method, controls, then differences and whatever else."""
    first = {"baseline": 0, "method": 1}
    found = [(k.split("/")[2], r) for k, r in known.records.items() if k.startswith(f"proofs/{name}/")]
    order = sorted(found, key=lambda x: (first.get(x[0], 2 if x[0].startswith("control_") else 3), x[0]))
    return [record for _, record in order]


def _arm(record: Record, card: MethodCard) -> str:
    """How a record of a proof is called: "with FAST", "control: more steps"."""
    word = record.name.split("/")[2]
    names = {"baseline": f"without it (the {card.base} base)", "method": f"with {card.title}"}
    return names.get(word, word.replace("control_", "control: ").replace("_", " "))


def picture(card: MethodCard, known: Evidence) -> str | None:
    """Baseline, method and controls with their intervals as SVG; None without a baseline and a method."""
    found = {r.name.split("/")[2]: r for r in _proof(card.name, known)}
    if not {"baseline", "method"} <= found.keys():
        return None
    base = found["baseline"]
    drawn = [r for n, r in found.items() if n in ("baseline", "method") or n.startswith("control_")]
    drawn = [r for r in drawn if (r.kind, r.unit) == (base.kind, base.unit)]
    rate = base.kind == "rate"
    scale, unit = (100.0, "%") if rate else (1.0, base.unit)
    spans = []
    for r in drawn:
        chance = None if r.chance is None else scale * r.chance
        said = f"{scale * r.value:.1f} %" if rate else f"{r.value:.3g} {unit}"
        spans.append(Span(_arm(r, card), scale * r.value, scale * r.low, scale * r.high, said, chance))
    return draw_spans(f"{card.title}: {card.claim.text}", f"{base.field}, {unit}", spans, 0.0, 100.0 if rate else None)


def verdict(card: MethodCard, record: Record) -> str:
    """Whether a record shows the claim, in a sentence."""
    if card.claim.holds(record):
        return "The claim is shown: its whole interval lies on the claimed side of no effect."
    if record.kind == "difference" and len(record.trainings) < TRAININGS:
        count = max(1, len(record.trainings))
        return f"The claim is not shown: {count} training{'s' * (count > 1)}, and {TRAININGS} is the least."
    return f"The claim is not shown: its interval does not lie wholly on the claimed side ({card.claim.direction})."


def _proven(card: MethodCard, known: Evidence) -> Iterator[str]:
    yield f"Claim: {plain(card.claim.text)}. What decides is the record `proofs/{card.name}/{card.claim.metric}`, "
    yield f"{card.claim.direction} with the method than without it.\n\n"
    found = _proof(card.name, known)
    if not found:
        yield "No proof yet.\n"
        return
    lines = []
    for r in found:
        decides = r.name.endswith(f"/{card.claim.metric}")
        trainings = NONE if r.kind == "ratio" else str(max(1, len(r.trainings)))
        cells = [plain(_arm(r, card)), known.said(r.name)]
        lines.append([*(f"**{c}**" if decides else c for c in cells), plain(r.field), trainings])
    yield table(["", "95 % interval", "of", "trainings"], lines)
    decided = known.records.get(f"proofs/{card.name}/{card.claim.metric}")
    yield f"\n{verdict(card, decided) if decided else 'What decides the claim is not measured yet.'}\n"
    if picture(card, known):
        yield f"\n![{plain(card.title)}: baseline, method and controls with their intervals]({card.name}.svg)\n"
    last = decided or found[-1]
    yield f"\n`{last.command}`, commit {last.commit}, {last.date[:10]}.\n"


def outcome(row: Mapping[str, Any] | None) -> str:
    """What became of a check: of `row` of its record."""
    if row is None:
        return "not run yet"
    return "passed" if row["passed"] else f"skipped: {plain(row['skipped'])}" if row["skipped"] else "**failed**"


def _checked(name: str, known: Evidence) -> Iterator[str]:
    rows, unit = known.outcomes.get(name, {}), f"checks/{name}/unit"
    lines = [[c.number, plain(" ".join(c.tests.values())), outcome(rows.get(c.number))] for c in known.checks[name]]
    yield table(["", "checked", "outcome"], lines)
    if unit in known.records:
        r = known.records[unit]
        passed = sum(bool(row["passed"]) for row in rows.values())
        yield f"\n{passed} of {len(rows)} passed{known.mark(unit)}: commit {r.commit}, {r.date[:10]}.\n"
    if (parity := f"checks/{name}/parity") in known.records:
        yield f"\nNumbers of a reference that it matches: {known.said(parity)}.\n"


def _words(method: Method) -> Iterator[str]:
    card, parts = method.card, told(method)
    idea = plain(parts.pop(""))
    yield (idea.replace(f"({card.arxiv})", f"(arXiv {paper(card)})") if card.arxiv else idea) + "\n"
    use = parts.pop("Use", "")
    for label, body in parts.items():
        yield f"\n**{label}:** {plain(body)}\n"
    if use:
        yield f"\n```\n{use}\n```\n"  # no language: it need not be a line of code, and no formatter may change it


def page(method: Method, known: Evidence) -> str:
    """A method's page."""
    card, name = method.card, method.card.name
    source = f"src/{method.module.__name__.replace('.', '/')}.py"
    tests = file_of(Path(), name).as_posix()
    facts = [
        ["room", f"{card.area}, of [the catalogue](../catalogue.md)"],
        ["paper", paper(card)],
        ["file, tests", f"[{source}](../../{source}), [{tests}](../../{tests})"],
        ["seams", ", ".join(code(s) for s in card.seams)],
        ["put into, and compared with", f"the {card.base} base"],
        ["reached", reached(card, known) or f"none of {', '.join(LEVELS)} yet"],
    ]
    out = [MADE, f"# {plain(card.title)}\n\n", *_words(method), "\n", table(["", ""], facts)]
    out += ["\n## Proof\n\n", *_proven(card, known)]
    out += ["\n## Unit checks\n\nNumbered as in its specification.\n\n", *_checked(name, known)]
    config = method.module.Config
    about = " ".join((config.__doc__ or "").split())
    given = [[code(f), code(start) if start else "required", plain(note)] for f, start, note in settings(config)]
    out += [f"\n## Config\n\n{plain(about)}\n\n", table(["field", "default", "meaning, and the paper's value"], given)]
    if parts := asked(method):
        rows = [[code(part), plain(needs), plain(provides)] for part, needs, provides in parts]
        out += ["\n## Parts\n\n", table(["part", "needs", "provides"], rows)]
    proof = f"mindhand prove {name}"
    run = [f"{proof:<42}# its proof, where there is one", f"{f'{proof} --show':<42}# this page in short"]
    run += ["mindhand bench checks                     # the unit checks of all methods, into results/"]
    return "".join([*out, "\n## Run\n\n```\n", *(f"{line}\n" for line in run), "```\n"])


# ---- the catalogue -----------------------------------------------------------------------------------


def index(methods: Mapping[str, Method], known: Evidence) -> str:
    """docs/catalogue.md: the methods room by room, then seam by seam."""
    every = [fidelity(m.card, known.records) for m in methods.values()]
    counts = ", ".join(f"{sum(level in found for found in every)} {level}" for level in LEVELS)
    out = [MADE, f"# The catalogue\n\n{len(methods)} published methods, a file and a page each. Reached: {counts}.\n\n"]
    out += [
        "*mechanism*: the unit checks of its specification hold. *parity*: it matches the numbers of a reference. ",
        f"*effect*: in {TRAININGS} trainings or more on the common bench, with paired scenes, the whole interval of ",
        "the difference lies on the claimed side. The base is what a method is put into and compared with.\n",
    ]
    columns = ["method", "title", "paper", "base", "claim", "reached", "effect"]
    for area in AREAS:
        cards = [m.card for m in methods.values() if m.card.area == area]
        if cards:
            about = inspect.cleandoc(sys.modules[f"mindhand.methods.{area}"].__doc__ or "").splitlines()
            lines = []
            for c in cards:
                effect = known.said(f"proofs/{c.name}/{c.claim.metric}")
                named = [f"[{c.name}](methods/{c.name}.md)", plain(c.title), paper(c), c.base]
                lines.append([*named, plain(c.claim.text), reached(c, known), effect])
            out += [f"\n## {area}\n\n{plain(' '.join(about))}\n\n", table(columns, lines)]
    seams = sorted({s for m in methods.values() for s in m.card.seams})
    using = [[m.card for m in methods.values() if seam in m.card.seams] for seam in seams]
    links = [", ".join(f"[{c.name}](methods/{c.name}.md)" for c in cards) for cards in using]
    out += ["\n## By seam\n\n", table(["seam", "methods"], [[code(s), x] for s, x in zip(seams, links)])]
    return "".join(out)


def pages(methods: Mapping[str, Method], known: Evidence) -> dict[str, str]:
    """Every page and picture, {path in the checkout: text}."""
    out = {CATALOGUE: index(methods, known)}
    for name, method in methods.items():
        out[f"{PAGES}/{name}.md"] = page(method, known)
        if drawn := picture(method.card, known):
            out[f"{PAGES}/{name}.svg"] = drawn
    return out


def stale(made: Mapping[str, str], root: Path) -> list[str]:
    """Paths of a checkout whose page differs from the one made, is missing, or is of no method."""
    there = {p.relative_to(root).as_posix() for kind in ("md", "svg") for p in (root / PAGES).glob(f"*.{kind}")}

    def now(path: str) -> str | None:
        return (root / path).read_text("utf-8") if (root / path).exists() else None

    return sorted(path for path in there | made.keys() if now(path) != made.get(path))


def main() -> None:
    """Write what is stale, and remove what is of no method."""
    root = provenance.checkout(__file__)
    if root is None:
        raise BadData("no checkout, so no docs/", "mindhand's source", "clone it, and run it there")
    made = pages(catalogue(), evidence(root, catalogue()))
    for path in stale(made, root):
        if path in made:
            write_atomic(root / path, made[path])
        else:
            (root / path).unlink()
        print(path)


if __name__ == "__main__":
    main()
