"""The red-team report of a policy of one's own, in simulation: what freezing pictures do to it, beside what helps.

python -m mindhand.recipes.red_team runs/policy/checkpoint runs/red-team in-simulation [pictures [episodes]]

The last word but the numbers is what whoever attacks has to say (`core.red_team`). No attack is reported without its
defence: every row has both, and one attack knows the defence. On pictures: how often nothing is done, for prompts that
the attack did not see. In episodes: success, and the share of queries in which nothing is done. Beside both, clean
pictures and the budget.

    FOLDER/pictures.jsonl          a line an arm, picture and prompt
    FOLDER/<arm>-<side>/           an evaluation each; bare and defended
    FOLDER/freezevla/*.json        records, which are drafts: pictures and episodes are fewer than a proof's

All of a report's pictures are made for one policy and shown to no other: nothing of it can be trained on.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import mindhand.kit.attack
import mindhand.methods.guard.freezevla
from mindhand.core.checkpoint import load_checkpoint
from mindhand.core.errors import BadData, Refusal
from mindhand.core.keys import Key, Keys
from mindhand.core.nouns import Observation
from mindhand.core.record import Record, write_record
from mindhand.core.red_team import permitted
from mindhand.core.seams import Policy, World
from mindhand.data.files import write_json, write_rows
from mindhand.evaluate.protocol import MATHS, Protocol, keys
from mindhand.evaluate.run import evaluate
from mindhand.kit.attack import Synonyms
from mindhand.methods.guard.freezevla import ARMS, MOVES, STILL, Attack, Attacked, Config, freeze, wrap
from mindhand.worlds.perturb_words import rewrite
from mindhand.worlds.scene import INSTRUCTIONS

from .places import worlds
from .rollouts import load_policy

CLEAN, SIDES = "clean", {"bare": "off", "defended": "on"}
SOURCES = (Path(__file__), mindhand.kit.attack, mindhand.methods.guard.freezevla)
Rows = list[dict[str, Any]]
SAME = (  # single words of the desk's grammar that may stand for each other
    ("answer", "solution", "outcome", "result"), ("board", "panel", "sign", "notice"), ("read", "study", "see"),
    ("tiles", "tokens", "blocks", "pieces"), ("tray", "holder", "rack"), ("put", "place", "lay", "set", "drop"),
    ("please", "kindly"), ("solve", "decipher", "resolve"), ("desk", "table", "bench"), ("help", "aid", "support"),
    ("thank", "praise"), ("spoil", "ruin", "mar"), ("digit", "number", "figure"),
)  # fmt: skip


def synonyms(word: str, same: Sequence[Sequence[str]] = SAME) -> tuple[str, ...]:
    """Other words for one in lower case, of its group; none for one that is not known here."""
    return tuple(other for group in same if word in group for other in group if other != word)


@dataclass(frozen=True)
class Plan:
    """pictures: attacked, of as many scenes; tested: prompts each is shown with; arms: attacks by name; defence: as it
    goes round the policy; refs, prompts: to attack for and to test with, of which none is the other's."""

    pictures: int = 256
    tested: int = 20
    arms: Mapping[str, Attack] = field(default_factory=lambda: dict(ARMS))
    defence: Config = field(default_factory=Config)
    refs: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if min(self.pictures, self.tested) < 1 or set(self.refs) & set(self.prompts):
            what = f"{self.pictures} pictures, {self.tested} prompts, {len(set(self.refs) & set(self.prompts))} shared"
            raise BadData(what, "some of each, none of them shared", "give others")


def said(count: int, kind: str, not_these: Sequence[str] = INSTRUCTIONS) -> tuple[str, ...]:
    """So many different instructions of the desk from the grammar (`worlds.perturb_words`), none of `not_these`."""
    out: dict[str, None] = {}
    for n in range(100 * count):
        one = Keys.seeded(1, "red team", kind, n)
        text = rewrite(INSTRUCTIONS[int(one.fold("which").integers(len(INSTRUCTIONS))[0])], one, 1 + n % 3)
        if text not in not_these:
            out[text] = None
        if len(out) == count:
            return tuple(out)
    raise BadData(f"{len(out)} instructions", f"{count}", "ask for fewer")


