"""Public rules on their published examples and at their edges; what they share is drawn at random."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mindhand.core.errors import BadData
from mindhand.evaluate import rules as r

texts = st.text(st.characters(codec="utf-8"), max_size=12)
# Words that the rules treat specially, in any order.
special = st.lists(
    st.sampled_from(
        ["two", "The", "an", "dont", "don't", "1,000", "x-y", "3.5", "e.g.", "girl's", "(b)", "\n", "-", "B"]
    )
).map(" ".join)
OPTIONS = {"A": "a cat", "B": "a dog", "C": "the red bird", "D": "none"}


@pytest.mark.parametrize(
    ("answer", "same"),
    [
        ("Two", "2"),
        ("none", "0"),
        ("ten", "10"),
        ("eleven", "eleven"),
        ("a bird on the wall", "bird on wall"),
        ("dont", "don't"),
        ("couldntve", "couldntve"),  # one apostrophe is given back, not two
        ("couldn'tve", "couldn't've"),
        ("twas", "'twas"),
        ("2:50 pm", "2:50 pm"),
        ("100,978", "100978"),
        ("3.5", "3.5"),
        (".5", ".5"),
        ("yes.", "yes"),
        ("7. 8", "7 8"),
        ("girl's", "girl 's"),
        ("black-white", "black white"),
        ("black - white", "black white"),
        ("black- white/red", "black white red"),
        ("a/b c- d-e", "b c de"),  # one mark next to a space, and all of its kind go
        ("what?", "what"),
        ("  Line\none\t", "line 1"),
    ],
)
def test_answers_are_compared_as_vqa_compares_them(answer, same):
    assert r.normal(answer) == same


@given(texts | special)
def test_case_and_outer_spaces_never_change_an_answer(text):
    if text.upper().lower() == text.lower():  # some letters have no way back
        assert r.normal(text.upper()) == r.normal(f" {text.lower()}\n")


def test_every_contraction_is_given_its_apostrophe_back():
    for ending, stems in r.ENDINGS.items():
        for stem in stems.split():
            whole = stem + ending
            if whole.count("'") == 1 and "'s" not in whole:
                assert r.normal(whole.replace("'", "")) == r.normal(whole) == whole


@pytest.mark.parametrize(("people", "score"), [(0, 0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1), (10, 1)])
def test_vqa_gives_full_marks_for_three_of_the_nine_others(people, score):
    references = ["Stop!"] * people + [f"other {i}" for i in range(10 - people)]
    assert r.vqa("the stop", references) == pytest.approx(score)


def test_vqa_needs_ten_people():
    with pytest.raises(BadData, match="1 answers"):
        r.vqa("yes", ["yes"])


@given(texts | special, st.lists(texts | special, min_size=10, max_size=10))
def test_vqa_is_a_share_and_one_where_all_agree(said, references):
    assert 0 <= r.vqa(said, references) <= 1
    assert r.vqa(references[0], references[:1] * 10) == 1
    assert r.vqa(said, references) == pytest.approx(r.vqa(said, references[::-1]))


@pytest.mark.parametrize(
    ("said", "references", "score"),
    [
        # References of the challenge's own example, "What soft drink company name is on the red disk?"
        ("The Coca", ["Coca Cola", "Coca Cola Company"], 0),
        ("CocaCola", ["Coca Cola", "Coca Cola Company"], 8 / 9),
        ("Coca cola", ["Coca Cola", "Coca Cola Company"], 1),
        ("Cola", ["Coca Cola", "Coca Cola Company"], 0),
        ("Cat", ["Coca Cola", "Coca Cola Company"], 0),
        ("ab", ["ax"], 0.5),  # one half exactly is kept
        ("abc", ["axy"], 0),
        ("  ITC   Limited ", ["itc limited"], 1),
        ("", ["x"], 0),
    ],
)
def test_anls_is_near_or_nothing(said, references, score):
    assert r.anls(said, references) == pytest.approx(score)


@given(texts, texts, texts)
def test_distance_is_a_metric(a, b, c):
    assert r.distance(a, b) == r.distance(b, a)
    assert (r.distance(a, b) == 0) == (a == b)
    assert r.distance(a, c) <= r.distance(a, b) + r.distance(b, c)
    assert abs(len(a) - len(b)) <= r.distance(a, b) <= max(len(a), len(b))


@given(texts | special, st.lists(texts | special, min_size=1, max_size=3))
def test_anls_is_a_share_one_for_a_reference_and_never_less_for_more_of_them(said, references):
    score = r.anls(said, references)
    assert score == 0 or 0.5 <= score <= 1
    assert r.anls(references[-1], references) == 1
    assert r.anls(said, [*references, "x"]) >= score


@pytest.mark.parametrize(
    ("said", "reference", "formula", "right"),
    [
        ("The word is CENTRE.", "Centre", False, True),
        ("CEN TRE", "centre", False, False),
        ("two\nlines", "Two lines", False, True),
        ("two  lines", "two lines", False, False),
        (r"\frac { 1 } { x }", r"\frac{1}{x}", True, True),
        (r"$$\frac{1}{X}$$", r"\frac{1}{x}", True, False),
        (r"it is \frac{1}{x} .", r"\frac {1} {x}", True, True),
        ("", "x", True, False),
    ],
)
def test_ocrbench_looks_for_the_reference_in_what_was_said(said, reference, formula, right):
    assert r.ocrbench(said, ["no such text", reference], formula) == right


@given(texts, st.lists(texts, min_size=1, max_size=3), texts, st.booleans())
def test_ocrbench_finds_a_reference_among_other_words(before, references, after, formula):
    assert r.ocrbench(f"{before}{references[0].strip()}{after}", references, formula)


@pytest.mark.parametrize(
    ("said", "letter"),
    [
        ("B", "B"),
        ("(B)", "B"),
        ("B.", "B"),
        ("**B**", "B"),
        ("The answer is B", "B"),
        ("The answer is (B): a big and friendly one, I should think.", "B"),
        ("The answer is clear to anybody who looks at it for long.", None),
        ("a dog", "B"),
        ("It is a DOG!", "B"),
        ("A dog", "A"),
        ("a cat or a dog", None),
        ("A or B", None),
        ("B, since it sits there and barks at people", None),
        ("the red bird sits there", "C"),
        ("the red bird sits there, on a very long branch of a very high tree, and sings", None),
        ("b", None),
        ("E", None),
        ("", None),
    ],
)
def test_a_choice_is_read_from_free_text(said, letter):
    assert r.choice(said, OPTIONS) == letter


@pytest.mark.parametrize(
    ("said", "letter"),
    [
        ("B", "B"),
        ("(B)", "B"),
        ("B.", "B"),
        (" 'B'. ", "B"),
        ("The answer is B", "B"),
        ("(A) looks right, but it is (C).", "C"),  # the last one
        ("A or B ?", "B"),
        ("(A) before B", "A"),  # brackets before bare letters
        ("B) a dog", None),
        ("a dog", None),  # five words or fewer name no option by its text
        ("What I see there is a dog", "B"),
        ("I see a dog first and a cat then", "A"),
        ("b", None),
        ("", None),
    ],
)
def test_mmmu_reads_a_choice_its_own_way(said, letter):
    assert r.mmmu(said, OPTIONS) == letter


@given(texts | special, st.sampled_from(["({})", "{}", "{}.", "answer is {}"]), st.sampled_from("ABCD"))
def test_no_choice_is_ever_drawn(said, form, letter):
    for read in (r.choice, r.mmmu):
        assert read(said, OPTIONS) in (None, *OPTIONS)
        assert read(said, OPTIONS) == read(said, OPTIONS)
        assert read(form.format(letter), OPTIONS) == letter
        assert r.picked(read, form.format(letter), [letter], OPTIONS)
        assert not r.picked(read, "", [letter], OPTIONS)
        with pytest.raises(BadData, match="options"):
            r.picked(read, said, [letter], {})


@pytest.mark.parametrize(
    ("said", "pope", "mme"),
    [
        ("Yes", "yes", "yes"),
        ("no", "no", "no"),
        ("No, there is none.", "no", "no"),
        ("Yes. There is no dog.", "yes", "yes"),
        ("There is not a dog", "no", "other"),
        ("There isn't a dog", "yes", "other"),
        ("NO", "yes", "no"),
        ("It is nowhere", "yes", "other"),
        ("  YES!", "yes", "yes"),
        ("Not", "yes", "no"),
        ("note", "yes", "no"),
        ("", "yes", "other"),
    ],
)
def test_yes_and_no_as_pope_and_mme_hear_them(said, pope, mme):
    assert (r.pope(said), r.mme(said)) == (pope, mme)
    for read, heard in ((r.pope, pope), (r.mme, mme)):
        assert r.agreed(read, said, ["Yes"]) == (heard == "yes")
        assert r.agreed(read, said, ["no"]) == (heard == "no")
        for wrong in (["maybe"], ["yes", "no"], []):
            with pytest.raises(BadData, match="the answer"):
                r.agreed(read, said, wrong)


@pytest.mark.parametrize(
    ("said", "reference", "right"),
    [
        ("105", "100", True),
        ("95", "100", True),
        ("105.1", "100", False),
        ("-95", "-100", True),
        ("95", "-100", False),
        ("7%", "0.07", True),
        ("7", "7%", False),
        ("0", "0", True),
        ("0.001", "0", False),
        ("0.0", "0", False),  # nothing is within 5 % of 0, and the texts differ
        ("Red ", "red", True),
        ("reds", "red", False),
        ("1,000", "1000", False),
        ("1e3", "1000", True),
        ("nan", "nan", True),
        ("inf", "1000", False),
        ("", "5", False),
    ],
)
def test_numbers_may_be_five_per_cent_off(said, reference, right):
    assert r.relaxed(said, ["other", reference]) == right


@given(texts, st.lists(texts, min_size=1, max_size=3))
def test_a_reference_itself_is_right(said, references):
    assert r.exact(references[-1], references)
    assert r.relaxed(references[-1], references)
    assert r.exact(said, references) <= r.relaxed(said, references)  # for one, the second only forgives
    assert r.exact(f" {references[0].upper()}\n", [references[0].upper()])


@given(st.floats(1e-6, 1e6), st.floats(0.9501, 1.0499), st.booleans())
def test_relaxed_numbers_are_symmetric_about_the_reference(number, factor, negative):
    reference = -number if negative else number
    assert r.relaxed(repr(reference * factor), [repr(reference)])
    assert not r.relaxed(repr(reference * (factor + 0.11)), [repr(reference)])


def row(category: str, group: str, right: bool, **more) -> dict:
    return {"category": category, "group": group, "right": right, "chance": 0.5} | more


def test_mme_adds_accuracy_and_accuracy_plus():
    rows = [
        row("count", "1.png", True),
        row("count", "1.png", True),
        row("count", "2.png", True),
        row("count", "2.png", False),
        row("scene", "1.png", False),
        row("scene", "1.png", False),
    ]
    assert r.mme_scores(rows) == {"count": 75 + 50, "scene": 0}
    pairs = r.together(rows)
    assert [(p["key"], p["right"], p["chance"], p["items"]) for p in pairs] == [
        ("count/1.png", True, 0.25, 2),
        ("count/2.png", False, 0.25, 2),
        ("scene/1.png", False, 0.25, 2),
    ]
    everything = [{**x, "right": True} for x in rows]
    assert r.mme_scores(everything) == {"count": 200, "scene": 200}
    with pytest.raises(BadData, match="1 questions"):
        r.mme_scores(rows[1:])


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40))
def test_pope_counts_what_was_said_against_what_is_there(cases):
    rows = [{"said": "yes" if said else "no", "right": said == there} for said, there in cases]
    found = r.pope_scores(rows)
    both = sum(said and there for said, there in cases)
    saids, theres = sum(said for said, _ in cases), sum(there for _, there in cases)
    assert found["accuracy"] == sum(s == t for s, t in cases) / len(cases)
    assert found["precision"] == (both / saids if saids else 0)
    assert found["recall"] == (both / theres if theres else 0)
    assert found["f1"] == pytest.approx(2 * both / (saids + theres) if both else 0)
    assert found["yes_ratio"] == saids / len(cases)
