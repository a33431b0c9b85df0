"""`mindhand tune --plan`: what a tuning takes, before a weight is loaded.

The policy stands on device meta: shapes without numbers. Its own eyes and its own blocks, one of each tower, are run
there forward and backward, with what learns and what is frozen as it will be, and torch counts operations and the bytes
that autograd would keep; so adapters, mixtures and frozen layers count as they are. What cannot run without numbers is
counted by its matrices. Weights are float32, as they are trained; AdamW keeps two more numbers of what learns.

Estimates, and where they are rough: on a GPU products are in bfloat16, so that what autograd keeps is taken as 0.6 of
its float32 bytes, and a copy of the weights in bfloat16 is there while a step is computed; a tenth and 1 GB are left
for fragments, buffers and the driver. Masks are not counted. GB is 1e9 bytes.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from rich.table import Table
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mindhand.data.reader import Reader
from mindhand.model.attention import attend
from mindhand.model.vla import VLA

CARDS = (16, 24, 40, 80, 141)  # GB of memory of usual GPUs
HALF = 0.6  # of float32's bytes that autograd keeps where products are in bfloat16
SPARE, ONCE = 0.9, 1.0  # share of a GPU's memory that may be planned, and GB that are gone before
PARTS = (  # of a policy: what it is called, and how the names of its weights begin
    ("eyes", ("backbone.vision.",)),
    ("mind", ("backbone.towers.vlm.",)),
    ("words", ("backbone.embedding.", "backbone.head.")),
    ("hand's tower", ("backbone.towers.hand.",)),
    ("hand", ("expert.",)),
    ("hand's eyes", ("streams.",)),
)


@dataclass(frozen=True)
class Cost:
    """Of one part of a policy: parameters, those that learn, tokens a row, operations a step and float32 bytes that
    autograd keeps a row; None where it is not counted."""

    name: str
    stored: int
    trained: int
    tokens: int | None
    operations: float | None
    kept: float | None

    def bytes(self) -> tuple[int, int, int]:
        """Of its weights, of gradients, of the optimiser's state."""
        return 4 * self.stored, 4 * self.trained, 8 * self.trained


def costs(vla: VLA, learns: Sequence[str], reader: Reader, rows: int) -> list[Cost]:
    """What each part of a policy on device meta takes in a step of so many rows. learns: patterns of names."""
    for name, p in vla.named_parameters():
        p.requires_grad_(any(fnmatch.fnmatchcase(name, pattern) for pattern in learns))
    seen, eyes = _eyes(vla)
    texts = [vla.backbone.words.question(t) for t in reader.tasks]
    thought = 0 if vla.reasoner is None else vla.reasoner.config.limit
    told = max(map(len, texts)) + thought
    horizon = getattr(vla.expert.config, "horizon", 1)
    whole, own = seen + told, horizon + 1
    inside = {"eyes": (seen, eyes), "mind": (whole, _blocks(vla, "vlm", whole, whole)),
              "hand's tower": (own, _blocks(vla, "hand", own, whole + own)), "hand": (own, None)}  # fmt: skip
    out = []
    for name, begins in PARTS:
        found = [(n, p) for n, p in vla.named_parameters() if n.startswith(begins)]
        if not found:
            continue
        stored, trained = (sum(p.numel() for _, p in found if p.requires_grad or every) for every in (True, False))
        tokens, counted = inside.get(name, (None, None))
        if name == "words":
            tokens = told
            taught = thought * vla.backbone.config.vocabulary  # scores of what is said, and their softmax
            counted = (6.0 * taught * vla.backbone.width, 8.0 * taught)
        elif tokens is not None and counted is None:
            counted = _by_matrices([p for _, p in found], tokens)
        operations, kept = (None, None) if counted is None else counted
        out.append(Cost(name, stored, trained, tokens, None if operations is None else operations * rows, kept))
    return out


def _measured(run: Callable[[], Tensor]) -> tuple[float, float]:
    """Operations, forward and backward, and bytes that autograd keeps beside the weights, of a row on meta."""
    kept: dict[int, int] = {}

    def pack(x: Tensor) -> Tensor:
        if not isinstance(x, nn.Parameter) and not isinstance(x._base, nn.Parameter):
            storage = x.untyped_storage()
            kept[storage._cdata] = storage.nbytes()
        return x

    with FlopCounterMode(display=False) as count, torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        y = run()
        bytes_kept = sum(kept.values())  # the graph is alive, so that no storage came twice
        if y.requires_grad:
            y.sum().backward()
    return float(count.get_total_flops()), float(bytes_kept)


