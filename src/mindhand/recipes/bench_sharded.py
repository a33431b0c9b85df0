"""A training in shares beside the same one in one process: a tiny VLM with experts, a hand, a few steps.

    mindhand bench fsdp2        two processes of this machine, as torchrun starts them; records scale/fsdp2/...

What differs is rounding, and what an optimiser makes of it: rates are small, so that it makes little.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

import mindhand.model
import mindhand.train
from mindhand.core.batch import Batch
from mindhand.core.record import Record, write_record
from mindhand.data.files import read_rows
from mindhand.model.codec import ChunkCodec
from mindhand.model.configs import expert_config
from mindhand.model.expert import ActionExpert
from mindhand.model.moe import MoEConfig, Upcycle
from mindhand.model.reasoner import ReasonerConfig, WordsReasoner, unread
from mindhand.model.vla import VLA
from mindhand.train.loop import train_stage
from mindhand.train.ranks import dealt, meet, picked, rank
from mindhand.train.sharded import own, recompute, shard
from mindhand.train.stage import Optimiser, Stage

from . import tiny

STEPS, PROCESSES = 40, 2
LOSSES = ("text", "action")


@dataclass(frozen=True)
class Dealt:
    """A source of `count` batches, in turn; every process takes its share."""

    batches: tuple[Batch, ...]

    def batch(self, vla: Any, step: int) -> Batch:
        """The batch of a step."""
        return dealt(self.batches[step % len(self.batches)])


def build(seed: int = 0) -> VLA:
    """A VLM with a hand and four experts a layer that are no longer alike; weights are a function of the seed."""
    mind, spec = tiny.vlm(seed=seed), tiny.SPEC
    size = {"action": spec.action_size, "horizon": tiny.HORIZON, "state": spec.state_size, "trunk": tiny.WIDTH}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        vla = VLA(
            spec=spec,
            backbone=mind,
            expert=ActionExpert(expert_config("test", **size)),
            codec=ChunkCodec(spec),
            reasoner=WordsReasoner(ReasonerConfig(limit=8), unread),
            edits=[Upcycle(MoEConfig(experts=4))],
        )
        for name, p in vla.named_parameters():
            if ".ffn." in name:
                p.data += 0.1 * p.detach().std().clamp_min(0.01) * torch.randn_like(p)
    return tiny.fitted(vla)


def stage(steps: int = STEPS, count: int = 4) -> Stage:
    """All of it learns, in float32, from a few batches. Two neighbouring rows have as many words to say as the other
    two: tokens weigh the same within a process, and so they do over both."""
    some = tuple(picked(tiny.batches(tiny.vlm(), seed)[0], [0, 1, 3, 2]) for seed in range(count))
    how = Optimiser(lr=2e-4, muon=2e-3, warmup=2, decay=0.0)
    return Stage("shares", Dealt(some), steps, ("*",), dict.fromkeys(LOSSES, 1.0), how, seed=1, bf16=False)


def trained(folder: Path, steps: int = STEPS, again: bool = True) -> VLA:
    """One training in `folder`, by however many processes there are, a line of metrics.jsonl a step."""
    vla = build()
    shard(recompute(vla) if again else vla)
    train_stage(vla, stage(steps), folder, tells=1)
    return vla


def compared(home: Path, processes: int = PROCESSES, steps: int = STEPS) -> list[dict[str, Any]]:
    """Rows, one a step: the larger difference of its losses between one process and several, of the loss's size."""
    call = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--standalone"]
    call += ["--local-addr", "127.0.0.1", "-m", __name__, str(home / "several"), str(steps)]
    subprocess.run(call, check=True, capture_output=True)
    trained(home / "one", steps, again=False)
    one, several = (read_rows(home / name / "metrics.jsonl") for name in ("one", "several"))
    return [
        {"key": f"step/{a['step']}", "off": max(abs(a[n] - b[n]) / max(abs(a[n]), 1e-3) for n in LOSSES)}
        for a, b in zip(one, several, strict=True)
    ]


def publish(folder: Path | None = None) -> list[Record]:
    """Write the record (under results/, or as a draft under `folder`)."""
    torch.set_num_threads(1)
    with TemporaryDirectory() as home:
        rows = compared(Path(home))
    how = {"sources": (Path(__file__), tiny, mindhand.model, mindhand.train), "command": "mindhand bench fsdp2"}
    name = "scale/fsdp2/loss_difference"
    return [write_record(name, rows=rows, field="off", kind="mean", unit="1", chance=None, folder=folder, **how)]


def main(folder: Path, steps: int) -> None:
    """What every process of torchrun does."""
    torch.set_num_threads(1)
    with meet():
        vla = trained(folder, steps)
        held = sum(own(p).numel() for p in vla.parameters())
        (folder / f"held-{rank()}.json").write_text(json.dumps({"numbers": held}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
