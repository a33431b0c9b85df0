"""Small films: h264 in an mp4 that a browser plays, animated WebP where no h264 can be written."""

from __future__ import annotations

import io
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from mindhand.core.errors import BadData
from mindhand.core.files import write_atomic

TYPES = {".mp4": "video/mp4", ".webp": "image/webp"}


def encode(frames: Sequence[np.ndarray], rate: float) -> tuple[bytes, str]:
    """uint8 (h,w,3) frames at `rate` a second -> (file, its suffix ".mp4" or ".webp"). All frames of one size."""
    if not frames or len({f.shape for f in frames}) != 1:
        raise BadData(f"{len(frames)} frames of sizes {sorted({f.shape for f in frames})}", "one size", "film again")
    try:
        return _h264(frames, rate), ".mp4"
    except Exception:  # no encoder in this build of FFmpeg: its errors have no common type
        return _webp(frames, rate), ".webp"


def _h264(frames: Sequence[np.ndarray], rate: float) -> bytes:
    import av

    # Browsers play 4:2:0 only, which needs even sides: the last row or column is repeated.
    h, w = frames[0].shape[:2]
    buffer = io.BytesIO()
    # Without +faststart: it would read the file back by a name, which a buffer does not have, and damage it.
    with av.open(buffer, "w", format="mp4") as out:
        stream = out.add_stream("libx264", rate=Fraction(rate).limit_denominator(1000))
        stream.width, stream.height, stream.pix_fmt = w + w % 2, h + h % 2, "yuv420p"
        stream.options = {"crf": "26", "preset": "veryfast", "threads": "1"}
        for picture in frames:
            even = np.pad(picture, ((0, h % 2), (0, w % 2), (0, 0)), mode="edge")
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")))
        out.mux(stream.encode())
    return buffer.getvalue()


def _webp(frames: Sequence[np.ndarray], rate: float) -> bytes:
    from PIL import Image

    pictures = [Image.fromarray(f) for f in frames]
    buffer = io.BytesIO()
    pictures[0].save(
        buffer,
        "WEBP",
        save_all=True,
        append_images=pictures[1:],
        duration=max(1, round(1000 / rate)),
        loop=0,
        quality=70,
    )
    return buffer.getvalue()


def write_film(frames: Sequence[np.ndarray], rate: float, path: Path) -> Path:
    """Encode and write; `path` without a suffix, which follows from what could be encoded. Returns the file."""
    data, suffix = encode(frames, rate)
    file = path.with_name(path.name + suffix)
    write_atomic(file, data)
    return file
