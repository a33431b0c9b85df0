"""The report with every table that it may have, in a browser: wide and narrow, with films that play and no request."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mindhand.evaluate.compare import compare, comparison_section
from mindhand.evaluate.failures import film_failures
from mindhand.evaluate.report import write_report
from mindhand.evaluate.run import Job, evaluate, film_of
from mindhand.recipes.evaluate import arms_table
from mindhand.recipes.perturbed import axes_table, levels_table
from mindhand.recipes.stages import StageRows, kept_tables
from mindhand.worlds.perturb import AXES
from tests.browser import BROWSER, browser
from tests.evaluate.tiny import PROTOCOL
from tests.tiny_world import TinyWorld, Walker

PARTS = ("ocr", "document", "chart", "maths", "space", "existence", "count", "mix")
WIDE, NARROW = 1400, 390


def scored(rows: list[dict]) -> list[dict]:
    """As a scorer would leave them."""
    return [
        {**r, "choice": bool(r["facts"]["choice_right"]), "choice_chance": 1 / r["facts"]["tiles"],
         "success_chance": 1 / r["facts"]["tiles"], "rac": r["success"], "ocr": r["index"] % 5, "maths": r["index"] % 3,
         "why": "" if r["success"] else "took another one, wanted the one that was named"}
        for r in rows
    ]  # fmt: skip


def mind(share: float) -> list[dict]:
    return [
        {"key": f"{part}/{i}", "part": part, "right": i < 30 * share, "likely": i < 35 * share, "chance": 0.25}
        for part in PARTS for i in range(40)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    """Rows of the tiny world; in an arm fewer of them succeeded."""
    home = tmp_path_factory.mktemp("report")
    run, film = home / "run", film_of(PROTOCOL, "top", 2)
    policy = partial(Walker, wrong=0.3)
    rows = evaluate(PROTOCOL, policy, TinyWorld, run, name="a policy of 7bf2d4c1", film=film)
    rows = scored(film_failures(Job(PROTOCOL, policy, TinyWorld, None, film, run), rows, 2))
    evaluate(PROTOCOL, partial(Walker, wrong=0.5), TinyWorld, home / "other", name="another one")

    def worse(many: int) -> list[dict]:
        return [{**r, "success": r["success"] and (r["index"] * 7) % 20 >= many} for r in rows]

    told = {"blank": worse(16), "swapped": worse(12), "paraphrased": worse(1)}
    changed = {f"{axis}{level}": worse(level + k) for k, axis in enumerate(AXES[1:4]) for level in (1, 2, 3, 4, 5)}
    stages = [StageRows("the base", mind(1.0), []), StageRows("alignment", mind(0.9), worse(8)),
              StageRows("all stages", mind(0.7), rows)]  # fmt: skip
    beside = [
        arms_table(rows, told), axes_table(rows, changed), levels_table(rows, changed), *kept_tables(stages),
        comparison_section(compare([run], [home / "other"])),
    ]  # fmt: skip
    return write_report(run, rows, rate_hz=10.0, title="Everything: tiny-1", beside=beside)


@pytest.mark.skipif(not BROWSER, reason="no Chromium on this machine")
def test_a_browser_shows_all_of_it_wide_and_narrow(report, tmp_path):
    with browser(tmp_path) as tab:
        for width in (WIDE, NARROW):
            tab.width(width)
            tab.open(report)
            # Tables may scroll in their cards; the page itself is no wider than the window.
            assert tab.ask("document.documentElement.scrollWidth") <= width
            right = "Math.max(...[...document.querySelectorAll('main > *')].map(e => e.getBoundingClientRect().right))"
            assert tab.ask(right) <= width
            ready = "[...document.querySelectorAll('video')].map(v => v.readyState >= 3 ? 1 : new Promise(done => { " \
                    "v.oncanplay = () => done(1); v.onerror = () => done(0) }))"  # fmt: skip
            films = tab.ask(f"Promise.all({ready})")
            assert len(films) > 4 and all(films)
            shot = tab.picture(tmp_path / f"{width}.png")
            with Image.open(shot) as picture:
                assert picture.width == width
                pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)[::97]
            assert len(np.unique(pixels, axis=0)) > 100  # bars, badges, films: not an empty page
        heads = tab.ask("[...document.querySelectorAll('h2')].map(h => h.textContent)")
        asked = {r.partition(":")[0] for r in tab.requests}
        assert asked <= {"file", "data"} and {r for r in tab.requests if r.startswith("file")} == {report.as_uri()}
    for words in ("Results", "Told or shown", "Perturbed, by axis", "Perturbed, one by one", "Success, and the least",
                  "What the VLM", "Success against", "A (a policy", "Failures", "Films", "Run"):  # fmt: skip
        assert any(h.startswith(words) for h in heads), words


@pytest.mark.skipif(not BROWSER, reason="no Chromium on this machine")
def test_what_the_browser_would_be_asked_for_is_seen(tmp_path):
    """The same look at a page that is too wide, has no film and asks for a picture."""
    page = tmp_path / "bad.html"
    page.write_text(
        '<!doctype html><main><p style="width:900px">x</p><img src="other.png"><video src="no.mp4"></video>'
    )
    with browser(tmp_path) as tab:
        tab.width(NARROW)
        tab.open(page)
        assert tab.ask("document.documentElement.scrollWidth") > NARROW
        assert {Path(r).name for r in tab.requests} >= {"bad.html", "other.png"}
        assert tab.ask("document.querySelector('video').readyState") == 0
