"""The report: one file, no network, well formed, every number with its interval, films that play, text escaped."""

from __future__ import annotations

import base64
import io
import json
import shutil
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from mindhand.core.intervals import wilson
from mindhand.evaluate import video
from mindhand.evaluate.report import label_of, summary, write_report
from mindhand.evaluate.run import evaluate, film_of, latencies

from . import tiny

VOID = {"meta", "img", "br", "rect", "line"}


class Page(HTMLParser):
    """Tags that balance, and what a browser would fetch."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] != "style":
            self.words.append(data)

    def all(self, tag: str) -> list[dict]:
        return [attrs for t, attrs in self.tags if t == tag]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on the tiny world with films, and its rows with what a scorer adds."""
    folder = tmp_path_factory.mktemp("run")
    film = film_of(tiny.PROTOCOL, "top", 2)
    rows = evaluate(tiny.PROTOCOL, tiny.walker, tiny.world(folder / "log"), folder, name="walker <b>", film=film)
    rows = [
        {
            **r,
            "choice": r["facts"]["choice_right"],
            "choice_chance": 1 / r["facts"]["tiles"],
            "success_chance": 1 / r["facts"]["tiles"],
            "digits": 1 + r["index"] % 2,
            "why": "" if r["success"] else "took another <colour>",
        }
        for r in rows
    ]
    rows[0] = {**rows[0], "thoughts": [[0, "<script>alert(1)</script> & 3<4"]]}
    return folder, rows


@pytest.fixture(scope="module")
def page(run) -> tuple[str, Page]:
    folder, rows = run
    beside = [("What was forgotten", ["stage", "reading"], [["start", "98 %"], ["robot", "41 %"]])]
    text = write_report(folder, rows, rate_hz=10.0, title="Tiny", beside=beside).read_text()
    return text, Page(text)


