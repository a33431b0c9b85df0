"""Offscreen drawing: one OpenGL context (`Canvas`) for all rows of a world, one `Brush` in it a row.

A brush keeps its row's textures on the card, so that only what changed is uploaded: a board costs 0.1 ms.
"""

from __future__ import annotations

import atexit
import importlib
import math
import os
import sys
import weakref
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import mujoco
import numpy as np

from mindhand.core.errors import Refusal

UNSEEN = 5  # the group of geoms that are not drawn
MOST = 200  # geoms of a picture: forty toys, or more
_SIZE = np.ones(3)  # of a mesh: not looked at
_GEOM = mujoco.mjtObj.mjOBJ_GEOM
_ALL = int(mujoco.mjtCatBit.mjCAT_ALL)
_SEGMENT = [int(mujoco.mjtRndFlag.mjRND_SEGMENT), int(mujoco.mjtRndFlag.mjRND_IDCOLOR)]
View = tuple[int, tuple[int, int]]  # a camera's index in the model; height and width in pixels
_OPEN: weakref.WeakSet[Canvas] = weakref.WeakSet()


def _context(size: int) -> Any:
    """The backend that MUJOCO_GL names now: mujoco itself looks only when it is first imported, which may have been
    before this package asked for EGL."""
    backend = os.environ.get("MUJOCO_GL", "")
    if backend in ("egl", "osmesa"):
        return importlib.import_module(f"mujoco.{backend}").GLContext(size, size)
    return mujoco.GLContext(size, size)


def _current() -> int | None:
    """Which EGL context is current in this thread; None where none is, or no EGL is used."""
    egl = sys.modules.get("OpenGL.EGL")
    now = egl.eglGetCurrentContext() if egl is not None else None
    return now.address if now else None


def _no_drawing(error: Exception) -> Refusal:
    return Refusal(
        f"no offscreen rendering here ({type(error).__name__}: {error})",
        "EGL (or OSMesa) from Mesa or a graphics driver",
        "on Debian or Ubuntu: apt-get install libegl1 libgl1-mesa-dri (or libosmesa6 and MUJOCO_GL=osmesa)",
    )


class Loose(NamedTuple):
    """A mesh that is drawn without being on any body: its index in the model, where its frame is (3,) m and how that
    is turned (9,), its colour (4,) float32 in 0..1, and its material's index, or -1."""

    mesh: int
    position: np.ndarray
    rotation: np.ndarray
    colour: np.ndarray
    material: int


@lru_cache(maxsize=64)
def _edges(fovy: float, aspect: float) -> np.ndarray:
    """(3,5): outward normals of the planes through a camera's eye and the edges of its picture, and of the one behind
    it, in its own frame. It looks along -z."""
    high = math.tan(math.radians(fovy) / 2)
    wide = high * aspect
    planes = np.array([(1, 0, wide), (-1, 0, wide), (0, 1, high), (0, -1, high), (0, 0, 1)], float)
    return (planes / np.linalg.norm(planes, axis=1, keepdims=True)).T


def outside(model: mujoco.MjModel, data: mujoco.MjData, camera: int, aspect: float, radius: np.ndarray) -> np.ndarray:
    """Of which geoms nothing is in the picture of a camera, `aspect` times as wide as high (bool, one a geom): their
    bounding spheres of `radius` (infinite for planes) lie behind it or beyond an edge."""
    normals = data.cam_xmat[camera].reshape(3, 3) @ _edges(float(model.cam_fovy[camera]), aspect)
    return ((data.geom_xpos - data.cam_xpos[camera]) @ normals > radius).any(1)


def spheres(model: mujoco.MjModel) -> np.ndarray:
    """(ngeom,1) radii in m of geoms' bounding spheres, infinite for planes. Asked for anew: shapes may change."""
    return np.where(model.geom_rbound > 0, model.geom_rbound, np.inf)[:, None]


