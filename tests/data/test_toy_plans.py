"""Questions about what is to be done next with toys: true of the scene, and answered in the words of a thought."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from mindhand.core.keys import Keys
from mindhand.data.synthetic.grounding import looks
from mindhand.data.synthetic.samples import QA, ImageText
from mindhand.data.synthetic.toy_corpus import ToyCorpus
from mindhand.data.synthetic.toy_picture import tabletop
from mindhand.data.synthetic.toy_plans import plan
from mindhand.data.synthetic.toy_questions import PHRASES, Asker
from mindhand.data.synthetic.vocabulary import train_words
from mindhand.model.words import Words
from mindhand.worlds.desk.spec import HAND
from mindhand.worlds.draw import Draw
from mindhand.worlds.placing import INSTRUCTIONS, item_class, read_placing, whereabouts
from mindhand.worlds.placing_layout import beside
from mindhand.worlds.things import BY_NAME, RELATIONS, ToyScene, sample_toys

OWN = tuple(i.split(" {}")[0] for i in INSTRUCTIONS)


def pixel(k: int) -> tuple[float, float]:
    return 8.0 * k + 4.0, 60.0


def spot(point: Sequence[float]) -> tuple[float, float]:
    return 64 + 300 * point[0], 64 - 300 * point[1]


def asked(i: int) -> tuple[ToyScene, QA | None]:
    keys = Keys.seeded(1, "plans", i)
    scene = sample_toys(keys)
    return scene, plan(scene, [pixel(k) for k in range(len(scene.toys))], spot, Draw(keys.fold("ask")), PHRASES["plan"])


ASKED = [(s, q) for s, q in map(asked, range(600)) if q is not None]


@pytest.fixture(scope="module")
def words() -> Words:
    return train_words(True)


def named(scene: ToyScene) -> dict[str, int]:
    return {f"{t.colour} {t.thing}": k for k, t in enumerate(scene.toys)}


def test_a_plan_is_a_thought_and_true_of_the_scene() -> None:
    seen = Counter[str]()
    for scene, qa in ASKED:
        found, here = read_placing(qa.answer), named(scene)
        assert found is not None
        if found["step"] == "none":
            continue
        seen[found["step"]] += 1
        if found["step"] == "done":
            a, b = here[found["target"]], here[found["reference"]]
            assert found["relation"] in scene.relation(a, b) and qa.point is None and HAND[1] not in qa.question
            assert f" {found['relation']} the " in qa.question
            continue
        b = scene.toys[here[found["reference"]]]
        assert found["reference_place"] == whereabouts(b.x, b.y)
        if found["step"] == "take":
            k = here[found["target"]]
            assert found["target_place"] == whereabouts(scene.toys[k].x, scene.toys[k].y)
            assert qa.point == pixel(k) and HAND[1] not in qa.question
            how = next(r for r in sorted(RELATIONS, key=len, reverse=True) if f" {r} the " in qa.question)
            assert how not in scene.relation(k, here[found["reference"]])
        else:
            assert found["target"] not in here  # a hand is in no picture of toys
            assert HAND[1] in qa.question and found["target"] in qa.question
    assert seen["take"] > 110 and seen["put"] > 110 and seen["done"] > 40


def test_what_is_missing_is_named_and_missing() -> None:
    many = Counter[str]()
    for scene, qa in ASKED:
        first, second, *_ = sentences = qa.answer.removesuffix(".").split(". ")
        if sentences[-1] != "none":
            continue
        before = second.endswith(" none")
        said, other = (s.removesuffix(" none") for s in ((second, first) if before else (first, second)))
        toy = scene.toys[named(scene)[" ".join(other.split()[:2])]]
        assert other.endswith(f" {whereabouts(toy.x, toy.y)}")
        assert HAND[1] not in qa.question
        if " " in said:
            assert said not in named(scene)
        else:
            assert said in BY_NAME and said not in {t.thing for t in scene.toys}
        assert f"the {said}" in qa.question or f" {said}" in qa.question
        many["reference" if before else "target"] += 1
        many["namesake" if said.split()[-1] in {t.thing for t in scene.toys} else "other"] += 1
    assert min(many[k] for k in ("reference", "target", "namesake", "other")) > 20, many


def test_the_words_of_an_instruction_ask_of_class_r_alone() -> None:
    own = [(s, q) for s, q in ASKED if q.question.startswith(OWN)]
    assert len(own) > 15
    for _, qa in own:
        names = [n for n in BY_NAME if f" {n}" in qa.question.replace(",", " ")]
        how = next(r for r in sorted(RELATIONS, key=len, reverse=True) if f" {r} the " in qa.question)
        assert RELATIONS[how] == "R" and all(BY_NAME[n].known == "R" for n in names), qa.question
        assert any(h in qa.question for h in HAND), "a robot always tells the state of its hand"
    assert item_class("ball", "key", "left of") != "R"


def test_every_sentence_is_looked_at_where_it_speaks_of(words: Words) -> None:
    for scene, qa in ASKED[:120]:
        at = looks(qa, ImageText(np.zeros((128, 128, 3), np.uint8), ()), words)
        tokens = [words.decode([i]) for i in words.encode(qa.answer)]
        assert len(at) == len(tokens) + 1 and at[-1] == qa.point
        here, sentence = named(scene), qa.answer.split(". ")
        for token, pixel_ in zip(tokens, at, strict=False):
            assert pixel_ is None or pixel_ in qa.row, token
        first = " ".join(sentence[0].split()[:2])
        if first in here and not qa.answer.startswith(f"{first} none"):
            assert at[0] == pixel(here[first])
        if sentence[-1].startswith("put "):  # the hand goes where the words end: to where the thing is to stand
            first, goal = pixel(here[" ".join(sentence[0].split()[:2])]), goal_of(scene, qa.answer)
            until = tokens.index(".") + 1
            assert set(at[:until]) == {first} and set(at[until:]) == {goal}, qa.answer


def goal_of(scene: ToyScene, answer: str) -> tuple[float, float] | None:
    """By the rule that judges: some way to that side of the reference, within the picture or nowhere."""
    found = read_placing(answer)
    assert found is not None
    b = scene.toys[named(scene)[found["reference"]]]
    if found["relation"] == b.kind.way:
        x, y = b.x, b.y
    else:
        dx, dy = beside(BY_NAME[found["target"].split()[1]], b.kind, found["relation"])
        x, y = b.x + dx, b.y + dy
        assert found["relation"] in ToyScene((replace(b, x=x, y=y), b)).relation(0, 1)
    u, v = spot((x, y))
    return (u, v) if 0 <= u < 128 and 0 <= v < 128 else None


def test_with_a_hand_in_sight_a_plan_is_about_what_it_holds():
    corpus, keys = ToyCorpus(4, tabletop, rows=8, questions=12), Keys.seeded(1, "armed")
    tables = [corpus.table(0, i) for i in range(200)]
    assert 70 < sum(t.hand is not None for t in tables) < 130
    seen, armed = Counter[str](), 0
    for i, t in enumerate(tables):
        if t.hand is None:
            continue
        bare = tabletop(replace(t, hand=None), keys)
        sight, held = tabletop(t, keys), t.hand.held
        hides = (sight.image != bare.image).any(-1)
        armed += bool(hides.any())
        for left, top, right, bottom in np.array(sight.boxes).astype(int):
            assert hides[top:bottom, left:right].mean() < 0.6
        assert sight.boxes == bare.boxes and sight.toys == bare.toys
        qa = Asker(t, sight, Draw(keys.fold("ask", i))).ask("plan")
        assert sight.armed == bool(hides.any())
        if held is not None:
            assert not {held.thing, held.colour} & {w for o in t.scene.toys for w in (o.thing, o.colour)}
        if qa is not None:
            said = read_placing(qa.answer)
            assert said is not None
            if sight.armed:
                assert (said["step"] == "put") == (held is not None)
                assert held is None or (said["target"] == held.full and held.thing in qa.question)
                seen["unseen colour"] += held is not None and held.colour not in qa.question
            seen[said["step"]] += 1
    assert armed > 60 and min(seen["put"], seen["take"], seen["unseen colour"]) > 5
