"""Whatever somebody hands over is shown as a viewer would show it, never squashed, or refused in one paragraph."""

import os
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mindhand.core.errors import BadData
from mindhand.core.keys import Keys
from mindhand.data import picture_file
from mindhand.data.image import resize
from mindhand.data.picture_file import fit, fitted_size, open_picture


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    (rng,) = Keys.seeded(1, "picture", seed, height, width).generators()
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


def ramp(high: int, kind: str) -> np.ndarray:
    return np.linspace(0, high, 60).reshape(6, 10).astype(kind)


# ---- files ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "ppm", "webp"])
def test_formats_without_loss_give_their_pixels(tmp_path, suffix):
    x = picture(6, 10)
    Image.fromarray(x).save(tmp_path / f"a.{suffix}", **({"lossless": True} if suffix == "webp" else {}))
    got, notes = open_picture(tmp_path / f"a.{suffix}")
    assert np.array_equal(got, x) and got.flags.c_contiguous and not notes


def test_a_wrong_suffix_does_not_matter(tmp_path):
    Image.fromarray(picture(6, 10)).save(tmp_path / "a.jpg", "png")
    assert np.array_equal(open_picture(str(tmp_path / "a.jpg"))[0], picture(6, 10))


def test_grey_and_black_and_white(tmp_path):
    grey = picture(6, 10)[..., 0]
    Image.fromarray(grey).save(tmp_path / "grey.png")
    assert np.array_equal(open_picture(tmp_path / "grey.png")[0], np.stack([grey] * 3, -1))
    Image.fromarray(grey > 99).save(tmp_path / "bits.png")
    assert np.array_equal(open_picture(tmp_path / "bits.png")[0][..., 1], np.where(grey > 99, 255, 0))


def test_what_is_transparent_lies_on_white(tmp_path):
    x, alpha = picture(6, 10), np.zeros((6, 10), np.uint8)
    alpha[:, 5:] = 255
    Image.fromarray(np.dstack([x, alpha])).save(tmp_path / "rgba.png")
    Image.fromarray(np.dstack([x[..., 0], alpha])).save(tmp_path / "la.png")
    for name in ("rgba", "la"):
        got, notes = open_picture(tmp_path / f"{name}.png")
        assert (got[:, :5] == 255).all() and np.array_equal(got[:, 5:, 0], x[:, 5:, 0]) and "white" in notes[0]
    alpha[:] = 255
    Image.fromarray(np.dstack([x, alpha])).save(tmp_path / "opaque.png")
    assert open_picture(tmp_path / "opaque.png")[1] == []


def test_a_palette_may_have_a_transparent_colour(tmp_path):
    p = Image.new("P", (4, 2), 1)
    p.putpalette([0, 0, 0, 200, 30, 40])
    p.putpixel((0, 0), 0)
    for how in (0, bytes([0, 255])):  # one colour, or a table
        p.save(tmp_path / "p.png", transparency=how)
        got, notes = open_picture(tmp_path / "p.png")
        assert got[0, 0].tolist() == [255, 255, 255] and got[1, 1].tolist() == [200, 30, 40] and len(notes) == 1


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_16_bits_are_scaled_not_cut_off(tmp_path, suffix):
    deep = ramp(65535, "uint16")
    Image.fromarray(deep).save(tmp_path / f"deep.{suffix}")
    got, notes = open_picture(tmp_path / f"deep.{suffix}")
    assert np.array_equal(got[..., 2], np.round(deep / 257)) and "16 bits" in notes[0]


def test_deeper_grey_is_stretched(tmp_path):
    for kind in ("float32", "int32"):
        Image.fromarray(ramp(1000, kind) - 300).save(tmp_path / "deep.tiff")
        got, notes = open_picture(tmp_path / "deep.tiff")
        assert got[0, 0, 0] == 0 and got[-1, -1, 0] == 255 and "stretched" in notes[0]
    Image.fromarray(np.full((2, 2), 7, np.float32)).save(tmp_path / "flat.tiff")
    assert not open_picture(tmp_path / "flat.tiff")[0].any()
    Image.fromarray(np.array([[0, np.nan]], np.float32)).save(tmp_path / "holes.tiff")
    with pytest.raises(BadData, match="finite"):
        open_picture(tmp_path / "holes.tiff")


def test_printing_inks_become_colours(tmp_path):
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "inks.jpg")
    got, notes = open_picture(tmp_path / "inks.jpg")
    assert got[4, 4, 0] > 200 and got[4, 4, 1:].max() < 60 and "CMYK" in notes[0]


