"""Small benchmarks of every form, written here, read, asked and scored; and what is refused of each."""

from __future__ import annotations

import base64
import csv
import json
from pathlib import Path

import numpy as np
import pytest

from mindhand.core.errors import BadData
from mindhand.core.record import measure
from mindhand.data.image import encode_png
from mindhand.evaluate import rules
from mindhand.evaluate.public import RULES, read_public, score_public, squeezed

HEIGHT, WIDTH = 5, 7


def picture(value: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """A picture that says which it is by its first pixel, and is too rough to be small when encoded."""
    image = np.random.default_rng(value).integers(0, 255, (height, width, 3), dtype=np.uint8)
    image[0, 0] = value
    return image


def cell(value: int) -> str:
    return base64.b64encode(encode_png(picture(value))).decode()


def table(folder: Path, rows: list[dict[str, str]], name: str = "bench.tsv") -> Path:
    columns = list(dict.fromkeys(column for row in rows for column in row))
    with open(folder / name, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="", delimiter="\t")
        writer.writeheader()
        writer.writerows(rows)
    return folder / name


def lines(folder: Path, records: list, name: str = "questions.jsonl") -> Path:
    (folder / name).write_text("\n".join(json.dumps(r) for r in records), encoding="utf-8")
    return folder / name


def png(folder: Path, value: int) -> str:
    (folder / "pictures").mkdir(exist_ok=True)
    (folder / f"pictures/{value}.png").write_bytes(encode_png(picture(value)))
    return f"pictures/{value}.png"


def oracle(said: dict[tuple[int, str], str], shown: list[int] | None = None):
    """Answers by the picture's number and the question's first line; empty where nothing is known."""

    def answer(pictures, asked):
        assert len(pictures) == len(asked)
        assert len({len(questions) for questions in asked}) == 1
        if shown is not None:
            shown.append(len(pictures))
        return [[said.get((int(p[0, 0, 0]), q.split("\n")[0]), "") for q in qs] for p, qs in zip(pictures, asked)]

    return answer


CHOICES = [
    {"index": "0", "image": cell(10), "question": "what?", "A": "cat", "B": "dog", "answer": "B", "category": "c"},
    {"index": "1", "image": "0", "question": 'who,\twhere\nand "why"?', "A": "x", "B": "y", "C": "z", "answer": "C"},
    {"index": "2", "image": cell(12), "question": "None?", "hint": "Look.", "A": "None", "C": "1", "answer": "A"},
    {"index": "3", "image": "2", "question": "last?", "A": "l", "B": "m", "answer": "A", "split": "val"},
]


def test_a_table_with_shared_pictures_is_read(tmp_path):
    items = read_public(table(tmp_path, CHOICES))
    assert [i.key for i in items] == ["bench/0", "bench/1", "bench/2", "bench/3"]
    assert [int(i.decoded()[0, 0, 0]) for i in items] == [10, 10, 12, 12]
    assert items[0].image is items[1].image  # once in memory
    assert items[0].picture == items[1].picture != items[2].picture
    assert (items[0].decoded() == picture(10)).all()
    assert items[1].question == 'who,\twhere\nand "why"?'
    assert items[2].question == "Hint: Look.\nNone?"
    assert items[2].options == {"A": "None", "C": "1"}  # a word that some readers take for an empty cell
    assert [i.references for i in items] == [("B",), ("C",), ("A",), ("A",)]
    assert (items[0].category, items[3].split) == ("c", "val")
    assert items[0].asked.split("\n")[:3] == ["what?", "A. cat", "B. dog"]
    assert "letter" in items[0].asked


@pytest.mark.parametrize("rule", ["mmstar", "mmmu"])
def test_choices_are_scored_and_make_a_record(tmp_path, rule):
    said = {(10, "what?"): "(B)", (10, "who,\twhere"): "B.", (12, "last?"): "The answer is A"}
    rows = score_public(oracle(said), read_public(table(tmp_path, CHOICES)), rule)
    assert [row["right"] for row in rows] == [True, False, False, True]
    assert [row["chance"] for row in rows] == [1 / 2, 1 / 3, 1 / 2, 1 / 2]
    assert rows[0]["expected"] == ["B"]
    assert rows[0]["said"] == "(B)"
    assert rows[0]["category"] == "c"
    assert measure(rows, "right", "rate")[0].value == 0.5
    json.dumps(rows)


def test_a_picture_is_shown_once_for_its_questions_and_rows_bound_a_sheet(tmp_path):
    items = read_public(table(tmp_path, CHOICES))
    for rows, sheets in ((32, [2]), (1, [1, 1])):
        shown: list[int] = []
        score_public(oracle({}, shown), items, "mmstar", rows)
        assert shown == sheets


def test_circular_questions_count_in_every_rotation(tmp_path):
    rows = [
        {"index": str(i + k * rules.ROUNDS), "image": str(i) if k else cell(20 + i), "question": f"q{i}{k}"}
        | {"A": "a", "B": "b", "answer": "AB"[k], "category": "all"}
        for i in (1, 2)
        for k in (0, 1)
    ]
    said = {(21, "q10"): "A", (21, "q11"): "B", (22, "q20"): "A", (22, "q21"): "A"}
    found = score_public(oracle(said), read_public(table(tmp_path, rows)), "mmbench")
    assert [row["right"] for row in found] == [True, True, True, False]
    whole = rules.together(found)
    assert [(row["group"], row["right"], row["chance"]) for row in whole] == [("1", True, 0.25), ("2", False, 0.25)]
    assert measure(whole, "right", "rate")[0].value == 0.5


def test_mme_pairs_the_questions_of_a_picture(tmp_path):
    rows = [
        {"index": str(2 * p + q), "image": cell(30 + p), "question": f"Is it {q}?", "answer": ("Yes", "No")[q]}
        | {"category": "count", "image_path": f"images/{p}.jpg"}  # a name, where the picture itself is in the table
        for p in (0, 1)
        for q in (0, 1)
    ]
    said = {(30, "Is it 0?"): "yes", (30, "Is it 1?"): "No.", (31, "Is it 0?"): "Yes", (31, "Is it 1?"): "Perhaps"}
    found = score_public(oracle(said), read_public(table(tmp_path, rows)), "mme")
    assert [row["right"] for row in found] == [True, True, True, False]
    assert {row["chance"] for row in found} == {0.5}
    assert rules.mme_scores(found) == {"count": 75 + 50}


def test_open_answers_are_scored_by_their_rules(tmp_path):
    people = ["Stop sign"] * 3 + ["stop"] * 5 + ["sign"] * 2
    formula = "Handwritten Mathematical Expression Recognition"
    for rule, answer, category, said, column, points in (
        ("textvqa", repr(people), "", "the stop sign", "score", 0.9),
        ("docvqa", "['ITC Limited', 'itc']", "", "itc limitd", "score", 10 / 11),
        ("ocrbench", "['CENTRE']", "Regular Text Recognition", "It says centre.", "right", True),
        ("ocrbench", r"['\\frac{1}{x}']", formula, r"\frac {1} {x}", "right", True),
        ("ocrbench", r"['\\frac{1}{x}']", formula, r"\frac {1} {X}", "right", False),
        ("chartqa", "100", "", "104", "right", True),
        ("chartqa", "['100']", "", "106", "right", False),
        ("exact", "[1, 2]", "", "[1, 2]", "right", True),  # numbers are no list of answers
    ):
        row = {"index": "7", "image": cell(1), "question": "q", "answer": answer, "category": category}
        (found,) = score_public(oracle({(1, "q"): said}), read_public(table(tmp_path, [row])), rule)
        assert found[column] == pytest.approx(points), (rule, said)
        assert ("right" in found) != ("score" in found)
        assert found["chance"] == 0
        measure([found], column, "rate" if column == "right" else "mean")


def test_pictures_by_path(tmp_path):
    rows = [{"index": "1", "image_path": png(tmp_path, 3), "question": "q", "answer": "a"}]
    (item,) = read_public(table(tmp_path, rows))
    assert item.decoded()[0, 0, 0] == 3
    assert item.picture == "pictures/3.png"  # as written, without this machine's folders
    elsewhere = table(tmp_path, [{**rows[0], "image_path": "3.png"}])
    assert read_public(elsewhere, tmp_path / "pictures")[0].decoded()[0, 0, 0] == 3
    with pytest.raises(BadData, match=r"1 of 1 pictures .*row 1 \(index 1\).*3.png"):
        read_public(elsewhere)


def test_large_pictures_fit_and_the_limit_is_put_back(tmp_path):
    was = csv.field_size_limit()
    big = base64.b64encode(encode_png(picture(9, 300, 300))).decode()
    assert len(big) > was
    path = table(tmp_path, [{"index": "1", "image": big, "question": "q", "answer": "a"}])
    assert read_public(path)[0].decoded().shape == (300, 300, 3)
    assert csv.field_size_limit() == was
    path.write_text("index\n1\n")
    with pytest.raises(BadData, match="columns"):
        read_public(path)
    assert csv.field_size_limit() == was


GOOD = {"index": "5", "image": cell(1), "question": "q", "answer": "a"}
BAD_TABLES = {
    "twice": ([GOOD, {**GOOD, "question": "other"}], "bench/5"),
    "no index": ([{**GOOD, "index": ""}], "row 1 .*no index"),
    "no question": ([GOOD, {**GOOD, "index": "6", "question": " "}], "row 2 .index 6. has no question"),
    "no answer": ([{**GOOD, "answer": ""}], r"row 1 \(index 5\) has an empty answer"),
    "empty list": ([{**GOOD, "answer": "[]"}], "empty answer"),
    "empty among answers": ([{**GOOD, "answer": "['a', '']"}], "empty answer"),
    "no such option": ([{**GOOD, "A": "x", "B": "y", "answer": "C"}], r"row 1 \(index 5\).*\['C'\]"),
    "no picture": ([{**GOOD, "image": ""}], r"row 1 \(index 5\) has no picture"),
    "broken base64": ([{**GOOD, "image": cell(1)[:-3] + "!"}], r"row 1 \(index 5\).*not base64"),
    "cut base64": ([{**GOOD, "image": cell(1)[:-1]}], "not base64"),
    "refers to nothing": ([GOOD, {**GOOD, "index": "6", "image": "4"}], r"row 2 \(index 6\): its picture is '4'"),
    "refers to itself": ([{**GOOD, "image": "5"}], "its picture is '5'"),
    "refers in a chain": (
        [GOOD, {**GOOD, "index": "6", "image": "5"}, {**GOOD, "index": "7", "image": "6"}],
        "its picture is '6'",
    ),
    "two pictures": ([{**GOOD, "image": repr([cell(1), cell(2)])}], r"row 1 \(index 5\) is about 2 pictures"),
    "no question column": ([{k: v for k, v in GOOD.items() if k != "question"}], r"lacks \['question'\]"),
    "no picture column": ([{k: v for k, v in GOOD.items() if k != "image"}], "none a picture"),
}


@pytest.mark.parametrize("name", BAD_TABLES)
def test_bad_tables_are_refused(tmp_path, name):
    rows, message = BAD_TABLES[name]
    with pytest.raises(BadData, match=message) as found:
        read_public(table(tmp_path, rows))
    assert "bench.tsv" in found.value.what


def test_damaged_tables_are_refused(tmp_path):
    path = table(tmp_path, CHOICES)
    whole = path.read_bytes()
    for damage, message in (
        (whole + b"9\tx", "row 5 has 2 cells"),
        (whole + b'9\t"x', "no whole table"),
        (whole + b"\xff\xfe", "no whole table"),
        (b"", "columns"),
        (whole[: whole.index(b"\n") + 1], "no question"),
    ):
        path.write_bytes(damage)
        with pytest.raises(BadData, match=message):
            read_public(path)
    with pytest.raises(BadData, match="no file"):
        read_public(tmp_path / "none.tsv")
    with pytest.raises(BadData, match="no form"):
        read_public(tmp_path / "bench.parquet")
    path.write_bytes(b"\xef\xbb\xbf" + whole)  # a mark that some editors put before the text
    assert len(read_public(path)) == 4


def test_a_damaged_picture_is_named_when_it_is_asked_about(tmp_path):
    broken = base64.b64encode(encode_png(picture(1))[:100]).decode()
    items = read_public(table(tmp_path, [{**GOOD, "image": broken}]))
    with pytest.raises(BadData, match="bench/5"):
        score_public(oracle({}), items, "exact")


def questions(folder: Path) -> list[dict]:
    return [
        {"question_id": i, "image": png(folder, v), "text": f"{mark}Is there {i}?", "category": "c"}
        for i, (v, mark) in enumerate(((40, ""), (40, "<image>\n"), (41, "")))
    ]


def test_questions_with_their_answers_in_a_file_beside(tmp_path):
    asked = questions(tmp_path)
    path = lines(tmp_path, asked, "pope_questions.jsonl")
    lines(tmp_path, [{"question_id": i, "text": t} for i, t in enumerate(("yes", "no", "Yes"))], "pope_answers.jsonl")
    items = read_public(path)
    assert [i.key for i in items] == ["pope_questions/0", "pope_questions/1", "pope_questions/2"]
    assert [i.question for i in items] == ["Is there 0?", "Is there 1?", "Is there 2?"]
    said = {(40, "Is there 0?"): "Yes.", (40, "Is there 1?"): "Yes", (41, "Is there 2?"): "No, not at all"}
    rows = score_public(oracle(said), items, "pope")
    assert [row["right"] for row in rows] == [True, False, False]
    assert [row["group"] for row in rows] == ["pictures/40.png", "pictures/40.png", "pictures/41.png"]
    found = rules.pope_scores(rows)
    assert found == pytest.approx({"accuracy": 1 / 3, "precision": 0.5, "recall": 0.5, "f1": 0.5, "yes_ratio": 2 / 3})


def test_questions_with_their_answers_in_their_records(tmp_path):
    asked = questions(tmp_path)
    answered = [q | a for q, a in zip(asked, ({"label": "no"}, {"answers": ["1", 2]}, {"answer": 3}))]
    for name in ("coco.json", "questions.jsonl"):  # lines, whatever the name
        items = read_public(lines(tmp_path, answered, name))
        assert [i.references for i in items] == [("no",), ("1", "2"), ("3",)]
    (tmp_path / "list.json").write_text(json.dumps(answered))
    assert [i.references for i in read_public(tmp_path / "list.json")] == [i.references for i in items]
    (item,) = read_public(lines(tmp_path, [asked[0] | {"options": ["cat", "dog"], "answer": "B"}]))
    assert item.options == {"A": "cat", "B": "dog"}


def test_bad_questions_are_refused(tmp_path):
    good = questions(tmp_path)[0] | {"answer": "yes"}
    for records, message in (
        ([good, good], "questions/0"),
        ([good | {"text": ""}], "record 1 is no question"),
        ([{"question_id": 1, "text": "q", "answer": "a"}], "record 1 is no question"),
        ([good, "words"], "record 2 is no question"),
        ([good | {"answer": None}], r"record 1 \(question 0\) has no answer"),
        ([good | {"answer": " "}], r"record 1 \(question 0\) has an empty answer"),
        ([good | {"answer": {"text": "a"}}], r"record 1 \(question 0\): the answer"),
        ([good | {"answer": "C", "options": ["x"]}], r"\['C'\]"),
        ([good | {"image": ["a", "b"]}], "another kind"),
        ([good | {"options": "x"}], "another kind"),
        ([good | {"image": "gone.png"}], "1 of 1 pictures .*gone.png"),
        ([], "no question"),
    ):
        with pytest.raises(BadData, match=message) as found:
            read_public(lines(tmp_path, records))
        assert "questions.jsonl" in found.value.what
    path = lines(tmp_path, [good])
    path.write_text(path.read_text() + "\n{")
    with pytest.raises(BadData, match="neither"):
        read_public(path)
    with pytest.raises(BadData, match="no file"):
        read_public(tmp_path / "none.jsonl")
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadData, match="no text"):
        read_public(path)


