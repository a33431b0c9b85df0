"""Meta-World (1910.10897; third version, 2505.11289) as a World: rows of its fifty tasks, with its scripted experts.

Action (4): delta x, y, z of the hand in centimetres a control step, then the gripper's effort; -1 to 1 each. State (4):
the hand in metres and how far the gripper is open. Nothing of an object is told: that is for the eyes. Frame
"metaworld": x to the robot's right, y away from it, z up.

An episode is a pure function of its Key and the actions: each begins in an environment of its own, made anew (50 ms),
which Meta-World's own `set_task` and `reset` start from a vector that the key draws out of the task's own space.

Meta-World is an extra: pip install 'mindhand[metaworld]'.
"""

from __future__ import annotations

import importlib.metadata
import json
import math
import pickle
import struct
import warnings
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import mujoco
import numpy as np

from mindhand.core.errors import BadData, Refusal
from mindhand.core.keys import Key, Keys
from mindhand.core.nouns import Observation, Outcome

from .desk.canvas import Brush, Canvas, area_resize
from .draw import Draw
from .metaworld_spec import FAMILY, FRONT, LIMIT, SPEC, TASKS

CAMERAS = {"front": "corner2", "wrist": "gripperPOV"}  # Meta-World's names
TURNED = {"corner2": -1, "gripperPOV": 1}  # -1 hangs upside down: its pictures are turned by half
SITES = (0, 1, 2)  # groups of markers that are drawn: a goal is often nothing but one
STATE = mujoco.mjtState.mjSTATE_INTEGRATION
BRUSHES = 10  # tasks whose meshes are kept on the card, 40 MB each, or as many as there are rows
PLAIN = (bool, int, float, np.generic, type(None))
_MAGIC = b"mindhand.metaworld.1\n"


class _Library(NamedTuple):
    """What is used of the package."""

    environments: Mapping[str, Any]  # classes, by "reach-v3"
    experts: Mapping[str, Any]
    task: Any


@cache
def _library() -> _Library:
    try:
        from metaworld.env_dict import ALL_V3_ENVIRONMENTS
        from metaworld.policies import ENV_POLICY_MAP
        from metaworld.types import Task
    except ModuleNotFoundError as error:
        raise Refusal(
            f"Meta-World cannot be imported: no module '{error.name}'",
            "the extra 'metaworld', which an installation of mindhand is without",
            "pip install 'mindhand[metaworld]'",
        ) from error
    # Its experts ask for more than a step can be on purpose; it is cut off, as they expect.
    warnings.filterwarnings("ignore", r"Constant\(s\) may be too high", module=r"metaworld\.policies")
    return _Library(ALL_V3_ENVIRONMENTS, ENV_POLICY_MAP, Task)


def release() -> str:
    """Whose scenes these are: "metaworld 3.0.0"."""
    _library()
    return f"metaworld {importlib.metadata.version('metaworld')}"


