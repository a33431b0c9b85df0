"""The desk as a World: rows of episodes, of any task family, with a scripted expert and exact snapshots.

Action (10): absolute TCP pose in "arm_base" (metres; rot6d, the tool's first two axes) and gripper, 1 = open; the
world does the inverse kinematics. State (10): the same numbers, measured. "arm_base" is the table's frame moved to
the arm's base (-0.41, 0, 0), not turned; `geometry` and `project` speak the table's frame.

"arm_base" of a Panda (`body="panda"`) is the same moved to (-0.62, 0, 0); all else is as with the usual arm.

With two arms action and state are (20): the left arm's ten, then the right one's in "right_arm_base", which is the
table's frame moved to (0.41, 0, 0) and turned half about z; there is a camera "wrist_right" besides.

An episode is a pure function of its Key, its `Perturbation` and the actions: bit-identical in any row, process or
order.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from mindhand.core.errors import BadData
from mindhand.core.keys import Key, Keys
from mindhand.core.nouns import Observation, Outcome
from mindhand.worlds.declared import scene_hash
from mindhand.worlds.draw import Draw
from mindhand.worlds.perturb import CLEAN, Perturbation
from mindhand.worlds.perturb_noise import Sensor

from .altered import Altered, needed
from .body import VIPERX, body_of
from .canvas import Canvas, area_resize
from .driver import Driver
from .families import FAMILIES, Family, family_of
from .kinematics import tool_down
from .pair import Pair
from .placing_judge import PlacingJudge
from .sense_views import look
from .senses import PLAIN, Senses
from .spec import SECONDS, SPEC, START_SPREAD
from .stage import Stage
from .starts import start_joints


class _Row:
    """One episode in progress."""

    def __init__(self, key: Key, family: Family, scene: Any, perturb: Perturbation, arms: int, size: int):
        self.key, self.family, self.scene, self.perturb = key, family, scene, perturb
        self.sensor = Sensor.of(key, perturb.noise) if perturb.noise else None
        self.judge, keys = family.judge(scene), Keys.of([key])
        self.expert: Driver | Pair = family.expert(keys) if arms == 1 else Pair(family.expert, keys)
        self.steps = 0
        self.joints = np.zeros(size)  # the last command, before any disturbance: the seed of the next
        self.gripper = [1.0] * arms
        self.noise: np.ndarray | None = None  # of the next command only


class DeskWorld:
    """`rows` episodes side by side, each with its own model and data; pictures are drawn in one context.

    Tasks are those of `asked.sample_task` ("maths_matching/R", "maths_matching/K-dev/2", ...), of
    `biased.sample_task` ("spatial_placing/R", ...), of `course.sample_course_task` ("obstacle_course/near", ...), of
    `heights.sample_heights_task` ("height_reaching/varied", ...), of `hidden.sample_hidden_task` ("hidden_state/count",
    ...), and impossible ones (`worlds.absent`); a row may have one of another family every time.
    Use it from one thread, and `close()` it (or use it in a with statement) to free the context early.

    body: which arm stands there, "viperx" or "panda". arms: 1, or 2 ViperX; their scripted expert uses one after the
    other.
    perturb: of every episode that `reset` begins; may be assigned between two of them. A restored row keeps its own.
    senses: what a policy is told besides pictures: depth, labels, a second eye, points, touch (`senses.Senses`).
    """

    spec = SPEC  # with one arm

    def __init__(
        self,
        rows: int = 1,
        perturb: Perturbation = CLEAN,
        senses: Senses = PLAIN,
        arms: int = 1,
        body: str = VIPERX.name,
    ):
        self.arms, self.body = arms, body_of(body, arms)
        self.spec, self._joints = self.body.specs[arms], arms * len(self.body.joints)
        self.perturb, self.senses = perturb, senses
        self._made: list[dict[str, Stage]] = [{} for _ in range(rows)]  # by family, and
        self._altered: list[dict[str, Altered]] = [{} for _ in range(rows)]  # when first needed
        self._stages: list[Stage] = [self._stage(r, next(iter(FAMILIES.values()))) for r in range(rows)]
        self._rows: list[_Row | None] = [None] * rows
        self._canvas: Canvas | None = None

    def __len__(self) -> int:
        return len(self._rows)

    # ---- the seam --------------------------------------------------------------------------------------

    def reset(self, keys: Sequence[Key], rows: Sequence[int]) -> None:
        """Begin the episodes named by `keys` in `rows`."""
        if len(keys) != len(rows):
            raise BadData(f"{len(keys)} keys for {len(rows)} rows", "one key a row", "pass equally many of both")
        for key, r in zip(keys, rows):
            family = family_of(key, self.perturb, self.arms, self.body.name)
            scene = family.sample(key)
            if self.perturb:
                scene = family.perturbed(scene, key, self.perturb)
            row, body = _Row(key, family, scene, self.perturb, self.arms, self._joints), self.body
            draw = Draw(Keys.of([key]).fold("start"))
            for mount, joints in zip(body.mounts, row.joints.reshape(self.arms, -1)):
                start = np.array(mount.home) + [draw.uniform(-START_SPREAD, START_SPREAD) for _ in range(3)]
                joints[:] = body.inverse(mount.local(start), tool_down(draw.normal(0.05, 0.1)), body.rest).joints
            if self.perturb.start:
                free = partial(family.free, scene)
                row.joints = start_joints(row.joints, key, self.perturb.start, family.lowest, free, body)
            stage = self._begin(r, row)
            stage.set(row.joints, row.gripper, family.lying(scene))

    def step(self, actions: np.ndarray, rows: Sequence[int]) -> Outcome:
        """One control step of 50 ms. actions (R,A) in the spec's units.

        A target outside the workspace or out of reach is moved to the nearest one that is not ("clipped"); a
        jump faster than the arm or the gripper can go is cut short ("limited"). Both are reported in the facts,
        beside those of the family's judge. reward is 1 on success, else 0. An episode ends with success and is
        truncated after the judge's limit.
        """
        actions = np.asarray(actions, np.float64)
        if actions.shape != (len(rows), self.spec.action_size) or not np.isfinite(actions).all():
            raise BadData(
                f"actions of shape {actions.shape}, finite: {bool(np.isfinite(actions).all())}",
                f"finite numbers of shape ({len(rows)}, {self.spec.action_size})",
                "check what the policy returned before it reaches a robot",
            )
        facts = [self._step(action, self._row(r), self._stages[r]) for action, r in zip(actions, rows)]
        success = np.array([self._row(r).judge.success for r in rows])
        late = np.array([self._row(r).steps >= self._row(r).judge.limit for r in rows])
        return Outcome(success.astype(np.float32), success, success.copy(), late & ~success, tuple(facts))

    def _step(self, action: np.ndarray, row: _Row, stage: Stage) -> Mapping[str, Any]:
        target, told, n = action.tolist(), [], len(self.body.joints)
        for k, arm in enumerate(stage.arms):
            last = row.joints[n * k : n * k + n]
            told.append(arm.follow(target[10 * k : 10 * k + 10], last, row.gripper[k]))
            last[:], row.gripper[k] = told[k].joints, told[k].gripper
        joints = row.joints
        if row.noise is not None:
            joints = np.clip((row.joints + row.noise).reshape(-1, n), self.body.low, self.body.high).ravel()
            row.noise = None
        stage.command(joints, *row.gripper)
        stage.advance()
        row.steps += 1
        row.judge.update(stage)
        clipped, limited = any(t.clipped for t in told), any(t.limited for t in told)
        return {**row.judge.facts(), "clipped": clipped, "limited": limited, "steps": row.steps}

    def observe(self, rows: Sequence[int], cameras: Sequence[str] | None = None) -> Observation:
        """What a policy may see now (T = 1). `cameras`: only these roles; all of the spec by default. Extras: what the
        further `senses` tell, and where cameras are named, as by filters, only what needs none: touch."""
        roles = self.spec.roles if cameras is None else tuple(cameras)
        return Observation(
            images=self._pictures(rows, roles),
            state=np.array([self._state(r) for r in rows], np.float32)[:, None],
            text={"instruction": tuple(self._row(r).scene.instruction for r in rows)},
            time=np.array([[self._row(r).steps * SECONDS] for r in rows]),
            keys=tuple(self._row(r).key for r in rows),
            extras=self._sensed(rows, whole=cameras is None) if self.senses else {},
        )

    def snapshot(self, rows: Sequence[int]) -> list[bytes]:
        """Everything a row is, exactly: going on from a restored snapshot gives the same numbers and pictures."""
        out = []
        for r in rows:
            row, stage = self._row(r), self._stages[r]
            key = {"protocol": row.key.protocol, "task": row.key.task, "index": row.key.index, "seed": row.key.seed}
            header = {
                "scene_hash": scene_hash(), "key": key, "steps": row.steps,
                "gripper": row.gripper[0] if self.arms == 1 else row.gripper,
                "joints": row.joints.tolist(), "noise": None if row.noise is None else row.noise.tolist(),
                "scene": row.scene.to_json(), "judge": row.judge.data(), "expert": row.expert.data(),
                **({"perturb": row.perturb.to_json()} if row.perturb else {}),
                **({} if self.body is VIPERX else {"body": self.body.name}),
            }  # fmt: skip
            text = json.dumps(header).encode()
            out.append(_MAGIC + struct.pack("<I", len(text)) + text + stage.get_state().tobytes())
        return out

    def restore(self, rows: Sequence[int], snaps: Sequence[bytes]) -> None:
        """Put snapshots into rows, of this or another world with as many arms; refuses another world's or a damaged
        one."""
        for r, snap in zip(rows, snaps, strict=True):
            try:
                begin = len(_MAGIC) + 4
                (length,) = struct.unpack("<I", snap[len(_MAGIC) : begin])
                header = json.loads(snap[begin : begin + length])
                state = np.frombuffer(snap[begin + length :], np.float64)
                key, perturb = Key(**header["key"]), Perturbation.from_json(header.get("perturb", {}))
                if header.get("body", VIPERX.name) != self.body.name:
                    raise ValueError("another body")
                family = family_of(key, perturb, self.arms, self.body.name)
                grippers = np.atleast_1d(header["gripper"]).tolist()
                good = snap.startswith(_MAGIC) and header["scene_hash"] == scene_hash()
                good = good and state.size == self._stage(r, family).get_state().size
            except (ValueError, KeyError, TypeError, struct.error):
                good = False
            if not good:
                raise BadData("a snapshot that is damaged, of another scene declaration, body or number of arms",
                              f"one of this version of the desk (scene {scene_hash()}) with arms={self.arms}, "
                              f"body='{self.body.name}'",
                              "take the snapshot again")  # fmt: skip
            row = _Row(key, family, family.read(header["scene"]), perturb, self.arms, self._joints)
            row.steps, row.gripper = header["steps"], grippers
            row.joints = np.array(header["joints"])
            row.noise = None if header["noise"] is None else np.array(header["noise"])
            row.judge.load(header["judge"])
            row.expert.load(header["expert"])
            self._begin(r, row).set_state(state)

    def expert(self, rows: Sequence[int]) -> np.ndarray:
        """The scripted expert's next action (R,A), from whatever state the row is in."""
        return np.array(
            [self._row(r).expert.act(self._stages[r], self._row(r).judge, self._row(r).steps) for r in rows]
        )

    def geometry(self, rows: Sequence[int]) -> list[Mapping[str, Any]]:
        """Privileged geometry, table frame: tcp (3,), tool (3,3), joints (J,), gripper, and of a second arm
        "tcp_right" ...; target (index of the thing now wanted, -1 when done), object (4,) (that thing) and goal (4,)
        (`goal`), x y z yaw, NaN when done; and the judge's own: of tiles, or of toys."""
        return [self._geometry(r) for r in rows]

    def project(self, points: np.ndarray, camera: str, rows: Sequence[int]) -> np.ndarray:
        """Table-frame points (N,3), or (R,N,3) a row, to pixels (R,N,2) of that camera as the spec gives it:
        u right, v down, the picture's top left corner at 0, 0. NaN behind the camera."""
        c = self.spec.camera(camera)
        points = np.broadcast_to(points, (len(rows), *np.shape(points)[-2:]))
        return np.stack([self._stages[r].project(p, camera, (c.height, c.width)) for p, r in zip(points, rows)])

    # ---- besides ---------------------------------------------------------------------------------------

    def disturb(self, rows: Sequence[int], noise: np.ndarray) -> None:
        """Add (R,J) radians, of two arms (R,2J), to the joint command of the next `step` only: the recorder's noise,
        which the action recorded as label does not contain. For Ornstein-Uhlenbeck noise call it before every step."""
        noise = np.asarray(noise, np.float64)
        if noise.shape != (len(rows), self._joints):
            raise BadData(f"joint noise of shape {noise.shape}", f"({len(rows)}, {self._joints})",
                          f"name all joints: a recorder is told by Noise(size={self._joints})")  # fmt: skip
        for r, x in zip(rows, noise):
            self._row(r).noise = x.copy()

    def scene(self, row: int) -> Any:
        """The scene as it is now: things where they last lay."""
        return self._row(row).judge.now

    def placed(self, row: int) -> int:
        """How much is done: of maths matching the leading digits that lie in the tray, of placing 0 or 1."""
        return self._row(row).judge.placed

    def reasoning(self, row: int) -> str:
        """The text of the sub-step that the row is in."""
        return self._row(row).judge.reasoning(self._stages[row])

    def reasoning_with_boxes(self, row: int) -> str:
        """The stated variant of placing: with the boxes of what it names in the front picture (`placing_reasoning`).
        BadData of a family whose words have none."""
        judge = self._row(row).judge
        if not isinstance(judge, PlacingJudge):
            name = self._row(row).key.task
            raise BadData(f"boxes in thoughts of '{name}'", "a request of placing that can be met", "without boxes")
        return judge.reasoning_with_boxes(self._stages[row])

    def wordings(self, row: int) -> dict[str, str]:
        """What else could be said: see `worlds.wordings`."""
        return self._row(row).family.wordings(self._row(row).key, self._row(row).scene)

    def thoughts(self, row: int) -> dict[str, str]:
        """What is right to think now ("told"), and what is not ("misled"): see `worlds.wordings`."""
        now = self._row(row)
        return {"told": self.reasoning(row), "misled": now.family.misled(now.key, now.judge)}

    def target(self, row: int) -> tuple[int, np.ndarray] | None:
        """The thing now wanted, as the reasoning names it: index and (x, y, z, yaw) of how it is taken; None when all
        is done."""
        return self._row(row).judge.target(self._stages[row])

    def depth(self, row: int, camera: str) -> tuple[np.ndarray, np.ndarray]:
        """Privileged: float32 (h,w), m along that camera's axis in each pixel of its picture, exact, and bool (h,w):
        False where nothing is seen."""
        c = self.spec.camera(camera)
        seen = look(self._stages[row], self._drawn, camera, (c.height, c.width))
        return seen.depth, seen.valid

    def goal(self, row: int) -> np.ndarray | None:
        """(x, y, z, yaw) of what the reasoning speaks of: the thing to take, or where the one in the hand is to be put;
        None when all is done."""
        return self._row(row).judge.goal(self._stages[row])

    def close(self) -> None:
        """Free the drawing context."""
        if self._canvas is not None:
            self._canvas.close()
            self._canvas = None

    def __enter__(self) -> DeskWorld:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _row(self, r: int) -> _Row:
        row = self._rows[r]
        if row is None:
            raise BadData(f"row {r} has no episode", "reset(keys, rows) first", "reset it")
        return row

    def _begin(self, r: int, row: _Row) -> Stage:
        """Put an episode into a row: its stage, dressed."""
        stage = self._stage(r, row.family)
        if needed(row.perturb):
            made = self._altered[r]
            if row.family.name not in made:
                made[row.family.name] = row.family.altered(**self._built)
            stage = made[row.family.name]
            stage.alter(row.key, row.perturb, row.scene)
        self._rows[r], self._stages[r] = row, stage
        stage.dress(row.scene)
        return stage

    @property
    def _built(self) -> dict[str, Any]:
        """What a stage is told of the arms: of one ViperX nothing, since not every family has room for more."""
        told: dict[str, Any] = {} if self.arms == 1 else {"arms": self.arms}
        return told if self.body is VIPERX else {**told, "body": self.body}

    def _stage(self, r: int, family: Family) -> Stage:
        made = self._made[r]
        if family.name not in made:
            made[family.name] = family.stage(**self._built)
        return made[family.name]

    def _state(self, r: int) -> list[float]:
        return [x for arm in self._stages[r].arms for x in arm.state]

    def _sensed(self, rows: Sequence[int], whole: bool) -> dict[str, np.ndarray]:
        """Extras (R,1,...), after the pictures: toys are where they were last painted. Not whole: what is felt."""
        found = []
        for r in rows:
            row, stage = self._row(r), self._stages[r]
            if whole:
                assert self._canvas is not None
                found.append(self.senses.extras(stage, self._canvas, row.key, row.steps, row.sensor))
            else:
                found.append(self.senses.felt(stage, row.key, row.steps))
        return {name: np.stack([f[name] for f in found])[:, None] for name in found[0]} if found else {}

    @property
    def _drawn(self) -> Canvas:
        if self._canvas is None:
            self._canvas = Canvas(max(max(c.source) for c in self.spec.cameras))
        return self._canvas

    def _pictures(self, rows: Sequence[int], roles: Sequence[str]) -> dict[str, np.ndarray]:
        """{role: uint8 (R,1,h,w,3)}."""
        cameras = [self.spec.camera(role) for role in roles]
        out = {c.role: np.empty((len(rows), 1, c.height, c.width, 3), np.uint8) for c in cameras}
        shapes = {c.role: c.source for c in cameras}
        for k, r in enumerate(rows if shapes else ()):
            row = self._row(r)
            for c, picture in zip(cameras, self._stages[r].paint_all(self._drawn, shapes)):
                if row.sensor is not None:
                    picture = row.sensor.see(picture, c.role, row.steps)
                out[c.role][k, 0] = area_resize(picture, c.height, c.width)
        return out

    def _geometry(self, r: int) -> Mapping[str, Any]:
        judge, stage = self._row(r).judge, self._stages[r]
        target, goal, nothing = self.target(r), self.goal(r), np.full(4, np.nan)
        return {
            **judge.geometry(stage),
            **{f"{name}{arm.mount.suffix}": x for arm in stage.arms for name, x in arm.measured().items()},
            "target": -1 if target is None else target[0],
            "object": nothing if target is None else target[1],
            "goal": nothing if goal is None else goal,
        }


_MAGIC = b"mindhand.desk.1\n"