def _eyes(vla: VLA) -> tuple[int, tuple[float, float]]:
    """Tokens of all cameras that the mind sees, and what they cost. BadData for a picture that the eyes do not take."""
    tokens, operations, kept = 0, 0.0, 0.0
    for camera in (vla.spec.camera(role) for role in vla.see):
        picture = torch.zeros(1, 1, 3, camera.height, camera.width, device="meta")
        found: list[Tensor] = []

        def look(picture: Tensor = picture, found: list[Tensor] = found) -> Tensor:
            found.append(vla.backbone.see({"it": picture})["it"].x)
            return found[0]

        more = _measured(look)
        tokens, operations, kept = tokens + found[0].shape[1], operations + more[0], kept + more[1]
    return tokens, (operations, kept)


def _blocks(vla: VLA, name: str, tokens: int, keys: int) -> tuple[float, float] | None:
    """What all blocks of a tower cost, by one of them: so many tokens that attend to so many keys. None where there is
    no such tower, or its block does not run without numbers."""
    if name not in vla.backbone.towers:
        return None
    tower = vla.backbone.towers[name]
    c, block = tower.config, tower.layers[0]

    def run() -> Tensor:
        x = torch.zeros(1, tokens, c.width, device="meta", requires_grad=True)
        turn = torch.zeros(1, 1, tokens, c.head_size, device="meta")
        q, k, v = block.attn.heads(block.norm1(x), turn, turn)
        more = torch.zeros(1, c.groups, keys - tokens, c.head_size, device="meta", requires_grad=True)
        seen = attend(q, torch.cat([k, more], 2), torch.cat([v, more], 2), None)
        h = x + block.attn.o(seen)
        return h + block.ffn(block.norm2(h), torch.zeros(1, tokens, dtype=torch.int64, device="meta"), None)

    try:
        operations, kept = _measured(run)
    except (RuntimeError, NotImplementedError):  # a mixture sorts tokens by expert, and there are none
        return None
    return operations * len(tower.layers), kept * len(tower.layers)


def _by_matrices(weights: Sequence[nn.Parameter], tokens: int) -> tuple[float, float]:
    """An upper bound where nothing can be run: every matrix multiplies every token, three times in a step, and
    autograd keeps what goes in and what comes out."""
    operations = kept = 0.0
    for p in (p for p in weights if p.ndim > 1):
        a, b = p.shape[-2:]
        operations += 6.0 * tokens * p.numel()
        kept += 4.0 * tokens * (a + b) * (p.numel() // (a * b))
    return operations, kept


@dataclass(frozen=True)
class Needs:
    """Bytes on a GPU: whatever the rows, and more a row."""

    fixed: float
    row: float

    def rows(self, card: float) -> int:
        """How many rows fit a GPU of so many GB; 0 where none does."""
        left = SPARE * card * 1e9 - ONCE * 1e9 - self.fixed
        return max(0, int(left // max(self.row, 1.0)))


def needs(found: Sequence[Cost]) -> Needs:
    """The memory of a step, of all parts."""
    copies = sum(2 * c.stored for c in found if c.name != "words")
    return Needs(sum(sum(c.bytes()) for c in found) + copies, HALF * sum(c.kept or 0.0 for c in found))


def cost_table(found: Sequence[Cost], rows: int, title: str) -> Table:
    """A line a part, and their sum: parameters, those that learn, tokens a row; GB of weights, gradients, the
    optimiser's state and what autograd keeps; operations a step. "-" where nothing was counted."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("part", no_wrap=True)
    for head in ("weights", "learn", "tokens", "GB", "gradients", "AdamW", "kept", "TFLOP"):
        table.add_column(head, justify="right", no_wrap=True)

    def line(name: str, some: Sequence[Cost], tokens: int | None) -> None:
        memory = [f"{sum(c.bytes()[k] for c in some) / 1e9:.2f}" for k in range(3)]
        counted = [c for c in some if c.kept is not None]
        kept = f"{HALF * rows * sum(c.kept or 0.0 for c in counted) / 1e9:.2f}"
        done = f"{sum(c.operations or 0.0 for c in counted) / 1e12:.3g}"
        sizes = [_count(sum(getattr(c, f) for c in some)) for f in ("stored", "trained")]
        last = [kept, done] if counted else ["-", "-"]
        table.add_row(name, *sizes, "" if tokens is None else str(tokens), *memory, *last)

    for cost in found:
        line(cost.name, [cost], cost.tokens)
    line("all", found, None)
    return table


def fit_table(modes: Sequence[tuple[str, Needs]], rows: int) -> Table:
    """What fits which GPU: a line a way of tuning."""
    title = f"\nGPUs that fit {rows} rows a step (estimated)"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for head in ("", *(f"{card} GB" for card in CARDS)):
        table.add_column(head, no_wrap=True)
    for name, need in modes:
        most = [need.rows(card) for card in CARDS]
        table.add_row(name, *("fits" if n >= rows else f"{n} rows" if n else "no" for n in most))
    return table


def _count(n: float) -> str:
    for by, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if n >= by:
            return f"{n / by:.3g} {unit}"
    return f"{n:.0f}"
