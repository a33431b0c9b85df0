"""The trunk: segments of tokens through towers of decoder blocks that share one attention.

What differs from a textbook decoder:
- A pass runs *segments* (named runs of tokens), not one sequence. A *rule* says which segment sees which, how
  (full, causal, none) and whether gradients pass; rows differ only by `valid`. Positions are explicit.
- Segments ride in *towers*: same depth and head size, own weights and width, one softmax over all keys
  (mixture of transformers). One tower named "vlm" is the plain decoder.
- A finished pass is a `Trunk`: hidden states and per-layer caches, the prefix of the next pass. A segment named
  like one of the prefix continues it, which is how text is generated.
- Tokens can be dropped between layers (`keep`); caches of different layers may then differ in length.
- Block as in Qwen2: grouped-query attention with biases on q, k, v, RMSNorm, SwiGLU, rotary positions with
  multimodal sections. Where another decoder differs, its config makes the part (`gemma.py`). Parity with
  transformers' classes is tested.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mindhand.core.errors import BuildError
from mindhand.core.seams import CAUSAL, Entry, Keep, Rule, Segment, grid_position

from .attention import attend_runs, lying, rotary, rotate
from .gemma import GemmaConfig
from .norm import RMSNorm
from .plan import Group, Run, make_plan
from .prune import prune


@dataclass(frozen=True)
class TowerConfig:
    """One tower of Qwen2's blocks. Towers of one trunk share `layers`, `heads`, `groups` and `head_size`.

    A config makes the parts in which decoders differ: the trunk asks for them and knows no decoder by name."""

    width: int  # D
    layers: int  # L
    heads: int  # query heads N
    groups: int  # key and value heads G
    head_size: int  # d
    ffn: int  # inner width of the SwiGLU
    theta: float = 1e6
    sections: tuple[int, int, int] = (16, 24, 24)  # rotary frequencies per temporal, height, width position
    eps: float = 1e-6
    bias: bool = True  # on q, k, v

    def norm(self) -> nn.Module:
        """(...,D) -> (...,D), before attention, before the FFN, and behind the last block."""
        return RMSNorm(self.width, eps=self.eps)

    def feed(self) -> nn.Module:
        """The FFN of one block."""
        return FFN(self.width, self.ffn)

    def table(self, vocabulary: int) -> nn.Embedding:
        """ids (B,n) -> (B,n,D)."""
        return nn.Embedding(vocabulary, self.width)

    def place(self, grid: tuple[int, int, int], valid: Tensor, start: Any) -> tuple[Tensor, Any]:
        """Positions (B,n,3) of a picture's tokens from `start` on, an int, and the next free one: frame, row, column;
        a picture counts as its longest side (Qwen2-VL, 2409.12191, sec. 2.1)."""
        return grid_position(len(valid), grid, start, valid.device), start + max(grid)


AnyTower = TowerConfig | GemmaConfig


class FFN(nn.Module):
    """SwiGLU: down(silu(gate x) * up x). gate and up are one matrix. Site: `inner`."""

    def __init__(self, width: int, inner: int):
        super().__init__()
        self.gate_up = nn.Linear(width, 2 * inner, bias=False)
        self.down = nn.Linear(inner, width, bias=False)
        self.inner = nn.Identity()

    def forward(self, x: Tensor, task: Tensor | None = None, valid: Tensor | None = None) -> Tensor:
        """(B,n,D) -> (B,n,D). `task` and `valid` (B,n) are for replacements that route by them."""
        gate, up = self.gate_up(x).chunk(2, -1)
        return self.down(self.inner(F.silu(gate) * up))


class Attention(nn.Module):
    """Projections of one layer; the softmax itself is shared between towers. Site: `out`."""

    def __init__(self, c: AnyTower):
        super().__init__()
        self.split = [c.heads * c.head_size, c.groups * c.head_size, c.groups * c.head_size]
        self.size = c.head_size
        self.qkv = nn.Linear(c.width, sum(self.split), bias=c.bias)
        self.o = nn.Linear(c.heads * c.head_size, c.width, bias=False)
        self.out = nn.Identity()

    def heads(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B,n,D) -> q (B,N,n,d), k and v (B,G,n,d), q and k rotated."""
        parts = self.qkv(x).split(self.split, -1)
        q, k, v = (p.unflatten(-1, (-1, self.size)).transpose(1, 2) for p in parts)
        return rotate(q, cos, sin), rotate(k, cos, sin), v


