"""Moments on the way to an answer: the picture, the thought and where it looks agree; K is never thought."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from mindhand.core.keys import Keys
from mindhand.data.synthetic.corpus import COTRAIN_SPLITS, pretraining
from mindhand.data.synthetic.grounding import looks
from mindhand.data.synthetic.moments import ABOVE, ASKEW, MARGIN, THINK, Moment, moment
from mindhand.data.synthetic.picture import front
from mindhand.data.synthetic.questions import ADDRESSES, JOINED, joined
from mindhand.data.synthetic.samples import QA, ImageText, class_name
from mindhand.data.synthetic.vocabulary import train_words
from mindhand.worlds.desk.kinematics import inverse, tool_down
from mindhand.worlds.desk.render import render_scene
from mindhand.worlds.desk.spec import HAND
from mindhand.worlds.desk.stage import Stage
from mindhand.worlds.draw import Draw
from mindhand.worlds.scene import AREA, INSTRUCTIONS, PLACES, YAW, read_reasoning, reasoning_text, sample_maths

from .synthetic_picture import patches

CORPUS = replace(pretraining(5, 40, rows=32, picture=patches), think=20)
WORDS = train_words()
ENDS = ((0, -1), (1, 1))


def thoughts(step: int) -> list[tuple[int, ImageText, QA]]:
    return [(r, s, q) for r, s in enumerate(CORPUS.batch(step)) for q in s.questions if q.kind == THINK]


def test_thoughts_begin_at_their_step_and_are_of_what_may_be_co_trained():
    assert not thoughts(19)
    found = [CORPUS.scene(step, r).split for step in range(20, 30) for r, _, _ in thoughts(step)]
    assert len(found) > 20
    assert set(found) == set(COTRAIN_SPLITS)
    for r, sample in enumerate(CORPUS.batch(25)):
        if CORPUS.scene(25, r).split not in COTRAIN_SPLITS:  # nor is what K holds asked for in the robot's words
            assert not any(i in q.question for i in INSTRUCTIONS for q in sample.questions)


def test_thought_moment_and_picture_agree():
    seen = {"take": 0, "put": 0, "done": 0}
    for step in range(20, 36):
        for r, sample, qa in thoughts(step):
            scene = CORPUS.scene(step, r)
            now = CORPUS.moment(step, r, scene)
            said = read_reasoning(qa.answer)
            assert said is not None
            seen[said["step"]] += 1
            digits = scene.equation.digits
            assert said["answer"] == scene.equation.answer
            assert said["placed"] == digits[: len(now.taken)]
            assert len(now.visible.tiles) == len(scene.tiles) - (said["step"] == "put")
            if said["step"] == "take":
                assert said["tiles"] == tuple(t.digit for t in sorted(now.table.tiles, key=lambda t: (t.x, t.digit)))
                u, v = qa.point
                assert sample.image[int(v), int(u), 0] == said["digit"]  # a patch's colour tells its digit
            elif said["step"] == "put":
                assert qa.point == patches(scene).places[len(now.taken)]
            names = [class_name(g) for g, _, _ in sample.glyphs if class_name(g).startswith("tile")]
            assert names == [f"tile {now.scene.tiles[k].digit}" for k in now.lying]  # patches hide nothing
            for k, place in zip(now.taken, PLACES):
                assert np.allclose((now.scene.tiles[k].x, now.scene.tiles[k].y), place, atol=0.007)
    assert min(seen.values()) > 3


def test_what_comes_next_is_what_a_thought_says():
    steps = {"take": 0, "put": 0, "done": 0}
    for i in range(120):
        now = moment(sample_maths(Keys.seeded(1, "next", i), "R"), Keys.seeded(1, "next", i))
        seen = patches(now.visible, None, now.hand)
        thought, asked = now.thought(seen, "go"), now.next(Draw(Keys.seeded(1, i)), seen)
        said = read_reasoning(thought.answer)
        steps[said["step"]] += 1
        assert (asked.answer, asked.point, asked.row) == (thought.answer, thought.point, thought.row)
        assert thought.answer == reasoning_text(now.scene, len(now.taken), now.taken, now.held)
        # Only where nobody tells the state of the hand does the question itself tell that there is a tile in it.
        spoken = any(asked.question.endswith(h) for h in HAND)
        assert ("in the hand" in asked.question) == (said["step"] == "put" and not spoken)
        assert len(looks(asked, ImageText(seen.image, (asked,)), WORDS)) == len(WORDS.encode(asked.answer)) + 1
    assert min(steps.values()) > 0


def test_questions_about_tiles_leave_out_tray_and_hand():
    scene = sample_maths(Keys.seeded(1, "moments", 3), "C")
    order = scene.order()
    assert len(Moment(scene).table.tiles) == len(scene.tiles)
    assert len(Moment(scene, order[:1]).table.tiles) == len(scene.tiles) - 1
    held = Moment(scene, (), held=True)
    assert held.hand.tile is scene.tiles[order[0]]
    assert len(held.table.tiles) == len(held.visible.tiles) == len(scene.tiles) - 1


def test_no_moment_without_the_answers_tiles():
    assert moment(sample_maths(Keys.seeded(1, "bare"), "R", answer_tiles=False), Keys.seeded(1, 0)) is None


def test_a_held_tile_is_seen_in_the_hand():
    scene = sample_maths(Keys.seeded(1, "moments", 5), "R")
    held = Moment(scene, (), held=True)
    red = replace(held.hand.tile, face="pink")
    tool = (0.0, 0.0, 0.09, 0.2)
    empty, full = render_scene(held.visible, tcp=tool, gripper=0.69), render_scene(held.visible, tcp=tool, held=red)
    assert 20 < (empty.image != full.image).any(-1).sum() < 400
    assert len(full.marks) == len(empty.marks) == len(scene.board.text) + len(scene.tiles) - 1
    a, b = (front(held.visible, Keys.seeded(1, "held", 1), held.hand) for _ in range(2))
    assert np.array_equal(a.image, b.image)


def test_a_hand_that_reaches_is_on_its_way_to_its_tile():
    found, held = [], 0
    for i in range(60):
        keys = Keys.seeded(1, "reach", i)
        now, plain = (moment(sample_maths(keys, "R"), keys, reach) for reach in (True, False))
        assert plain == replace(now, reach=None)
        if now.reach is None:
            continue
        if now.held:
            assert np.allclose(now.reach[:2], PLACES[len(now.taken)], atol=0.007) and now.hand.tile is not None
            held += 1
            continue
        tile = now.scene.tiles[now.target]
        off = max(abs(now.reach[0] - tile.x), abs(now.reach[1] - tile.y))
        found.append(off < 0.05)
        if found[-1] and sum(found) < 4:
            seen, empty = front(now.visible, None, now.hand), front(now.visible)
            (u, v), far = now.pixels(empty)[now.target], np.abs(seen.image.astype(int) - empty.image).sum(-1)
            assert seen.tiles == empty.tiles
            assert far[max(0, int(v) - 24) : int(v) + 8, int(u) - 16 : int(u) + 17].max() > 100
    assert 15 < len(found) < 50 and 0.4 < np.mean(found) < 0.9  # the others are still on their way
    assert 3 < held < 20  # and some are about to let go


def test_the_arm_can_be_wherever_a_hand_reaches():
    low, high = ABOVE
    corners = [(AREA[0][i] + s * MARGIN, AREA[1][j] + t * MARGIN) for i, s in ENDS for j, t in ENDS]
    for (x, y), z, turn in product(corners, (low, 0.06, high), (-1, 0, 1)):
        tool = tool_down(turn * (YAW + ASKEW))
        assert inverse(np.array([x, y, z]) - Stage.base, tool, np.zeros(6)).exact
    for x, y, z, yaw in (m.reach for i in range(400) if (m := some(i)) and m.reach):
        assert inverse(np.array([x, y, z]) - Stage.base, tool_down(yaw), np.zeros(6)).exact


def some(i: int) -> Moment | None:
    keys = Keys.seeded(1, "reaches", i)
    return moment(sample_maths(keys, "K-dev"), keys, True)


def test_places_are_where_the_tray_is():
    shown = render_scene(sample_maths(Keys.seeded(1, "moments", 5), "R"))
    (u, v), (s, t) = shown.places
    blue, orange = shown.image[int(v), int(u)].astype(int), shown.image[int(t), int(s)].astype(int)
    assert blue[2] > blue[0] + 60
    assert orange[0] > orange[2] + 60


@pytest.mark.parametrize("first", ["solve", "tiles", "where", "next"])
def test_joined_questions_look_where_their_parts_look(first):
    made = {
        "solve": QA("solve", "solve the board", "3+4=7"),
        "tiles": QA("tiles", "list the tiles", "tiles 72", row=((9.0, 9.0), (19.0, 9.0))),
        "where": QA("where", "where is the 7?", "7 left back", (9.0, 9.0)),
        "next": QA("next", "which tile comes next?", "3+4=7. tiles 72. take 7 left back.", (9.0, 9.0)),
    }
    image = np.zeros((32, 64, 3), np.uint8)
    glyphs = ((4, 5.0, 30.0), (11, 15.0, 30.0), (5, 25.0, 30.0), (14, 35.0, 30.0))  # 3+4=
    for second in made:
        whole = joined(made[first], made[second])
        sample = ImageText(image, (whole,), glyphs)
        assert whole.kind == JOINED
        assert "?" not in whole.question.removesuffix("?")
        found = looks(whole, sample, WORDS)
        tokens = [WORDS.decode([i]) for i in WORDS.encode(whole.answer)]
        assert len(found) == len(tokens)
        alone = [looks(made[k], sample, WORDS)[: len(WORDS.encode(made[k].answer))] for k in (first, second)]
        cut = len(alone[0])
        assert tokens[cut] == "."
        assert found[:cut] == alone[0]
        assert found[-len(alone[1]) :] == alone[1]
        assert not any(found[cut : len(found) - len(alone[1])])


def test_questions_are_addressed_in_many_ways():
    asked = [q.question for step in range(3) for s in CORPUS.batch(step) for q in s.questions]
    for address in ADDRESSES:
        assert any(q.startswith(address) for q in asked)


def test_a_given_deed_is_looked_for_once_it_is_named_and_not_learned_to_be_said():
    found = 0
    for step in range(20, 40):
        if CORPUS.sort(step) != "thought":
            continue
        for r, sample in enumerate(CORPUS.batch(step)):
            (qa,) = sample.questions
            if not qa.given:
                continue
            found += 1
            now = CORPUS.moment(step, r, CORPUS.scene(step, r))
            said = read_reasoning(qa.answer)
            assert said is not None and said["step"] == "take" and qa.answer.endswith(qa.given)
            assert now.target is not None and said["digit"] != now.scene.tiles[now.target].digit
            u, v = qa.point
            assert sample.image[int(v), int(u), 0] == said["digit"]
            tokens, where = [WORDS.decode([i]) for i in WORDS.encode(qa.answer)], looks(qa, sample, WORDS)
            begin = tokens.index(" take")
            named = next(i for i in range(begin, len(tokens)) if tokens[i].isdigit())
            assert set(where[begin : named + 1]) == {None} and set(where[named + 1 :]) == {qa.point}
            text = WORDS.answers([qa.answer], given=[qa.given])
            learned = WORDS.decode(text.ids[0][text.supervised[0]].tolist())
            assert learned == qa.answer.removesuffix(qa.given) + "<end>"
    assert found > 10
