"""What toys look like: their meshes and patterns in a model, and one toy as what a `Brush` draws besides the bodies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import mujoco
import numpy as np

from mindhand.worlds.things import COLOURS, MATERIALS, THINGS, Thing, Toy

from .canvas import Loose
from .toys import BODY, SHADE, meshes

_PATTERNS = tuple(f"{c} {m}" for c in COLOURS for m in MATERIALS[1:])
_DARKER = 0.6  # of the toy's colour, where it is painted SHADE
_PATTERN = 64  # pixels a side of a pattern: one period
_WHITE, _BLACK, _PALE = (246, 246, 242), (62, 56, 60), 450  # the second colour of a pattern; black from this sum on


def pattern(colour: str, material: str) -> np.ndarray:
    """One period of a material other than plain, uint8 (h,w,3): the colour, and white or black where that shows."""
    first = COLOURS[colour]
    x, y = np.meshgrid(*[(np.arange(_PATTERN) + 0.5) / _PATTERN] * 2)
    marked = x < 0.4 if material == MATERIALS[1] else np.hypot(x - 0.5, y - 0.5) < 0.3
    return np.where(marked[..., None], _BLACK if sum(first) > _PALE else _WHITE, first).astype(np.uint8)


def _paint(spec: mujoco.MjSpec, name: str, picture: np.ndarray) -> None:
    spec.add_texture(
        name=name, type=mujoco.mjtTexture.mjTEXTURE_2D, width=_PATTERN, height=_PATTERN, nchannel=3,
        data=picture.ravel().tolist(),
    )  # fmt: skip
    spec.add_material(name=name).textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = name


def add_costumes(spec: mujoco.MjSpec, things: Sequence[Thing] = THINGS) -> None:
    """Give a model the patterns, and the meshes of these things. They are on no body."""
    for name in _PATTERNS:
        _paint(spec, name, pattern(*name.split()))
    for thing in things:
        for k, mesh in enumerate(meshes(thing.name)):
            # Every corner is a vertex of its own: the compiler keeps only one normal a vertex.
            count = np.arange(mesh.corners.size // 3)
            spec.add_mesh(
                name=f"{thing.name} {k}", inertia=mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL,
                uservert=mesh.corners.ravel(), userface=count, usernormal=mesh.normals.ravel(), userfacenormal=count,
                usertexcoord=mesh.texture.ravel(), userfacetexcoord=count,
            )  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Kit:
    """A toy's meshes: indices, positions (k,3) and rotations (k,3,3) of their frames, which compiling chose, and how
    they are painted."""

    ids: tuple[int, ...]
    positions: np.ndarray
    rotations: np.ndarray
    paints: tuple[str | tuple[int, int, int], ...]


@cache
def _rgba(colour: tuple[int, int, int], part: float = 1.0) -> np.ndarray:
    return np.array([*(part * c / 255 for c in colour), 1], np.float32)


class Wardrobe:
    """What a model that `add_costumes` was called for draws toys with."""

    def __init__(self, model: mujoco.MjModel, things: Sequence[Thing] = THINGS):
        self._kits = {t.name: self._kit(model, t.name) for t in things}
        self._materials = {n: model.material(n).id for n in _PATTERNS}

    @staticmethod
    def _kit(model: mujoco.MjModel, name: str) -> _Kit:
        made = meshes(name)
        ids = [model.mesh(f"{name} {k}").id for k in range(len(made))]
        rotations = np.empty((len(ids), 9))
        for out, i in zip(rotations, ids):
            mujoco.mju_quat2Mat(out, model.mesh_quat[i])
        return _Kit(tuple(ids), model.mesh_pos[ids], rotations.reshape(-1, 3, 3), tuple(m.paint for m in made))

    def loose(self, toy: Toy, at: np.ndarray, turn: np.ndarray) -> list[Loose]:
        """The meshes of a toy at (3,) m, turned by (3,3)."""
        kit = self._kits[toy.thing]
        positions, rotations = kit.positions @ turn.T + at, (turn @ kit.rotations).reshape(-1, 9)
        own, out = COLOURS[toy.colour], []
        for mesh, position, rotation, paint in zip(kit.ids, positions, rotations, kit.paints):
            material = -1
            if paint == BODY:
                colour = _rgba(own)
                if toy.material != MATERIALS[0]:
                    colour, material = _rgba((255, 255, 255)), self._materials[f"{toy.colour} {toy.material}"]
            else:
                colour = _rgba(own, _DARKER) if paint == SHADE else _rgba(paint)
            out.append(Loose(mesh, position, rotation, colour, material))
        return out
