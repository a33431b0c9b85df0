"""Public benchmarks by command: a local table and a LLaVA file, asked of a small mind and scored with intervals."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest

from mindhand.core.keys import Keys
from mindhand.data.files import read_rows
from mindhand.data.image import encode_png, squeeze
from mindhand.evaluate.scorecard import VLAMind
from mindhand.model.store import load_vla, save_vla
from mindhand.model.vla import VLA
from mindhand.recipes.public import main, score_table
from mindhand.worlds.desk.world import SPEC
from tests.model.tiny import vlm

(RNG,) = Keys.seeded(1, "public").generators()
PICTURES = [RNG.integers(0, 255, size, dtype=np.uint8) for size in ((300, 200, 3), (40, 60, 3), (128, 128, 3))]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mind") / "checkpoint"
    save_vla(VLA(spec=SPEC, backbone=vlm()), folder)
    return folder


def test_a_table_is_asked_and_scored(checkpoint, tmp_path, capsys):
    lines = ["index\tquestion\tanswer\timage\tcategory"]
    for k, picture in enumerate(PICTURES):
        code = base64.b64encode(encode_png(picture)).decode()
        lines.append(f"{k}\tIs  there a\u2014cup?\t{'yes' if k else 'no'}\t{code}\t{'popular' if k else 'random'}")
    (tmp_path / "pope.tsv").write_text("\n".join(lines) + "\n")
    assert main([str(checkpoint), str(tmp_path / "pope.tsv"), "--rule", "pope", "--rows", str(tmp_path / "rows")]) == 0
    rows, out = read_rows(tmp_path / "rows"), capsys.readouterr().out
    seen = np.stack([squeeze(p, 128, 128) for p in PICTURES])
    said = VLAMind(load_vla(checkpoint)).answer(seen, [["Is there a-cup?"]] * 3)
    assert [[r["said"]] for r in rows] == said
    assert [r["right"] for r in rows] == [False, True, True], "POPE hears yes in anything without a no"
    assert "0.667" in out and "0.208 to 0.939" in out and "popular" in out and "0.500" in out


def test_conversations_and_choices_are_asked_and_scored(checkpoint, tmp_path, capsys):
    (tmp_path / "pictures").mkdir()
    for k, picture in enumerate(PICTURES):
        (tmp_path / "pictures" / f"{k}.png").write_bytes(encode_png(picture))
    talks = [
        {"id": str(k), "image": f"{k}.png", "conversations": [{"from": "human", "value": "<image>\n3+4="},
                                                             {"from": "gpt", "value": "7"}]}
        for k in range(3)
    ]  # fmt: skip
    (tmp_path / "talk.json").write_text(json.dumps(talks))
    where = ["--images", str(tmp_path / "pictures")]
    assert main([str(checkpoint), str(tmp_path / "talk.json"), *where, "--rule", "exact"]) == 0
    assert "0.000 to 0.56" in capsys.readouterr().out
    chosen = {"question_id": 1, "image": "1.png", "text": "Which?", "options": ["a" * 60, "b" * 60], "answer": "A"}
    (tmp_path / "choice.jsonl").write_text(json.dumps(chosen))
    assert main([str(checkpoint), str(tmp_path / "choice.jsonl"), *where, "--rule", "mmstar"]) == 0
    assert "0.500" in capsys.readouterr().out, "options stand on lines of their own, and are longer than in a chat"


def test_what_a_rule_joins_is_scored_beside():
    rows = [{"key": f"m/{k}", "right": k != 3, "category": "c", "group": str(k // 2), "chance": 0.5} for k in range(4)]
    joined = score_table(rows, "mme")
    assert list(joined.columns[0].cells) == ["all", "right in all of a picture"]
    assert list(joined.columns[1].cells) == ["0.750", "0.500"]


def test_what_cannot_be_asked(checkpoint, tmp_path, capsys):
    assert main([str(checkpoint), str(tmp_path / "none.tsv"), "--rule", "pope"]) == 2
    assert "no file" in capsys.readouterr().err
    code = base64.b64encode(encode_png(PICTURES[1])).decode()
    (tmp_path / "b.tsv").write_text(f"index\tquestion\tanswer\timage\n1\twie heißt das?\tyes\t{code}\n")
    assert main([str(tmp_path / "nowhere"), str(tmp_path / "b.tsv"), "--rule", "pope"]) == 2
    assert "no such folder" in capsys.readouterr().err
    assert main([str(checkpoint), str(tmp_path / "b.tsv"), "--rule", "pope"]) == 2
    assert "'ß' (U+00DF)" in capsys.readouterr().err
