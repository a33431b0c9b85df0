"""Converters between the conventions of two specs: explicit, exact, and refused where they would have to guess.

Converted part by part, matched by name: the order of parts and of dimensions, metres and millimetres, radians
and degrees, rotation conventions, the polarity of grippers in unit "1" (0..1), absolute, delta and relative.

Relative positions subtract the measured position in the base frame; relative rotations are R_state^T R.
Deltas are from one command to the next, rotations R_before^T R; the first is from the state, which should
hold the last command if that is known, and is else the measured state.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NoReturn

import numpy as np

from .errors import BadData, SpecMismatch
from .rotation import from_matrix, to_matrix
from .spec import Part, Spec

Convert = Callable[[np.ndarray, np.ndarray | None], np.ndarray]
Side = Spec | Sequence[Part]
_LENGTH = {"m": 1000.0, "cm": 10.0, "mm": 1.0}  # mm
SCALE = {
    **{(a, b): x / y for a, x in _LENGTH.items() for b, y in _LENGTH.items() if a != b},
    ("rad", "deg"): 180 / np.pi,
    ("deg", "rad"): np.pi / 180,
}
FLAT = ("matrix", "rot6d", "quat_wxyz", "quat_xyzw")  # conventions without an angle's unit


def _refuse(have: Part, want: Part, why: str) -> NoReturn:
    raise SpecMismatch(
        f"'{have.name}' cannot be converted: {why}\n    have: {have}\n    want: {want}",
        "two conventions of the same thing",
        "record or train with the convention that is wanted",
    )


@dataclass(frozen=True)
class _Linear:
    """x[..., order] * scale + shift: how a part without rotation goes from one absolute convention to another."""

    order: tuple[int, ...]
    scale: float
    shift: float

    @staticmethod
    def between(have: Part, want: Part) -> _Linear:
        if have.kind != want.kind or sorted(have.names) != sorted(want.names):
            _refuse(have, want, "they are not the same quantity")
        if have.frame != want.frame:
            _refuse(have, want, f"frame '{have.frame}' is not '{want.frame}', and no transform between them is known")
        scale, shift = SCALE.get((have.unit, want.unit), 1.0 if have.unit == want.unit else None), 0.0
        if scale is None:
            _refuse(have, want, f"'{have.unit}' is no measure of '{want.unit}'")
        if have.polarity != want.polarity:
            if have.mode == "absolute" and have.unit != "1":
                _refuse(have, want, f"an opening in '{have.unit}' has no known other end")
            scale, shift = -scale, 1.0
        return _Linear(tuple(have.names.index(n) for n in want.names), scale, shift)

    def __call__(self, x: np.ndarray, absolute: bool) -> np.ndarray:
        x = x[..., self.order]
        if (self.scale, self.shift) == (1.0, 0.0):
            return x
        return x * self.scale + (self.shift if absolute else 0.0)


def _before(x: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Along the horizon (axis 1), what came before each: start (B,...), x_0, x_1, ..."""
    return np.concatenate([start[:, None], x[:, :-1]], 1)


def _turn(m: np.ndarray) -> np.ndarray:
    return np.swapaxes(m, -1, -2)


def _running(m: np.ndarray, start: np.ndarray) -> np.ndarray:
    """start M_0, start M_0 M_1, ... along axis 1."""
    out = np.empty_like(m)
    for h in range(m.shape[1]):
        start = out[:, h] = start @ m[:, h]
    return out


def _remode_vector(x: np.ndarray, base: np.ndarray, have: str, want: str) -> np.ndarray:
    if have == "relative":
        x = base[:, None] + x
    elif have == "delta":
        x = base[:, None] + np.cumsum(x, 1)
    if want == "relative":
        return x - base[:, None]
    return x - _before(x, base) if want == "delta" else x


def _remode_rotation(m: np.ndarray, base: np.ndarray, have: str, want: str) -> np.ndarray:
    if have == "relative":
        m = base[:, None] @ m
    elif have == "delta":
        m = _running(m, base)
    if want == "relative":
        return _turn(base[:, None]) @ m
    return _turn(_before(m, base)) @ m if want == "delta" else m


