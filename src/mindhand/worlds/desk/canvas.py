"""Offscreen drawing: one OpenGL context (`Canvas`) for all rows of a world, one `Brush` in it a row.

A brush keeps its row's textures on the card, so that only what changed is uploaded: a board costs 0.1 ms.
"""

from __future__ import annotations

import atexit
import weakref
from collections.abc import Mapping

import mujoco
import numpy as np

from mindhand.core.errors import Refusal

_OPEN: weakref.WeakSet[Canvas] = weakref.WeakSet()


class Canvas:
    """A context of `size` x `size` pixels; use it from the thread that made it."""

    def __init__(self, size: int):
        try:
            self._gl = mujoco.GLContext(size, size)
            self._gl.make_current()
        except Exception as error:
            raise Refusal(
                f"no offscreen rendering here ({type(error).__name__}: {error})",
                "EGL (or OSMesa) from Mesa or a graphics driver",
                "on Debian or Ubuntu: apt-get install libegl1 libgl1-mesa-dri (or libosmesa6 and MUJOCO_GL=osmesa)",
            ) from error
        self._brushes: weakref.WeakSet[Brush] = weakref.WeakSet()
        # Exit hooks run last in, first out, and the driver's own is registered by the first context ever made:
        # this one comes after it and so runs before it.
        if not _OPEN:
            atexit.unregister(_close_all)
            atexit.register(_close_all)
        _OPEN.add(self)

    def brush(self, model: mujoco.MjModel) -> Brush:
        """A brush for models of this structure."""
        self._gl.make_current()
        brush = Brush(model, self._gl)
        self._brushes.add(brush)
        return brush

    def close(self) -> None:
        """Free everything drawn with; done at exit for what is still open, before the driver goes away."""
        if self._gl is not None:
            self._gl.make_current()
            for brush in list(self._brushes):
                brush.context.free()
            self._gl.free()
            self._gl = None


class Brush:
    """Draws one model; made by `Canvas.brush`."""

    def __init__(self, model: mujoco.MjModel, gl: mujoco.GLContext):
        self._gl = gl
        self.context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_50)
        self._scene = mujoco.MjvScene(model, maxgeom=100)
        for flag in ("SHADOW", "REFLECTION", "SKYBOX", "HAZE"):
            self._scene.flags[getattr(mujoco.mjtRndFlag, f"mjRND_{flag}")] = False
        self._option = mujoco.MjvOption()
        self._option.sitegroup[:] = 0
        self._perturb = mujoco.MjvPerturb()
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._loaded: dict[int, np.ndarray] = {}

    def paint(
        self,
        model: mujoco.MjModel,
        data: mujoco.MjData,
        camera: int,
        shape: tuple[int, int],
        textures: Mapping[int, np.ndarray],
    ) -> np.ndarray:
        """A picture uint8 (height, width, 3). `textures`: the pictures in use by texture index, which
        `model.tex_data` holds too; one that is the same object as last time is not uploaded again."""
        self._gl.make_current()
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self.context)
        for index, content in textures.items():
            if self._loaded.get(index) is not content:
                mujoco.mjr_uploadTexture(model, self.context, index)
                self._loaded[index] = content
        self._camera.fixedcamid = camera
        mujoco.mjv_updateScene(
            model, data, self._option, self._perturb, self._camera, mujoco.mjtCatBit.mjCAT_ALL, self._scene
        )
        rect = mujoco.MjrRect(0, 0, shape[1], shape[0])
        mujoco.mjr_render(rect, self._scene, self.context)
        out = np.empty((*shape, 3), np.uint8)
        mujoco.mjr_readPixels(out, None, rect, self.context)
        return out[::-1]


def _close_all() -> None:
    for canvas in list(_OPEN):
        canvas.close()
