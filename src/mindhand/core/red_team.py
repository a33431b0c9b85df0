"""Attacks on one's own policies, in simulation, to measure a defence: how they are known, and where they are refused.

Whoever attacks says so with a word, is known by a name in `Policy.provides`, and marks what it shows. So an attack is
in no checkpoint, before no robot, and what it showed is nothing to learn from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import BuildError, Refusal

if TYPE_CHECKING:
    from .nouns import Observation

WORD = "in-simulation"  # to be given by whoever attacks
ATTACKS = "attacks"  # of policies (`Policy.provides`)
ATTACKED = "attacked"  # extra of an Observation, bool (B,): rows whose pictures were changed to mislead


def permitted(word: str) -> None:
    """Refusal unless it is `WORD`."""
    if word != WORD:
        raise Refusal(
            f"an attack with the word '{word}'", f"'{WORD}'", "attack policies of your own, in simulation, and say so"
        )


def attacks(policy: Any) -> bool:
    """Whether it is an attack, or anywhere round one."""
    queue, seen = [policy], set()
    while queue:
        one = queue.pop()
        if ATTACKS in getattr(one, "provides", ()):
            return True
        seen.add(id(one))
        held = getattr(one, "__dict__", {}).values()
        queue += [x for x in held if id(x) not in seen and hasattr(x, "act") and hasattr(x, "start")]
    return False


def refuse_attack(policy: Any, where: str) -> None:
    """BuildError for an attack, or what holds one."""
    if attacks(policy):
        what = f"{where}: {type(policy).__name__}, in which a policy is attacked"
        raise BuildError(what, "a policy as it is", "take the attack off; it is for simulated evaluations alone")


def refuse_attacked(obs: Observation, where: str) -> None:
    """Refusal for pictures that were changed to mislead."""
    marked = obs.extras.get(ATTACKED)
    if marked is not None and marked.any():
        raise Refusal(f"{where}: attacked pictures in {int(marked.sum())} rows", "what cameras saw", "do not keep them")
