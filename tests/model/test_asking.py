"""Questions: each row its own, answered in one of a few ways; what is learned is what is said."""

from __future__ import annotations

import pytest
import torch

from mindhand.core.errors import BadData
from mindhand.core.keys import Keys
from mindhand.core.seams import Turn
from mindhand.model.asking import Question, asked, taught
from mindhand.model.words import SAY

from .tiny import segments, vlm, words

W, WAYS = words(), ("left", "leftmost", "up")
KEYS = Keys.seeded(2)


def prefix(model):
    with torch.no_grad():
        return model(segments(model)[0][:2])


def test_a_plain_turn_is_taught_as_an_answer():
    said = ["3+4=7.", ""]
    one, other = taught(W, [Turn(SAY, given=tuple(said))]), W.answers(said)
    assert all(torch.equal(getattr(one, f), getattr(other, f)) for f in ("ids", "valid", "supervised"))


def test_turns_follow_each_other_and_rows_that_are_not_asked_are_left_out():
    turns = [
        Question(SAY, given=("up", ""), asked=("where?", ""), among=WAYS),
        Turn(SAY, given=("no", "yes")),
    ]
    text = taught(W, turns)
    rows = [W.decode(ids[valid].tolist()) for ids, valid in zip(text.ids, text.valid)]
    assert rows == ["<ask>where?<end><say>up<end><say>no<end>", "<say>yes<end>"]
    learned = [W.decode(ids[on].tolist()) for ids, on in zip(text.ids, text.supervised)]
    assert learned == ["up<end>no<end>", "yes<end>"]
    nothing = taught(W, [Question(SAY, given=("", ""), asked=("", ""), among=WAYS)])
    assert nothing.ids.shape == (2, 1) and not nothing.valid.any()
    assert asked(W, turns[0]).valid.any(1).tolist() == [True, False]
    with pytest.raises(BadData, match="not given"):
        taught(W, [turns[1], Question(SAY, asked=("where?", "where?"), among=WAYS)])


def test_what_is_said_or_asked_in_other_characters_is_refused_not_dropped():
    with pytest.raises(BadData, match=r"\['ß'\] in what is said: 'groß'"):
        taught(W, [Turn(SAY, given=("7", "groß"))])
    with pytest.raises(BadData, match=r"\['ó'\] in a question"):
        taught(W, [Question(SAY, given=("up",), asked=("dónde?",), among=WAYS)])


@pytest.mark.parametrize(
    "fields",
    [
        {"among": ()},
        {"among": ("left", "")},
        {"given": ("up", "left")},  # an answer of who was not asked
        {"given": ("", "")},  # none of who was
        {"given": ("down", "")},
        {"given": ("up",)},
    ],
)
def test_a_question_that_cannot_be_answered_so_is_refused(fields):
    Question(SAY, asked=("where?", ""), among=WAYS, given=("up", ""))
    with pytest.raises(BadData, match="questions"):
        Question(SAY, **{"asked": ("where?", ""), "among": WAYS, **fields})


def test_an_answer_is_one_of_the_ways_also_where_one_begins_like_another():
    model, said = vlm().eval(), set()
    for seed in range(12):
        torch.manual_seed(seed)
        torch.nn.init.normal_(model.embedding.weight)
        with torch.no_grad():
            _, texts = model.generate(prefix(model), [Question(SAY, asked=("a?", "b?"), among=WAYS)], keys=KEYS)
            free = model.generate(prefix(model), [Turn(SAY, limit=3)], keys=KEYS)[1]
        said |= set(texts)
        assert set(texts) <= set(WAYS) and not set(free) & set(WAYS)
    assert said == set(WAYS)


def test_what_was_said_is_all_turns_and_no_question():
    model = vlm().eval()
    ask = Question(SAY, asked=("where?", ""), among=WAYS)
    with torch.no_grad():
        trunk, texts = model.generate(prefix(model), [ask, Turn(SAY, given=("no", "yes"))], keys=KEYS)
        (first, word), (second,) = (t.split() for t in texts)
        assert first in WAYS and (word, second) == ("no", "yes")
        given = Question(SAY, given=(first, ""), asked=ask.asked, among=WAYS)
        forced, _ = model.generate(prefix(model), [given, Turn(SAY, given=("no", "yes"))], keys=KEYS)
        none = Question(SAY, asked=("", ""), among=WAYS)
        quiet, silent = model.generate(prefix(model), [none], keys=KEYS)
    for a in (trunk, forced):  # what was decided token by token stands there as if it had been given
        assert a.valid["reasoning"].sum(1).tolist() == [len(W.encode(f"where?{first}no")) + 6, len(W.encode("yes")) + 2]
    one, other = (t.hidden["reasoning"][t.valid["reasoning"]] for t in (trunk, forced))
    assert (one - other).abs().max() < 1e-5
    assert silent == ["", ""] and not quiet.valid["reasoning"].any()
    assert torch.equal(quiet.end, prefix(model).end)
