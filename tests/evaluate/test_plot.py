"""Charts stand where their numbers are."""

import re
from xml.etree import ElementTree

import pytest

from mindhand.core.errors import BadData
from mindhand.evaluate.plot import Panel, Series, write_plot

LINE = Series("nano <1>", ((10.0, 0.2), (100.0, 0.6), (1000.0, 1.0)), ("a", "b", "c"))


def test_points_are_placed_by_their_logarithm_and_their_height(tmp_path):
    panel = Panel("gates & loss", "seconds", "share", (LINE, Series("alone", ((50.0, 0.5),))), 0.0, 1.0)
    root = ElementTree.fromstring(write_plot(tmp_path / "a" / "b.svg", [panel, panel]).read_text())
    name = "{http://www.w3.org/2000/svg}"
    circles = [(float(c.get("cx")), float(c.get("cy"))) for c in root.iter(f"{name}circle")]
    assert len(circles) == 8 and len(list(root.iter(f"{name}polyline"))) == 2
    (x0, y0), (x1, y1), (x2, y2), (x3, y3) = circles[:4]
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2) and y0 - y1 == pytest.approx(y1 - y2, abs=0.2)
    assert x0 < x3 < x1 and y1 < y3 < y0
    texts = [t.text for t in root.iter(f"{name}text")]
    assert {"gates & loss", "nano <1>", "a", "1k", "0.2"} <= set(texts)
    assert not re.search("script|http(?!://www.w3.org)", (tmp_path / "a" / "b.svg").read_text())


@pytest.mark.parametrize("points", [(), ((0.0, 1.0),), ((1.0, float("nan")),)])
def test_what_cannot_be_drawn_is_refused(tmp_path, points):
    with pytest.raises(BadData, match="the panel 'p'"):
        write_plot(tmp_path / "x.svg", [Panel("p", "x", "y", (Series("s", points),))])
