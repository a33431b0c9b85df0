"""Whatever fits is tried: all pairs of parts that `resolve` lets through, in few policies that learn a step and act.

Factors are the slots and stacks, levels what may stand there; methods of the catalogue that plug in are found: one
whose card names a slot is an occupant of it, any other is on or off. Which pairs fit is asked of the parts themselves,
so a row that is built and then fails is a part that did not say what it needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import torch

from mindhand.core.errors import BuildError
from mindhand.core.keys import Keys
from mindhand.core.parts import resolve
from mindhand.core.seams import SLOTS, STACKS, Draw
from mindhand.methods import compose, method, of_way
from mindhand.model import fits
from mindhand.model.vla import VLA
from mindhand.model.vlm import VLM

from .covering import Pair, Row, covering, pairs_of
from .levels import ABSENT, ONE, SEVERAL, Make, Parts
from .tiny import HORIZON, SPEC, batches, fitted, from_words, observation, vlm

ON = "on"
STEPS = ("built", "trained", "acted")


@cache
def factors() -> dict[str, tuple[str, ...]]:
    """{factor: its levels}. Methods whose card names a slot are levels of it, the others factors of their own."""
    held = {slot: [n for n, m in of_way("plug").items() if slot in map(str.lower, m.card.seams)] for slot in SLOTS}
    out = {slot: (*levels, *held[slot]) for slot, levels in ONE.items()}
    out |= {name: (ABSENT, *levels) for name, (_, levels) in SEVERAL.items()}
    taken = {name for names in held.values() for name in names}
    return out | {name: (ABSENT, ON) for name in of_way("plug") if name not in taken}


def _new(factor: str, level: str, model: VLM) -> Any:
    return (ONE[factor] if factor in ONE else SEVERAL[factor][1])[level](model)


def _put(name: str, model: VLM, make: Make) -> tuple[Parts, Parts]:
    """The policy that a method's card says, and the same with the method."""
    base = method(name).card.base
    if base == "oft":
        _, parts = _put("oft", model, make)
    else:
        parts = {"backbone": model, **make("expert", "tower" if base == "flow" else "tokens", model)}
    return parts, method(name).plug(parts, SPEC)


def _occupant(slot: str, name: str, parts: Parts, make: Make) -> Parts:
    """What a method brings into a policy for that slot: its part; those it fitted to it, where the policy has others
    of their class; and what it adds to stacks, an expert also what the base's stood on."""
    base, plugged = _put(name, parts["backbone"], make)
    out = {n: p for n, p in plugged.items() if n in SLOTS and (n == slot or type(p) is type(parts.get(n, p)))}
    for stack in STACKS:
        old = [] if slot == "expert" else base.get(stack, ())
        out[stack] = [p for p in plugged.get(stack, ()) if not any(p is q for q in old)]
    return out


def assembled(row: Mapping[str, str], make: Make = _new) -> Parts:
    """What VLA takes, of a row. make(factor, level, backbone) gives a part. BuildError from a method that does not go
    where it is put."""
    level = row["backbone"]
    model = make("backbone", level, None) if level in ONE["backbone"] else _put(level, vlm(), make)[1]["backbone"]
    parts: Parts = {"backbone": model, "streams": [], "transforms": [], "objectives": [], "edits": []}
    for name, (stack, _) in SEVERAL.items():
        if row[name] != ABSENT:
            parts[stack].append(make(name, row[name], model))
    for slot in ("expert", "codec", "sampler", "reasoner"):
        level = row[slot]
        if level in ONE[slot]:
            made = make(slot, level, model)
            found = made if isinstance(made, dict) else {slot: made}
            if type(found[slot]) is type(parts.get(slot)):
                continue  # what a hand brought with it fits it already
        else:
            found = _occupant(slot, level, parts, make)
        parts |= {n: [*parts.get(n, ()), *p] if n in STACKS else p for n, p in found.items() if n in SLOTS or p}
    return compose(parts, SPEC, [n for n, level in row.items() if level == ON])


@cache
def _shared(factor: str, level: str, model: VLM) -> Any:
    return _new(factor, level, model)


def refusal(make: Callable[[], Mapping[str, Any]]) -> BuildError | None:
    """What the parts that are made say against each other, before anything is built of them."""
    try:
        parts = make()
        resolve({s: parts.get(s) for s in SLOTS}, {s: parts.get(s, ()) for s in STACKS})
    except BuildError as error:
        return error
    return None


def _refused(row: Row) -> bool:
    return refusal(lambda: assembled(row, _shared)) is not None


def plain(hand: str, codec: str) -> Row:
    """A policy with that hand and nothing that could be left out."""
    first = {name: levels[0] for name, levels in factors().items()}
    return {**first, "expert": hand, "codec": codec}


@cache
def hands() -> tuple[tuple[str, str], ...]:
    """Every hand with every codec that it speaks."""
    both = product(factors()["expert"], factors()["codec"])
    return tuple((hand, codec) for hand, codec in both if not _refused(plain(hand, codec)))


def around(pair: Pair) -> list[Row]:
    """The two in a plain policy, with every hand that they leave open."""
    given = dict(pair)
    able = [h for h in hands() if all(given.get(slot, own) == own for slot, own in zip(("expert", "codec"), h))]
    wrong = dict.fromkeys((given.get("expert", hand), given.get("codec", codec)) for hand, codec in hands())
    return [{**plain(*both), **given} for both in able or wrong]


def fitting(pair: Pair) -> bool:
    """Whether there is a hand with which the two fit."""
    return not all(map(_refused, around(pair)))


