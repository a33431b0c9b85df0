"""Words and generation."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mindhand.core.errors import BadData
from mindhand.core.keys import Keys
from mindhand.core.seams import Turn
from mindhand.model.words import ASK, END, SAY, Words, text_of

from .tiny import segments, vlm, words

W = words()


@given(st.text(alphabet="abcz 0123456789+-=.,?<>", max_size=30))
def test_words_round_trip(text):
    assert W.decode(W.encode(text)) == text


def test_digits_are_single_tokens():
    assert len(W.encode("1234567890")) == 10
    assert W.encode("7")[0] in W.encode("17")
    assert [*W.cue(ASK), *W.cue(SAY), W.id(END)] == [W.id(ASK), W.id(SAY), W.end]
    assert Words.from_bytes(W.to_bytes()).encode("take 7 left") == W.encode("take 7 left")


def test_characters_without_a_token_are_refused_not_dropped():
    w = words()
    assert w.encode("é7") == w.encode("7")  # what a tokenizer does by itself
    assert w.unknown("7é7\ud800é") == ["é", "\ud800"] and not w.unknown("what is 3+4?")
    with pytest.raises(BadData, match="'é'"):
        w.questions(["take 7", "prends le 7, s'il te plaît: é"])
    assert w.questions(["take 7", ""]).valid.any(1).all()
    with pytest.raises(BadData, match=r"characters \['é', '\\n'\] in an answer: 'café\\n7'"):
        w.answers(["take 7", "café\n7"], given=["", "7"])
    with pytest.raises(BadData, match=r"in an answer: '7{79}é'\.\.\.\n"):
        w.answers(["7" * 79 + "é7"])
    assert w.answers(["take 7", f"{SAY}7{END}", ""]).valid.any(1).all()


def test_answers_supervise_everything_but_the_cue():
    said = W.answers(["3+4=7.", "no"])
    assert not said.supervised[:, 0].any()
    assert torch.equal(said.supervised[:, 1:], said.valid[:, 1:])
    assert text_of(W, said.ids, said.valid) == ["3+4=7.", "no"]


def test_generation_equals_greedy_without_cache():
    """Rows of different length, one of which ends early, against recomputing everything for each token."""
    model = vlm(3).eval()
    with torch.no_grad():
        segs, *_ = segments(model)
        prefix = model(segs[:2])
        trunk, texts = model.generate(prefix, [Turn(SAY, limit=6)], keys=Keys.seeded(2))
        for row in range(2):
            ids = [W.id(SAY)]
            while len(ids) < 7:
                t = torch.tensor([ids])
                ones = torch.ones_like(t, dtype=torch.bool)
                alone = [
                    type(s)(s.name, s.x[row : row + 1], s.valid[row : row + 1], s.position[row : row + 1])
                    for s in segs[:2]
                ]
                p = model(alone)
                h = p.extend([model.text("reasoning", t, ones, p.end)]).hidden["reasoning"]
                best = int(model.logits(h[:, -1]).argmax())
                if best == W.end:
                    break
                ids.append(best)
            assert texts[row] == model.words.decode(ids[1:])
    # the stop itself was fed, as in training
    said = trunk.valid["reasoning"].sum(1)
    assert said.tolist() == [len(model.words.encode(t)) + 2 for t in texts] or any("<" in t for t in texts)


def test_given_text_is_forced():
    model = vlm()
    segs, *_ = segments(model)
    forced, texts = model.generate(
        model(segs[:2]), [Turn(SAY, given=("3+4=7.", "take 7 left back."))], keys=Keys.seeded(2)
    )
    assert texts == ["3+4=7.", "take 7 left back."]
    v = segs[2].valid
    assert (forced.hidden["reasoning"] - model(segs).hidden["reasoning"])[v].abs().max() < 1e-5


def test_new_words_start_as_the_mean():
    model = vlm()
    before = model.embedding.weight.detach().clone()
    ids = model.add_words(["<x1>", "<x2>"])
    assert ids == [len(before), len(before) + 1]
    assert torch.equal(model.embedding.weight[: len(before)], before)
    assert (model.embedding.weight[ids[0]] - before.mean(0)).abs().max() < 1e-6
    assert model.words.encode("<x1>") == [ids[0]]