@pytest.mark.parametrize("suffix", ["png", "jpg", "tiff", "webp"])
def test_pictures_are_turned_upright(tmp_path, suffix):
    x = np.zeros((16, 32, 3), np.uint8)
    x[:, 16:] = 255  # white on the right
    exif = Image.Exif()
    for orientation, white in ((6, "bottom"), (3, "left"), (8, "top"), (1, "right")):
        exif[0x0112] = orientation
        Image.fromarray(x).save(tmp_path / f"a.{suffix}", exif=exif)
        got, notes = open_picture(tmp_path / f"a.{suffix}")
        sides = {"top": got[:4], "bottom": got[-4:], "left": got[:, :4], "right": got[:, -4:]}
        assert got.shape == ((16, 32, 3) if orientation in (1, 3) else (32, 16, 3))
        assert max(sides, key=lambda s: sides[s].mean()) == white
        assert ("upright" in " ".join(notes)) == (orientation != 1)


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tiff"])
def test_of_several_frames_the_first_is_shown(tmp_path, suffix):
    frames = [Image.new("RGB", (8, 8), c) for c in ("red", "blue", "lime")]
    lossless = {"lossless": True} if suffix == "webp" else {}
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:], **lossless)
    got, notes = open_picture(tmp_path / f"a.{suffix}")
    assert got[4, 4].tolist() == [255, 0, 0] and "first" in notes[0]


def refusal(path) -> str:
    """What is said of a file that cannot be shown: one paragraph with its name."""
    with pytest.raises(BadData) as found:
        open_picture(path)
    said = str(found.value)
    assert str(path) in said and "expected:" in said and "next step:" in said and said.count("\n") == 2
    return said


def test_what_is_no_picture_file_is_refused(tmp_path):
    assert "no such file" in refusal(tmp_path / "none.png")
    assert "is a folder" in refusal(tmp_path)
    (tmp_path / "empty.png").touch()
    assert "is empty" in refusal(tmp_path / "empty.png")
    (tmp_path / "notes.png").write_text("the board says 3+4")
    assert "no picture" in refusal(tmp_path / "notes.png")
    assert "too long" in refusal(tmp_path / ("x" * 5000))
    os.mkfifo(tmp_path / "pipe.png")
    assert "no ordinary file" in refusal(tmp_path / "pipe.png")


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "tiff", "webp", "bmp"])
def test_damaged_files_are_refused_or_shown(tmp_path, suffix):
    """Cut off or overwritten anywhere: a refusal, or a picture where the format has nothing to notice it by."""
    file = tmp_path / f"a.{suffix}"
    Image.fromarray(picture(40, 40)).save(file)
    whole, (rng,) = file.read_bytes(), Keys.seeded(1, "damage", suffix).generators()
    refused = 0
    for n in range(40):
        data = bytearray(whole)
        if n % 2:
            data = data[: int(rng.integers(1, len(data)))]
        else:
            at = int(rng.integers(0, min(len(data), 200)))
            data[at : at + 8] = rng.bytes(8)
        file.write_bytes(data)
        try:
            assert open_picture(file)[0].shape[2] == 3
        except BadData:
            refused += 1
    assert refused >= 10


def png(width: int, height: int) -> bytes:
    """The beginning of a PNG that says it is so large."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(bytes(1000))
    chunks = (struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (head, data))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def test_what_would_fill_the_memory_is_refused(tmp_path, monkeypatch):
    for width, height in ((9000, 9000), (10_000, 10_000), (60_000, 60_000)):  # ours, Pillow's warning, its error
        (tmp_path / "bomb.png").write_bytes(png(width, height))
        assert "67 million pixels" in refusal(tmp_path / "bomb.png")
    monkeypatch.setattr(picture_file, "MOST_BYTES", 1000)
    (tmp_path / "long.png").write_bytes(bytes(1001))
    assert "too large" in refusal(tmp_path / "long.png")


# ---- fitting -------------------------------------------------------------------------------------------


def test_the_frame_s_own_size_passes_unchanged():
    x = picture(128, 128)
    assert np.array_equal(fit(x, 128, 128), x)


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 40), st.integers(1, 40))
def test_the_whole_picture_is_there_and_not_squashed(h, w, height, width):
    high, wide = fitted_size((h, w), (height, width))
    assert high == height or wide == width  # it touches the frame on two sides
    assert 1 <= high <= height and 1 <= wide <= width
    scale = min(height / h, width / w)
    assert abs(high - max(h * scale, 1)) <= 0.5 + 1e-9 and abs(wide - max(w * scale, 1)) <= 0.5 + 1e-9
    out = fit(picture(h, w), height, width)
    assert out.shape == (height, width, 3) and out.dtype == np.uint8
    top, left = (height - high) // 2, (width - wide) // 2
    how = "area" if h >= high and w >= wide else "bilinear"
    inside = resize(picture(h, w), high, wide, how)
    assert np.array_equal(out[top : top + high, left : left + wide], inside)


def test_what_is_left_over_has_the_border_s_colour():
    x = np.full((20, 40, 3), (10, 200, 90), np.uint8)
    x[5:15, 5:35] = 255  # what is inside does not count
    out = fit(x, 40, 40)
    assert (out[:10] == (10, 200, 90)).all() and (out[30:] == (10, 200, 90)).all()
    assert (fit(np.full((3, 7, 3), 77, np.uint8), 16, 16) == 77).all()


def test_a_large_picture_is_fitted_in_colours():
    x = picture(64, 48)
    large = np.ascontiguousarray(x.repeat(16, 0).repeat(16, 1))
    assert np.array_equal(fit(large, 64, 64)[:, 8:56], x)


@pytest.mark.parametrize("x", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)])
def test_other_arrays_are_refused(x):
    with pytest.raises(BadData, match="uint8"):
        fit(x, 8, 8)
