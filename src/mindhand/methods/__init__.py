"""The catalogue: one file a method, in rooms along the data's way.

A method's file has `Config`, `CARD` (core/card.py), `probe(on, off)`: the one observable effect, and one of

    plug(parts, spec) -> parts     into the parts of a policy
    wrap(policy) -> policy         round a policy that is built, as it runs
    correct(spec) -> filter        behind it, at every control step
    relabel(reader, folder, world) -> Relabelled     before it: a dataset in, a dataset out (data/relabelled.py)

A part that a checkpoint names is its `PART`, offered as an entry point. Of the others none is in a checkpoint.
One that must learn before it wraps has, besides,

    fit(policy, frames) -> fitted     from the frames (data/robot.py) that the policy learned from; fitted.save(folder)
    load(folder) -> fitted            and takes it: wrap(policy, fitted=fitted)

whose file says LEARNS_FROM = "rollouts" where it is the policy's own episodes (train/recorded.py) instead of frames.

One that corrects by what no picture says has

    tell(world) -> world    whose observations, those of filters, say it
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

from mindhand.core.card import AREAS, MethodCard
from mindhand.core.errors import BadData, BuildError
from mindhand.core.seams import SLOTS, Filter, Policy, World
from mindhand.core.spec import Spec
from mindhand.kit.probe import digest

if TYPE_CHECKING:
    from mindhand.data.relabelled import Relabelled

Parts = Mapping[str, Any]  # of a VLA: what its constructor takes, by name
Way = Literal["plug", "wrap", "correct", "relabel"]  # how a method comes to act
Food = Literal["frames", "rollouts"]  # what a fit takes


@dataclass(frozen=True)
class Method:
    """A file of the catalogue."""

    card: MethodCard
    module: ModuleType

    @property
    def way(self) -> Way:
        """Which of them its file has."""
        return next(way for way in Way.__args__ if hasattr(self.module, way))

    @property
    def plug(self) -> Callable[..., dict[str, Any]]:
        """(parts, spec) -> the parts with it. BuildError for one of another way."""
        return self._own("plug", "among the parts of a policy")

    @property
    def wrap(self) -> Callable[..., Policy]:
        """policy -> the policy with it. BuildError for one of another way."""
        return self._own("wrap", "round a policy")

    @property
    def correct(self) -> Callable[..., Filter]:
        """spec -> a filter of that spec's commands. BuildError for one of another way."""
        return self._own("correct", "as a filter")

    def _own(self, way: Way, where: str) -> Any:
        if self.way != way:
            raise BuildError(f"'{self.card.name}' {where}", f"one that {way}s", f"its `{self.way}`")
        return getattr(self.module, way)

    def tell(self, world: World) -> World:
        """The world, telling filters what this one must know."""
        return self.module.tell(world) if hasattr(self.module, "tell") else world

    @property
    def relabel(self) -> Callable[..., Relabelled]:
        """(dataset, folder, world) -> that dataset with more in it. BuildError for one of another way."""
        return self._own("relabel", "of a dataset")

    @property
    def fit(self) -> Callable[..., Any]:
        """(policy, what it `learns_from`) -> what it must learn before it wraps. BuildError for one that learns
        nothing so."""
        return self._learned("fit")

    @property
    def load(self) -> Callable[..., Any]:
        """folder -> what it learned. BuildError as of `fit`."""
        return self._learned("load")

    @property
    def learns(self) -> bool:
        """Whether it must learn something before it wraps."""
        return hasattr(self.module, "fit")

    @property
    def learns_from(self) -> Food:
        """What its fit takes. BuildError as of `fit`."""
        self._learned("fit")
        return getattr(self.module, "LEARNS_FROM", "frames")

    def _learned(self, what: str) -> Callable[..., Any]:
        if not self.learns:
            raise BuildError(f"'{self.card.name}' fitted", "one that learns first", f"--wrap {self.card.name}")
        return getattr(self.module, what)

    @property
    def probe(self) -> Callable[[Any, Any], bool]:
        """(on, off) -> whether its effect is seen in the first and not in the second."""
        return self.module.probe


