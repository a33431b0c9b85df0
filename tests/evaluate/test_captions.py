"""Under a film stands what was thought in it, and no other episode's thought."""

import re

from mindhand.evaluate.report import write_report
from mindhand.evaluate.run import evaluate, film_of

from . import tiny


def test_a_caption_has_the_thoughts_of_its_row(tmp_path):
    film = film_of(tiny.PROTOCOL, "top", 2)
    rows = evaluate(tiny.PROTOCOL, tiny.walker, tiny.world(tmp_path / "log"), tmp_path, name="walker", film=film)
    rows = [
        {**r, "thoughts": [[0, f"first of {r['task']} {i}"], [8, f"then of {r['task']} {i}"]]}
        for i, r in enumerate(rows)
    ]
    page = write_report(tmp_path, rows, rate_hz=10.0, title="Tiny").read_text()
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", page, re.S)
    filmed = [(i, r) for i, r in enumerate(rows) if r.get("film")]
    filmed.sort(key=lambda item: item[1]["success"])  # failures stand first
    assert len(captions) == len(filmed) >= 2
    for said, (i, r) in zip(captions, filmed):
        for at, text in (("0.0 s", f"first of {r['task']} {i}"), ("0.8 s", f"then of {r['task']} {i}")):
            assert f'<span class="at">{at}</span>{text}</li>' in said
        assert said.count("<li>") == 2