@cache
def rows() -> tuple[tuple[Row, ...], tuple[Pair, ...]]:
    """The covering array, and the pairs that fit nowhere."""
    found, never = covering(factors(), fitting)
    return tuple(found), tuple(never)


# ---- a row, tried --------------------------------------------------------------------------------------


def learned(vla: VLA) -> set[tuple[str, str]]:
    """One step on robot rows and image-text rows. Which parameters a gradient reached: (class of the part, name in it).
    BuildError for a loss that is not finite, and for a part with parameters of which none has learned."""
    robot, told = batches(vla.backbone, 3)
    if not vla.plan.has(fits.HEARS):
        robot = from_words(robot)
    vla.train()
    optimiser = torch.optim.AdamW(vla.parameters(), 1e-3)
    for number, batch in enumerate((robot, told)):
        losses = vla.losses(batch, Keys.seeded(len(batch), "pairs", number))
        if odd := sorted(n for n, x in losses.items() if not bool(torch.isfinite(x).all())):
            raise BuildError(f"losses {odd} that are not finite", "numbers", "mend the part that computes them")
        torch.stack([x.mean() for x in losses.values()]).sum().backward()
    parts = {"backbone": vla.backbone, "expert": vla.expert}
    parts |= {
        f"{type(p).__name__} ({s}[{i}])": p for s in ("streams", "objectives") for i, p in enumerate(getattr(vla, s))
    }
    reached = set()
    for label, part in parts.items():
        own = dict(part.named_parameters())
        found = {n for n, p in own.items() if p.grad is not None and bool(p.grad.any())}
        if own and not found:
            raise BuildError(f"{label} learns nothing", "a gradient of some loss", "state what it needs to be heard")
        reached |= {(type(part).__name__, n) for n in found}
    optimiser.step()
    for objective in vla.objectives:
        objective.after_step(vla, 0)
    return reached


def _told(vla: VLA, extra: Mapping[str, Any], draw: Draw) -> torch.Tensor:
    """What a hand drew; of one that draws words, how likely `draw` is to it: the likeliest words may stay the same."""
    if draw.value.is_floating_point():
        return extra["draw"].value
    with torch.no_grad():
        return vla.expert.log_prob(extra["context"], draw).value


def acted(vla: VLA) -> None:
    """Two queries of two rows. BuildError for chunks that are not what was asked for, and for a stream whose weights
    are nothing to the hand. What a hand draws that is told words alone need not change with what the mind sees."""
    vla.eval()
    obs = observation()
    want = ("draw", "context")
    first, state = vla.act(obs, vla.start(obs.keys), want=want)
    second, _ = vla.act(observation(1), state)
    shape = (len(obs), HORIZON, SPEC.action_size)
    for chunk in (first, second):
        if chunk.actions.shape != shape or not np.isfinite(chunk.actions).all():
            raise BuildError(f"a chunk {chunk.actions.shape}", f"{shape}, finite", "mend expert or codec")
        if (chunk.reasoning is None) != (vla.reasoner is None):
            raise BuildError(f"reasoning {chunk.reasoning}", "one of every row where a reasoner is", "mend VLA.think")
    for i, stream in enumerate(vla.streams):
        own = deepcopy(stream.state_dict())
        if not own or (stream.feeds == "trunk" and not vla.plan.has(fits.HEARS)):
            continue
        with torch.no_grad():
            for p in stream.parameters():
                p.normal_()
        other, _ = vla.act(obs, vla.start(obs.keys), want=want)
        before, now = (_told(vla, chunk.extra, first.extra["draw"]) for chunk in (first, other))
        stream.load_state_dict(own)
        if torch.equal(before, now):
            raise BuildError(
                f"{type(stream).__name__} (streams[{i}]) is nothing to {vla.plan.provided['expert']}",
                "a stream that the hand hears",
                "state what the stream needs of an expert",
            )


@dataclass(frozen=True)
class Tried:
    """How far a row came, of `STEPS`, and what stopped it; the policy, and its parameters that learned (`learned`)."""

    row: Row
    done: tuple[str, ...]
    why: str = ""
    vla: VLA | None = None
    reached: frozenset[tuple[str, str]] = frozenset()


def tried(row: Row) -> Tried:
    """Build it, let it learn a step, let it act."""
    out = Tried(row, ())
    try:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            out = replace(out, done=STEPS[:1], vla=fitted(VLA(spec=SPEC, **assembled(row))))
            out = replace(out, done=STEPS[:2], reached=frozenset(learned(out.vla)))
            acted(out.vla)
            return replace(out, done=STEPS)
    except Exception as error:  # whatever it is, it is this row's
        return replace(out, why=f"{type(error).__name__}: {error}")


def results(found: Iterable[Tried]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of records: of every pair of two parts, and of every method, whether all policies that hold it were built,
    trained and acted. A pair with what is absent is tried like any other, but is no pair of parts."""
    held: dict[Pair, list[Tried]] = {}
    methods: dict[str, list[Tried]] = {}
    for one in found:
        there = {factor: level for factor, level in one.row.items() if level != ABSENT}
        for pair in pairs_of(there):
            held.setdefault(pair, []).append(one)
        for name in of_way("plug"):
            if there.get(name) == ON or name in there.values():
                methods.setdefault(name, []).append(one)

    def line(key: str, some: list[Tried]) -> dict[str, Any]:
        steps = {step: all(step in one.done for one in some) for step in STEPS}
        return {"key": key, "policies": len(some), **steps, "works": all(steps.values())}

    pairs = [line(" + ".join(f"{f}={v}" for f, v in pair), some) for pair, some in sorted(held.items())]
    return pairs, [line(name, some) for name, some in sorted(methods.items())]
