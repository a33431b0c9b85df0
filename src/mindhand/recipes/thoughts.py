"""What a mind thinks at the frames of demonstrations, remembered for the hand that learns from it.

The texts are the demonstrations' (given, as the paper has it), or the mind's own: what it writes there itself, wrong
where it is wrong, which is what the hand will hear when it acts.
"""

from __future__ import annotations

import hashlib
import json
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


def listen(vla: VLA, robot: RobotFrames, index: np.ndarray, file: Path, *, own: bool = False) -> dict[str, np.ndarray]:
    """Fit the hand to what the VLM thinks at these frames; returns that (`remembered_thoughts`)."""
    kept = remembered_thoughts(vla, robot, index, file, own=own)
    vla.expert.prompt.fit(torch.from_numpy(kept["prompt"]))
    vla.expert.thought.fit(torch.from_numpy(kept["reasoning"]))
    return kept


@torch.inference_mode()
def remembered_thoughts(
    vla: VLA, robot: RobotFrames, index: np.ndarray, file: Path, *, own: bool = False
) -> dict[str, np.ndarray]:
    """Mean hidden states of prompt and reasoning at global frames (ascending), float32 (frames, D), kept in `file`
    for this mind, these frames and these words: what another one thought there is thought anew. own: the words are
    what the mind's own reasoner writes there, as when it acts; else the demonstrations'.

    A thought is thought anew as often as an evaluation asks, and wherever its words change; between, it is as old as
    one that a chunk is carried out by."""
    if isinstance(vla.expert, Cascade):
        said = goal_codes(robot.thoughts(index), vla.expert.config.trunk)
        return {"prompt": np.zeros_like(said), "reasoning": said}
    texts = np.array(robot.thoughts(index))
    whose = [["own", vla.reasoner.config.limit]] if own else []
    mine = hashlib.sha256(json.dumps([robot.reader.fingerprint(), index.tolist(), texts.tolist(), *whose]).encode())
    for told in as_bytes(vla.backbone.state_dict()):
        mine.update(told)
    if file.exists():
        with np.load(file, allow_pickle=False) as found:
            if str(found.get("of", "")) == mine.hexdigest():
                return {n: found[n] for n in found.files if n != "of"}
    vla.eval()
    parts: dict[str, list[np.ndarray]] = {}
    episode = robot.reader.episode_index[index]
    query = robot.reader.frame_index[index] // MATHS.replan
    anew = np.ones(len(index), bool)
    anew[1:] = (query[1:] != query[:-1]) | (texts[1:] != texts[:-1]) | (episode[1:] != episode[:-1])
    for at in np.array_split(index[anew], max(1, int(anew.sum()) // 128)):
        with torch.autocast(vla.device.type, torch.bfloat16, enabled=half(vla.device)):
            kept = remember(_own(vla, robot, at) if own else _given(vla, robot, at))
        for name, x in kept.items():
            parts.setdefault(name, []).append(x.float().numpy())
    whole = {n: np.concatenate(x)[anew.cumsum() - 1] for n, x in parts.items()}
    with replacing(file) as temporary, open(temporary, "wb") as out:
        np.savez(out, of=np.array(mine.hexdigest()), **whole)
    return whole


def _given(vla: VLA, robot: RobotFrames, at: np.ndarray) -> Any:
    batch = robot.batch(at, Keys.seeded(len(at), "remember"))
    return vla.trunk(batch, vla.inputs(batch))


def _own(vla: VLA, robot: RobotFrames, at: np.ndarray) -> Any:
    obs = robot.observe(at)
    return vla.think(obs, vla.start(obs.keys))[0].trunk