class Canvas:
    """A context of `size` x `size` pixels; use it from the thread that made it."""

    def __init__(self, size: int):
        try:
            self._gl = _context(size)
            self._gl.make_current()
            self._address = _current()
        except Exception as error:
            raise _no_drawing(error) from error
        self._brushes: weakref.WeakSet[Brush] = weakref.WeakSet()
        self._brush_of: weakref.WeakKeyDictionary[mujoco.MjModel, Brush] = weakref.WeakKeyDictionary()
        # Exit hooks run last in, first out, and the driver's own is registered by the first context ever made:
        # this one comes after it and so runs before it.
        if not _OPEN:
            atexit.unregister(_close_all)
            atexit.register(_close_all)
        _OPEN.add(self)

    def brush(self, model: mujoco.MjModel, sites: Sequence[int] = ()) -> Brush:
        """A brush for models of this structure; `sites`: the groups of sites that are drawn."""
        self.activate()
        try:
            brush = Brush(model, self, sites)
        except mujoco.FatalError as error:
            raise _no_drawing(error) from error
        self._brushes.add(brush)
        self._brush_of[model] = brush
        return brush

    def brush_of(self, model: mujoco.MjModel) -> Brush:
        """The brush last made here for this very model, or a new one. It lasts as long as the model."""
        return self._brush_of.get(model) or self.brush(model)

    def activate(self) -> None:
        """Make this context the thread's. To do so again, where it is already, would wait for the driver."""
        if self._address is None or _current() != self._address:
            self._gl.make_current()

    def close(self) -> None:
        """Free everything drawn with; done at exit for what is still open, before the driver goes away."""
        if self._gl is not None:
            self._gl.make_current()
            for brush in list(self._brushes):
                brush.context.free()
            self._gl.free()
            self._gl = None


def _free(canvas: Canvas, context: mujoco.MjrContext) -> None:
    """What is collected frees textures and lists by number, in whatever context is current: there they may be another
    canvas's, whose pictures were black from then on."""
    if canvas._gl is not None:
        canvas.activate()
        context.free()


class Brush:
    """Draws one model; made by `Canvas.brush`."""

    def __init__(self, model: mujoco.MjModel, canvas: Canvas, sites: Sequence[int] = ()):
        self._canvas = canvas
        self.context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_50)
        self.context.readDepthMap = mujoco.mjtDepthMap.mjDEPTH_ZEROFAR  # the other way loses digits
        self._scenes: list[mujoco.MjvScene] = []  # one a view of the most that were ever asked for at once
        self._option = mujoco.MjvOption()
        self._option.sitegroup[:] = 0
        self._option.sitegroup[list(sites)] = 1
        self._option.geomgroup[UNSEEN] = 0
        self._perturb = mujoco.MjvPerturb()
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._loaded: dict[int, np.ndarray] = {}
        weakref.finalize(self, _free, canvas, self.context).atexit = False  # `Canvas.close` sees to those

    def paint(
        self,
        model: mujoco.MjModel,
        data: mujoco.MjData,
        views: Sequence[View],
        textures: Mapping[int, np.ndarray],
        loose: Sequence[Loose] = (),
    ) -> list[np.ndarray]:
        """A picture uint8 (height, width, 3) a view. `textures`: the pictures in use by texture index, which
        `model.tex_data` holds too; one that is the same object as last time is not uploaded again. `loose`: meshes
        to draw besides.

        All views are composed before any is drawn: software that draws leaves nothing of ours in the caches, and what
        takes 11 us takes 60 after it."""
        self._canvas.activate()
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self.context)
        for index, content in textures.items():
            if self._loaded.get(index) is not content:
                mujoco.mjr_uploadTexture(model, self.context, index)
                self._loaded[index] = content
        radius = spheres(model)
        scenes = [self._compose(k, model, data, view, radius, loose) for k, view in enumerate(views)]
        rects = [mujoco.MjrRect(0, 0, width, height) for _, (height, width) in views]
        out = [np.empty((*shape, 3), np.uint8) for _, shape in views]
        for rect, scene, picture in zip(rects, scenes, out):
            mujoco.mjr_render(rect, scene, self.context)
            mujoco.mjr_readPixels(picture, None, rect, self.context)
        return [picture[::-1] for picture in out]

    def measure(
        self,
        model: mujoco.MjModel,
        data: mujoco.MjData,
        camera: int,
        shape: tuple[int, int],
        loose: Sequence[Loose] = (),
    ) -> tuple[np.ndarray, np.ndarray]:
        """How far away what `paint` shows is at the middle of each pixel, float32 (height, width), metres along the
        camera's axis, infinite where nothing is; and what it is, int32 (height, width): a geom's index in the model,
        `model.ngeom` + k for the k-th of `loose`, -1 for nothing. Round shapes are as coarse as in a picture."""
        self._canvas.activate()
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self.context)
        scene = self._compose(0, model, data, (camera, shape), spheres(model), loose)
        first = scene.ngeom - len(loose)
        for k, geom in enumerate(scene.geoms[: scene.ngeom]):
            geom.segid = model.ngeom + k - first if k >= first else geom.objid if geom.objtype == _GEOM else -1
        rect, view = mujoco.MjrRect(0, 0, shape[1], shape[0]), scene.camera[0]
        scene.flags[_SEGMENT] = True  # no light, no textures: a number and a depth a pixel
        try:
            mujoco.mjr_render(rect, scene, self.context)
        finally:
            scene.flags[_SEGMENT] = False
        code, depth = np.empty((*shape, 3), np.uint8), np.empty(shape, np.float32)
        mujoco.mjr_readPixels(code, depth, rect, self.context)
        near, far = float(view.frustum_near), float(view.frustum_far)
        # The buffer is 1 at the near plane and 0 at the far one, linear in the reciprocal of the distance.
        metres = near * far / (near + (far - near) * depth[::-1].astype(np.float64))
        metres[depth[::-1] <= 0] = np.inf
        what = (code[::-1, :, 1].astype(np.int32) << 8) + code[::-1, :, 0] - 1
        return metres.astype(np.float32), what

    def _compose(
        self,
        k: int,
        model: mujoco.MjModel,
        data: mujoco.MjData,
        view: View,
        radius: np.ndarray,
        loose: Sequence[Loose],
    ) -> mujoco.MjvScene:
        """What a camera sees, as the `k`-th scene; `loose` comes last in it."""
        if k == len(self._scenes):
            self._scenes.append(_scene(model))
        scene, (camera, shape) = self._scenes[k], view
        self._camera.fixedcamid = camera
        group = model.geom_group
        was, textured = group.copy(), model.geom_matid >= 0
        # The driver works on every geom, wherever it is, and whenever one with a texture follows one without.
        hidden = outside(model, data, camera, shape[1] / shape[0], radius)
        group[hidden | textured] = UNSEEN
        mujoco.mjv_updateScene(model, data, self._option, self._perturb, self._camera, _ALL, scene)
        group[:] = was
        group[hidden | ~textured] = UNSEEN
        mujoco.mjv_addGeoms(model, data, self._option, self._perturb, _ALL, scene)
        group[:] = was
        for one in loose:
            _add(scene, one)
        return scene


