"""Charts stand where their numbers are."""

import re
from xml.etree import ElementTree

import pytest

from mindhand.core.errors import BadData
from mindhand.evaluate.plot import Panel, Series, Span, draw_panels, draw_spans, write_plot

SVG = "{http://www.w3.org/2000/svg}"
LINE = Series("nano <1>", ((10.0, 0.2), (100.0, 0.6), (1000.0, 1.0)), ("a", "b", "c"))


def test_points_are_placed_by_their_logarithm_and_their_height(tmp_path):
    panel = Panel("gates & loss", "seconds", "share", (LINE, Series("alone", ((50.0, 0.5),))), 0.0, 1.0)
    root = ElementTree.fromstring(write_plot(tmp_path / "a" / "b.svg", [panel, panel]).read_text())
    name = SVG
    circles = [(float(c.get("cx")), float(c.get("cy"))) for c in root.iter(f"{name}circle")]
    assert len(circles) == 8 and len(list(root.iter(f"{name}polyline"))) == 2
    (x0, y0), (x1, y1), (x2, y2), (x3, y3) = circles[:4]
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2) and y0 - y1 == pytest.approx(y1 - y2, abs=0.2)
    assert x0 < x3 < x1 and y1 < y3 < y0
    texts = [t.text for t in root.iter(f"{name}text")]
    assert {"gates & loss", "nano <1>", "a", "1k", "0.2"} <= set(texts)
    assert not re.search("script|http(?!://www.w3.org)", (tmp_path / "a" / "b.svg").read_text())


def test_a_reach_is_drawn_evenly():
    line = Series("task", ((0.0, 0.0), (0.5, 0.5), (1.0, 1.0)), ("a", "b", "c"))
    root = ElementTree.fromstring(draw_panels([Panel("p", "kept", "done", (line,), 0.0, 1.0, (0.0, 1.0))], "said"))
    circles = [(float(c.get("cx")), float(c.get("cy"))) for c in root.iter(f"{SVG}circle")]
    texts = {t.text: float(t.get("x")) for t in root.iter(f"{SVG}text")}
    assert circles[1] == pytest.approx([(a + b) / 2 for a, b in zip(circles[0], circles[2])], abs=0.1)
    assert texts["a"] > circles[0][0] and texts["c"] < circles[2][0]  # a label stays in the picture
    assert root.get("aria-label") == "said" and {"0.2", "0.8"} <= set(texts)


def test_labels_of_two_points_near_each_other_keep_apart():
    some = [Series(name, ((0.4, y),), ("stage",)) for name, y in (("one", 0.62), ("other", 0.60))]
    root = ElementTree.fromstring(draw_panels([Panel("p", "x", "y", tuple(some), 0.0, 1.0, (0.0, 1.0))]))
    upper, lower = (float(t.get("y")) for t in root.iter(f"{SVG}text") if t.text == "stage")
    assert lower - upper > 12


@pytest.mark.parametrize("points", [(), ((0.0, 1.0),), ((1.0, float("nan")),)])
def test_what_cannot_be_drawn_is_refused(tmp_path, points):
    with pytest.raises(BadData, match="the panel 'p'"):
        write_plot(tmp_path / "x.svg", [Panel("p", "x", "y", (Series("s", points),))])


def drawn(*spans, **how):
    """(x of circles, [x1, x2] of the lines that say chance or an interval, texts) of a chart."""
    root, name = ElementTree.fromstring(draw_spans("A & <b>", "success, %", spans, **how)), SVG
    lines = [[float(e.get(k)) for k in ("x1", "x2")] for e in root.iter(f"{name}line") if e.get("stroke-width") == "2"]
    texts = {t.text: float(t.get("x")) for t in root.iter(f"{name}text")}
    return [float(c.get("cx")) for c in root.iter(f"{name}circle")], lines, texts, root


def test_intervals_stand_on_one_axis():
    with_chance = Span("with & it", 75.0, 60.0, 90.0, "75.0 %", 25.0)
    circles, lines, texts, root = drawn(Span("without", 50.0, 40.0, 60.0, "50.0 %"), with_chance, high=100.0)
    zero, hundred = texts["0"], texts["100"]
    place = [zero + x / 100 * (hundred - zero) for x in range(101)]
    assert circles == [pytest.approx(place[50], abs=0.2), pytest.approx(place[75], abs=0.2)]
    spans = [line for line in lines if line[0] != line[1]]
    assert spans == [pytest.approx([place[40], place[60]], abs=0.2), pytest.approx([place[60], place[90]], abs=0.2)]
    assert [pytest.approx(place[25], abs=0.2)] * 2 in lines
    assert {"A & <b>", "with & it", "75.0 %", "success, %; in red a guesser's"} <= texts.keys()
    assert root.get("aria-label") == "A & <b>" and root.get("role") == "img"
    _, _, width, _ = map(float, root.get("viewBox").split())
    assert texts["75.0 %"] + 7 * len("75.0 %") < width
    no_chance = drawn(Span("a", 0.0, 0.0, 0.0, "none"))
    assert "success, %" in no_chance[2] and no_chance[0] == [pytest.approx(no_chance[2]["0"], abs=0.2)]


def test_an_axis_reaches_what_is_below_nothing():
    circles, lines, texts, _ = drawn(Span("a", -2.0, -3.0, 1.0, "-2"), Span("b", 1.0, 0.5, 4.0, "1"))
    assert texts["-2"] and circles[0] < texts["0"] < circles[1] and min(x for line in lines for x in line) > 0


@pytest.mark.parametrize("span", [(), (Span("a", 1.0, 2.0, 0.0, "1"),), (Span("a", float("nan"), 0.0, 1.0, ""),)])
def test_intervals_that_are_none_are_refused(span):
    with pytest.raises(BadData, match="the chart 'x'"):
        draw_spans("x", "y", span)