class Block(nn.Module):
    """Pre-norm decoder block. Sites: `attn.out`, `ffn.inner`, `out`. `ffn` may be replaced by module path."""

    def __init__(self, c: AnyTower):
        super().__init__()
        self.norm1 = c.norm()
        self.attn = Attention(c)
        self.norm2 = c.norm()
        self.ffn: nn.Module = c.feed()
        self.out = nn.Identity()


class Tower(nn.Module):
    """L blocks and a final norm."""

    def __init__(self, c: AnyTower):
        super().__init__()
        self.config = c
        self.layers = nn.ModuleList(Block(c) for _ in range(c.layers))
        self.norm = c.norm()


@dataclass(frozen=True)
class Trunk:
    """A finished pass, and the prefix of the next (core/seams.py)."""

    towers: nn.ModuleDict
    hidden: dict[str, Tensor]
    valid: dict[str, Tensor]
    kept: dict[str, Tensor]
    cache: list[list[Entry]]
    end: Tensor  # (B,) int64, the next free position: one more than the largest so far (as Qwen2-VL counts)
    states: dict[int, dict[str, Tensor]] = field(default_factory=dict)
    queries: dict[int, dict[str, Tensor]] = field(default_factory=dict)  # (B,N,n,d), layers in `want`
    rule: Rule = CAUSAL  # of this pass
    tower: dict[str, str] = field(default_factory=dict)  # in which each segment rode
    task: Tensor | None = None  # (B,), the first that a segment had

    def layer(self, l: int, name: str) -> Tensor:
        """Output of block l (0-based) for a segment, (B,n,D); the pass must have named l in `want`.

        Of a segment that was continued: of all its passes that did."""
        if l not in self.states:
            raise KeyError(f"layer {l} was not kept: pass want=({l},) to the forward; kept are {sorted(self.states)}")
        return self.states[l][name]

    def extend(self, segments: Sequence[Segment], **same: Any) -> Trunk:
        """Another pass on top of this one; arguments as `run`, which takes over rule and wanted layers where none are
        given. This one stays usable.

        Segments without a task have that of the rows."""
        return run(self.towers, segments, past=self, **same)

    def fork(self, samples: int) -> Trunk:
        """(B*S) rows, row-major, on one prefix: best-of-N, several questions on one image."""

        # one copy per distinct tensor: layers share `valid`, and plans are shared by its identity
        seen: dict[int, Tensor] = {}

        def wide(x: Tensor) -> Tensor:
            if id(x) not in seen:
                seen[id(x)] = x.repeat_interleave(samples, 0)
            return seen[id(x)]

        def every(m: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {name: wide(x) for name, x in m.items()}

        return replace(
            self,
            hidden=every(self.hidden),
            valid=every(self.valid),
            kept=every(self.kept),
            cache=[[Entry(e.name, wide(e.k), wide(e.v), wide(e.valid)) for e in layer] for layer in self.cache],
            end=wide(self.end),
            states={l: every(s) for l, s in self.states.items()},
            queries={l: every(q) for l, q in self.queries.items()},
            task=None if self.task is None else wide(self.task),
        )

    def only(self, names: Sequence[str], detach: bool = False) -> Trunk:
        """A view that shows these segments alone, to whoever reads hidden states and to whoever extends it: for hands
        that read queries only. detach: no gradient passes. BuildError for a segment that is not there."""
        if missing := [n for n in names if n not in self.hidden]:
            raise BuildError(f"no segments {missing} in the trunk", f"some of {sorted(self.hidden)}", "name those")

        def out(x: Tensor) -> Tensor:
            return x.detach() if detach else x

        def some(m: Mapping[str, Any]) -> dict[str, Any]:
            return {n: out(x) if isinstance(x, Tensor) else x for n, x in m.items() if n in names}

        return replace(
            self,
            hidden=some(self.hidden),
            valid=some(self.valid),
            kept=some(self.kept),
            cache=[[Entry(e.name, out(e.k), out(e.v), e.valid) for e in c if e.name in names] for c in self.cache],
            states={l: some(s) for l, s in self.states.items()},
            queries={l: some(q) for l, q in self.queries.items()},
            tower=some(self.tower),
        )


def _continued(before: Mapping[str, Tensor], now: Mapping[str, Tensor], dim: int) -> dict[str, Tensor]:
    """What was kept of segments, joined along `dim` where a segment went on."""
    both = {n: torch.cat([before[n], now[n]], dim) for n in before.keys() & now.keys()}
    return {**before, **now, **both}


def run(
    towers: nn.ModuleDict,
    segments: Sequence[Segment],
    *,
    rule: Rule | None = None,
    past: Trunk | None = None,
    hide: Mapping[str, Tensor] | None = None,
    keep: Keep | None = None,
    want: Sequence[int] | None = None,
    extras: Sequence[Sequence[Entry]] = (),
) -> Trunk:
    """Run segments through the towers, on top of `past`. rule: by default that of `past`, or else causal.

    hide {segment: bool (B,n)}: tokens that no other segment sees, per row; of a segment that is continued, its tokens
    in the prefix and then the new ones. keep: see `core.seams.Keep`.
    want: layers whose output and queries are retained; None: those of `past`. extras: L lists of foreign keys and
    values, seen like a prefix.
    Names must be unique within a pass. Raises BuildError for a rule that leaves a token without a key.
    """
    names = [s.name for s in segments]
    if len(set(names)) != len(names):
        raise BuildError(f"segments {names} repeat a name", "unique names in one pass", "rename one")
    hide = hide or {}
    if rule is None:
        rule = past.rule if past else CAUSAL
    if want is None:
        want = tuple(past.states) if past else ()
    tower = {**(past.tower if past else {}), **{s.name: s.tower for s in segments}}
    if moved := [n for n, t in (past.tower if past else {}).items() if tower[n] != t]:
        raise BuildError(f"{moved} go on in another tower", "the tower they began in", "rename the new segments")
    order = list(dict.fromkeys(s.tower for s in segments))  # towers in use, first seen first
    members = {t: [i for i, s in enumerate(segments) if s.tower == t] for t in order}
    depth = {len(towers[t].layers) for t in order}
    if len(depth) != 1:
        raise BuildError(f"towers {order} have depths {depth}", "one depth", "give add_tower the trunk's depth")
    x = {t: torch.cat([segments[i].x for i in members[t]], 1) for t in order}
    device = segments[0].x.device.type
    if torch.is_autocast_enabled(device):  # the residual stream too: casting it back and forth costs a fifth of a step
        x = {t: z.to(torch.get_autocast_dtype(device)) for t, z in x.items()}
    rope: dict[str, tuple[Tensor, Tensor]] = {}
    rows_task = past.task if past else None
    if rows_task is None:
        rows_task = next((s.task for s in segments if s.task is not None), None)
    task: dict[str, Tensor | None] = {}
    valids = [s.valid for s in segments]
    sizes = [s.x.shape[1] for s in segments]
    for t in order:
        c = towers[t].config
        position = torch.cat([segments[i].position for i in members[t]], 1)
        rope[t] = rotary(position, c.head_size, c.theta, c.sections, x[t].dtype)
        given = [past.task if past and segments[i].task is None else segments[i].task for i in members[t]]
        task[t] = (
            None
            if any(g is None for g in given)
            else torch.cat([g.unsqueeze(1).expand(-1, sizes[i]) for g, i in zip(given, members[t]) if g is not None], 1)
        )
    kept: dict[str, Tensor] = {}
    cache: list[list[Entry]] = []
    states: dict[int, dict[str, Tensor]] = {}
    queries: dict[int, dict[str, Tensor]] = {}
    atoms: dict[str, list[list[int]]] = {}  # a tower's neighbours that every softmax takes together
    plan: list[Group] = []
    plan_key: tuple[int, ...] = ()
    keys: list[Run] = []  # alive as long as the plan is, so that no other tensor comes by the ids in its key
    whole_valid: dict[str, Tensor] = {}  # of a tower's tokens
    joined: dict[tuple[int, int], tuple[Tensor, ...]] = {}

    for l in range(depth.pop()):
        blocks = {t: towers[t].layers[l] for t in order}
        before = [*(past.cache[l] if past else ()), *(extras[l] if extras else ())]
        here = tuple(id(v) for v in (*[e.valid for e in before], *valids))
        if here != plan_key:  # lengths change only where something was pruned
            keys = [Run(e.name, -1, e.valid) for e in before]
            keys += [Run(s.name, i, v) for i, (s, v) in enumerate(zip(segments, valids))]
            plan, plan_key = make_plan([s.name for s in segments], valids, keys, rule, hide, x[order[0]].dtype), here
            atoms = {t: _atoms(members[t], plan, len(before)) for t in order}
            for t in order:
                own = [valids[i] for i in members[t]]
                whole_valid[t] = own[0] if len(own) == 1 else torch.cat(own, 1)
        whole = {t: blocks[t].attn.heads(blocks[t].norm1(x[t]), *rope[t]) for t in order}
        pieces = _split(whole, atoms, sizes)

        def part(i: int, which: int, pieces=pieces) -> Tensor:
            atom, piece = pieces[which][i]
            at = sum(sizes[j] for j in atom[: atom.index(i)])
            return piece if len(atom) == 1 else piece.narrow(2, at, sizes[i])

        def several(picked: list[int], which: int, whole=whole, pieces=pieces) -> Tensor:
            """New segments' heads along the sequence, uncut where they are all of a tower's."""
            for t in order:
                if picked == members[t]:
                    return whole[t][which]
            runs = [piece for i in picked for atom, piece in (pieces[which][i],) if i == atom[0]]
            return runs[0] if len(runs) == 1 else torch.cat(runs, 2)

        out: dict[int, Tensor] = {}
        for g in plan:
            old, new = g.keys[: g.prefix], [j - len(before) for j in g.keys[g.prefix :]]
            kv = []
            for which, stored in ((1, [before[j].k for j in old]), (2, [before[j].v for j in old])):
                if any(g.stop):
                    runs = [*stored, *(part(i, which) for i in new)]
                    kv.append([r.detach() if stop else r for r, stop in zip(runs, g.stop)])
                else:
                    kv.append([*stored, several(new, which)] if new else stored)
            a = attend_runs(several(g.queries, 0), *kv, g.mask)
            out.update(zip(g.queries, a.split([sizes[i] for i in g.queries], 1)))
        entries = [Entry(s.name, lying(part(i, 1)), lying(part(i, 2)), valids[i]) for i, s in enumerate(segments)]
        cache.append(_join(past.cache[l] if past else [], entries, joined))
        attn_out: dict[int, Tensor] = {}
        for t in order:
            b = blocks[t]
            a = b.attn.out(b.attn.o(torch.cat([out[i] for i in members[t]], 1)))
            h = x[t] + a
            x[t] = b.out(h + b.ffn(b.norm2(h), task[t], whole_valid[t]))
            if keep is not None:
                attn_out.update(zip(members[t], a.split([sizes[i] for i in members[t]], 1)))
        if l in want:
            queries[l] = {s.name: part(i, 0) for i, s in enumerate(segments)}
            states[l] = {
                segments[i].name: part_
                for t in order
                for i, part_ in zip(members[t], x[t].split([sizes[i] for i in members[t]], 1))
            }
        if keep is not None:
            chosen = {i: keep(l, segments[i].name, attn_out[i]) for i in range(len(segments))}
            if any(c is not None for c in chosen.values()):
                for t in order:
                    prune(members[t], chosen, segments, x, rope, task, valids, sizes, kept)

    hidden, valid = (dict(past.hidden), dict(past.valid)) if past else ({}, {})
    for t in order:
        parts = towers[t].norm(x[t]).split([sizes[i] for i in members[t]], 1)
        for i, part in zip(members[t], parts):
            name = segments[i].name
            hidden[name] = torch.cat([hidden[name], part], 1) if name in hidden else part
            valid[name] = torch.cat([valid[name], valids[i]], 1) if name in valid else valids[i]
    end = past.end if past else segments[0].position.new_zeros(segments[0].x.shape[0])
    if past:  # the prefix's kept layers stay readable
        for l, before_it in past.states.items():
            now = states.get(l, {})
            states[l] = _continued(before_it, now, 1)
            queries[l] = _continued(past.queries[l], queries.get(l, {}), 2)
        for name in kept.keys() | past.kept.keys():  # of the whole segment: what goes on counts on
            entry = next((e for e in past.cache[0] if e.name == name), None)  # the first layer saw all of it
            new = next((s for s in segments if s.name == name), None)
            if entry is not None and new is not None:
                batch, count = entry.valid.shape
                old_kept = past.kept.get(name, torch.arange(count, device=end.device).expand(batch, -1))
                new_kept = kept.get(name, torch.arange(new.x.shape[1], device=end.device).expand(batch, -1))
                kept[name] = torch.cat([old_kept, count + new_kept], 1)
    for s in segments:  # before pruning: a token that was dropped keeps its place
        top = torch.where(s.valid, s.position.amax(-1), -1)
        if top.shape[1]:
            end = torch.maximum(end, top.amax(1) + 1)
    kept = {**(past.kept if past else {}), **kept}
    return Trunk(towers, hidden, valid, kept, cache, end, states, queries, rule, tower, rows_task)


def _atoms(members: Sequence[int], plan: Sequence[Group], before: int) -> list[list[int]]:
    """A tower's segments, neighbours together where every softmax that takes one of them takes all. They are neighbours
    in the whole sequence: what another tower has between two of them stands there in every mask."""

    def of(i: int) -> list[tuple[bool, bool]]:
        return [(i in g.queries, i + before in g.keys) for g in plan]

    out: list[list[int]] = []
    for i in members:
        if out and out[-1][-1] == i - 1 and of(i - 1) == of(i):
            out[-1].append(i)
        else:
            out.append([i])
    return out


def _split(
    whole: Mapping[str, Sequence[Tensor]], atoms: Mapping[str, list[list[int]]], sizes: Sequence[int]
) -> list[dict[int, tuple[list[int], Tensor]]]:
    """For queries, keys and values: by segment, the atom that it is of and the atom's heads. One split for all: the
    gradient of a view is as large as what it is a view of, and of a split it is each piece's own."""
    out: list[dict[int, tuple[list[int], Tensor]]] = []
    for which in range(3):
        found: dict[int, tuple[list[int], Tensor]] = {}
        for t, own in atoms.items():
            for atom, piece in zip(own, whole[t][which].split([sum(sizes[i] for i in a) for a in own], 2)):
                found.update((i, (atom, piece)) for i in atom)
        out.append(found)
    return out


def _join(past: list[Entry], new: list[Entry], joined: dict[tuple[int, int], tuple[Tensor, ...]]) -> list[Entry]:
    """Entries of the prefix, continued by new ones of the same name, then the others.

    `joined` keeps one validity tensor for all layers that agree, since plans are shared by its identity, and the two
    that it was made of, so that no other tensor comes by their ids.
    """
    fresh = {e.name: e for e in new}
    entries = []
    for e in past:
        n = fresh.pop(e.name, None)
        if n is not None:
            pair = (id(e.valid), id(n.valid))
            if pair not in joined:
                joined[pair] = (torch.cat([e.valid, n.valid], 1), e.valid, n.valid)
            e = Entry(e.name, torch.cat([e.k, n.k], 2), torch.cat([e.v, n.v], 2), joined[pair][0])
        entries.append(e)
    return entries + list(fresh.values())
