"""Pictures of episodes as h264 in mp4: each episode encoded by itself, then many put into one file as they are.

Every second frame is a key frame, as LeRobot films, so a frame costs two decoded ones wherever it lies. There are no
frames that depend on later ones: a packet is a frame, and an episode's time begins at 0 without an edit list. One
thread encodes, so that bytes depend on pictures alone; workers that record fill the machine.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from mindhand.core.errors import BadData

CODEC, PIXELS = "h264", "yuv420p"
GAP = 2  # frames from one key frame to the next
QUALITY = 23  # x264's constant rate factor, its own default


def about(height: int, width: int, fps: float) -> dict[str, Any]:
    """What LeRobot keeps beside a filmed feature, under "info"."""
    return {
        "video.height": height,
        "video.width": width,
        "video.codec": CODEC,
        "video.pix_fmt": PIXELS,
        "video.is_depth_map": False,
        "video.fps": whole(fps),
        "video.channels": 3,
        "has_audio": False,
    }


def whole(fps: float) -> float:
    """Frames/s as LeRobot writes them: an integer where they are one."""
    return int(fps) if float(fps).is_integer() else fps


def require_even(role: str, height: int, width: int) -> None:
    """Refuses a picture that halved colour does not fit."""
    if height % 2 or width % 2:
        raise BadData(
            f"pictures of {height}x{width} of camera '{role}' as {PIXELS} video",
            "even numbers of rows and columns, since colour is kept at half of each",
            "store this dataset with pictures inline (video=False), or state an even size in the spec",
        )


def encode(pictures: np.ndarray, fps: float) -> bytes:
    """A whole mp4 of uint8 (T,h,w,3), h and w even; frame t is shown at t / fps seconds."""
    import av

    out = io.BytesIO()
    options = {"crf": str(QUALITY), "g": str(GAP), "bf": "0"}
    with av.open(out, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=_exact(fps), options=options)
        stream.height, stream.width, stream.pix_fmt = *pictures.shape[1:3], PIXELS
        stream.codec_context.thread_count = 1
        for picture in pictures:
            container.mux(stream.encode(converted(av.VideoFrame.from_ndarray(picture, format="rgb24"), PIXELS)))
        container.mux(stream.encode())
    return out.getvalue()


def converted(frame: Any, pixels: str) -> Any:
    """An av.VideoFrame in another pixel format. In one thread: those that PyAV starts from version 17 on, for every
    picture anew, cost more than a small picture does."""
    import av

    return frame.reformat(format=pixels, **({"threads": 1} if int(av.__version__.split(".")[0]) >= 17 else {}))


def join(path: Path, episodes: Iterable[tuple[bytes, int]], fps: float) -> None:
    """Writes `path` from (mp4, frames) of `encode`, one after the other without encoding again. One episode is held at
    a time; the first frame of each is shown at (frames before it) / fps seconds. BadData for one that is damaged, has
    another number of frames or comes from another encoder."""
    import av

    begin, out = 0, None
    with av.open(str(path), "w", format="mp4") as container:
        for number, (data, frames) in enumerate(episodes):
            what = f"episode {number} of those that {path.name} is made of"
            try:
                with av.open(io.BytesIO(data)) as film:
                    stream = film.streams.video[0]
                    out = out or container.add_stream_from_template(stream)
                    if stream.codec_context.extradata != out.codec_context.extradata:
                        raise _another(what, "was filmed by another encoder, or another size")
                    packets = [p for p in film.demux(stream) if p.size]
                    if len(packets) != frames:
                        raise _another(what, f"has {len(packets)} frames in its film and {frames} in its table")
                    shift = begin / _exact(fps) / stream.time_base
                    for packet in packets:
                        packet.pts, packet.dts = packet.pts + int(shift), packet.dts + int(shift)
                        packet.stream = out
                        container.mux(packet)
            except (av.FFmpegError, IndexError) as error:
                raise _another(what, f"cannot be read ({error})") from error
            begin += frames


def _another(what: str, why: str) -> BadData:
    return BadData(f"{what} {why}", "films of one encoder, whole", "discard what is staged and record it again")


def _exact(fps: float) -> Fraction:
    return Fraction(fps).limit_denominator(10_000)
