"""FreezeVLA's attack on the policy of bins, and the defence against it, also where the attack knows the defence.

In simulation, on policies of the bench's own, when it is asked for by name. What decides is success with the defence,
attacked by who differentiates through the views that it asks about, against success without, attacked as the paper
does; a defence that is measured against an attack that knows nothing of it says little. Controls: the policy attacked
without defence; the defence attacked by who knows nothing of it; noise that is as large as the attack, without defence;
and the defence without an attack, which is what it costs. No checkpoint is written of any of them.

In episodes a picture has few steps, a new one at every query. On single pictures, with all steps, how often nothing is
done is measured for instructions that no attack saw: clean, under noise, and under each attack, bare and defended."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from mindhand.core.red_team import WORD
from mindhand.core.seams import Policy
from mindhand.evaluate.protocol import keys
from mindhand.methods.guard.freezevla import ARMS as ATTACKS
from mindhand.methods.guard.freezevla import Attack, Attacked, wrap
from mindhand.model.vla import VLA
from mindhand.worlds.metaworld_spec import TASKS, task_of

from ..places import worlds
from ..red_team import CLEAN, SIDES, Plan, pictured, synonyms
from . import Proof
from .bench import Arm, Measured, Stand
from .fast import BENCH

SAME = (  # single words of Meta-World's instructions that may stand for each other
    ("push", "shove"), ("pull", "draw", "drag"), ("close", "shut"), ("lift", "raise"), ("put", "place", "set"),
    ("take", "grasp", "grip"), ("turn", "rotate"), ("slide", "move"), ("hold", "keep"), ("marker", "goal", "mark"),
    ("wall", "barrier"), ("hole", "opening"), ("door", "gate"), ("block", "cube", "brick"), ("box", "case"),
    ("puck", "disc"), ("ball", "sphere"), ("machine", "maker"), ("mug", "cup"), ("lid", "cover"),
)  # fmt: skip
OTHERS = [said[0] for name, said in TASKS.items() if task_of(name) not in BENCH.protocol.tasks]
REFS, TESTED = tuple(OTHERS[:20]), tuple(OTHERS[20:40])
KNOWING, BLIND = Attack(prompts=4, words=0, steps=8, views=3), Attack(prompts=4, words=0, steps=8)  # of a query
PLAN = Plan(
    pictures=24,
    tested=10,
    arms={**ATTACKS, "adaptive": replace(ATTACKS["adaptive"], prompts=10, words=0, views=3)},
    refs=REFS,
    prompts=TESTED,
)
other = partial(synonyms, same=SAME)


def attacked(policy: Policy, how: Attack, defended: bool) -> Policy:
    """The policy under attack, with the defence round it or without."""
    return Attacked(wrap(policy) if defended else policy, how, REFS, other, word=WORD)


def frozen(vla: VLA, stand: Stand, folder: Path, plan: Plan = PLAN) -> list[dict[str, Any]]:
    """Pictures and instructions, a row each: whether nothing is done, by attack ("clean" without one), bare and, as
    "..._defended", with the defence. Of first frames that no evaluation shows, the same of every training."""
    p, out = stand.bench.protocol, {}
    own = keys(p)
    starts = own[:: max(1, len(own) // plan.pictures)][: plan.pictures]  # of all tasks
    with closing(worlds(p)(1)) as world:
        for key in starts:
            world.reset([replace(key, seed=key.seed + 1)], [0])
            obs = world.observe([0])
            for attack in (CLEAN, *plan.arms):
                for r in pictured(vla, obs, plan, attack, WORD, other)[0]:
                    row = out.setdefault(r["key"], {"key": r["key"], "prompt": r["prompt"]})
                    row |= {_called(attack, side): r[side] for side in SIDES}
    return [*out.values()]


def _called(attack: str, side: str) -> str:
    return f"frozen_{attack}" + ("" if side == "bare" else f"_{side}")


NAMES = [_called(attack, side) for attack in (CLEAN, *PLAN.arms) for side in SIDES]
FROZEN = Measured(frozen, {name: ("rate", name, "1") for name in NAMES})
ARMS = (
    Arm("freezevla", wrap=partial(attacked, how=KNOWING, defended=True), measure=FROZEN),
    Arm("attacked", wrap=partial(attacked, how=BLIND, defended=False)),
    Arm("blind", wrap=partial(attacked, how=BLIND, defended=True)),
    Arm("noise", wrap=partial(attacked, how=replace(BLIND, steps=0), defended=False)),
    Arm("defended", wrap=wrap),
)
PROOF = Proof("freezevla", BENCH, ARMS)
