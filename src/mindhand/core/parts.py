"""Parts: how they are named in a checkpoint, and whether they fit together.

A part is an ordinary object in a slot or a stack. It may state `needs` and `provides`, sets of names. A slot's
occupant provides the slot's own name as well. A name "slot/quality" is a quality of a slot's occupant, stated by the
occupant or by a part that gives it that quality; who needs it needs it of an occupant only if there is one (need the
slot's name too, where it must not be empty). `resolve` refuses whatever would otherwise fail late or, worse, run: an
unmet need, a second claimant of one name, a part that comes before what it needs in its own stack.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from importlib.metadata import entry_points
from typing import Any

from .errors import BuildError
from .seams import SLOTS, STACKS

NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True)
class Plan:
    """What a build provides: {name: where it comes from, as "flow (slot expert)"}."""

    provided: Mapping[str, str]

    def has(self, name: str) -> bool:
        """Whether some part provides `name`."""
        return name in self.provided


def _names(part: object, which: str, where: str) -> frozenset[str]:
    names = getattr(part, which, frozenset())
    if isinstance(names, str) or not all(isinstance(n, str) for n in names):
        raise BuildError(
            f"{where}: {which} is {names!r}", "a frozenset of names", f"write {which} = frozenset({{...}})"
        )
    return frozenset(names)


def _label(part: object, where: str) -> str:
    name = getattr(part, "name", None)
    return f"{name if isinstance(name, str) else type(part).__name__} ({where})"


def resolve(slots: Mapping[str, object], stacks: Mapping[str, Sequence[object]]) -> Plan:
    """Check that the parts fit. `slots` {slot: occupant or None}, `stacks` {stack: parts in order}.

    Raises BuildError, naming both sides: an unknown slot or stack; a need that nothing else provides, with the
    occupant if it is one of a slot; two parts that provide one name or claim one slot; two objectives that replace
    one loss; a need met only later in the same stack.
    """
    for given, known, what in ((slots, SLOTS, "slot"), (stacks, STACKS, "stack")):
        if unknown := sorted(set(given) - set(known)):
            raise BuildError(f"unknown {what} '{unknown[0]}'", f"one of {list(known)}", "name a seam that exists")
    seats = [(part, f"slot {slot}", slot, 0) for slot, part in slots.items() if part is not None]
    seats += [(p, f"{stack}[{i}]", stack, i) for stack, parts in stacks.items() for i, p in enumerate(parts)]
    provided: dict[str, tuple[str, str, int]] = {}
    replaced: dict[str, str] = {}
    for part, where, seam, i in seats:
        label = _label(part, where)
        own = {seam} if seam in SLOTS else set()
        for name in sorted(_names(part, "provides", label) | own):
            if name in provided:
                raise BuildError(
                    f"{provided[name][0]} and {label} both provide '{name}'",
                    "one claimant a name, one occupant a slot",
                    "take one of the two out",
                )
            provided[name] = (label, seam, i)
        for name in sorted(_names(part, "replaces", label)) if seam == "objectives" else ():
            if name in replaced:
                raise BuildError(
                    f"{replaced[name]} and {label} both replace the loss '{name}'",
                    "one objective a loss",
                    "take one of the two out",
                )
            replaced[name] = label
    for part, where, seam, i in seats:
        label = _label(part, where)
        for need in sorted(_names(part, "needs", label)):
            giver, slot = provided.get(need), need.partition("/")[0] if "/" in need else None
            if slot in SLOTS and giver is None:
                if slots.get(slot) is None:
                    continue
                has = sorted(name for name in provided if name.startswith(f"{slot}/"))
                raise BuildError(
                    f"{label} needs '{need}', which {provided[slot][0]} lacks",
                    f"the build provides {has}",
                    "exchange one of the two",
                )
            if giver is None or giver[0] == label:
                near = f"the build provides {sorted(provided)}"
                raise BuildError(f"{label} needs '{need}' and no other part provides it", near, "add a part that does")
            if giver[1] == seam and giver[2] > i:
                raise BuildError(
                    f"{label} needs '{need}', which {giver[0]} provides only after it",
                    "what a part needs comes before it in the stack",
                    f"put {giver[0]} before {label}",
                )
    return Plan({name: giver[0] for name, giver in provided.items()})


def replaces_only(parts: Mapping[str, Any], who: str, **kinds: type) -> None:
    """For whoever puts something in the place of another part. parts: by slot; kinds: what may stand there, by slot.
    BuildError, naming both, where a part of another class does, another method's perhaps."""
    for slot, kind in kinds.items():
        if type(parts.get(slot)) is not kind:
            raise BuildError(
                f"{who} in the place of {_label(parts.get(slot), f'slot {slot}')}",
                f"a {kind.__name__}, which is what it replaces",
                "take one of the two out",
            )