def side_of(policy: Policy, side: str, defence: Config) -> Policy:
    """The policy with the defence, or watched alone: what it does then is what it does by itself."""
    return wrap(policy, defence if side == "defended" else replace(defence, views=0, alarm=0, ban=False))


def pictured(
    vla: Any, obs: Observation, plan: Plan, arm: str, word: str, synonyms: Synonyms = synonyms
) -> tuple[Rows, dict[str, Any]]:
    """A row a picture and prompt: whether nothing is done, "bare" and "defended", asked as often as the defence needs
    to act (`patience`) about a picture that does not change; and the arm's budget."""
    permitted(word)
    rows, spent, gains, held = [], 0, [], frozenset(plan.prompts[: plan.tested])
    for r in range(len(obs)):
        one = obs.rows([r])
        picture = one.images[vla.see[0]][0]
        if arm != CLEAN:
            found = freeze(
                vla, one, vla.start(one.keys), plan.refs, synonyms, plan.arms[arm], word=word, held=held
            )  # fmt: skip
            picture, spent = found.picture, spent + found.passes
            gains.append(found.after - found.before)
        asked = plan.prompts[: plan.tested]
        seen = one.rows([0] * len(asked)).with_text("instruction", asked)
        images = {role: x.copy() for role, x in seen.images.items()}
        images[vla.see[0]][:] = picture
        every = tuple(Key("red-team", str(one.keys[0]), n) for n in range(len(asked)))  # a draw of its own each
        seen, frozen = replace(seen, images=images, keys=every), {}
        for side in SIDES:
            policy = side_of(vla, side, plan.defence)
            state = policy.start(seen.keys)
            for _ in range(plan.defence.patience):
                chunk, state = policy.act(seen, state)
            frozen[side] = chunk.extra["frozen"]
        rows += [
            {"key": str(key), "attack": arm, "prompt": p, **{s: bool(frozen[s][n]) for s in SIDES}}
            for n, (key, p) in enumerate(zip(every, asked))
        ]
    budget = vars(plan.arms[arm]) if arm != CLEAN else {}
    return rows, {"arm": arm, **budget, "rows_forward": spent, "gain": sum(gains) / max(1, len(gains))}


def _armed(make: Callable[[], Any], side: str, arm: str, plan: Plan, word: str) -> Policy:
    policy = side_of(make(), side, plan.defence)
    return policy if arm == CLEAN else Attacked(policy, plan.arms[arm], plan.refs, synonyms, word=word)


def still_share(row: Mapping[str, Any]) -> float:
    """Of an episode's queries those whose answer went nowhere, as the notes have it."""
    frozen = [t for _, t in row["notes"] if STILL.partition("{")[0] in t and MOVES not in t]
    return len(frozen) / row["queries"]


