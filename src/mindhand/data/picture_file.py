"""A picture that somebody hands over: any file that Pillow opens, as a viewer would show it, fitted into a frame.

What a robot's own camera took comes by `image.prepare` instead, which refuses every size but the camera's.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from mindhand.core.errors import BadData

from .image import rgb, squeeze

MOST_PIXELS = 2**26  # the largest telephone's 50 million open; a small file that fills the memory does not
MOST_BYTES = 2**28
EXPECTED = "a picture file: PNG, JPEG, WebP, GIF, TIFF, BMP or another that Pillow opens"
RESAVE = "open it in a viewer and save it as PNG or JPEG"


def open_picture(path: Path | str) -> tuple[np.ndarray, list[str]]:
    """A picture file as uint8 RGB (h,w,3), and what was done to it that a viewer would want to know, a sentence each.

    Turned upright as its EXIF orientation says. Transparency lies on white. 16 bits of grey are divided by 257; deeper
    grey, which has no scale of its own, is stretched from its darkest to its brightest pixel. CMYK becomes RGB without
    a colour profile. Of an animation or of several pages, the first. BadData for what is no picture, damaged, empty,
    or larger than MOST_BYTES or MOST_PIXELS.
    """
    path = Path(path)
    _check_file(path)
    notes: list[str] = []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of oddities that do not keep a viewer from showing the picture
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as opened:
                if opened.width * opened.height > MOST_PIXELS:
                    raise _too_large(path, f"{opened.width} x {opened.height} pixels")
                if not opened.width * opened.height:
                    raise BadData(f"{path}: a picture of {opened.width} x {opened.height} pixels", EXPECTED, RESAVE)
                if getattr(opened, "is_animated", False):
                    notes.append("it has several frames or pages: the first one is shown")
                turned = opened.getexif().get(ExifTags.Base.Orientation) in range(2, 9)
                opened.load()  # may change its mode, and turns a TIFF
                if turned:
                    notes.append("it was turned upright, as its EXIF orientation says")
                return rgb(ImageOps.exif_transpose(opened) if turned else opened, notes), notes
    except BadData:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _too_large(path, "far more pixels") from None
    except UnidentifiedImageError:
        raise BadData(f"{path} is no picture that can be opened", EXPECTED, RESAVE) from None
    except Exception as error:  # decoders raise whatever a damaged byte leads them to
        raise BadData(f"{path} cannot be read ({type(error).__name__}: {error})", EXPECTED, RESAVE) from error


def _check_file(path: Path) -> None:
    """BadData for a path that cannot be a picture's."""
    try:
        here = path.exists()
        size = path.stat().st_size if here else 0
    except (OSError, ValueError) as error:  # a name too long, a folder that may not be entered
        raise BadData(f"{path}: {error}", EXPECTED, "check the path") from error
    if not here:
        raise BadData(f"{path}: no such file", EXPECTED, "check the path")
    if path.is_dir():
        raise BadData(f"{path} is a folder", EXPECTED, "name one picture in it")
    if not path.is_file():  # a pipe would be waited for, a device has no end
        raise BadData(f"{path} is no ordinary file", EXPECTED, "save the picture into a file first")
    if not size:
        raise BadData(f"{path} is empty", EXPECTED, "copy or download it again")
    if size > MOST_BYTES:
        raise _too_large(path, f"{size / 2**20:.0f} MiB")


def _too_large(path: Path, found: str) -> BadData:
    most = f"at most {MOST_PIXELS / 1e6:.0f} million pixels in {MOST_BYTES / 2**20:.0f} MiB"
    return BadData(f"{path} is too large: {found}", most, "make it smaller: the model sees few of its pixels anyway")


def fitted_size(picture: tuple[int, int], frame: tuple[int, int]) -> tuple[int, int]:
    """(height, width) of a picture that is made as large as a frame takes, with its proportions kept to a pixel."""
    scale = min(frame[0] / picture[0], frame[1] / picture[1])
    high, wide = (min(most, max(1, round(side * scale))) for side, most in zip(picture, frame))
    return high, wide


def fit(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """uint8 (h,w,3) -> uint8 (height,width,3): the whole picture in the middle, as large as goes without squashing it,
    and the rest in the mean colour of its border. By area where it shrinks, bilinear where it grows; as it is where it
    has the size. BadData for another kind of array."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise BadData(f"a picture of {image.dtype} {image.shape}", "uint8 (height, width, 3)", "open it as RGB")
    high, wide = fitted_size(image.shape[:2], (height, width))
    # A colour at a time: of all three together the float64 copy of a large picture is 1.6 GB.
    small = np.concatenate([squeeze(image[..., c : c + 1], high, wide) for c in range(3)], -1)
    border = np.concatenate([small[0], small[-1], small[:, 0], small[:, -1]])
    out = np.empty((height, width, 3), np.uint8)
    out[:] = np.floor(border.mean(0) + 0.5).astype(np.uint8)
    top, left = (height - high) // 2, (width - wide) // 2
    out[top : top + high, left : left + wide] = small
    return out
