"""Thoughts for demonstrations that have none: where sub-steps end, who says them, what is kept, and what survives."""

from __future__ import annotations

import itertools
import json
import threading
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from mindhand import cli
from mindhand.core.errors import BadData, Refusal
from mindhand.data.annotate import LEAST, Accept, Templates, annotated, sub_steps
from mindhand.data.lerobot_write import LeRobotWriter
from mindhand.data.opening import open_dataset
from mindhand.data.relabelled import Unanswered
from mindhand.recipes.annotate import Endpoint, Keyboard
from tests.data.make import make_episode, point_spec, write

SPEC = point_spec()


def still(index: int):
    """An episode that closes its hand in the middle, and has no thoughts."""
    made = make_episode(index, 12)
    made.action[:, 2] = [1.0] * 6 + [0.0] * 6
    object.__setattr__(made, "reasoning", ("",) * 12)
    return made


@pytest.fixture
def demos(tmp_path):
    return write(tmp_path / "demos", [still(i) for i in range(3)], SPEC)


def test_a_sub_step_ends_where_the_gripper_turns():
    assert sub_steps(still(0).action, SPEC) == [(0, 6), (6, 12)]
    assert sub_steps(still(0).action, SPEC, longest=0.3) == [(0, 3), (3, 6), (6, 9), (9, 12)]
    held = still(0).action.copy()
    held[:, 2] = 0.4  # a hand that never moves says nothing
    assert sub_steps(held, SPEC) == [(0, 12)]


@given(st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=60), st.floats(0.1, 3))
def test_sub_steps_cover_an_episode_without_gaps(gripper, longest):
    action = np.zeros((len(gripper), 3), np.float32)
    action[:, 2] = gripper
    runs = sub_steps(action, SPEC, longest)
    assert runs[0][0] == 0 and runs[-1][1] == len(action)
    assert all(a[1] == b[0] for a, b in itertools.pairwise(runs)) and all(b < e for b, e in runs)
    assert max(e - b for b, e in runs) <= max(LEAST, round(longest * SPEC.rate))


def test_templates_become_the_thoughts_of_a_dataset_of_its_own(demos, tmp_path):
    say = Templates(("reach: {instruction}.", "carry it, {step} of {steps}."))
    made = annotated(open_dataset(demos), tmp_path / "out", say)
    assert made.report["accepted"] == 6 and made.report["left empty"] == 0
    before, after = open_dataset(demos), made.reader
    for k in range(len(before)):
        first = before.frame_index[k] < 6
        assert after.reasoning(k) == ("reach: pick the tile." if first else "carry it, 2 of 2.")
    np.testing.assert_array_equal(after.action, before.action)
    np.testing.assert_array_equal(after.images("front", [0, 20]), before.images("front", [0, 20]))
    assert [e.key for e in after.episodes] == [e.key for e in before.episodes]
    assert not any(map(before.reasoning, range(len(before)))), "the dataset that was given has changed"
    with pytest.raises(BadData, match="has thoughts"):
        annotated(after, tmp_path / "again", say)
    with pytest.raises(BadData, match="something else"):
        annotated(before, tmp_path / "out", Templates(("else.",)))
    with pytest.raises(Refusal, match="robot"):
        Templates(("the {robot} moves.",))


def test_small_pictures_and_films_stay_what_they_are(tmp_path):
    small = [replace(e, images={r: x[:, ::2, ::2] if r == "front" else x for r, x in e.images.items()})
             for e in map(still, range(2))]  # fmt: skip
    for name, episodes, how in (
        ("model", small, {"pictures": "model"}), ("film", [still(0)], {"video": True}),
    ):  # fmt: skip
        with LeRobotWriter(tmp_path / name, SPEC, **how) as writer:
            for e in episodes:
                writer.append(e)
            writer.finalize()
        before = open_dataset(tmp_path / name)
        made = annotated(before, tmp_path / f"{name}-out", Templates(("it moves.",)))
        assert made.reader.pictures == before.pictures and made.reader.stored == before.stored
        off = made.reader.images("front", [0, 11]).astype(int) - before.images("front", [0, 11])
        assert abs(off).mean() < (1e-9 if name == "model" else 12)


