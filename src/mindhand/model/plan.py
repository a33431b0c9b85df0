"""Who sees whom in a pass of the trunk: rules and masks become a few groups of queries with one softmax each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache

import torch
from torch import Tensor

from mindhand.core.errors import BuildError
from mindhand.core.seams import Rule


@lru_cache(maxsize=4096)
def _mode(rule: tuple[tuple[str, str, str], ...], query: str, key: str) -> str:
    for q, k, mode in rule:
        if fnmatchcase(query, q) and fnmatchcase(key, k):
            if mode not in ("full", "causal", "none", "full-stop", "causal-stop"):
                raise BuildError(
                    f"rule {(q, k, mode)} has an unknown mode", "full, causal, none (+ '-stop')", "mend it"
                )
            return mode
    raise BuildError(
        f"no rule says whether '{query}' sees '{key}'", "a first hit for every pair", "end the rule with a '*', '*'"
    )


# What a softmax costs, in cells: each cell 1, a masked one more, and to begin one. With four questions about a picture,
# the picture's own 128 x 128 without a mask and the text's beside it take 6 % off a step of pretraining (one core).
MASKED, BEGIN = 1.4, 5000


@dataclass
class Group:
    """Queries that share a softmax: which, over which keys (the first `prefix` of them from before this pass), which
    of those are detached, and the additive mask (B,1,nq,nk), None where everything is seen."""

    queries: list[int]
    keys: list[int]
    prefix: int
    stop: list[bool]
    mask: Tensor | None


@dataclass
class Run:
    """A candidate key run: its name, its place in the sequence (-1: before everything new), its validity."""

    name: str
    order: int
    valid: Tensor


def _hidden(keys: Sequence[Run], hide: Mapping[str, Tensor]) -> list[Tensor | None]:
    """For each run of keys its part of `hide`: a segment that is continued stands in several runs, in order."""
    out: list[Tensor | None] = [None] * len(keys)
    for name, flags in hide.items():
        runs = [j for j, k in enumerate(keys) if k.name == name]
        widths = [keys[j].valid.shape[1] for j in runs]
        if runs and flags.shape != (keys[runs[0]].valid.shape[0], sum(widths)):
            raise BuildError(
                f"hide['{name}'] has shape {tuple(flags.shape)}",
                f"{(keys[runs[0]].valid.shape[0], sum(widths))}",
                "one flag a token of the segment as it stands in this pass",
            )
        for j, part in zip(runs, flags.split(widths, 1)):
            out[j] = part
    return out


def make_plan(
    names: Sequence[str],
    valids: Sequence[Tensor],
    keys: Sequence[Run],
    rule: Rule,
    hide: Mapping[str, Tensor],
    dtype: torch.dtype,
) -> list[Group]:
    """Masks for one layer: segments `names` with `valids` (B,n) over `keys`, which lists what came before first and
    then the new segments, in order. BuildError for a rule that is not total or leaves a token without a key."""
    sizes, widths = [v.shape[1] for v in valids], [k.valid.shape[1] for k in keys]
    hidden = _hidden(keys, hide)
    rules = tuple(tuple(r) for r in rule)
    table = [[_mode(rules, name, k.name) for k in keys] for name in names]

    def sees(i: int, j: int) -> bool:
        return table[i][j][:4] != "none" and not (table[i][j][:6] == "causal" and keys[j].order > i)

    whole = [bool(k.valid.all()) and h is None for k, h in zip(keys, hidden)]

    def cost(queries: Sequence[int], seen: set[int]) -> float:
        plain = all(table[i][j][:4] == "full" and whole[j] for i in queries for j in seen)
        cells = sum(sizes[i] for i in queries) * sum(widths[j] for j in seen)
        return cells * (1.0 if plain else MASKED) + BEGIN

    groups: list[tuple[tuple[bool, ...], list[int], set[int]]] = []  # how keys are stopped, queries, keys
    for i, row in enumerate(table):
        stop, seen = tuple(m.endswith("-stop") for m in row), {j for j in range(len(keys)) if sees(i, j)}
        for g, (other, queries, union) in enumerate(groups):  # one softmax for several segments, if that is cheaper
            both = [*queries, i], union | seen
            if stop == other and cost(*both) <= cost(queries, union) + cost([i], seen):
                groups[g] = (stop, *both)
                break
        else:
            groups.append((stop, [i], seen))
    plan = []
    for stop, queries, _ in groups:
        blocks: list[list[Tensor | None]] = []  # None: not seen at all
        for i in queries:
            n, valid = valids[i].shape[1], valids[i]
            row: list[Tensor | None] = []
            for key, mode, out in zip(keys, table[i], hidden):
                m = key.valid.shape[1]
                own = key.order == i
                mode = mode.removesuffix("-stop")
                if mode == "none" or (mode == "causal" and key.order > i):
                    row.append(torch.diag_embed(~valid).expand(-1, n, m) if own else None)
                    continue
                seen = key.valid.unsqueeze(1).expand(-1, n, m)
                if own and mode == "causal":
                    seen = seen & torch.ones(n, m, dtype=torch.bool, device=valid.device).tril()
                if out is not None and key.name != names[i]:
                    seen = seen & ~out.unsqueeze(1)
                if own:  # padding sees itself, so that no softmax is over nothing
                    seen = seen | torch.diag_embed(~valid)
                row.append(seen)
            blocks.append(row)
        used = [j for j in range(len(keys)) if any(row[j] is not None for row in blocks)]
        rows = []
        for i, row in zip(queries, blocks):
            n, batch = valids[i].shape[1], valids[i].shape[0]

            def block(j: int, row=row, batch=batch, n=n) -> Tensor:
                b = row[j]
                return b if b is not None else keys[j].valid.new_zeros(batch, n, keys[j].valid.shape[1])

            rows.append(torch.cat([block(j) for j in used], 2))
        mask = torch.cat(rows, 1)
        if not bool(mask.any(2).all()):
            names = [names[i] for i in queries]
            raise BuildError(f"a token of {names} sees no key at all", "at least itself", "allow it in the rule")
        bias = None
        if not bool(mask.all()):
            bias = torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(~mask, float("-inf"))
            bias = bias.unsqueeze(1)
        prefix = sum(keys[j].order < 0 for j in used)
        plan.append(Group(queries, used, prefix, [stop[j] for j in used], bias))
    return plan