class _Row:
    """One episode in progress, at its start."""

    def __init__(self, key: Key):
        family, _, name = key.task.partition("/")
        if family != FAMILY or name not in TASKS:
            raise BadData(f"no task '{key.task}' in Meta-World", f"one of {[f'{FAMILY}/{t}' for t in TASKS]}", "choose")
        library, full = _library(), f"{name}-v3"
        self.key, self.name = key, name
        self.env = library.environments[full]()
        self.teacher = library.experts[full]()
        self.noise: np.ndarray | None = None  # of the next command only
        _plainly(self.env.model)
        self.env.model.camera(CAMERAS["front"]).pos = FRONT
        data = {"rand_vec": self._vector(), "env_cls": type(self.env), "partially_observable": False}
        self.env.set_task(library.task(env_name=full, data=pickle.dumps(data)))
        self.seen, _ = self.env.reset()  # (39,): what the expert reads

    def _vector(self) -> np.ndarray:
        """Where things begin, drawn as Meta-World does, but from the key. Some tasks ask again until they like it."""
        draw, space = Draw(Keys.of([self.key]).fold("start")), self.env._random_reset_space
        drawn: list[np.ndarray] = []

        def ask() -> np.ndarray:
            drawn.append(np.array([draw.uniform(*span) for span in zip(space.low.tolist(), space.high.tolist())]))
            return drawn[-1]

        self.env._get_state_rand_vec = ask
        self.env.reset_model()
        del self.env._get_state_rand_vec
        return drawn[-1]

    @property
    def steps(self) -> int:
        return self.env.curr_path_length

    def attributes(self) -> dict[str, Any]:
        """What the environment remembers in Python: numbers, and arrays that are its own. Views of the simulator's
        memory are not among them: they follow the simulator."""
        return {
            n: x for n, x in vars(self.env).items() if isinstance(x, PLAIN) or (isinstance(x, np.ndarray) and _own(x))
        }

    def data(self) -> dict[str, Any]:
        """All that is not the simulator's, as JSON."""
        told = {n: x.tolist() if isinstance(x, np.ndarray | np.generic) else x for n, x in self.attributes().items()}
        noise = None if self.noise is None else self.noise.tolist()
        return {"attributes": told, "seen": self.seen.tolist(), "noise": noise}

    def load(self, data: Mapping[str, Any], state: np.ndarray) -> None:
        """The inverse of `data`, and of the simulator's state, in a row of the same key."""
        for name, now in self.attributes().items():
            then = data["attributes"][name]
            if then is None or now is None or not np.array_equal(now, then):
                setattr(self.env, name, np.array(then, np.float64) if isinstance(then, list) else then)
        self.seen = np.array(data["seen"])
        self.noise = None if data["noise"] is None else np.array(data["noise"], np.float32)
        mujoco.mj_setState(self.env.model, self.env.data, state, STATE)
        mujoco.mj_forward(self.env.model, self.env.data)
        mujoco.mj_setState(self.env.model, self.env.data, state, STATE)  # whatever `mj_forward` left for the next step

    def state(self) -> np.ndarray:
        """Everything the integrator needs, float64."""
        out = np.empty(mujoco.mj_stateSize(self.env.model, STATE))
        mujoco.mj_getState(self.env.model, self.env.data, out, STATE)
        return out


def _plainly(model: mujoco.MjModel) -> None:
    """No smoothing of edges and no shadow map, which nobody draws with: 64 MB a task, and most of the time."""
    model.vis.quality.offsamples = model.vis.quality.shadowsize = 0
    side = max(max(c.source) for c in SPEC.cameras)
    model.vis.global_.offwidth = model.vis.global_.offheight = side


def _own(x: np.ndarray) -> bool:
    while isinstance(x.base, np.ndarray):
        x = x.base
    return x.flags.owndata