def test_what_no_validator_reads_is_left_empty_and_counted(demos, tmp_path):
    say = Templates(("take 7 left.", "no"))
    made = annotated(open_dataset(demos), tmp_path / "out", say, Accept(r"take \d \w+\."))
    assert made.report["left empty"] == 3 and {r["tries"] for r in made.rows if r["why"]} == {3}
    assert [made.reader.reasoning(k) for k in (0, 5, 6, 11)] == ["take 7 left."] * 2 + [""] * 2
    assert (
        Accept().wrong("no end")
        and Accept().wrong("???")
        and Accept().wrong("two\nlines.")
        and not Accept().wrong("it moves.")
    )
    with pytest.raises(BadData, match="form"):
        Accept("(")


class Server(BaseHTTPRequestHandler):
    """Answers as a chat completion does; every third answer is not a sentence, and it may be down."""

    asked: ClassVar[list[dict]] = []
    up = True

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append(body)
        if not type(self).up:
            self.send_error(503)
            return
        told = body["messages"][0]["content"][0]["text"]
        part = "2" if "part 2" in told else "1"
        text = f"it does part {part}." if "not taken" in told or part == "1" else "???"
        answer = json.dumps({"choices": [{"message": {"content": text}}]}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


@contextmanager
def server():
    Server.asked, Server.up = [], True
    made = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{made.server_port}/v1"
    finally:
        made.shutdown()
        made.server_close()


def test_an_endpoint_is_asked_again_and_what_it_said_is_kept_when_it_goes_down(demos, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    reader = open_dataset(demos)
    with server() as url:
        say = Endpoint(url, "some-vlm")
        monkeypatch.setattr("mindhand.recipes.annotate.ask_of", down_after(7))
        with pytest.raises(Unanswered, match="run the same command again"):
            annotated(reader, tmp_path / "out", say)
        assert not (tmp_path / "out").exists()
        monkeypatch.undo()
        Server.up, before = True, len(Server.asked)
        made = annotated(reader, tmp_path / "out", say)
        assert len(Server.asked) - before == 3, "finished episodes were asked about again"
    assert [made.reader.reasoning(k) for k in (0, 6)] == ["it does part 1.", "it does part 2."]
    assert {r["tries"] for r in made.rows} == {1, 2}
    body = Server.asked[0]
    assert body["model"] == "some-vlm" and len(body["messages"][0]["content"]) == 1 + 2 * 2
    assert body["messages"][0]["content"][1]["image_url"]["url"].startswith("data:image/png;base64,")
    with pytest.raises(Refusal, match="http"):
        Endpoint("ftp://x", "m")


def down_after(count: int):
    from mindhand.recipes import annotate

    real, calls = annotate.ask_of, []

    def ask(step, wrong):
        calls.append(step)
        Server.up = len(calls) < count
        return real(step, wrong)

    return ask


def test_a_person_sees_pictures_and_is_told_what_was_wrong(demos, tmp_path, monkeypatch):
    lines = iter(["what", "it reaches.", *["it goes on."] * 5])
    console = Console(record=True, width=200, quiet=False)
    monkeypatch.setattr(console, "input", lambda prompt: next(lines))
    made = annotated(open_dataset(demos), tmp_path / "out", Keyboard(tmp_path / "part.png", console))
    assert "not taken: it is not one line" in console.export_text()
    assert made.reader.reasoning(0) == "it reaches." and (tmp_path / "part-1.png").exists()


def test_the_verb_writes_a_dataset_and_a_page(demos, tmp_path, capsys):
    run = tmp_path / "run"
    words = ["data", "annotate", str(demos), "--say", "it moves.", "fine", "--run", str(run)]
    assert cli.main(words) == 0
    assert "3 of 6 parts have a text" in capsys.readouterr().out.replace("\n", " ")
    page = (run / "annotated" / "review.html").read_text()
    assert "it moves." in page and "Not taken" in page and "&#x27;fine&#x27;" in page
    assert cli.main([*words[:3], "--parse", "nobody", "--run", str(run)]) != 0
    assert cli.main([*words[:3], "--run", str(tmp_path / "none")]) != 0
