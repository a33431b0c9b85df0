"""A bench of a handful of frames, for tests of what stands on it."""

from rich.console import Console

from mindhand.core.nouns import smoke_observation
from mindhand.data.files import write_json, write_rows
from mindhand.data.synthetic.vocabulary import train_words
from mindhand.evaluate.protocol import MATHS
from mindhand.methods.act.fast import plug as with_fast
from mindhand.model.store import save_vla
from mindhand.model.vla import VLA
from mindhand.recipes.nano import NanoPlan, build_reader
from mindhand.recipes.proofs import Proof
from mindhand.recipes.proofs.bench import Arm, Bench
from mindhand.recipes.rollouts import load_policy
from mindhand.worlds.desk.world import SPEC

QUIET = Console(quiet=True)

PROTOCOL = MATHS.only("maths_matching/R", episodes=1)
SHORT = {"demonstrations": 2, "every": 16, "steps": 2, "rows": 4}
TOKENS, FLOW = Bench("tokens", PROTOCOL, **SHORT), Bench("flow", PROTOCOL, **SHORT)
FAST = Proof("fast", TOKENS, (Arm("fast", with_fast),), trainings=3)


def make_home(folder):
    """The folder, with a VLM of random weights as "nano"."""
    reader = build_reader(NanoPlan("test", brief=False), train_words(True))
    save_vla(VLA(spec=SPEC, backbone=reader.backbone), folder / "nano")
    return folder


def one_row(checkpoint, protocol, folder, **how):
    """One query of the policy that was saved, in place of an episode of some hundred steps."""
    vla, seen = load_policy(checkpoint), smoke_observation(SPEC)
    chunk, _ = vla.act(seen, vla.start(seen.keys))
    assert chunk.actions.shape[1:] == (8, SPEC.action_size)
    write_rows(folder / "rows.jsonl", [{"key": "a/b/0/0", "success": True}])


def fake(at, arm, training, *right):
    """A cell that is done, with so many of ten episodes of each task right."""
    folder, tasks = at.folder(arm, training), at.bench.protocol.tasks
    (folder / "evaluation").mkdir(parents=True)
    rows = [
        {"key": f"p/{task}/{k}/0", "task": task, "success": k < many}
        for task, many in zip(tasks, right, strict=True) for k in range(10)
    ]  # fmt: skip
    write_rows(folder / "evaluation" / "rows.jsonl", rows)
    write_json(folder / "done.json", {})
