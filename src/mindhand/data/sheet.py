"""The contact sheet: a picture of exactly what the model sees, pixel for pixel."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mindhand.core.files import replacing

from .reader import Reader

GAP, LINE, LEAST = 6, 14, 96  # pixels; pictures are enlarged by a whole factor to at least LEAST on the sheet
PER_ROW = 6


def contact_sheet(reader: Reader, path: Path | str, episodes: Sequence[int], columns: int = PER_ROW) -> Path:
    """Writes a PNG: a band for each of `episodes` and camera, `columns` evenly spaced frames from first to last.

    Pictures are those of `Reader.seen`, as in training, and are enlarged by whole factors only
    (every pixel a square), each under its frame number; the band's captions are the instruction and, at that
    frame, the reasoning.
    """
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(size=11)
    zoom = {c.role: max(1, -(-LEAST // min(c.height, c.width))) for c in reader.spec.cameras}
    cell = max(c.width * zoom[c.role] for c in reader.spec.cameras) + GAP
    band = sum(c.height * zoom[c.role] + LINE for c in reader.spec.cameras)
    height = len(episodes) * (band + 3 * LINE + GAP) + GAP
    sheet = Image.new("RGB", (columns * cell + GAP, height), "white")
    draw = ImageDraw.Draw(sheet)
    fits = max(8, sheet.width // 6 - 1)
    y = GAP
    for number in episodes:
        row = reader.episodes[number]
        index = np.linspace(row.begin, row.end - 1, columns).astype(int)
        success = "not judged" if row.success is None else "success" if row.success else "failure"
        draw.text((GAP, y), f"episode {number}, {len(row)} frames, {success}"[:fits], "black", font)
        draw.text((GAP, y + LINE), f"instruction: {reader.instruction(row.begin)}"[:fits], "black", font)
        draw.text(
            (GAP, y + 2 * LINE),
            f"thought at frame {index[len(index) // 2] - row.begin}: {reader.reasoning(index[len(index) // 2])}"[:fits],
            "black",
            font,
        )
        y += 3 * LINE
        for camera in reader.spec.cameras:
            seen = reader.seen(camera.role, index)
            side = zoom[camera.role]
            for i, picture in enumerate(seen):
                big = picture.repeat(side, axis=0).repeat(side, axis=1)
                sheet.paste(Image.fromarray(big), (GAP + i * cell, y + LINE))
                label = f"{camera.role} {index[i] - row.begin}"
                draw.text((GAP + i * cell, y), label[: max(4, cell // 6)], "gray", font)
            y += camera.height * side + LINE
        y += GAP
    path = Path(path)
    with replacing(path) as temporary:
        sheet.save(temporary, "png")
    return path
