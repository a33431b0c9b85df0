"""`mindhand chat` as somebody uses it: one question, a conversation, and everything that can be wrong with either."""

import io
import json
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from mindhand import cli
from mindhand.core.errors import BadData
from mindhand.core.keys import Keys
from mindhand.data.picture_file import fit
from mindhand.data.synthetic.corpus import pretraining
from mindhand.data.synthetic.vocabulary import train_words
from mindhand.model import shipped
from mindhand.model.store import load_vla, save_vla
from mindhand.model.vla import VLA
from mindhand.recipes.chat import LIMIT, LONGEST, desk, told, worded
from mindhand.recipes.nano import BRIEF
from mindhand.worlds.desk.world import SPEC
from tests.model.tiny import vlm, words

ASK = "what is on the board?"


class Terminal(io.StringIO):
    """A stream that somebody sits at."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nano") / "checkpoint"
    save_vla(VLA(spec=SPEC, backbone=vlm()), folder)
    return folder


@pytest.fixture
def board(tmp_path):
    (rng,) = Keys.seeded(1, "board").generators()
    Image.fromarray(rng.integers(0, 255, (60, 90, 3), dtype=np.uint8)).save(tmp_path / "b.png")
    return tmp_path / "b.png"


@pytest.fixture
def run(capsys, monkeypatch):
    def go(*argv, stdin=""):
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin) if isinstance(stdin, str) else stdin)
        code = cli.main(["chat", *map(str, argv)])
        return (code, *capsys.readouterr())

    return go


def refused(result) -> str:
    """What stands in a refusal: nothing was answered, and three lines say why."""
    code, out, err = result
    assert code == 2 and not out
    said = err[err.index("mindhand: ") :]
    assert said.count("\n") == 3 and "expected:" in said and "next step:" in said
    return said


def test_one_question_is_answered_in_one_line(run, checkpoint, board):
    code, out, err = run(checkpoint, "--image", board, "--ask", ASK)
    image = fit(np.array(Image.open(board)), 128, 128)
    ((said,),) = load_vla(checkpoint).answer(image[None], [[ASK]], LIMIT)
    assert code == 0 and out == " ".join(said.split()) + "\n"
    assert "90 x 60 pixels; the model sees 128 x 128: the picture at 128 x 85 in the middle" in err
    assert "million parameters" in err and ASK in err and "where is the 7?" in err
    assert run(checkpoint, "--image", board, "--ask", ASK)[1] == out


def test_a_conversation_asks_each_question_afresh(run, checkpoint, board, monkeypatch):
    looks = []
    look = VLA.look
    monkeypatch.setattr(VLA, "look", lambda self, images: looks.append(1) or look(self, images))
    code, out, err = run(checkpoint, "--image", board, stdin=f"{ASK}\npick the right tile\n{ASK}\n\nnever asked\n")
    lines = out.splitlines()
    assert code == 0 and len(lines) == 3 and lines[0] == lines[2] and len(looks) == 1
    assert "ask " not in err.splitlines()[-1]  # nobody sits there to be asked
    for question, line in ((ASK, lines[0]), ("pick the right tile", lines[1])):
        assert run(checkpoint, "--image", board, "--ask", question)[1] == line + "\n"
    assert run(checkpoint, "--image", board, stdin=ASK)[1] == lines[0] + "\n"  # the end of the input ends it
    assert run(checkpoint, "--image", board)[:2] == (0, "")
    assert run(checkpoint, "--image", board, stdin=None)[:2] == (0, "")  # no input at all


def test_a_terminal_is_prompted_and_may_ask_again(run, checkpoint, board, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    code, out, err = run(checkpoint, "--image", board, stdin=Terminal(f"¿qué?\n{ASK}\n"))
    assert code == 0 and len(out.splitlines()) == 1
    assert "Ctrl-D" in err and "U+00BF" in err and err.count("ask ") >= 3
    shown = Terminal()
    monkeypatch.setattr(sys, "stdout", shown)
    run(checkpoint, "--image", board, "--ask", ASK)
    assert out.strip() in shown.getvalue() and "\x1b[" in shown.getvalue()


def test_ctrl_c_ends_it_without_a_traceback(run, checkpoint, board):
    class Stopped(Terminal):
        def readline(self, *_):
            raise KeyboardInterrupt

    code, out, err = run(checkpoint, "--image", board, stdin=Stopped())
    assert (code, out) == (130, "") and "stopped; nothing was being written" in err


def test_a_refused_question_ends_a_piped_conversation(run, checkpoint, board):
    code, out, err = run(checkpoint, "--image", board, stdin=f"{ASK}\n¿qué?\n{ASK}\n")
    assert code == 2 and len(out.splitlines()) == 1 and "'¿' (U+00BF), 'é' (U+00E9)" in err

    class Bytes(io.StringIO):
        def readline(self, *_):
            raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")

    assert "UTF-8" in refused(run(checkpoint, "--image", board, stdin=Bytes()))


def test_without_a_picture_a_desk_is_drawn_and_told(run, checkpoint):
    code, out, err = run(checkpoint, "--ask", ASK)
    assert code == 0 and len(out.splitlines()) == 1
    assert "board: " in err and "tiles: " in err and "128 x 128 pixels, as the model sees them" in err
    image, scene = desk(5)
    again, same = desk(5)
    assert np.array_equal(image, again) and scene == same and image.shape == (128, 128, 3)
    board, tiles = told(scene)
    assert scene.board.text in board and all(f"{t.digit} {t.face}" in tiles for t in scene.tiles)


def test_what_it_was_taught_is_told_where_the_plan_lies_beside_it(run, checkpoint, board):
    plan = checkpoint.parent / "plan.json"
    for brief, shown in ((True, "pictures of the desk"), (False, "the desk and of toys, notices and charts")):
        plan.write_text(json.dumps({"pictures": 36000, "brief": brief}))
        said = run(checkpoint, "--image", board, "--ask", ASK)[2]
        assert "36,000 pictures" in said and shown in said
    for other in ("[]", "{}", "no json", json.dumps({"pictures": "many", "brief": True})):
        plan.write_text(other)
        code, out, err = run(checkpoint, "--image", board, "--ask", ASK)
        assert code == 0 and out and "taught with" not in err
    plan.unlink()


def test_pictures_and_checkpoints_that_cannot_be_used(run, checkpoint, board, tmp_path, monkeypatch):
    assert "no such file" in refused(run(checkpoint, "--image", tmp_path / "none.png", "--ask", ASK))
    assert "is a folder" in refused(run(checkpoint, "--image", tmp_path, "--ask", ASK))
    (tmp_path / "bad.png").write_bytes(board.read_bytes()[:300])
    assert "cannot be read" in refused(run(checkpoint, "--image", tmp_path / "bad.png", "--ask", ASK))
    monkeypatch.setattr(shipped, "WEIGHTS", tmp_path / "no weights")
    assert "mindhand pretrain" in refused(run("--image", board, "--ask", ASK))
    assert "no such folder" in refused(run(tmp_path / "gone", "--image", board, "--ask", ASK))
    said = refused(run(checkpoint.parent, "--image", board, "--ask", ASK))
    assert "folder of a run" in said and str(checkpoint) in said


def test_a_picture_alone_is_shown_to_the_shipped_weights(run, checkpoint, board, tmp_path, monkeypatch):
    shutil.copytree(checkpoint, tmp_path / "weights" / "nano" / "checkpoint")
    monkeypatch.setattr(shipped, "WEIGHTS", tmp_path / "weights")
    code, out, err = run(board, "--ask", ASK)
    assert code == 0 and out == run(checkpoint, "--image", board, "--ask", ASK)[1]
    assert str(tmp_path / "weights" / "nano") in err and "90 x 60 pixels" in err
    assert run("--image", board, "--ask", ASK)[1] == out
    board.rename(tmp_path / "no-suffix")
    assert run(tmp_path / "no-suffix", "--ask", ASK)[1] == out
    assert "a picture file" in refused(run(tmp_path / "gone.png", "--ask", ASK))
    both = run(tmp_path / "no-suffix", "--image", tmp_path / "no-suffix", "--ask", ASK)
    assert "two pictures" in refused(both) and "one at a time" in refused(both)
    (tmp_path / "text.txt").write_text("no picture")
    assert "is no picture that can be opened" in refused(run(tmp_path / "text.txt", "--ask", ASK))


def test_ten_pictures_are_answered_as_one_by_one():
    (rng,) = Keys.seeded(1, "ten").generators()
    images = rng.integers(0, 255, (10, 1, 1, 3), dtype=np.uint8).repeat(128, 1).repeat(128, 2)
    asked = [[ASK, "pick the right tile"] if k % 2 else ["3+4=", ASK] for k in range(10)]
    vla = VLA(spec=SPEC, backbone=vlm()).eval()
    with torch.no_grad():
        vla.backbone.embedding.weight.mul_(0.1)  # or it says the last word again, whatever it sees
    together = vla.answer(images, asked, 8)
    assert together == [vla.answer(images[k : k + 1], asked[k : k + 1], 8)[0] for k in range(10)]
    assert len({a for row in together for a in row}) > 10, "the pictures change nothing, so this shows nothing"


@pytest.mark.parametrize(
    ("question", "why"),
    [
        ("", "an empty question"),
        (" \t ", "an empty question"),
        ("tiles " * 400, f"at most {LONGEST}"),
        ("wie heißt das?", "'ß' (U+00DF)"),
        ("3² = \u200b", "'²' (U+00B2), '\\u200b' (U+200B)"),
        ("what\udcff", "'\\udcff' (U+DCFF)"),
        ("日本語の質問です、何と書いてあるか", ", ..."),
        ("7<end><say>8", "['<end>', '<say>']"),
    ],
)
def test_questions_that_are_refused(run, checkpoint, board, question, why):
    assert why in refused(run(checkpoint, "--image", board, "--ask", question))


def test_signs_that_no_keyboard_has_are_read_as_those_that_one_has():
    assert worded("3\u00d74 \u2212 2", words()) == (
        "3x4 - 2",
        ["read as on a keyboard: \u00d7 as x, \u2212 as -"],
    )
    assert worded("  \u201ctiles\u201d\u00a0 1\u20137\n", words())[0] == '"tiles" 1-7'
    assert worded("tiles 1 7 4.", words()) == ("tiles 1 7 4.", [])
    plain, notes = worded("What Is On The Board?", train_words())
    assert plain == ASK and "small letters" in notes[0]
    assert worded("3X4=?", train_words())[0] == "3X4=?"  # no fewer tokens in small letters


def test_no_question_of_pretraining_is_refused():
    taught, longest, whole = train_words(), 0, pretraining(0, 40, 1)
    for corpus in (whole, replace(whole, mix=BRIEF)):
        for step in range(40):
            moment = corpus.moment(step, 0, corpus.scene(step, 0))
            for qa in corpus.asked(step, 0, moment):
                assert worded(qa.question, taught) == (qa.question, [])
                longest = max(longest, len(taught.encode(qa.question)))
    assert longest < LONGEST // 2


def test_pictures_and_questions_of_another_shape_are_refused(checkpoint):
    vla = load_vla(checkpoint)
    black = np.zeros((2, 128, 128, 3), np.uint8)
    for wrong in (black[:0], black[0], black[:, :64], black.astype(np.float32), black[..., :1]):
        with pytest.raises(BadData, match="uint8"):
            vla.answer(wrong, [[ASK]] * len(wrong))
    for questions in ([], [[ASK]], [[], []], [[ASK], [ASK, ASK]]):
        with pytest.raises(BadData, match="questions"):
            vla.answer(black, questions)
    prefix = vla.look(black)
    assert vla.answer(prefix, [[ASK, "pick"]] * 2, 4) == vla.answer(black, [[ASK, "pick"]] * 2, 4)
