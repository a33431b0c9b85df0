"""Questions about toys: what is said is so; every kind comes up; nothing that is held out does."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from mindhand.core.keys import Keys
from mindhand.data.synthetic.collate import WIDE, glyph_cells, trait_cells
from mindhand.data.synthetic.grounding import looks
from mindhand.data.synthetic.questions import counted
from mindhand.data.synthetic.samples import GLYPHS, HUES, class_name
from mindhand.data.synthetic.toy_corpus import ToyCorpus, sample_writing
from mindhand.data.synthetic.toy_questions import ABOUT_TOYS, PHRASES, RIM, Asker, Sight, Tabletop, pointed
from mindhand.data.synthetic.vocabulary import train_words
from mindhand.worlds.boards import Chart, Notice
from mindhand.worlds.draw import Draw
from mindhand.worlds.equations import Equation
from mindhand.worlds.things import BY_NAME, COLOURS, FIELD, MATERIALS, OPPOSITE, RELATIONS, ToyScene, sample_toys
from mindhand.worlds.wide import parts, wide_equations, written, written_three


def drawn(table: Tabletop, keys: Keys | None = None) -> Sight:
    """A picture in name only."""
    (x0, x1), (y0, y1) = FIELD
    at = tuple((8 + 110 * (t.x - x0) / (x1 - x0), 84 - 70 * (t.y - y0) / (y1 - y0)) for t in table.scene.toys)
    boxes = tuple((u - 7, v - 6, u + 7, v + 6) for u, v in at)
    w = table.writing
    many = (
        len(w.bars)
        if isinstance(w, Chart)
        else len(" ".join(w.lines).split())
        if isinstance(w, Notice)
        else len(w.text)
    )
    return Sight(
        np.zeros((128, 128, 3), np.uint8),
        at,
        boxes,
        tuple((20.5 + 9 * i, 110.5) for i in range(many)),
        lambda p: (64 + 300 * p[0], 64 - 300 * p[1]),
    )


CORPUS = ToyCorpus(3, drawn, fonts=("R", "K"))
SCENES = [sample_toys(Keys.seeded(1, "toys", i)) for i in range(300)]


def asked(kind: str, count: int = 60):
    """Tabletops with a question of this kind."""
    out = []
    for i in range(3000):
        table = CORPUS.table(0, i)
        asker = Asker(table, drawn(table), Draw(Keys.seeded(1, kind, i)))
        if (qa := asker.ask(kind)) is not None:
            out.append((table, qa))
        if len(out) == count:
            break
    return out


def test_toys_stand_apart_and_are_all_different():
    for scene in SCENES:
        named = [(t.thing, t.colour) for t in scene.toys]
        assert len(set(named)) == len(named)
        for k, t in enumerate(scene.toys):
            assert BY_NAME[t.thing].known != "X"
            if t.held_by is not None:
                assert (t.x, t.y) == (scene.toys[t.held_by].x, scene.toys[t.held_by].y) and t.held_by != k
                assert scene.toys[t.held_by].kind.way
                continue
            for other in scene.toys[:k]:
                if other.held_by is None:
                    assert np.hypot(t.x - other.x, t.y - other.y) > t.kind.reach + other.kind.reach
    assert sum(any(t.held_by is not None for t in s.toys) for s in SCENES) > 60
    most = Counter(max(Counter(t.thing for t in s.toys).values()) for s in SCENES)
    assert set(most) >= {1, 2, 3, 4, 5}
    assert ToyScene.from_json(SCENES[0].to_json()) == SCENES[0]


def test_relations_are_what_they_say():
    seen = Counter()
    for scene in SCENES:
        for a in range(len(scene.toys)):
            for b in range(len(scene.toys)):
                for how in scene.relation(a, b) if a != b else ():
                    seen[how] += 1
                    p, q = scene.toys[a], scene.toys[b]
                    right, away = p.x - q.x, p.y - q.y
                    assert {"left of": -right, "right of": right, "behind": away, "in front of": -away}.get(how, 1) > 0
                    if how in OPPOSITE:
                        assert scene.relation(b, a) == (OPPOSITE[how],)
    assert set(seen) == set(RELATIONS)


@pytest.mark.parametrize("kind", [k for k in PHRASES])
def test_every_kind_is_asked_and_answered_in_its_form(kind):
    found = asked(kind)
    assert len(found) == 60
    assert len({qa.answer for _, qa in found}) > 1
    for table, qa in found:
        toys = table.scene.toys
        if kind in ("hue", "turn"):
            assert qa.answer in COLOURS
        if kind == "name":
            colour = next(c for c in COLOURS if f" {c} " in f" {qa.question.replace('?', '')} ")
            assert [t.thing for t in toys if t.colour == colour] == [qa.answer]
        if kind == "choice":
            options = dict(
                o.strip().split(" ") for o in qa.question.replace("?", ":").split(":")[-1].split("toy")[-1].split(",")
            )
            colour = next(c for c in COLOURS if f" {c} " in qa.question)
            assert [t.thing for t in toys if t.colour == colour] == [options[qa.answer]] and len(
                set(options.values())
            ) == 3
        if kind == "amount":
            n = int(qa.answer[-1])
            assert qa.answer == counted(n) and len(qa.row) == n and list(qa.row) == sorted(qa.row)
            words = qa.question.replace("?", "").split()
            counts = [sum(t.thing in words for t in toys), sum(t.colour in words for t in toys), len(toys)]
            assert n in counts
        if kind == "there":
            said = [t for t in toys if t.thing in qa.question.replace("?", "").split()]
            colour = [c for c in COLOURS if c in qa.question.split()]
            is_there = any(not colour or t.colour == colour[0] for t in said)
            assert qa.answer == ("yes" if is_there else "no")
        if kind == "highest":
            assert max(table.writing.bars, key=lambda b: b[1])[0] == qa.answer


def test_the_harder_of_two_questions_is_asked():
    """Of counts and names in samples, against one draw of each."""
    qas = [(CORPUS.table(0, i), qa) for i in range(300) for qa in _sample(i)]
    once = asked("amount", 300)

    def many(found):
        return np.mean([len(qa.answer) >= len(counted(3)) for _, qa in found if qa.kind == "amount"])

    def hidden(found):
        named = [(t.scene, drawn(t).toys.index(qa.point)) for t, qa in found if qa.kind == "name"]
        toys = [scene.toys[k] for scene, k in named]
        return np.mean([t.held_by is not None or t.colour == "black" for t in toys])

    assert many(qas) > 1.3 * many(once) > 0.1
    assert hidden(qas) > 1.2 * hidden(asked("name", 300)) > 0.1


def _sample(row):
    table = CORPUS.table(0, row)
    return CORPUS.asked(Keys.seeded(1, "harder", row), table, drawn(table))


def test_yes_is_as_likely_as_no():
    for kind in ("there", "lies", "higher"):
        share = np.mean([qa.answer == "yes" for _, qa in asked(kind, 300)])
        assert 0.4 < share < 0.6, (kind, share)


def told(text: str) -> set[str]:
    """The sums of two numbers that a text gives away; of three the first two, and all where they are one sum."""
    found = re.findall(r"(?<![\d+-])(\d+[-+x]\d+)(?:[+-]1)?=", text)
    return set(found)


def test_steps_are_right():
    for e in (Equation(a, op, b) for op in "+-" for a in range(0, 100, 7) for b in range(0, a + 1, 3) if a + b < 100):
        text = written(e)
        assert text.endswith(str(e.answer))
        for part in text.split(": ")[-1].split(". ")[:-1]:
            left, right = part.split("=")
            if left.isascii() and ":" in text:
                assert eval(left) == int(right)
    assert written_three(3, 4, 15) == "3+4+15: 3+4=7. 7+15=22. 22"


def test_parts_are_what_steps_say():
    for e in (*wide_equations("K-dev"), *wide_equations("X")):
        assert {p.text for p in parts(e)} == {t for t in told(written(e)) if t != e.text}, e
    assert [p.text for p in parts((3, 4, 15))] == ["3+4", "7+15"]


def test_a_sample_has_its_questions_and_is_the_same_again():
    for row in range(12):
        a, b = CORPUS.sample(2, row), CORPUS.sample(2, row)
        assert len(a.questions) == 4 and a.questions == b.questions and a.glyphs == b.glyphs
        assert sum(qa.kind in ABOUT_TOYS for qa in a.questions) == 3


def test_many_questions_about_a_table_are_different_ones():
    for row in range(12):
        sample, table = replace(CORPUS, questions=12).sample(2, row), CORPUS.table(2, row)
        assert 10 <= sum(qa.kind in ABOUT_TOYS for qa in sample.questions) <= 11  # a number can be asked once
        different = {(qa.kind, qa.answer, qa.point) for qa in sample.questions}
        assert len(different) > (10 if len(table.scene.toys) > 2 else 6)


def test_traits_are_those_of_the_toys():
    grid = (8, 16)
    for row in range(12):
        sample, toys = CORPUS.sample(3, row), CORPUS.table(3, row).scene.toys
        assert [(HUES[t.hue], MATERIALS[t.pattern]) for t in sample.traits] == [(t.colour, t.material) for t in toys]
        hue, pattern, size = trait_cells(sample, grid)
        glyphs, _ = glyph_cells(sample, grid)
        assert ((hue >= 0) == (glyphs >= GLYPHS)).all() and ((pattern >= 0) == (hue >= 0)).all()
        for at in np.flatnonzero(hue >= 0):
            here = [t for t in toys if t.thing == class_name(glyphs[at]) and t.colour == HUES[hue[at]]]
            assert here and MATERIALS[pattern[at]] in {t.material for t in here}
            assert size[at] * WIDE == pytest.approx((14, 12))


def test_answers_look_where_things_are():
    words = train_words(whole=True)
    for kind, many in (
        ("caption", None),
        ("amount", None),
        ("box", 4),
        ("notice", None),
        ("bars", None),
        ("name", 1),
        ("board", None),
    ):
        for _, qa in asked(kind, 20):
            sample = CORPUS.sample(0, 0)
            at = looks(qa, sample, words)
            tokens = [words.decode([i]) for i in words.encode(qa.answer)]
            assert len(at) in (len(tokens), len(tokens) + 1)
            if many:
                assert sum(p is not None for p in at[: len(tokens)]) == many, (kind, tokens)
            if kind in ("caption", "amount"):  # and where the list ends, where its last one was
                assert [p for p in at if p] == [*qa.row, qa.row[-1]] and len(at) == len(tokens) + 1, tokens


def test_writings_are_drawn_of_every_kind():
    for kind in ("sum", "number", "notice", "chart"):
        writing, of = sample_writing(Draw(Keys.seeded(1, kind)), kind, ("R", "K"))
        assert (of is not None) == (kind == "sum")
        assert isinstance(writing, Notice) == (kind == "notice") and isinstance(writing, Chart) == (kind == "chart")


def test_what_holds_another_is_pointed_at_beside_it():
    held = [s for s in SCENES if any(t.held_by is not None for t in s.toys)]
    assert len(held) > 30
    for scene in held:
        middles = [(40.0 + 9 * k, 60.0) for k in range(len(scene.toys))]
        boxes = [(u - 20, 50.0, u + 20, 72.0) for u, _ in middles]
        for k, (toy, was, at) in enumerate(zip(scene.toys, middles, pointed(scene, middles, boxes))):
            holds = any(t.held_by == k for t in scene.toys)
            assert toy.kind.holds or not holds
            assert at == ((was[0] - 20 + RIM * 40, 61.0) if holds else was)