def test_it_needs_nothing_else(page):
    text, parsed = page
    assert not parsed.all("script")
    assert not parsed.all("link")
    for _, attrs in parsed.tags:
        assert str(attrs.get("src", "data:")).startswith("data:")
        assert "href" not in attrs
        assert not any(name.startswith("on") for name in attrs)
    assert "url(" not in text
    assert "http://" not in text.replace("http-equiv", "")
    assert "https://" not in text
    (policy,) = [m["content"] for m in parsed.all("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")


def test_it_can_be_read_without_eyes(page):
    _, parsed = page
    assert parsed.all("html")[0]["lang"] == "en"
    assert len(parsed.all("h1")) == 1
    assert len(parsed.all("caption")) == len(parsed.all("table"))
    assert all(th["scope"] in ("row", "col") for th in parsed.all("th"))
    assert all(v["aria-label"] for v in parsed.all("video"))
    assert all(s["role"] == "img" and "interval" in s["aria-label"] for s in parsed.all("svg"))


def test_numbers_carry_interval_and_chance(run, page):
    _, rows = run
    text, _ = page
    for task in ("touch/R", "touch/X"):
        some = [r for r in rows if r["task"] == task]
        found = wilson(sum(r["success"] for r in some), len(some))
        chance = sum(r["success_chance"] for r in some) / len(some)
        assert (
            f"{100 * found.value:.1f} %, 95 % interval {100 * found.low:.1f} to {100 * found.high:.1f}, "
            f"chance {100 * chance:.1f} %"
        ) in text
    lines = summary(rows)
    assert [line.label for line in lines] == [
        "In-domain (R)", "1 tile", "2 tiles", "True novelty (X)", "1 tile", "2 tiles"
    ]  # fmt: skip
    assert [line.n for line in lines] == [20, 10, 10, 20, 10, 10]
    assert lines[0].chance["success"] == pytest.approx(1 / 3)
    assert lines[3].chance["success"] == pytest.approx(1 / 4)
    assert not {"ocr", "maths", "rac"} & set(lines[0].measures)


def test_objects_and_relations_are_told_apart():
    made = [
        {"task": "spatial_placing/K-dev", "success": k < 3, "new": "object" if k % 2 else "relation"} for k in range(8)
    ]
    lines = summary([*made, *({**r, "task": "spatial_placing/X", "new": "object"} for r in made)])
    assert [(line.label, line.n, line.part) for line in lines] == [
        ("Open world (K-dev)", 8, False), ("new object", 4, True), ("new relation", 4, True),
        ("True novelty (X)", 8, False),
    ]  # fmt: skip
    assert [line.measures["success"].value for line in lines[1:3]] == [1 / 4, 2 / 4]


def test_a_query_s_percentiles_are_told(run, page):
    ms = latencies(run[0])
    seconds = [s for text in (run[0] / "timing.jsonl").read_text().splitlines() for s in json.loads(text)["seconds"]]
    assert ms["p50"] == pytest.approx(1e3 * np.median(seconds)) and ms["max"] == pytest.approx(1e3 * max(seconds))
    said = f"{ms['p50']:.1f} ms median, {ms['p90']:.1f} ms p90, {ms['p99']:.1f} ms p99, {ms['max']:.1f} ms longest"
    assert any(said in words for words in page[1].words)


def test_labels():
    assert label_of("maths_matching/K-dev") == "Open world (K-dev)"
    assert label_of("maths_matching/R/2") == "In-domain (R), 2"
    assert label_of("push-t") == "push-t"


def test_text_from_outside_is_text(page):
    text, parsed = page
    words = " ".join(parsed.words)
    assert "<script>alert(1)</script> & 3<4" in words
    assert "walker <b>" in words
    assert "took another <colour>" in words
    assert "What was forgotten" in words
    assert "41 %" in words
    assert "<script" not in text


def test_failures_are_all_counted(run, page):
    _, rows = run
    _, parsed = page
    lost = sum(not r["success"] for r in rows)
    assert lost
    assert any(f"{lost} of {len(rows)} episodes" in w for w in parsed.words)


def test_films_play(run, page):
    import av

    _, rows = run
    _, parsed = page
    films = parsed.all("video")
    assert len(films) == sum(bool(r["film"]) for r in rows) == 4
    for film in films:
        data = base64.b64decode(film["src"].partition("base64,")[2])
        with av.open(io.BytesIO(data)) as file:
            stream = file.streams.video[0]
            assert stream.codec_context.name == "h264"
            assert stream.codec_context.pix_fmt == "yuv420p"
            frames = [f.to_ndarray(format="rgb24") for f in file.decode(video=0)]
        assert len(frames) > 2
        assert any((a != b).any() for a, b in pairwise(frames))


def test_a_film_looks_like_what_was_filmed():
    import av

    x = np.linspace(0, 255, 33).astype(np.uint8)
    frames = [np.stack(np.broadcast_arrays(x[:, None], np.uint8(40 * t), x[None]), -1) for t in range(5)]
    data, suffix = video.encode(frames, 10.0)  # 33 x 33: odd sides
    assert suffix == ".mp4"
    with av.open(io.BytesIO(data)) as file:
        back = [f.to_ndarray(format="rgb24")[:33, :33] for f in file.decode(video=0)]
        assert float(file.streams.video[0].average_rate) == 10.0
    assert len(back) == 5
    assert np.abs(np.array(back, float) - np.array(frames, float)).mean() < 6


def test_without_h264_a_webp_moves(monkeypatch, tmp_path, run):
    def absent(*_):
        raise RuntimeError("no encoder")

    from PIL import Image

    monkeypatch.setattr(video, "_h264", absent)
    frames = [np.full((16, 16, 3), 60 * t, np.uint8) for t in range(4)]
    file = video.write_film(frames, 10.0, tmp_path / "film")
    assert file.suffix == ".webp"
    with Image.open(file) as picture:
        assert (picture.n_frames, picture.size) == (4, (16, 16))
    folder, rows = run
    shutil.copytree(folder, tmp_path / "run")
    shutil.copy(file, tmp_path / "run/films/x.webp")
    rows = [{**r, "film": "films/x.webp" if r["film"] else None} for r in rows]
    parsed = Page(write_report(tmp_path / "run", rows, rate_hz=10.0).read_text())
    assert len([i for i in parsed.all("img") if i["src"].startswith("data:image/webp") and i["alt"]]) == 4


def test_it_is_made_again_from_the_same_rows(run, page):
    folder, rows = run
    assert Path(folder / "report.html").exists()
    once = write_report(folder, rows, rate_hz=10.0).read_bytes()
    assert write_report(folder, rows, rate_hz=10.0).read_bytes() == once
