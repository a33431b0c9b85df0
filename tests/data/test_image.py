"""Resizing: exact where it can be, equal to its definition everywhere."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mindhand.core.errors import BadData
from mindhand.core.keys import Keys
from mindhand.core.spec import Camera
from mindhand.data.image import crop_box, decode, encode_png, prepare, resize


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    (rng,) = Keys.seeded(1, "picture", seed, height, width).generators()
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 5), st.integers(1, 5), st.integers(0, 99))
def test_area_is_the_exact_box_mean_for_integer_factors(h, w, a, b, seed):
    x = picture(h * a, w * b, seed)
    out = resize(x, h, w, "area")
    for i in range(h):
        for j in range(w):
            box = x[i * a : (i + 1) * a, j * b : (j + 1) * b].reshape(-1, 3)
            whole = [sum(int(v) for v in box[:, c]) for c in range(3)]
            assert out[i, j].tolist() == [(2 * t + a * b) // (2 * a * b) for t in whole]  # halves go up


@given(st.integers(2, 12), st.integers(2, 12), st.integers(1, 12), st.integers(1, 12))
def test_area_weighs_by_cover_for_any_factor(h, w, height, width):
    x = picture(h, w)
    # Cutting every pixel into height x width copies makes the factor whole; the box mean over them is the definition.
    fine = x.repeat(height, 0).repeat(width, 1).astype(np.float64)
    want = fine.reshape(height, h, width, w, 3).mean((1, 3))
    assert np.abs(resize(x, height, width, "area") - want).max() <= 0.5 + 1e-6


@given(st.integers(1, 14), st.integers(1, 14), st.integers(1, 20), st.integers(1, 20))
def test_bilinear_has_half_pixel_centres(h, w, height, width):
    x = picture(h, w)
    source = torch.from_numpy(x).permute(2, 0, 1)[None].double()
    want = torch.nn.functional.interpolate(source, (height, width), mode="bilinear", align_corners=False)
    got = resize(x, height, width, "bilinear")
    assert np.abs(got - want[0].permute(1, 2, 0).numpy()).max() <= 0.5 + 1e-5


def test_flipping_commutes_with_resizing():
    x = picture(30, 26)
    for how in ("area", "bilinear"):
        flipped = resize(x[:, ::-1], 12, 10, how)[:, ::-1]
        assert np.abs(flipped.astype(int) - resize(x, 12, 10, how)).max() <= 1  # an offset of half a pixel shows here


def test_leading_axes_are_rows():
    stack = np.stack([picture(12, 12, s) for s in range(6)]).reshape(2, 3, 12, 12, 3)
    for how, size in (("area", 4), ("area", 5), ("bilinear", 7)):
        out = resize(stack, size, size, how)
        assert (out[1, 2] == resize(stack[1, 2], size, size, how)).all()


def test_crop_is_central_and_kept_whole():
    assert crop_box(100, 80, 0.95) == (2, 2, 95, 76)
    camera = Camera("front", 4, 4, (10, 10), crop=0.8, interpolation="area")
    x = picture(10, 10)
    assert (prepare(x, camera) == resize(x[1:9, 1:9], 4, 4, "area")).all()
    with pytest.raises(BadData, match="crop"):
        crop_box(10, 10, 0.0)


def test_foreign_sizes_and_types_are_refused():
    camera = Camera("front", 4, 4, (8, 8), interpolation="area")
    with pytest.raises(BadData, match="source size"):
        prepare(picture(4, 4), camera)
    with pytest.raises(BadData, match="uint8"):
        resize(picture(8, 8).astype(np.float32), 4, 4, "area")
    with pytest.raises(BadData, match="interpolation"):
        resize(picture(9, 9), 4, 4, "nearest")


@settings(max_examples=20)
@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 9))
def test_png_is_lossless(h, w, seed):
    x = picture(h, w, seed)
    assert (decode(encode_png(x), "x") == x).all()


def test_damaged_pictures_are_refused(tmp_path):
    whole = encode_png(picture(20, 20))
    for bad in (b"", b"not a picture", whole[: len(whole) // 2]):
        with pytest.raises(BadData, match="cannot be decoded"):
            decode(bad, "frame 3")
    with pytest.raises(BadData, match="no file"):
        decode(tmp_path / "gone.png", "frame 3")


def test_other_modes_become_rgb(tmp_path):
    from PIL import Image

    grey = Image.fromarray(np.full((3, 4), 77, np.uint8))
    grey.save(tmp_path / "grey.png")
    assert (decode(tmp_path / "grey.png", "x") == 77).all()
    clear = Image.new("RGBA", (4, 3), (200, 0, 0, 0))
    clear.save(tmp_path / "clear.png")
    assert (decode(tmp_path / "clear.png", "x") == 255).all()
    turned = Image.fromarray(picture(3, 5))
    turned.save(tmp_path / "turned.png", exif=_orientation(6))
    assert decode(tmp_path / "turned.png", "x").shape == (3, 5, 3)  # PNG pixels are taken as they are: ours have none
    turned.save(tmp_path / "turned.jpg", exif=_orientation(6))
    assert decode(tmp_path / "turned.jpg", "x").shape == (5, 3, 3)


def _orientation(value: int):
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = value
    return exif


def test_deep_grey_is_not_made_white(tmp_path):
    """Pillow's own conversion cuts 16 bits off at 255."""
    from PIL import Image

    ramp = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    Image.fromarray(ramp).save(tmp_path / "deep.png")
    seen = decode(tmp_path / "deep.png", "a ramp")
    assert np.abs(seen[..., 0].astype(int).ravel() - np.arange(256)).max() <= 1
    clear = Image.new("RGB", (4, 4), (10, 20, 30))
    clear.save(tmp_path / "clear.png", transparency=(10, 20, 30))
    assert (decode(tmp_path / "clear.png", "a picture") == 255).all()