class MetaWorld:
    """`rows` episodes side by side; pictures are drawn in one context. Tasks are "metaworld/reach", ... (`TASKS`); a
    row may have another one every time.

    The rules are Meta-World's: success is what its info says, an episode ends with it and is truncated after 500
    control steps of 12.5 ms. Use it from one thread, and `close()` it to free the context early.

    Raises Refusal where the extra is not installed, when the first episode begins.
    """

    spec = SPEC

    def __init__(self, rows: int = 1):
        self._rows: list[_Row | None] = [None] * rows
        self._canvas: Canvas | None = None
        self._brushes: dict[str, Brush] = {}  # by task, the last used last

    def __len__(self) -> int:
        return len(self._rows)

    # ---- the seam --------------------------------------------------------------------------------------

    def reset(self, keys: Sequence[Key], rows: Sequence[int]) -> None:
        """Begin the episodes named by `keys` in `rows`."""
        if len(keys) != len(rows):
            raise BadData(f"{len(keys)} keys for {len(rows)} rows", "one key a row", "pass equally many of both")
        for key, r in zip(keys, rows):
            self._rows[r] = _Row(key)

    def step(self, actions: np.ndarray, rows: Sequence[int]) -> Outcome:
        """One control step of 12.5 ms. actions (R,4) in the spec's units; what is beyond -1 or 1 is cut off
        ("clipped"). reward is 1 on success, else 0; Meta-World's own is the fact "shaped" (0 to 10), beside the other
        numbers of its info. BadData for a row whose time was up."""
        actions = np.asarray(actions, np.float32)
        if actions.shape != (len(rows), self.spec.action_size) or not np.isfinite(actions).all():
            raise BadData(
                f"actions of shape {actions.shape}, finite: {bool(np.isfinite(actions).all())}",
                f"finite numbers of shape ({len(rows)}, {self.spec.action_size})",
                "check what the policy returned before it reaches a robot",
            )
        facts = [self._step(action, self._row(r)) for action, r in zip(actions, rows)]
        success = np.array([f["success"] for f in facts], bool)
        late = np.array([self._row(r).steps >= LIMIT for r in rows])
        return Outcome(success.astype(np.float32), success, success.copy(), late & ~success, tuple(facts))

    def _step(self, action: np.ndarray, row: _Row) -> dict[str, Any]:
        if row.steps >= LIMIT:
            raise BadData(f"a step of {row.key} after its {LIMIT}", "none: its time is up", "reset the row")
        clipped, command = np.abs(action).max() > 1, action
        if row.noise is not None:
            command, row.noise = command + row.noise, None
        row.seen, shaped, _, _, info = row.env.step(np.clip(command, -1, 1))
        told = {name: float(x) for name, x in info.items()} | {"success": bool(info["success"])}
        return {**told, "shaped": float(shaped), "clipped": bool(clipped), "steps": row.steps}

    def observe(self, rows: Sequence[int], cameras: Sequence[str] | None = None) -> Observation:
        """What a policy may see now (T = 1). `cameras`: only these roles; all of the spec by default."""
        roles = self.spec.roles if cameras is None else tuple(cameras)
        found = [self._row(r) for r in rows]
        return Observation(
            images={role: np.stack([self._picture(row, role) for row in found])[:, None] for role in roles},
            state=np.stack([row.seen[:4] for row in found]).astype(np.float32)[:, None],
            text={"instruction": tuple(TASKS[row.name][0] for row in found)},
            time=np.array([[row.steps / self.spec.rate] for row in found]),
            keys=tuple(row.key for row in found),
        )

    def snapshot(self, rows: Sequence[int]) -> list[bytes]:
        """Everything a row is, exactly: going on from a restored snapshot gives the same numbers and pictures."""
        out = []
        for row in (self._row(r) for r in rows):
            key = {"protocol": row.key.protocol, "task": row.key.task, "index": row.key.index, "seed": row.key.seed}
            text = json.dumps({"key": key, **row.data()}).encode()
            out.append(_MAGIC + struct.pack("<I", len(text)) + text + row.state().tobytes())
        return out

    def restore(self, rows: Sequence[int], snaps: Sequence[bytes]) -> None:
        """Put snapshots into rows, of this or another world; refuses a damaged one. A row of the same episode is set
        back; any other begins it first."""
        for r, snap in zip(rows, snaps, strict=True):
            try:
                begin = len(_MAGIC) + 4
                (length,) = struct.unpack("<I", snap[len(_MAGIC) : begin])
                header = json.loads(snap[begin : begin + length])
                state = np.frombuffer(snap[begin + length :], np.float64)
                row, key = self._rows[r], Key(**header["key"])
                row = row if row is not None and row.key == key else _Row(key)
                good = snap.startswith(_MAGIC) and state.size == row.state().size
                good = good and header["attributes"].keys() == row.attributes().keys()
            except (ValueError, KeyError, TypeError, struct.error):
                good = False
            if not good:
                raise BadData(
                    "a snapshot that is damaged, or of another world", "one of this Meta-World", "take it again"
                )
            row.load(header, state)
            self._rows[r] = row

    def expert(self, rows: Sequence[int]) -> np.ndarray:
        """The scripted expert's next action (R,4), cut off at -1 and 1. It reads where the objects are."""
        found = [self._row(r) for r in rows]
        return np.stack([np.clip(row.teacher.get_action(row.seen), -1, 1) for row in found]).astype(np.float32)

    def geometry(self, rows: Sequence[int]) -> list[Mapping[str, Any]]:
        """Privileged geometry, frame "metaworld", metres: hand, object, second (an object, zeros where there is none)
        and goal, (3,) each, and gripper (0..1)."""
        parts = {"hand": slice(3), "object": slice(4, 7), "second": slice(11, 14), "goal": slice(36, 39)}
        found = [self._row(r).seen for r in rows]
        return [{**{name: x[at].copy() for name, at in parts.items()}, "gripper": float(x[3])} for x in found]

    def project(self, points: np.ndarray, camera: str, rows: Sequence[int]) -> np.ndarray:
        """Points (N,3), or (R,N,3) a row, to pixels (R,N,2) of that camera as the spec gives it: u right, v down, the
        picture's top left corner at 0, 0. NaN behind the camera."""
        c = self.spec.camera(camera)
        points = np.broadcast_to(points, (len(rows), *np.shape(points)[-2:]))
        out = []
        for p, env in zip(points, (self._row(r).env for r in rows)):
            eye = env.model.camera(CAMERAS[camera]).id
            x, y, z = ((np.asarray(p, float) - env.data.cam_xpos[eye]) @ env.data.cam_xmat[eye].reshape(3, 3)).T
            focal = c.height / 2 / math.tan(math.radians(env.model.cam_fovy[eye]) / 2)
            scale = focal / np.where(z < -1e-6, -z, np.nan) * TURNED[CAMERAS[camera]]
            out.append(np.stack([c.width / 2 + scale * x, c.height / 2 - scale * y], 1))
        return np.stack(out)

    # ---- besides ---------------------------------------------------------------------------------------

    def disturb(self, rows: Sequence[int], noise: np.ndarray) -> None:
        """Add (R,3) centimetres to what the next `step` tells the hand: the recorder's noise, which the action recorded
        as label does not contain."""
        noise = np.asarray(noise, np.float64)
        if noise.shape != (len(rows), 3):
            raise BadData(f"noise of shape {noise.shape}", f"({len(rows)}, 3)", "tell the recorder: Noise(size=3)")
        for r, x in zip(rows, noise):
            self._row(r).noise = np.append(x, 0.0).astype(np.float32)

    def reasoning(self, row: int) -> str:
        """No words: Meta-World does not say what an expert is about."""
        return ""

    def wordings(self, row: int) -> dict[str, str]:
        """What else could be said: "swapped", the instruction of another task, and "paraphrased"."""
        now = self._row(row)
        others = [said for name, (said, _) in TASKS.items() if name != now.name]
        return {"swapped": Draw(Keys.of([now.key]).fold("wordings")).pick(others), "paraphrased": TASKS[now.name][1]}

    def close(self) -> None:
        """Free the drawing context."""
        self._brushes.clear()
        if self._canvas is not None:
            self._canvas.close()
            self._canvas = None

    def __enter__(self) -> MetaWorld:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _row(self, r: int) -> _Row:
        row = self._rows[r]
        if row is None:
            raise BadData(f"row {r} has no episode", "reset(keys, rows) first", "reset it")
        return row

    def _picture(self, row: _Row, role: str) -> np.ndarray:
        camera, env = self.spec.camera(role), row.env
        eye = env.model.camera(CAMERAS[role]).id
        (picture,) = self._brush(row).paint(env.model, env.data, [(eye, camera.source)], {})
        upright = picture[:: TURNED[CAMERAS[role]], :: TURNED[CAMERAS[role]]]
        return area_resize(upright, camera.height, camera.width)

    def _brush(self, row: _Row) -> Brush:
        """What draws a task: meshes and textures are the same in all its episodes."""
        if self._canvas is None:
            self._canvas = Canvas(max(max(c.source) for c in self.spec.cameras))
        brush = self._brushes.pop(row.name, None) or self._canvas.brush(row.env.model, SITES)
        self._brushes[row.name] = brush
        while len(self._brushes) > max(BRUSHES, len(self._rows)):
            self._brushes.pop(next(iter(self._brushes)))
        return brush