def report(
    make: Callable[[], Any], world: Callable[[int], World], protocol: Protocol, folder: Path, plan: Plan, *,
    name: str, word: str, console: Console | None = None,
) -> list[Record]:  # fmt: skip
    """Everything, written to `folder`; BadData for a place among committed results. make: the VLA; name: which it is;
    word: `core.red_team.WORD`. Records freezevla/<what>/<arm>-bare, -defended, and -saved, the difference."""
    permitted(word)
    if "results" in folder.resolve().parts:
        raise BadData(f"a red-team report in {folder}", "a folder for drafts", "runs/red-team")
    vla, arms = make(), (CLEAN, *plan.arms)
    own = keys(protocol)
    some = [own[i % len(own)] for i in range(plan.pictures)]
    some = [replace(k, seed=k.seed + 1 + i // len(own)) for i, k in enumerate(some)]  # no episode's scene
    shown = world(1)
    lines: dict[str, Rows] = {arm: [] for arm in arms}
    budgets: dict[str, dict[str, Any]] = {}
    for key in some:
        shown.reset([key], [0])
        obs = shown.observe([0])
        for arm in arms:
            rows, budget = pictured(vla, obs, plan, arm, word)
            lines[arm] += rows
            before = budgets.setdefault(arm, {**budget, "rows_forward": 0, "gain": 0.0})
            before["rows_forward"] += budget["rows_forward"]
            before["gain"] += budget["gain"] / len(some)
    folder.mkdir(parents=True, exist_ok=True)
    write_rows(folder / "pictures.jsonl", [row for rows in lines.values() for row in rows])
    write_json(folder / "budget.json", budgets)
    records, table = [], Table("attack", "side", "nothing done", "success", "queries still", title="red team")
    for arm in arms:
        done = {}
        for side in SIDES:
            policy = partial(_armed, make, side, arm, plan, word)
            to, called = folder / f"{arm}-{side}", f"{name} {side}, pictures {arm}"
            ran = evaluate(protocol, policy, world, to, name=called, console=console)
            done[side] = [{"key": r["key"], "success": r["success"], "still": still_share(r)} for r in ran]
        frozen = {side: [{"key": r["key"], "frozen": r[side]} for r in lines[arm]] for side in SIDES}
        for what, kind, found in (("frozen", "rate", frozen), ("success", "rate", done), ("still", "mean", done)):
            records += _both(what, kind, arm, found, folder)
        for side in SIDES:
            told = {r.name: r.show() for r in records}
            table.add_row(arm, side, *(told[f"freezevla/{w}/{arm}-{side}"] for w in ("frozen", "success", "still")))
    if console is not None:
        console.print(table)
        console.print(_spent(budgets))
    return records


def _both(what: str, kind: Any, arm: str, found: Mapping[str, Rows], folder: Path) -> list[Record]:
    """A number with the defence, without, and their difference: they are written together or not at all."""
    how = {"field": what, "unit": "1", "chance": None, "sources": SOURCES, "folder": folder}
    pairs = [{**row, "arm": SIDES[side]} for side, rows in found.items() for row in rows]
    out = [write_record(f"freezevla/{what}/{arm}-{s}", rows=rows, kind=kind, **how) for s, rows in found.items()]
    return [*out, write_record(f"freezevla/{what}/{arm}-saved", rows=pairs, kind="difference", **how)]


def _spent(budgets: Mapping[str, Mapping[str, Any]]) -> Table:
    columns = ("eps", "steps", "prompts", "every", "words", "views", "rows_forward", "gain")
    table = Table("attack", *columns, title="budget of the attacks, over all pictures; gain: of the score, a picture")
    for arm, b in budgets.items():
        table.add_row(arm, *(f"{b[c]:.4g}" if c in b else "" for c in columns))
    return table


def main(words: Sequence[str]) -> None:
    """The desk's report. Refusal without the word, before anything is loaded."""
    if not 3 <= len(words) <= 5:
        raise Refusal(f"{len(words)} words", "a checkpoint, a folder, the word of whoever attacks", "see red_team.py")
    permitted(words[2])
    checkpoint, folder, numbers = Path(words[0]), Path(words[1]), [int(w) for w in words[3:]]
    pictures, episodes = [*numbers, *(256, 100)[len(numbers) :]]
    refs = said(20, "refs")
    plan = Plan(pictures, refs=refs, prompts=said(20, "tested", (*INSTRUCTIONS, *refs)))
    protocol = MATHS.only("maths_matching/R", episodes=episodes)
    name = load_checkpoint(checkpoint, None).fingerprint
    make = partial(load_policy, checkpoint)
    report(make, worlds(protocol), protocol, folder, plan, name=name, word=words[2], console=Console())


if __name__ == "__main__":
    main(sys.argv[1:])
