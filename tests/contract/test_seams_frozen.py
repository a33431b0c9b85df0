"""The seams are frozen: a changed signature fails here until it is written down, with a reason, in two places.

`python -m tests.contract.test_seams_frozen` writes seams.txt anew and prints the line that docs/decisions.md needs.
"""

from __future__ import annotations

import ast
import difflib
import hashlib
import inspect
import os
import re
import sys
import typing
from collections.abc import Iterable, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import pytest

from mindhand.core import seams

HERE = Path(__file__).resolve().parent
FROZEN, DECISIONS = HERE / "seams.txt", HERE.parents[1] / "docs" / "decisions.md"
COMMAND = "python -m tests.contract.test_seams_frozen"


def _own(cls: type) -> dict[str, Any]:
    """Methods that a protocol declares itself."""
    return {n: f for n, f in vars(cls).items() if inspect.isfunction(f) and (n == "__call__" or n[0] != "_")}


def _hints(of: Any) -> dict[str, Any]:
    owner = inspect.getmodule(of)
    return typing.get_type_hints(of, vars(owner) if owner else None)


def _parts(hint: Any) -> Iterable[Any]:
    """A type and whatever it is made of: of dict[str, list[Entry]], Entry among others."""
    yield hint
    for inner in typing.get_args(hint):
        for each in inner if isinstance(inner, list) else [inner]:
            yield from _parts(each)


def crossing(protocols: Sequence[type]) -> list[type]:
    """The dataclasses of this project that the protocols take or give, and those in their fields, by name."""
    found: dict[str, type] = {}
    todo: list[Any] = []
    for p in protocols:
        for declared in (p, *_own(p).values()):
            todo += _hints(declared).values()
    while todo:
        for t in _parts(todo.pop()):
            ours = isinstance(t, type) and is_dataclass(t) and t.__module__.startswith("mindhand")
            if ours and t.__name__ not in found:
                found[t.__name__] = t
                todo += _hints(t).values()
    return [found[n] for n in sorted(found)]


def _default(value: Any) -> str:
    return "" if value in (inspect.Parameter.empty, MISSING) else f" = {value!r}"


def _method(name: str, function: Any) -> str:
    """name(self, x: T, *, y: U = 1) -> V, as written."""
    signature = inspect.signature(function)
    out, starred = [], False
    for p in signature.parameters.values():
        if p.kind is p.KEYWORD_ONLY and not starred:
            out.append("*")
        starred |= p.kind in (p.KEYWORD_ONLY, p.VAR_POSITIONAL)
        mark = {p.VAR_POSITIONAL: "*", p.VAR_KEYWORD: "**"}.get(p.kind, "")
        kind = "" if p.annotation is p.empty else f": {p.annotation}"
        out.append(f"{mark}{p.name}{kind}{_default(p.default)}")
    return f"{name}({', '.join(out)}) -> {signature.return_annotation}"


def _aliases(classes: Sequence[type], text: str) -> list[str]:
    """Names that annotations use and modules define: Rule = Sequence[...]. As written, so that no version of Python
    prints them otherwise."""
    words, out = set(re.findall(r"\w+", text)), set()
    for module in {c.__module__ for c in classes}:
        for node in ast.parse(inspect.getsource(sys.modules[module])).body:
            target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
            if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(target, ast.Name) and target.id in words:
                out.add(f"{module.removeprefix('mindhand.')}.{ast.unparse(node)}")
    return sorted(out)


def render(protocols: Sequence[type], extra: Sequence[str] = ()) -> str:
    """Every protocol with its attributes and methods, every dataclass that crosses it with its fields, and the
    names their annotations use: one line each, in an order that no edit of comments or docstrings changes."""
    lines: list[str] = []
    for p in protocols:
        lines += [f"protocol {p.__name__}", *(f"    {n}: {t}" for n, t in inspect.get_annotations(p).items())]
        lines += [f"    {_method(n, f)}" for n, f in _own(p).items()]
    classes = crossing(protocols)
    for c in classes:
        lines.append(f"dataclass {c.__module__.removeprefix('mindhand.')}.{c.__name__}")
        for f in fields(c):
            made = "" if f.default_factory is MISSING else f" = {getattr(f.default_factory, '__name__', '?')}()"
            lines.append(f"    {f.name}: {f.type}{_default(f.default)}{made}")
    lines += _aliases([*protocols, *classes], "\n".join(lines))
    return "\n".join([*lines, *extra]) + "\n"


