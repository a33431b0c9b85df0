"""Records of what choosing costs: the best of S chunks against one, of a policy of nano's size, side by side.

mindhand bench sampling        from a clean checkout
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch

import mindhand.methods.run.taco
from mindhand.core.batch import Batch
from mindhand.core.keys import Keys
from mindhand.core.nouns import smoke_observation
from mindhand.core.record import Record, write_record
from mindhand.core.seams import Policy
from mindhand.core.spec import Spec
from mindhand.kit.probe import fingerprint
from mindhand.methods.run.taco import CoinFlip, Config, Counts, wrap
from mindhand.model.configs import vlm_config
from mindhand.model.hearing import last_layer
from mindhand.model.vla import VLA
from mindhand.model.vlm import VLM
from mindhand.worlds.desk.spec import SPEC

from . import tiny
from .proofs.bench import flow

SAMPLES, REPEATS, HORIZON = (8, 32), 30, 8
SOURCES = ("mindhand.model", mindhand.methods.run.taco, "mindhand.kit.probe", Path(__file__))


def policy(size: str = "nano", spec: Spec = SPEC) -> VLA:
    """A flow policy on random weights: what it costs does not depend on them."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        words = tiny.words()
        vla = VLA(spec=spec, **flow(VLM(vlm_config(size, len(words)), words), spec, HORIZON))
    rows = 64
    actions = torch.from_numpy(Keys.seeded(rows, "sampling").normal(HORIZON, spec.action_size))
    state = torch.from_numpy(Keys.seeded(rows, "sampling", "state").normal(1, spec.state_size))
    valid, task = torch.ones(rows, HORIZON, dtype=torch.bool), torch.ones(rows, dtype=torch.int64)
    vla.codec.fit(iter([Batch((), {}, {}, {}, task, state, actions, valid)]))
    vla.state_scale.fit(state[:, 0])
    return vla.eval()


def choosing(vla: VLA, samples: int) -> Policy:
    """TACO round it, with counts that learned nothing: they cost as much."""
    config = Config(samples=samples)
    net = CoinFlip(last_layer(vla.expert).in_features, config).eval()
    return wrap(vla, config, Counts(net, config, fingerprint(vla), 0.0))


def seconds(one: Policy) -> float:
    """Of a query for one row."""
    obs = smoke_observation(one.spec)
    state = one.start(obs.keys)
    begin = time.perf_counter()
    one.act(obs, state)
    return time.perf_counter() - begin


def cost_rows(vla: VLA, samples: int, repeats: int) -> list[dict[str, Any]]:
    """A row a repeat: seconds of one chunk and of the best of so many, measured in turns, on one thread."""
    torch.set_num_threads(1)
    both, out = (vla, choosing(vla, samples)), []
    for one in both:
        seconds(one)  # whatever is made once
    for i in range(repeats):
        one, best = (seconds(p) for p in both)
        out.append({"key": f"repeat {i}", "one_s": one, "best_s": best, "samples": samples})
    return out


def publish(folder: Path | None = None, vla: VLA | None = None, repeats: int = REPEATS) -> list[Record]:
    """Records sampling/best_of_<S>_cost_ratio/<device>. The bar for 32 is 1.5; on one core, which has nothing to spare
    for what could be done at once, it is missed."""
    vla = vla or policy()
    return [
        write_record(
            f"sampling/best_of_{n}_cost_ratio/{vla.device.type}",
            rows=cost_rows(vla, n, repeats),
            field="best_s/one_s",
            kind="ratio",
            unit="1",
            chance=None,
            sources=SOURCES,
            command="mindhand bench sampling",
            folder=folder,
        )
        for n in SAMPLES
    ]