def _scene(model: mujoco.MjModel) -> mujoco.MjvScene:
    scene = mujoco.MjvScene(model, maxgeom=MOST)
    for flag in ("SHADOW", "REFLECTION", "SKYBOX", "HAZE"):
        scene.flags[getattr(mujoco.mjtRndFlag, f"mjRND_{flag}")] = False
    return scene


def _add(scene: mujoco.MjvScene, one: Loose) -> None:
    geom = scene.geoms[scene.ngeom]
    mujoco.mjv_initGeom(geom, mujoco.mjtGeom.mjGEOM_MESH, _SIZE, one.position, one.rotation, one.colour)
    geom.dataid = 2 * one.mesh  # odd numbers are convex hulls
    geom.matid, geom.texcoord = one.material, 1
    scene.ngeom += 1


def _close_all() -> None:
    for canvas in list(_OPEN):
        canvas.close()


def area_resize(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """uint8 (H,W,3) to (height,width,3) by averaging whole blocks, halves rounded up."""
    fy, fx = picture.shape[0] // height, picture.shape[1] // width
    if (fy, fx) == (1, 1):
        return picture
    many = fy * fx
    wide = np.uint16 if 255 * many + many // 2 < 2**16 else np.uint32
    # Numpy is quick where numbers lie together: a block's sum is worked out at every pixel, and each fx-th taken.
    flat = picture.reshape(picture.shape[0], -1)
    rows = flat[::fy].astype(wide)
    for i in range(1, fy):
        rows += flat[i::fy]
    wanted = rows.shape[1] - 3 * (fx - 1)
    total = rows[:, :wanted] + wide(many // 2)
    for j in range(1, fx):
        total += rows[:, 3 * j : 3 * j + wanted]
    total //= wide(many)
    out = np.zeros((height, rows.shape[1]), np.uint8)
    out[:, :wanted] = total
    return out.view("V3")[:, ::fx].copy().view(np.uint8).reshape(height, width, 3)
