"""Image-text conversations: the form, the five turns, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mindhand.core.errors import BadData
from mindhand.core.keys import Keys
from mindhand.data.image import encode_png
from mindhand.data.llava import LlavaSet, Turn


def talk(turns: int) -> list[dict[str, str]]:
    out = []
    for i in range(turns):
        out += [
            {"from": "human", "value": ("<image>\n" if i == 0 else "") + f"q{i}"},
            {"from": "gpt", "value": f"a{i}"},
        ]
    return out


def put(folder: Path, records, name: str = "talk.json") -> Path:
    (folder / "pictures").mkdir(exist_ok=True)
    (folder / "pictures/a.png").write_bytes(encode_png(np.full((6, 9, 3), 100, np.uint8)))
    text = "\n".join(json.dumps(r) for r in records) if name.endswith("l") else json.dumps(records)
    (folder / name).write_text(text)
    return folder / name


def record(turns: int = 1, **changes) -> dict:
    return {"id": "x", "image": "pictures/a.png", "conversations": talk(turns)} | changes


@pytest.mark.parametrize("name", ["talk.json", "talk.jsonl"])
def test_it_is_read(tmp_path, name):
    data = LlavaSet(put(tmp_path, [record(2), record(1, id=7)], name))
    assert len(data) == 2
    assert data.turns(0, Keys.seeded(1, 0)) == (Turn("q0", "a0"), Turn("q1", "a1"))
    assert data.conversations[1].name == "7"
    assert (data.picture(0, 3, 3) == 100).all()
    assert data.picture(0, 12, 3).shape == (12, 3, 3)


def test_at_most_five_turns_the_first_kept_in_order(tmp_path):
    data = LlavaSet(put(tmp_path, [record(9)]))
    seen, firsts = np.zeros(9, int), set()
    for draw in range(400):
        turns = data.turns(0, Keys.seeded(1, "draw", draw))
        numbers = [int(t.question[1:]) for t in turns]
        assert len(numbers) == 5
        assert numbers[0] == 0
        assert numbers == sorted(set(numbers))
        seen[numbers] += 1
        firsts.add(tuple(numbers))
    assert seen[0] == 400
    assert (abs(seen[1:] - 200) < 50).all()  # each later turn half of the time
    assert len(firsts) > 50
    assert data.turns(0, Keys.seeded(1, "draw", 3)) == data.turns(0, Keys.seeded(1, "draw", 3))
    for few in (1, 4, 5):
        assert len(LlavaSet(put(tmp_path, [record(few)])).turns(0, Keys.seeded(1, 0))) == few


def test_a_conversation_about_no_picture_says_so(tmp_path):
    said = [{"from": "human", "value": "2+2?"}, {"from": "gpt", "value": "4"}]
    data = LlavaSet(put(tmp_path, [{"id": 1, "conversations": said}]))
    assert data.picture(0, 4, 4) is None


def test_pictures_in_another_folder(tmp_path):
    path = put(tmp_path, [record(image="a.png")])
    with pytest.raises(BadData, match="1 of 1 pictures"):
        LlavaSet(path)
    assert len(LlavaSet(path, tmp_path / "pictures")) == 1


BAD = {
    "missing picture": ([record(), record(image="gone.png")], "1 of 2 pictures .*gone.png"),
    "no list": ({"conversations": []}, "no list"),
    "empty": ([], "no list"),
    "no conversations": ([{"id": 1}], "record 0"),
    "starts with the model": ([record(conversations=talk(1)[::-1])], "gpt"),
    "no answer": ([record(conversations=talk(2)[:3])], "human, then gpt"),
    "no text": ([record(conversations=[{"from": "human"}, {"from": "gpt", "value": "a"}])], "no text"),
    "empty answer": (
        [record(conversations=[{"from": "human", "value": "q"}, {"from": "gpt", "value": " "}])],
        "turn 0 is empty",
    ),
    "no turn": ([record(conversations=[])], "no turn"),
    "two pictures": ([record(image=["a", "b"])], "one path"),
    "mark without picture": ([record(image=None)], "names no picture"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_records_are_refused(tmp_path, name):
    records, message = BAD[name]
    with pytest.raises(BadData, match=message):
        LlavaSet(put(tmp_path, records))


def test_bad_files_are_refused(tmp_path):
    with pytest.raises(BadData, match="no file"):
        LlavaSet(tmp_path / "none.json")
    path = put(tmp_path, [record()])
    path.write_text(path.read_text()[:-3])
    with pytest.raises(BadData, match="not JSON"):
        LlavaSet(path)
    lines = put(tmp_path, [record()], "talk.jsonl")
    lines.write_text(lines.read_text() + "\n{")
    with pytest.raises(BadData, match="line"):
        LlavaSet(lines)


def test_a_damaged_picture_is_named(tmp_path):
    data = LlavaSet(put(tmp_path, [record()]))
    (tmp_path / "pictures/a.png").write_bytes(b"broken")
    with pytest.raises(BadData, match="'x'"):
        data.picture(0, 4, 4)