def now() -> str:
    """The seams as they are."""
    return render(seams.SEAMS, [f"slots: {', '.join(seams.SLOTS)}", f"stacks: {', '.join(seams.STACKS)}"])


def fingerprint(text: str) -> str:
    """12 hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def recorded(text: str, decisions: str) -> bool:
    """Whether a line that begins with "Seams" names the fingerprint of `text`."""
    return any(line.startswith("Seams") and fingerprint(text) in line for line in decisions.splitlines())


def main() -> None:
    """Write the seams down."""
    new = FROZEN.with_suffix(".new")
    new.write_text(now())
    os.replace(new, FROZEN)
    print(f"{FROZEN}: {fingerprint(now())}")
    if not recorded(now(), DECISIONS.read_text()):
        print(f"add to {DECISIONS}, with the reason:\nSeams {fingerprint(now())}: ...")


def test_no_seam_changes_in_silence():
    was = FROZEN.read_text()
    diff = "\n".join(difflib.unified_diff(was.splitlines(), now().splitlines(), "frozen", "now", "", "", 2, ""))
    assert not diff, f"the seams changed:\n{diff}\nIf that is meant: {COMMAND}"


def test_the_frozen_seams_are_a_decision():
    text = FROZEN.read_text()
    assert recorded(text, DECISIONS.read_text()), (
        f"docs/decisions.md has no line that begins with 'Seams' and names {fingerprint(text)}: say why they changed"
    )


# ---- what it would notice ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Inner:
    """Reached through a field."""

    x: int


Inner.__module__ = "mindhand.core.seams"


class Seam(Protocol):
    """What the variants differ from."""

    feeds: Literal["trunk"]

    def draw(self, count: int, *, keys: Sequence[int] = ()) -> Inner: ...


def _variant(**changes: Any) -> type:
    body = {"__annotations__": dict(Seam.__annotations__), "__module__": __name__, "draw": Seam.draw, **changes}
    return type("Seam", (), body)


def draw(self, count: int, *, keys: Sequence[int] = ()) -> Inner: ...
def renamed(self, number: int, *, keys: Sequence[int] = ()) -> Inner: ...
def retyped(self, count: float, *, keys: Sequence[int] = ()) -> Inner: ...
def positional(self, count: int, keys: Sequence[int] = ()) -> Inner: ...
def required(self, count: int, *, keys: Sequence[int]) -> Inner: ...
def defaulted(self, count: int, *, keys: Sequence[int] = (0,)) -> Inner: ...
def widened(self, count: int, *, keys: Sequence[int] = (), **more: Any) -> Inner: ...
def returning(self, count: int, *, keys: Sequence[int] = ()) -> None: ...


def test_an_equal_seam_is_equal():
    assert render([_variant(draw=draw)]) == render([Seam])


@pytest.mark.parametrize("other", [renamed, retyped, positional, required, defaulted, widened, returning])
def test_a_changed_method_is_noticed(other):
    assert render([_variant(draw=other)]) != render([Seam])


def test_attributes_methods_and_fields_are_noticed():
    assert render([_variant(__annotations__={"feeds": "Literal['expert']"})]) != render([Seam])
    assert render([_variant(more=draw)]) != render([Seam])
    assert render([_variant(_private=draw)]) == render([Seam])
    assert "dataclass core.seams.Inner\n    x: int\n" in render([Seam])


def test_what_crosses_is_found_at_any_depth():
    names = {c.__name__ for c in crossing(seams.SEAMS)}
    assert {"Segment", "Entry", "Context", "Draw", "Text", "Target", "Camera", "Key", "Keys"} <= names
    assert "Rule = Sequence[" in now() and "Mode = Literal[" in now()


def test_a_decision_names_the_text_it_is_about():
    assert recorded("a\n", f"# Decisions\nSeams {fingerprint('a' + chr(10))}: first")
    assert not recorded("b\n", f"# Decisions\nSeams {fingerprint('a' + chr(10))}: first")
    assert not recorded("a\n", f"# Decisions\nThe seams {fingerprint('a' + chr(10))}")


if __name__ == "__main__":
    main()