def apply_edits(model: Any, edits: Sequence[Any]) -> None:
    """Surgery on a model, in order. What an edit refuses is told with what was done before it, which may be why."""
    for i, edit in enumerate(edits):
        try:
            edit.apply(model)
        except BuildError as error:
            before = ", ".join(_label(e, f"edits[{k}]") for k, e in enumerate(edits[:i])) or "no other edit"
            what = f"{_label(edit, f'edits[{i}]')}, after {before}: {error.what}"
            raise BuildError(what, error.expected, error.do) from error


# ---- names in a checkpoint -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    """A part that a checkpoint can name: its Config class and what builds it from a Config (and what is given)."""

    name: str
    config: type
    build: Callable[..., Any]


class Registry:
    """Parts by name. A checkpoint names parts; it never holds an import path, so loading one runs no code of its
    own choosing. Other packages offer parts as entry points: `group` "mindhand.parts", each an `Entry`."""

    def __init__(self, group: str = "mindhand.parts"):
        self._entries: dict[str, Entry] = {}
        self._group = group

    def add(self, entry: Entry) -> Entry:
        """Register; BuildError for a name that is taken, is no plain name, or whose Config is no dataclass."""
        if not NAME.fullmatch(entry.name) or not is_dataclass(entry.config):
            raise BuildError(
                f"part '{entry.name}' with Config {entry.config.__name__}", "a name in [a-z0-9_], a dataclass", "rename"
            )
        other = self._entries.setdefault(entry.name, entry)
        if other != entry:
            both = f"{other.build.__module__} and {entry.build.__module__}"
            raise BuildError(f"{both} both register '{entry.name}'", "one part a name", "rename one of them")
        return entry

    def names(self) -> list[str]:
        """All that can be named: what is registered here, and what installed packages offer."""
        return sorted({*self._entries, *(point.name for point in entry_points(group=self._group))})

    def get(self, name: str) -> Entry:
        """The entry of that name, from here or from an installed entry point; BuildError if there is none."""
        if name not in self._entries:
            for point in entry_points(group=self._group, name=name):
                self.add(point.load())
        if name not in self._entries:
            raise BuildError(f"unknown part '{name}'", f"one of {sorted(self._entries)}", "install what provides it")
        return self._entries[name]

    def describe(self, name: str, config: Any) -> dict[str, Any]:
        """What a checkpoint stores of a part: {"name", "config"}, plain JSON."""
        entry = self.get(name)
        if type(config) is not entry.config:
            raise BuildError(f"part '{name}' with a {type(config).__name__}", entry.config.__name__, "give its Config")
        return {"name": name, "config": asdict(config)}

    def build(self, stored: Mapping[str, Any], **given: Any) -> Any:
        """The inverse: the part that `stored` describes. `given` is passed on to what builds it."""
        entry = self.get(stored["name"])
        return entry.build(config_from_json(entry.config, stored["config"], stored["name"]), **given)


def config_from_json(cls: type, data: Mapping[str, Any], part: str) -> Any:
    """A frozen Config from plain JSON: lists become tuples, nested Configs are built. BuildError for a field too
    many or too few: a default that nobody chose is a silently different part."""
    known = {f.name for f in fields(cls)}
    if odd := sorted(known ^ set(data)):
        raise BuildError(
            f"part '{part}': fields {odd} are missing or unknown", f"exactly {sorted(known)}", "convert it"
        )
    hints = typing.get_type_hints(cls)

    def value(kind: Any, x: Any) -> Any:
        if isinstance(x, Mapping):  # one dataclass, or the one of a union whose fields these are
            kinds = [k for k in (kind, *typing.get_args(kind)) if is_dataclass(k)]
            fitting = [k for k in kinds if {f.name for f in fields(k)} == set(x)] or kinds
            if fitting:
                inner = typing.cast(type, fitting[0])
                return config_from_json(inner, x, f"{part}.{inner.__name__}")
        if isinstance(x, list | tuple):
            inner = [a for a in typing.get_args(kind) if a is not Ellipsis] or [Any]
            return tuple(value(inner[min(i, len(inner) - 1)], y) for i, y in enumerate(x))
        return x

    return cls(**{name: value(hints[name], x) for name, x in data.items()})
