"""How `desk/fonts/scanned-digits.png` was made, from scikit-learn (which nothing else here needs).

    pip install scikit-learn && python -m tests.worlds.make_scans

The data: the test set of Alpaydin and Kaynak's "Optical Recognition of Handwritten Digits", 1,797 scans of 8x8 cells;
a cell counts the inked of its 4x4 points, 0..16.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

import mindhand.worlds.desk

SHEET = Path(mindhand.worlds.desk.__file__).parent / "fonts" / "scanned-digits.png"


def sheet(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """One picture uint8 (10 * 8, most * 8) of images (n,8,8), 0..16, with labels (n,): a row of scans a digit, in the
    set's order, 255 for a cell full of ink."""
    out = np.zeros((10, np.bincount(labels).max(), 8, 8), np.uint8)
    for digit in range(10):
        mine = images[labels == digit]
        out[digit, : len(mine)] = np.round(mine * (255 / 16))
    return out.transpose(0, 2, 1, 3).reshape(80, -1)


if __name__ == "__main__":
    from sklearn.datasets import load_digits

    digits = load_digits()
    Image.fromarray(sheet(digits.images, digits.target)).save(SHEET, optimize=True)
