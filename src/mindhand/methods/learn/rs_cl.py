"""RS-CL: what conditions the hand is ordered by the robot's state, not by how scenes look (2510.01711).

Seams: streams, objectives. An adapter (`Summary`) reads the trunk's tokens with one more, learned; its tokens go to the
hand, the one more is contrasted: a view with a camera cut off must be nearest to those rows whose proprioceptive state
is near, as near as that is. The loss fades with the training. Differs from the heart: the hand reads tokens beside the
two means. The paper: GR00T N1.5 on RoboCasa with 30 demonstrations 48.2 to 53.0 %, pick and place 30.3 to 41.5.
Use: VLA(streams=[..., Summary(Config(...))], objectives=[..., RSCL(config)], ...), weight "rs_cl": 1.0
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mindhand.core.batch import Batch
from mindhand.core.card import Claim, MethodCard
from mindhand.core.errors import BuildError
from mindhand.core.keys import Keys
from mindhand.core.parts import Entry
from mindhand.core.seams import Context, Inputs, Segment, State, StreamOut, Trunk
from mindhand.core.spec import Spec
from mindhand.model import fits


@dataclass(frozen=True)
class Config:
    """The adapter, what is contrasted, and for how long. In brackets the paper's values."""

    trunk: int  # D
    width: int  # of the hand
    state: int  # S
    layers: int = 1  # of the adapter (4, of GR00T's)
    heads: int = 4  # of its attention
    hidden: int = 256  # of the projection (2048)
    out: int = 64  # of it (128)
    beta: float = 1.0  # of the distance of states (1.0)
    tau: float = 0.2  # of the similarity (0.2)
    steps: int = 1000  # of the training, over which the weight falls from 1 to 0 as a cosine
    frozen: bool = True  # no gradient reaches the trunk (True)