def test_bad_files_of_answers_are_refused(tmp_path):
    path = lines(tmp_path, questions(tmp_path)[:1])
    for answers, message in (
        ([{"question_id": 1, "text": "a"}], r"\(question 0\) has no answer"),
        ([{"question_id": 0}], r"\(question 0\) has no answer"),
        ([{"text": "a"}], r"answers.jsonl, record 1 has no question_id"),
        ([{"question_id": 0, "text": "a"}] * 2, r"answers.jsonl, record 2 answers question 0 again"),
    ):
        lines(tmp_path, answers, "answers.jsonl")
        with pytest.raises(BadData, match=message):
            read_public(path)


def test_conversations_are_asked_turn_by_turn(tmp_path):
    turns = [
        {"from": f, "value": v} for f, v in (("human", "<image>\nq0"), ("gpt", "a0"), ("human", "q1"), ("gpt", "a1"))
    ]
    record = {"id": "x", "image": png(tmp_path, 50), "conversations": turns}
    path = tmp_path / "talk.json"
    path.write_text(json.dumps([record]))
    items = read_public(path)
    assert [(i.key, i.question, i.references) for i in items] == [
        ("talk/x/0", "q0", ("a0",)),
        ("talk/x/1", "q1", ("a1",)),
    ]
    rows = score_public(oracle({(50, "q0"): "A0 ", (50, "q1"): "a2"}), items, "exact")
    assert [row["right"] for row in rows] == [True, False]
    assert rows[0]["group"] == "pictures/50.png"
    for records, message in (
        ([record, record], "talk/x/0"),
        ([{"id": "y", "conversations": turns[2:]}], "'y' is about no picture"),
        ([record | {"image": "gone.png"}], "gone.png"),
    ):
        path.write_text(json.dumps(records))
        with pytest.raises(BadData, match=message):
            read_public(path)