@cache
def catalogue() -> Mapping[str, Method]:
    """All methods by name, room by room. BadData for a file that is not what its room's are."""
    out: dict[str, Method] = {}
    for area in AREAS:
        if find_spec(f"{__name__}.{area}") is None:  # no method is in it yet
            continue
        room = importlib.import_module(f"{__name__}.{area}")
        for found in pkgutil.iter_modules(room.__path__):
            module = importlib.import_module(f"{room.__name__}.{found.name}")
            card = getattr(module, "CARD", None)
            lacking = [n for n in ("Config", "probe") if not hasattr(module, n)]
            ways = [way for way in Way.__args__ if hasattr(module, way)]
            fits = isinstance(card, MethodCard) and (card.name, card.area) == (found.name, area)
            if not fits or lacking or len(ways) != 1:
                what = f"{module.__name__}: {card and (card.area, card.name)}, without {lacking}, with {ways}"
                expected = f"CARD ('{area}', '{found.name}'), Config, probe and one of {Way.__args__}"
                raise BadData(what, expected, "see methods/__init__")
            out[card.name] = Method(card, module)
    return out


def of_way(way: Way) -> Mapping[str, Method]:
    """Those of the catalogue that come to act in this way."""
    return {name: m for name, m in catalogue().items() if m.way == way}


def compose(parts: Parts, spec: Spec, names: Sequence[str]) -> dict[str, Any]:
    """The parts with several methods, plugged one after the other. BuildError, naming both, for one that does not go
    where another is, and for two that put something into one slot: which of them it were would depend on their order.
    Stacks hold both, in this order."""
    out, by = dict(parts), {}
    for i, name in enumerate(names):
        try:
            more = method(name).plug(out, spec)
        except BuildError as error:
            before = ", ".join(f"'{n}'" for n in names[:i]) or "no other method"
            raise BuildError(f"'{name}', after {before}: {error.what}", error.expected, error.do) from error
        for slot in (s for s in SLOTS if more.get(s) is not out.get(s)):
            if slot in by:
                raise BuildError(
                    f"'{by[slot]}' and '{name}' both put something into the slot '{slot}'",
                    "one occupant a slot",
                    "take one of the two methods out",
                )
            by[slot] = name
        out = more
    return out


def wrapped(policy: Policy, names: Sequence[str]) -> Policy:
    """The policy with several methods round it, the first innermost; "name=FOLDER" is one with what it learned, as it
    was saved there. BuildError, naming both, for a need of one's card that what it is put round does not provide
    (`Policy.provides`), and for what learned of another policy than the one inside."""
    inside = type(policy).__name__
    for name, _, folder in (said.partition("=") for said in names):
        found = method(name)
        if lacking := found.card.needs - policy.provides:
            what = f"'{name}' round {inside}, which does not provide {sorted(lacking)}"
            has = ", ".join(f"'{n}'" for n in sorted(policy.provides)) or "nothing"
            raise BuildError(what, f"what it needs; there is {has}", "take one of them out, or change their order")
        how = {"fitted": found.load(folder)} if folder else {}
        try:
            policy, inside = found.wrap(policy, **how), f"'{name}'"
        except BuildError as error:
            raise BuildError(f"'{name}' round {inside}: {error.what}", error.expected, error.do) from error
    return policy


def shielded(spec: Spec, names: Sequence[str]) -> list[Filter]:
    """Filters of several methods for a robot, in the order that its commands pass them."""
    return [method(name).correct(spec) for name in names]


def told(world: World, names: Sequence[str]) -> World:
    """A world that tells several methods' filters what they must know."""
    for name in names:
        world = method(name).tell(world)
    return world


def label(names: Sequence[str]) -> str:
    """What such a policy's rows are told by: of what a method learned, not where it lies but what it is."""
    told = ((name, folder) for name, _, folder in (said.partition("=") for said in names))
    return "+".join(f"{name}={digest(folder)}" if folder else name for name, folder in told)


def method(name: str) -> Method:
    """One of them; refuses an unknown name and lists the known ones."""
    if name not in catalogue():
        raise BadData(f"no method '{name}'", f"one of {sorted(catalogue())}", "mindhand prove --list")
    return catalogue()[name]
