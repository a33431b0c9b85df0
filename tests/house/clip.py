"""The README's clip: one episode of a policy, seen large, with its thought beneath.

    python -m tests.house.clip src/mindhand/model/weights/nano-desk/checkpoint K-dev 20     task's part and index

Writes docs/demo.gif. The policy sees its own small pictures; a second stage, set to the same state, is drawn large.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mindhand.core.keys import Key
from mindhand.evaluate.protocol import MATHS
from mindhand.recipes.rollouts import load_policy
from mindhand.worlds.desk.canvas import Canvas
from mindhand.worlds.desk.stage import Stage
from mindhand.worlds.desk.world import DeskWorld

from .tree import ROOT

SIZE, BAR, EVERY, LAST = 360, 40, 3, 12  # pixels, control steps a frame, frames that the end is shown for
FONT = ROOT / "src/mindhand/worlds/desk/fonts/DejaVuSans-Bold-subset.ttf"


def frames(checkpoint: Path, split: str, index: int) -> tuple[list[Image.Image], bool]:
    """The episode's pictures, and whether it succeeded."""
    policy, key = load_policy(checkpoint), Key(MATHS.id, f"maths_matching/{split}", index, MATHS.seed)
    stage, canvas, out = Stage(SIZE), Canvas(SIZE), []
    font = ImageFont.truetype(str(FONT), 13)

    def shoot(world: DeskWorld, thought: str) -> None:
        stage.set_state(world._stages[0].get_state())
        frame = Image.new("RGB", (SIZE, SIZE + BAR), "white")
        frame.paste(Image.fromarray(np.ascontiguousarray(stage.paint(canvas, "front", (SIZE, SIZE)))))
        ImageDraw.Draw(frame).text((10, SIZE + 10), thought, "black", font)
        out.append(frame)

    with DeskWorld(1) as world:
        world.reset([key], [0])
        stage.dress(world._stages[0].scene)
        state, step = policy.start([key]), 0
        while True:
            chunk, state = policy.act(world.observe([0]), state)
            for action in chunk.actions[0, : MATHS.replan]:
                if step % EVERY == 0:
                    shoot(world, chunk.reasoning.texts[0])
                outcome = world.step(action[None], [0])
                step += 1
                if outcome.done[0]:
                    shoot(world, chunk.reasoning.texts[0])
                    return out + out[-1:] * LAST, bool(outcome.success[0])


def main() -> None:
    """Film, and write the clip."""
    pictures, success = frames(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
    file = ROOT / "docs" / "demo.gif"
    small = [p.quantize(48, dither=Image.Dither.NONE) for p in pictures]
    small[0].save(file, save_all=True, append_images=small[1:], duration=50 * EVERY, loop=0, optimize=True)
    print(f"{file}: {len(small)} frames, {file.stat().st_size >> 10} KiB, success {success}")


if __name__ == "__main__":
    main()