def test_a_rule_that_cannot_score_an_item_says_so_before_anything_is_asked(tmp_path):
    items = read_public(table(tmp_path, [GOOD]))
    asked: list[int] = []
    for rule, message in (
        ("mmbench", "bench/5.*options"),
        ("mmmu", "bench/5.*options"),
        ("pope", "bench/5.*the answer"),
        ("textvqa", "bench/5.*1 answers"),
        ("imagenet", "rule 'imagenet'"),
    ):
        with pytest.raises(BadData, match=message):
            score_public(oracle({}, asked), items, rule)
    with pytest.raises(BadData, match="bench/5"):
        score_public(oracle({}, asked), items * 2, "exact")
    assert not asked
    with pytest.raises(BadData, match="0 answers"):
        score_public(lambda pictures, asked: [[] for _ in pictures], items, "exact")


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_gives_a_right_answer_everything_and_no_answer_nothing(tmp_path, rule):
    answer = {"pope": "yes", "mme": "yes", "textvqa": repr(["ok"] * 10)}.get(rule, "B")
    row = GOOD | {"answer": answer}
    if rule in ("mmbench", "mmmu", "mmstar", "ai2d", "seedbench", "scienceqa", "realworldqa"):
        row |= {"A": "x", "B": "y"}
    items = read_public(table(tmp_path, [row]))
    for said, points in ((items[0].references[0], 1), ("perhaps not", 0)):
        (found,) = score_public(lambda pictures, asked, said=said: [[said]], items, rule)
        assert found.get("right", found.get("score")) == points


def test_pictures_of_any_size_are_squeezed_for_a_model_of_one(tmp_path):
    rows = [
        GOOD | {"index": str(n), "image": base64.b64encode(encode_png(np.full((h, w, 3), 40 * n, np.uint8))).decode()}
        for n, (h, w) in enumerate(((40, 60), (3, 5), (9, 2)))
    ]
    rows[2]["image"] = base64.b64encode(encode_png(picture(80, 60, 4))).decode()
    seen = []

    def answer(images, asked):
        seen.append((images.shape, images.dtype, images[:2, 0, 0, 0].tolist()))
        return [["a" for _ in questions] for questions in asked]

    found = score_public(squeezed(answer, 8, 6), read_public(table(tmp_path, rows)), "exact")
    assert seen == [((3, 8, 6, 3), np.uint8, [0, 40])]
    assert all(row["right"] for row in found)
