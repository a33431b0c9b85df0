"""RIPT-VLA behind a policy of bins that was shown a few demonstrations, on starts that it did not practise.

Rollouts begin where demonstrations did; success is measured elsewhere. All arms go on from the same weights for as many
updates. Controls: cloning goes on from the demonstrations; rollouts of the same plan are collected and those that
succeeded are cloned (filtered cloning); and every group is taken, with or without contrast."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from mindhand.core.batch import Batch, masked_rows
from mindhand.core.keys import Key, Keys
from mindhand.core.seams import Context
from mindhand.core.spec import Spec
from mindhand.data.robot import RobotFrames
from mindhand.evaluate.protocol import METAWORLD_10
from mindhand.methods.learn.ript_vla import plug
from mindhand.model.vla import VLA
from mindhand.train.rollouts import RolloutPlan, Rollouts, redrawn
from mindhand.train.stage import Optimiser, Stage

from ..places import place_of
from . import Proof
from .bench import Arm, Bench, Measured, Parts, Stand, source

TASKS = ("metaworld/reach", "metaworld/drawer-close", "metaworld/button-press-topdown")
P = METAWORLD_10.only(*TASKS, episodes=40)
BENCH = Bench("tokens", P, demonstrations=5, horizon=P.replan, steps=500)
PLAN = RolloutPlan(
    tuple(Key("demonstrations", task, i) for i in range(BENCH.demonstrations) for task in TASKS),
    groups=4, many=8, tries=12, replan=P.replan, steps=P.steps, rows=P.rows, updates=24, queries=BENCH.rows,
)  # fmt: skip
STEPS = 10 * PLAN.updates
RATE = Optimiser(lr=1e-4, muon=0.0, warmup=5, decay=0.0)


class Cloning(nn.Module):
    """Objective "cloning" (B,): what was drawn in rollouts that succeeded, as if it had been shown."""

    replaces: frozenset[str] = frozenset({"action"})
    provides: frozenset[str] = frozenset({"rl"})

    def loss(self, vla: Any, batch: Batch, ctx: Context, keys: Keys) -> dict[str, Tensor]:
        """Of rows from rollouts."""
        now, good = vla.expert.log_prob(ctx, redrawn(batch, vla.sampler)), batch.logged["reward"].value
        mean = masked_rows(-now.value[:, 0], now.mask[:, 0])
        return {"cloning": mean * good * len(good) / good.sum().clamp_min(1)}

    def after_step(self, vla: Any, step: int) -> None:
        """Nothing."""


def cloning(parts: Mapping[str, Any], spec: Spec) -> Parts:
    """The base with `Cloning`."""
    return {**parts, "objectives": [*parts.get("objectives", ()), Cloning()]}


@contextmanager
def acting(
    stand: Stand, training: int, vla: VLA, robot: RobotFrames, folder: Path, *, loss: str, plan: RolloutPlan = PLAN
) -> Iterator[Stage]:
    """Learning from rollouts, by the loss named."""
    with closing(place_of(stand.bench.protocol.tasks).world(plan.rows)) as world:
        rollouts = Rollouts(plan, world, folder / "rollouts", training)
        yield Stage(loss, rollouts, STEPS, ("*",), {loss: 1.0}, RATE, seed=training, bf16=False)


@contextmanager
def showing(stand: Stand, training: int, vla: VLA, robot: RobotFrames, folder: Path) -> Iterator[Stage]:
    """The demonstrations again."""
    shown = source(stand, training, vla, robot)
    yield Stage("shown", shown, STEPS, ("*",), {"action": 1.0}, RATE, seed=training, bf16=False)


def practice(vla: VLA, stand: Stand, folder: Path) -> list[dict[str, Any]]:
    """Iterations, a row each: "rollouts" and their "success" (rate), "control_steps", "seconds" of collecting."""
    out = []
    for i, meta in enumerate(Rollouts(PLAN, None, folder / "rollouts").metas()):
        each = [x for group in meta["rewards"] for x in group]
        row = {n: meta[n] for n in ("control_steps", "seconds")}
        out.append({"key": f"iteration/{i}", "rollouts": len(each), "success": sum(each) / len(each), **row})
    return out


PRACTICE = Measured(
    practice,
    {
        "rollouts": ("mean", "rollouts", "1"),
        "practised": ("mean", "success", "1"),
        "rollouts_per_second": ("quotient", "rollouts/seconds", "1/s"),
    },
)
EVERY = replace(PLAN, dynamic=False, groups=PLAN.tries)
ARMS = (
    Arm("ript_vla", plug, after=partial(acting, loss="ript"), measure=PRACTICE),
    Arm("shown-again", after=showing),
    Arm("filtered-cloning", cloning, after=partial(acting, loss="cloning"), measure=PRACTICE),
    Arm("every-group", plug, after=partial(acting, loss="ript", plan=EVERY), measure=PRACTICE),
)
PROOF = Proof("ript_vla", BENCH, ARMS)
