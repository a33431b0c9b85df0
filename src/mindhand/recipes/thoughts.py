"""What a mind thinks at the frames of demonstrations, remembered for the hand that learns from it.

The texts are the demonstrations' (given, as the paper has it), or the mind's own: what it writes there itself, wrong
where it is wrong, which is what the hand will hear when it acts.

Of a thought its mean is kept, a row a frame; for a hand that attends to tokens, all of them, a row a thought, padded to
the longest, in float16: 2 D bytes a token. 25,000 thoughts of up to 40 tokens and D = 128 are 256 MB, on disk and in
memory (384 MB of D = 192), and twice that while they are joined.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mindhand.core.files import replacing
from mindhand.core.folder import as_bytes
from mindhand.core.keys import Keys
from mindhand.core.precision import half
from mindhand.data.robot import RobotFrames
from mindhand.evaluate.protocol import MATHS
from mindhand.model.cascade import Cascade, goal_codes
from mindhand.model.thinking import remember
from mindhand.model.vla import VLA

SOME = 4096  # thoughts, at least, whose tokens a hand that attends to tokens is fitted on


@dataclass(frozen=True)
class Repeated:
    """An array of rows many of which are the same, each stored once. values (m,...); row (n,): which is the n-th."""

    values: np.ndarray
    row: np.ndarray

    def __getitem__(self, at: np.ndarray) -> np.ndarray:
        """The rows `at` (k,), a copy of each: (k,...)."""
        return self.values[self.row[at]]


def listen(vla: VLA, robot: RobotFrames, index: np.ndarray, file: Path, *, own: bool = False) -> dict[str, Any]:
    """Fit the hand to what the VLM thinks at these frames; returns that (`remembered_thoughts`)."""
    kept = remembered_thoughts(vla, robot, index, file, own=own)
    vla.expert.prompt.fit(torch.from_numpy(kept["prompt"]))
    if "there" not in kept:
        vla.expert.thought.fit(torch.from_numpy(kept["reasoning"]))
        return kept
    tokens, there = kept["reasoning"].values, kept["there"].values
    means = [x[on].sum(0, dtype=np.float32) / np.float32(max(1, on.sum())) for x, on in zip(tokens, there)]
    vla.expert.thought.fit(torch.from_numpy(np.stack(means)[kept["there"].row]))
    some = slice(None, None, max(1, len(tokens) // SOME))
    vla.expert.tokens.fit(torch.from_numpy(tokens[some][there[some]].astype(np.float32)))
    return kept


@torch.inference_mode()
def remembered_thoughts(
    vla: VLA, robot: RobotFrames, index: np.ndarray, file: Path, *, own: bool = False
) -> dict[str, Any]:
    """Mean hidden states of prompt and reasoning at global frames (ascending), float32 (frames, D), kept in `file`
    for this mind, these frames and these words: what another one thought there is thought anew. own: the words are
    what the mind's own reasoner writes there, as when it acts; else the demonstrations'. For a hand that attends to
    tokens, "reasoning" is these, float16 (frames, n, D), and "there" bool (frames, n) which of them there are, both
    `Repeated`.

    A thought is thought anew as often as an evaluation asks, and wherever its words change; between, it is as old as
    one that a chunk is carried out by."""
    if isinstance(vla.expert, Cascade):
        said = goal_codes(robot.thoughts(index), vla.expert.config.trunk)
        return {"prompt": np.zeros_like(said), "reasoning": said}
    texts = np.array(robot.thoughts(index))
    each = vla.expert.config.place == "attend"
    whose = [*([["own", vla.reasoner.config.limit]] if own else []), *(["tokens"] if each else [])]
    mine = hashlib.sha256(json.dumps([robot.reader.fingerprint(), index.tolist(), texts.tolist(), *whose]).encode())
    for told in as_bytes(vla.backbone.state_dict()):
        mine.update(told)
    if file.exists():
        with np.load(file, allow_pickle=False) as found:
            if str(found.get("of", "")) == mine.hexdigest():
                return _by_frame({n: found[n] for n in found.files if n != "of"})
    vla.eval()
    parts: dict[str, list[np.ndarray]] = {}
    episode = robot.reader.episode_index[index]
    query = robot.reader.frame_index[index] // MATHS.replan
    anew = np.ones(len(index), bool)
    anew[1:] = (query[1:] != query[:-1]) | (texts[1:] != texts[:-1]) | (episode[1:] != episode[:-1])
    for at in np.array_split(index[anew], max(1, int(anew.sum()) // 128)):
        with torch.autocast(vla.device.type, torch.bfloat16, enabled=half(vla.device)):
            kept = remember(_own(vla, robot, at) if own else _given(vla, robot, at), each)
        for name, x in kept.items():
            parts.setdefault(name, []).append(_stored(x))
    row = anew.cumsum() - 1
    if each:
        whole = {"prompt": np.concatenate(parts["prompt"])[row], "row": row}
        whole |= {name: _padded(parts[name]) for name in ("reasoning", "there")}
    else:
        whole = {n: np.concatenate(x)[row] for n, x in parts.items()}
    with replacing(file) as temporary, open(temporary, "wb") as out:
        np.savez(out, of=np.array(mine.hexdigest()), **whole)
    return _by_frame(whole)


def _stored(x: torch.Tensor) -> np.ndarray:
    """Means (B,D) in float32, tokens (B,n,D) in float16, flags as they are."""
    if x.dtype == torch.bool:
        return x.numpy()
    return x.float().numpy() if x.ndim == 2 else x.to(torch.float16).numpy()


def _padded(parts: list[np.ndarray]) -> np.ndarray:
    """One array of those (b,n,...) whose n differ."""
    out = np.zeros((sum(map(len, parts)), max(x.shape[1] for x in parts), *parts[0].shape[2:]), parts[0].dtype)
    begin = 0
    for x in parts:
        out[begin : begin + len(x), : x.shape[1]] = x
        begin += len(x)
    return out


def _by_frame(found: Mapping[str, np.ndarray]) -> dict[str, Any]:
    if "row" not in found:
        return dict(found)
    told = {name: Repeated(found[name], found["row"]) for name in ("reasoning", "there")}
    return {"prompt": found["prompt"], **told}


def _given(vla: VLA, robot: RobotFrames, at: np.ndarray) -> Any:
    batch = robot.batch(at, Keys.seeded(len(at), "remember"))
    return vla.trunk(batch, vla.inputs(batch))


def _own(vla: VLA, robot: RobotFrames, at: np.ndarray) -> Any:
    obs = robot.observe(at)
    return vla.think(obs, vla.start(obs.keys))[0].trunk