class Summary(nn.Module):
    """Stream: the trunk's tokens, adapted, to the hand; the summary token is its state "summary" (B,D)."""

    part_name = "rs_cl_summary"
    feeds: Literal["expert"] = "expert"
    provides: frozenset[str] = frozenset({"summary"})

    def __init__(self, config: Config):
        super().__init__()
        c = self.config = config
        self.needs = frozenset({"text", fits.trunk(c.trunk), fits.HEARS, fits.tokens(c.width)})
        how = {"dropout": 0.0, "activation": "gelu", "batch_first": True, "norm_first": True}
        layer = nn.TransformerEncoderLayer(c.trunk, c.heads, 4 * c.trunk, **how)
        self.adapter = nn.TransformerEncoder(layer, c.layers, enable_nested_tensor=False)
        self.token = nn.Parameter(torch.randn(1, 1, c.trunk) * 0.02)
        self.leave = nn.Linear(c.trunk, c.width)

    def start(self, rows: int) -> State:
        """No memory: what is there is for whoever contrasts it."""
        return {"summary": torch.zeros(rows, self.config.trunk, device=self.token.device)}

    def read(self, trunk: Trunk) -> tuple[Tensor, Tensor, dict[str, slice]]:
        """Tokens (B,n,D) of the language tower, which of them count (B,n), and where each picture's are."""
        names = [n for n in trunk.hidden if trunk.tower.get(n, "vlm") == "vlm"]
        at, views = 0, {}
        for n in names:
            size = trunk.hidden[n].shape[1]
            if n.startswith("image/"):
                views[n] = slice(at, at + size)
            at += size
        x = torch.cat([trunk.hidden[n] for n in names], 1)
        return (x.detach() if self.config.frozen else x), torch.cat([trunk.valid[n] for n in names], 1), views

    def adapt(self, x: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """x (B,n,D), valid (B,n) -> its tokens (B,n,D) and the summary (B,D)."""
        one = torch.ones_like(valid[:, :1])
        out = self.adapter(
            torch.cat([x, self.token.expand(len(x), -1, -1).to(x.dtype)], 1),
            src_key_padding_mask=~torch.cat([valid, one], 1),
        )
        return out[:, :-1], out[:, -1]

    def forward(self, inputs: Inputs, trunk: Trunk | None, state: State) -> StreamOut:
        """The adapted tokens; of remembered thoughts those there are."""
        assert trunk is not None
        x, valid, _ = self.read(trunk)
        h, summary = self.adapt(x, valid)
        place = torch.zeros(*valid.shape, 3, dtype=torch.int64, device=x.device)
        return StreamOut((Segment("summary", self.leave(h), valid, place),), {"summary": summary})


def targets(states: Tensor, beta: float) -> Tensor:
    """(B,B), rows sum to 1: softmax of minus the distances of states (B,S) over beta."""
    return (-torch.cdist(states, states) / beta).softmax(1)


def contrast(z: Tensor, cut: Tensor, weights: Tensor, tau: float) -> Tensor:
    """(B,): cross-entropy of the targets (B,B) against the similarities of z and `cut` (B,d each)."""
    likeness = F.normalize(z, dim=-1) @ F.normalize(cut, dim=-1).T / tau
    return -(weights * likeness.log_softmax(1)).sum(1)


class RSCL(nn.Module):
    """Objective "rs_cl": (B,), of robot rows; needs a `Summary` among the streams."""

    replaces: frozenset[str] = frozenset()
    needs: frozenset[str] = frozenset({"summary"})
    provides: frozenset[str] = frozenset({"rs_cl"})

    def __init__(self, config: Config):
        super().__init__()
        c = self.config = config
        self.project = nn.Sequential(nn.Linear(c.trunk, c.hidden), nn.ReLU(), nn.Linear(c.hidden, c.out))
        self.register_buffer("done", torch.tensor(0))
        self.register_buffer("low", torch.full((c.state,), math.inf))
        self.register_buffer("high", torch.full((c.state,), -math.inf))

    done: Tensor
    low: Tensor
    high: Tensor

    @property
    def weight(self) -> float:
        """1 at the first step, 0 at the last, a cosine between."""
        part = min(float(self.done) / max(self.config.steps - 1, 1), 1.0)
        return 0.5 * (1 + math.cos(math.pi * part))

    def scaled(self, states: Tensor) -> Tensor:
        """States (B,S) to [-1,1] by the extremes met so far, these included."""
        self.low.copy_(torch.minimum(states.detach().amin(0), self.low))
        self.high.copy_(torch.maximum(states.detach().amax(0), self.high))
        return (states - self.low) / (self.high - self.low).clamp_min(1e-6) * 2 - 1

    def cut(self, x: Tensor, views: Mapping[str, slice], keys: Keys) -> Tensor:
        """The tokens without those of one camera, drawn anew for every batch; of one alone, without half of them."""
        if not views:
            raise BuildError("a trunk without pictures", "one camera at least", "give it one, or take RS-CL out")
        which = list(views.values())[int(keys.fold("view").uniform()[0] * len(views))]
        gone = torch.zeros(x.shape[:2], dtype=torch.bool, device=x.device)
        gone[:, which] = True
        if len(views) == 1:
            half = torch.from_numpy(keys.fold("half").uniform(which.stop - which.start) < 0.5)
            gone[:, which] = half.to(x.device)
        return x.masked_fill(gone.unsqueeze(-1), 0.0)

    def loss(self, vla: Any, batch: Batch, ctx: Context, keys: Keys) -> dict[str, Tensor]:
        """Nothing where no row acts; rows of other data are left out."""
        if batch.action_valid is None or batch.state is None or not bool((robot := batch.action_valid.any(1)).any()):
            return {}
        stream = next(s for s in vla.streams if isinstance(s, Summary))
        summary = next(o.state["summary"] for o in ctx.streams.values() if "summary" in o.state)
        x, valid, views = stream.read(ctx.trunk)
        _, other = stream.adapt(self.cut(x, views, keys), valid)
        weights = targets(self.scaled(batch.state[robot][:, -1].float()), self.config.beta)
        each = contrast(*(self.project(w[robot]).float() for w in (summary, other)), weights, self.config.tau)
        out = torch.zeros(len(robot), device=each.device).index_put((robot.nonzero()[:, 0],), each)
        return {"rs_cl": self.weight * out * len(robot) / int(robot.sum())}

    def after_step(self, vla: Any, step: int) -> None:
        """The weight falls."""
        self.done.fill_(step + 1)


def cknna(a: Tensor, b: Tensor, k: int = 10) -> float:
    """Centred kernel nearest-neighbour alignment (2405.07987) of features (n,*) of the same items, 1 for alike."""
    n = len(a)
    kernels, near = [], []
    for x in (a, b):
        x = (x.flatten(1) - x.flatten(1).mean(0)).double()
        gram = x @ x.T
        kernels.append(gram)
        top = gram.masked_fill(torch.eye(n, dtype=torch.bool), -torch.inf).topk(min(k, n - 1), 1).indices
        near.append(torch.zeros(n, n, dtype=torch.bool).scatter(1, top, True))

    def align(i: int, j: int) -> Tensor:
        return (kernels[i] * kernels[j])[near[i] & near[j]].sum()

    return float(align(0, 1) / (align(0, 0) * align(1, 1)).sqrt().clamp_min(1e-12))


PART = Entry("rs_cl_summary", Config, lambda config, **_: Summary(config))
CARD = MethodCard(
    name="rs_cl",
    title="RS-CL",
    arxiv="2510.01711",
    area="learn",
    seams=("streams", "objectives"),
    claim=Claim("a hand on tokens ordered by the robot's state succeeds more often than on the same tokens", "effect"),
)


def plug(parts: Mapping[str, Any], spec: Spec, config: Config | None = None) -> dict[str, Any]:
    """The adapter among the streams, the loss among the objectives."""
    c = config or Config(parts["backbone"].width, parts["expert"].config.width, spec.state_size)
    streams, objectives = [*parts.get("streams", ()), Summary(c)], [*parts.get("objectives", ()), RSCL(c)]
    return {**parts, "streams": streams, "objectives": objectives}


def probe(on: Any, off: Any) -> bool:
    """Trained on this loss alone, the summaries of pictures become ordered by the state."""
    found = [s for s in on.streams if isinstance(s, Summary)]
    if not found or any(isinstance(s, Summary) for s in off.streams):
        return False
    stream, objective = found[0], next(o for o in on.objectives if isinstance(o, RSCL))
    g = torch.Generator().manual_seed(0)
    rows, state = 24, torch.rand(24, 1, 2, generator=g)
    look = torch.randn(2, on.backbone.width, generator=g)  # how the state shows, beside much that has no meaning
    x = torch.randn(rows, 8, on.backbone.width, generator=g) + 2 * state @ look
    valid = torch.ones(rows, 8, dtype=torch.bool)
    params = [*stream.parameters(), *objective.parameters()]
    optimiser = torch.optim.AdamW(params, 3e-3)

    def order() -> float:
        with torch.no_grad():
            return cknna(stream.adapt(x, valid)[1], state[:, 0], 5)

    before = order()
    for step in range(30):
        cut = objective.cut(x, {"image/front": slice(0, 8)}, Keys.seeded(rows, "probe", step))
        sides = (objective.project(stream.adapt(v, valid)[1]) for v in (x, cut))
        loss = contrast(*sides, targets(state[:, 0] * 2 - 1, stream.config.beta), stream.config.tau).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return order() > before + 0.1