def _one(have: Part, want: Part, state: Part | None) -> Convert:
    """How one part is converted: (B,H,n) and the state's part (B,s) to (B,H,n')."""
    moded = have.mode != want.mode
    if have.kind != "rotation":
        linear = _Linear.between(have, want)
        base = _Linear.between(state, want) if moded and state else None

        def vector(x: np.ndarray, s: np.ndarray | None) -> np.ndarray:
            x = linear(x, have.mode == "absolute")
            return x if base is None or s is None else _remode_vector(x, base(s, True), have.mode, want.mode)

        return vector

    sides = (have, want, state) if moded and state else (have, want)
    if odd := [part for part in sides if part.kind != "rotation"]:
        _refuse(have, want, f"{odd[0]} is no rotation")
    for part in sides:
        if part.frame != want.frame:
            _refuse(part, want, f"frame '{part.frame}' is not '{want.frame}', and no transform between them is known")
    if not moded and (have.rotation, have.unit) == (want.rotation, want.unit):
        return lambda x, s: x
    for part in sides:
        if (part.unit == "1") != (part.rotation in FLAT):
            _refuse(part, want, f"unit '{part.unit}' for a {part.rotation}")

    def rotation(x: np.ndarray, s: np.ndarray | None) -> np.ndarray:
        m = to_matrix(x, have.rotation, have.unit)
        if moded and state and s is not None:
            m = _remode_rotation(m, to_matrix(s, state.rotation, state.unit), have.mode, want.mode)
        return from_matrix(m, want.rotation, want.unit)

    return rotation


def _places(parts: Sequence[Part]) -> dict[str, slice]:
    out, begin = {}, 0
    for part in parts:
        out[part.name] = slice(begin, begin + part.size)
        begin += part.size
    return out


def converter(
    have: Side,
    want: Side,
    of: Literal["action", "state"] = "action",
    *,
    state: Sequence[Part] | None = None,
) -> Convert:
    """A function (x, state) -> x' that takes vectors of `have`'s convention to `want`'s.

    x is (B,H,A), or (...,S) with of="state"; the state (B,S) is laid out as have.state, or as `state` says, and
    is needed only where a part changes between absolute, delta and relative (else give None). The result has
    x's dtype. Convert before padding: zeros are no rotation in most conventions, and are refused.
    converter(b, a) undoes converter(a, b), up to canonical signs of rotations and rounding.
    Raises SpecMismatch, naming both sides, for what cannot be converted; the function raises BadData for arrays
    of another shape and where the state is needed and absent.
    """
    a, b = (tuple(getattr(side, of)) if isinstance(side, Spec) else tuple(side) for side in (have, want))
    layout = tuple(state if state is not None else have.state if isinstance(have, Spec) else ())
    if {p.name for p in a} != {p.name for p in b}:
        raise SpecMismatch(
            f"{of} parts differ: have {sorted(p.name for p in a)}, want {sorted(p.name for p in b)}",
            "the same parts on both sides",
            "a part cannot be invented or dropped in silence: cut or add it where the data is made",
        )
    at, places, known = _places(a), _places(layout), {p.name: p for p in layout}
    wanted = {p.name: p for p in b}
    steps: list[tuple[slice, slice | None, Convert]] = []
    for part in sorted(a, key=lambda p: [q.name for q in b].index(p.name)):
        target, moded = wanted[part.name], part.mode != wanted[part.name].mode
        if moded and part.name not in known:
            _refuse(part, target, f"{part.mode} to {target.mode} needs a state part of that name; there is {[*known]}")
        if moded and known[part.name].mode != "absolute":
            _refuse(known[part.name], target, "the state itself is not absolute")
        steps.append((at[part.name], places[part.name] if moded else None, _one(part, target, known.get(part.name))))
    size, state_size = sum(p.size for p in a), sum(p.size for p in layout)
    needs_state = any(s is not None for _, s, _ in steps)

    def convert(x: np.ndarray, state: np.ndarray | None = None) -> np.ndarray:
        x = np.asarray(x)
        if x.shape[-1] != size or (needs_state and x.ndim != 3):
            raise BadData(f"{of} array {x.shape}", f"(B,H,{size})", "give what the spec describes")
        if needs_state and (state is None or state.shape != (len(x), state_size)):
            shape = None if state is None else state.shape
            raise BadData(f"state {shape}", f"({len(x)},{state_size}), measured at chunk start", "give the state")
        y = x.astype(np.float64)
        s = None if state is None else np.asarray(state, np.float64)
        out = [step(y[..., i], None if j is None or s is None else s[..., j]) for i, j, step in steps]
        return np.concatenate(out, -1).astype(x.dtype if x.dtype.kind == "f" else np.float64)

    return convert
