"""The Spec: every convention that would otherwise be guessed, written down once.

It is written into datasets, checkpoints, the server's handshake and worlds. Two sides that differ refuse each
other and name both; `core/convert.py` builds a converter where one exists. Nothing is inferred from shapes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

from .errors import BadData, SpecMismatch

Kind = Literal["position", "rotation", "gripper", "joint", "other"]
Mode = Literal["absolute", "delta", "relative"]
ROTATION_SIZE = {
    "rot6d": 6,
    "matrix": 9,
    "quat_wxyz": 4,
    "quat_xyzw": 4,
    "axis_angle": 3,
    "euler_xyz": 3,
    "yaw": 1,
}
ANGLES = {"axis_angle", "euler_xyz", "yaw"}  # rotations whose numbers are angles
UNITS = {
    "position": ("m", "cm", "mm"),
    "joint": ("rad", "deg", "m"),
    "rotation": ("1", "rad", "deg"),
    "gripper": ("1", "m", "rad"),
    "other": None,
}


@dataclass(frozen=True)
class Part:
    """One run of dimensions of an action or state vector.

    mode: "absolute"; "delta" (from the previous command); "relative" (to the measured state at chunk start).
    frame: the named frame of positions and rotations ("arm_base"). rotation: a key of ROTATION_SIZE.
    polarity (grippers): what the larger number means, "open" or "closed".
    """

    name: str
    kind: Kind
    names: tuple[str, ...]
    unit: str
    mode: Mode = "absolute"
    frame: str = ""
    rotation: str = ""
    polarity: str = ""

    def __post_init__(self) -> None:
        allowed = UNITS.get(self.kind)
        if self.kind not in UNITS or (allowed and self.unit not in allowed):
            raise BadData(f"part '{self.name}': {self.kind} in '{self.unit}'", f"a unit of {UNITS}", "correct the spec")
        if self.kind == "rotation" and ROTATION_SIZE.get(self.rotation) != len(self.names):
            raise BadData(
                f"part '{self.name}': {len(self.names)} dimensions for rotation '{self.rotation}'",
                f"one of {ROTATION_SIZE}",
                "name the convention and every dimension",
            )
        if self.kind == "rotation" and (self.unit != "1") != (self.rotation in ANGLES):
            raise BadData(
                f"part '{self.name}': rotation '{self.rotation}' in '{self.unit}'",
                f"rad or deg for {sorted(ANGLES)}, '1' for the others",
                "correct the unit",
            )
        if self.kind == "gripper" and self.polarity not in ("open", "closed"):
            raise BadData(f"gripper '{self.name}' has polarity '{self.polarity}'", "'open' or 'closed'", "state it")
        if self.kind in ("position", "rotation") and not self.frame:
            raise BadData(f"part '{self.name}' has no frame", "a named frame such as 'arm_base'", "name it")

    @property
    def size(self) -> int:
        return len(self.names)


@dataclass(frozen=True)
class Camera:
    """A camera role and exactly how its picture reaches the model: rendered (or captured) at source, cropped
    centrally to `crop` of each side, then resized to height x width with the named interpolation."""

    role: str
    height: int
    width: int
    source: tuple[int, int]  # height, width before the resize
    crop: float = 1.0
    interpolation: Literal["none", "area", "bilinear"] = "none"

    def __post_init__(self) -> None:
        if self.interpolation == "none" and (self.crop != 1.0 or self.source != (self.height, self.width)):
            raise BadData(
                f"camera '{self.role}' goes from {self.source} to {(self.height, self.width)} without interpolation",
                "'area' or 'bilinear'",
                "name how it is resized: a silent change of resize costs tens of points of success",
            )


@dataclass(frozen=True)
class Spec:
    """The contract of one embodiment as one policy sees it. `rate` in Hz; `prompt` is the template's version."""

    robot: str
    action: tuple[Part, ...]
    state: tuple[Part, ...]
    cameras: tuple[Camera, ...]
    rate: float
    prompt: str = "plain-1"

    def __post_init__(self) -> None:
        for what, parts in (("action", self.action), ("state", self.state)):
            names = [f"{p.name}.{n}" for p in parts for n in p.names]
            if len(set(names)) != len(names):
                raise BadData(f"{what} names a dimension twice", "unique part.dimension names", "rename one")
        if len({c.role for c in self.cameras}) != len(self.cameras):
            raise BadData("two cameras have one role", "unique roles", "rename one")

    @cached_property
    def action_size(self) -> int:
        """A."""
        return sum(p.size for p in self.action)

    @cached_property
    def state_size(self) -> int:
        """S."""
        return sum(p.size for p in self.state)

    @property
    def roles(self) -> tuple[str, ...]:
        """Camera roles, in the order the model reads them."""
        return tuple(c.role for c in self.cameras)

    def action_names(self) -> list[str]:
        """One name a dimension, "part.dimension"."""
        return [f"{p.name}.{n}" for p in self.action for n in p.names]

    def state_names(self) -> list[str]:
        """One name a dimension, "part.dimension"."""
        return [f"{p.name}.{n}" for p in self.state for n in p.names]

    def camera(self, role: str) -> Camera:
        """The camera of that role, or a refusal that lists the known ones."""
        for c in self.cameras:
            if c.role == role:
                return c
        raise SpecMismatch(
            f"unknown camera role '{role}'",
            f"one of {list(self.roles)}",
            "map your camera to a role of the spec",
        )

    def part(self, name: str, of: Literal["action", "state"] = "action") -> slice:
        """Where a part lies in the vector."""
        begin = 0
        for p in getattr(self, of):
            if p.name == name:
                return slice(begin, begin + p.size)
            begin += p.size
        raise SpecMismatch(f"no {of} part '{name}'", f"one of {[p.name for p in getattr(self, of)]}", "check the spec")

    def to_json(self) -> dict[str, Any]:
        """Plain lists and dictionaries."""
        return json.loads(json.dumps(asdict(self)))

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Spec:
        """The inverse of `to_json`; refuses unknown and missing fields."""
        try:

            def part(d: Mapping[str, Any]) -> Part:
                return Part(**{**d, "names": tuple(d["names"])})

            def camera(d: Mapping[str, Any]) -> Camera:
                return Camera(**{**d, "source": tuple(d["source"])})

            return Spec(
                **{
                    **data,
                    "action": tuple(part(p) for p in data["action"]),
                    "state": tuple(part(p) for p in data["state"]),
                    "cameras": tuple(camera(c) for c in data["cameras"]),
                }
            )
        except (KeyError, TypeError) as error:
            raise BadData(
                f"not a spec: {error}", "the fields of mindhand.core.spec.Spec", "rewrite the file"
            ) from error

    def fingerprint(self) -> str:
        """12 hexadecimal digits that change when any convention does."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()[:12]

    def differences(self, other: Spec, *, what: tuple[str, ...] = ()) -> list[str]:
        """Every field that differs, as "path: ours | theirs"; `what` limits it to the named top-level fields."""

        def walk(path: str, a: Any, b: Any) -> list[str]:
            if isinstance(a, dict) and isinstance(b, dict):
                keys = sorted(set(a) | set(b))
                return [line for k in keys for line in walk(f"{path}.{k}", a.get(k), b.get(k))]
            if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
                return [line for i, (x, y) in enumerate(zip(a, b)) for line in walk(f"{path}[{i}]", x, y)]
            return [] if a == b else [f"{path}: {a!r} | {b!r}"]

        mine, theirs = self.to_json(), other.to_json()
        names = what or tuple(mine)
        return [line for name in names for line in walk(name, mine[name], theirs[name])]

    def require(self, other: Spec, ours: str, theirs: str, *, what: tuple[str, ...] = ()) -> None:
        """Raise SpecMismatch naming both sides (`ours` "checkpoint runs/x", `theirs` "world desk") if they differ."""
        lines = self.differences(other, what=what)
        if lines:
            raise SpecMismatch(
                f"{ours} and {theirs} speak different conventions ({ours} | {theirs}):\n    " + "\n    ".join(lines),
                "equal specs",
                "convert one side with mindhand.core.convert, or retrain with the spec of the other",
            )
