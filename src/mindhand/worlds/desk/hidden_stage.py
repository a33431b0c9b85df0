"""The desk with pads and a cube that nothing touches: they only lie there, or are put elsewhere by the stage itself.

What changes in the course of an episode is where something lies, so that it is part of the simulator's state: a pad
turns white because a white cap comes to lie on it.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cache

import mujoco
import numpy as np

from mindhand.worlds.hidden import MOST, HiddenScene
from mindhand.worlds.things import COLOURS

from .body import VIPERX, Body
from .build import PARK, add_arms, bare_spec
from .canvas import UNSEEN
from .spec import SECONDS
from .stage import Stage

PAD, RIM, CUBE = 0.025, 0.031, 0.016  # m: half the side of a pad, of its rim, of the cube
_FLAT, _ABOVE = 0.001, 0.0012  # half the height of what lies flat; how much higher a cap's top is than a pad's
_WHITE, _RED = (*(c / 255 for c in COLOURS["white"]), 1), (*(c / 255 for c in COLOURS["red"]), 1)
NAMES = (*(f"pad{k}" for k in range(MOST)), *(f"cap{k}" for k in range(MOST)), "cube0")


def _lay(spec: mujoco.MjSpec, name: str, half: Sequence[float], rgba: Sequence[float]) -> mujoco.MjsBody:
    body = spec.worldbody.add_body(name=name, mocap=True, pos=[*PARK, -0.1])
    body.add_geom(name=name, type=mujoco.mjtGeom.mjGEOM_BOX, size=list(half), rgba=list(rgba), contype=0, conaffinity=0)
    return body


def make_hidden_spec(size: int = 128, body: Body = VIPERX) -> mujoco.MjSpec:
    """The editable model; `size` is the largest picture side it can render, in pixels."""
    spec = bare_spec(size)
    for k in range(MOST):
        pad = _lay(spec, f"pad{k}", (PAD, PAD, _FLAT), _WHITE)
        pad.add_geom(
            name=f"rim{k}", type=mujoco.mjtGeom.mjGEOM_BOX, size=[RIM, RIM, _FLAT], pos=[0, 0, -_FLAT / 2],
            rgba=_WHITE, contype=0, conaffinity=0,
        )  # fmt: skip
        _lay(spec, f"cap{k}", (PAD, PAD, _FLAT), _WHITE)
    _lay(spec, "cube0", (CUBE,) * 3, _RED)
    add_arms(spec, 1, body)
    return spec


@cache
def _compiled(size: int, body: Body) -> mujoco.MjModel:
    return make_hidden_spec(size, body).compile()


class HiddenStage(Stage):
    """A row."""

    def __init__(self, size: int = 128, body: Body = VIPERX):
        super().__init__(size, copy.copy(_compiled(size, body)), (), body=body)
        m = self.model
        self._at = {name: int(m.body_mocapid[m.body(name).id]) for name in NAMES}

    def dress(self, scene: HiddenScene) -> None:
        """Colours of the pads, and whether they have rims."""
        self.scene, m = scene, self.model
        for k in range(MOST):
            used = k < len(scene.pads)
            m.geom(f"rim{k}").group = 0 if used and scene.lights else UNSEEN
            if used:
                m.geom(f"pad{k}").rgba[:3] = np.array(COLOURS[scene.pads[k].colour]) / 255
        self._show({})

    def set(self, joints: np.ndarray, gripper: float | Sequence[float], poses: Sequence[tuple[float, ...]]) -> None:
        """Put the arm at joints (J,) and its gripper at 0..1, everything else as the scene has it at first."""
        mujoco.mj_resetData(self.model, self.data)
        for k, pad in enumerate(self.scene.pads):
            self._put(f"pad{k}", pad.x, pad.y, _FLAT)
        if self.scene.cube is not None:
            pad = self.scene.pads[self.scene.cube]
            self._put("cube0", pad.x, pad.y, CUBE)
        self._put_arm(joints, gripper)

    def _put(self, name: str, x: float, y: float, z: float) -> None:
        self.data.mocap_pos[self._at[name]] = x, y, z

    def advance(self) -> None:
        """One control step of 50 ms, and what it makes the pads and the cube do."""
        super().advance()
        scene, tcp = self.scene, self.tcp.tolist()
        touched = scene.under(tcp) if scene.lights else -1
        if touched >= 0:
            self._put(f"cap{touched}", scene.pads[touched].x, scene.pads[touched].y, _FLAT + _ABOVE)
        due = scene.cube is not None and self.data.time > (scene.when - 0.5) * SECONDS
        if due and not self.moved and scene.at_gate(tcp):
            self._put("cube0", *scene.aside, CUBE)
        self.refresh()

    @property
    def moved(self) -> bool:
        """Whether the cube was put aside."""
        return bool(self.scene.cube is not None and self.data.mocap_pos[self._at["cube0"], 1] == self.scene.aside[1])

    @property
    def lit(self) -> tuple[bool, ...]:
        """Which pads have turned white."""
        return tuple(bool(self.data.mocap_pos[self._at[f"cap{k}"], 2] > 0) for k in range(len(self.scene.pads)))
