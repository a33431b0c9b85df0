"""The rules that public picture-question benchmarks are scored by: from what was said to a score in 0..1.

Every function follows the rule as published and as its authors' code applies it; where the two differ, or chance
decides there, the docstring says what is done here. Spaces around an answer never count. Nothing is drawn: an answer
from which no choice can be read is wrong, also where public code then draws one at random.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mindhand.core.errors import BadData

PEOPLE = 10  # answers a question of VQA and its kin has, one a person
ANLS_LEAST = 0.5
RELAXED = 0.05
ROUNDS = 1_000_000  # rotations of MMBench's question i have the indices i, i + ROUNDS, i + 2 * ROUNDS ...

# Contractions by their endings. An answer that lacks one of the apostrophes is given it back.
ENDINGS = {
    "n't": "ai are ca could did does do had has have is might must need ought sha should was were wo would",
    "n't've": "could had might should would",
    "'d": "he how it someone something there they where who you",
    "'d've": "he it she somebody someone something there they we who y'all you",
    "'ll": "how it somebody someone something they what who why y'all you",
    "'re": "there they what why you",
    "'s": "he how somebody someone that there what when where who why",
    "'ve": "could might must not should they we what where who would you",
    "": "ma'am o'clock 'twas y'all 'ow's'at",
}
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
PUNCTUATION = ';/[]"{}()=+\\_-><@`!'


def _words() -> dict[str, str]:
    whole = [stem + ending for ending, stems in ENDINGS.items() for stem in stems.split()]
    out = {word[:i] + word[i + 1 :]: word for word in whole for i, mark in enumerate(word) if mark == "'"}
    out["somebody'd"] = "somebodyd"  # the public list has this one the wrong way round
    return out | {word: str(n) for n, word in enumerate(NUMBERS)} | {"none": "0"}


WORDS = _words()


def normal(answer: str) -> str:
    """An answer as VQA compares it: lower case, "two" as "2", no articles, apostrophes put back, no punctuation.

    The rules of VQA (arXiv 1505.00468, its evaluation page) in the form TextVQA's code (arXiv 1904.08920) gives
    them: commas and question marks go first, "'s" stands apart, a mark next to a space anywhere goes and any other
    becomes a space, and a period goes unless a digit follows.
    """
    text = re.sub("[,?]", "", answer.lower()).replace("'s", " 's").strip().replace("\n", " ").replace("\t", " ")
    drop = {mark for mark in PUNCTUATION if f"{mark} " in text or f" {mark}" in text}
    text = text.translate({ord(mark): "" if mark in drop else " " for mark in PUNCTUATION})
    words = re.sub(r"\.(?!\d)", "", text).split()
    return " ".join(WORDS.get(word, word) for word in words if word not in ("a", "an", "the"))


def vqa(said: str, references: Sequence[str]) -> float:
    """VQA accuracy: min(1, people who said so / 3), averaged over leaving each of the ten people out (arXiv
    1505.00468): 0, 0.3, 0.6, 0.9 or 1 for 0, 1, 2, 3 or more of them."""
    if len(references) != PEOPLE:
        raise BadData(
            f"a question with {len(references)} answers", f"the answers of {PEOPLE} people", "score it as 'exact'"
        )
    heard = normal(said)
    same = sum(normal(reference) == heard for reference in references)
    without_one = same * min(1.0, max(same - 1, 0) / 3)
    return (without_one + (PEOPLE - same) * min(1.0, same / 3)) / PEOPLE


def distance(a: str, b: str) -> int:
    """Levenshtein's: the fewest characters to insert, delete or replace."""
    above = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        row = [i]
        for j, y in enumerate(b, 1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (x != y)))
        above = row
    return above[-1]


def anls(said: str, references: Sequence[str]) -> float:
    """Normalised Levenshtein similarity to the nearest reference, 0 below one half (arXiv 1907.00490; DocVQA, arXiv
    2007.00398); case and repeated spaces do not count.

    The paper gives 0 at exactly one half; the challenge's script, and with it every score on its board, gives one half,
    and so does this. The script divides by a length that still counts the repeated spaces; this one does not.
    """
    best = 0.0
    heard = " ".join(said.lower().split())
    for reference in references:
        wanted = " ".join(reference.lower().split())
        longest = max(len(heard), len(wanted))
        if abs(len(heard) - len(wanted)) <= longest * (1 - ANLS_LEAST):  # else too far apart by length alone
            best = max(best, 1.0 - distance(heard, wanted) / longest if longest else 1.0)
    return best if best >= ANLS_LEAST else 0.0


def ocrbench(said: str, references: Sequence[str], formula: bool = False) -> bool:
    """A reference occurs in what was said, in any case (OCRBench, arXiv 2305.07895, its evaluation code). formula: a
    handwritten mathematical expression, which is compared without spaces and with its case."""

    def plain(text: str) -> str:
        text = text.strip().replace("\n", " ")
        return text.replace(" ", "") if formula else text.lower()

    return any(plain(reference) in plain(said) for reference in references)


def choice(said: str, options: Mapping[str, str]) -> str | None:
    """The letter chosen, by the rule that MMBench (arXiv 2307.06281), MMStar and others are scored by without a judge
    (VLMEvalKit, arXiv 2407.11691, exact matching); None, a wrong answer, where it finds none.

    The one option letter that stands as a word among the last four ("(B)", "B.", "it is B"; "A dog" too is A); else
    the capital by itself behind "answer is" (public code takes any letter there: for it "answer is clear" is C); else
    the one option whose text occurs in what was said, where that is at most twice as long as all options. Public code
    with a judge asks a language model next and then draws at random: it gives more to a model that chats.
    """
    words = re.sub(r"[.()\[\],:;!*#{}]", " ", said).split()
    letters = [letter for letter in options if letter in words]
    if len(letters) == 1 and words.index(letters[0]) > len(words) - 5:
        return letters[0]
    named = re.search(r"\b[Aa]nswer\s+is\s+[*(]*([A-Z])\b", said)
    if named and named[1] in options:
        return named[1]
    if len(said) > 2 * sum(map(len, options.values())):
        return None
    texts = [letter for letter, text in options.items() if text.lower() in said.lower()]
    return texts[0] if len(texts) == 1 else None


def mmmu(said: str, options: Mapping[str, str]) -> str | None:
    """The letter chosen, by MMMU's rule (arXiv 2311.16502, its evaluation code); None, a wrong answer, where it finds
    none. Public code then draws an option at random, which gives up to 1 / options to an answer without one.

    "(B)"; else B between spaces; else, in an answer of more than five words, the text of an option. The last one said
    counts. Punctuation at both ends goes first.
    """
    said = said.strip()
    for mark in ",.!?;:'":
        said = said.strip(mark)
    said = f" {said} "
    forms: list[dict[str, int]] = [{x: said.rfind(form.format(x)) for x in options} for form in ("({})", " {} ")]
    if len(said.split()) > 5:
        forms.append({x: said.lower().rfind(text.lower()) for x, text in options.items()})
    for places in forms:
        last = max(places, key=places.__getitem__, default=None)
        if last is not None and places[last] >= 0:
            return last
    return None


def picked(
    read: Callable[[str, Mapping[str, str]], str | None],
    said: str,
    references: Sequence[str],
    options: Mapping[str, str],
) -> bool:
    """The letter that `read` (choice or mmmu) finds in what was said is a reference."""
    if not options:
        raise BadData("no options", "a question of multiple choice", "score it by another rule")
    return read(said, options) in references


def pope(said: str) -> str:
    """ "yes" or "no" as POPE hears it (arXiv 2305.10355, its evaluation code): "no" where the first sentence has the
    word no, No or not, and "yes" for anything else, even an empty answer, NO or isn't."""
    words = said.strip().split(".")[0].replace(",", "").split(" ")
    return "no" if {"No", "not", "no"} & set(words) else "yes"


def mme(said: str) -> str:
    """ "yes", "no" or "other" as MME hears it (arXiv 2306.13394, its evaluation code): by the first four characters,
    in any case. "other" is wrong whatever the answer is."""
    start = said.strip().lower()[:4]
    return "yes" if "yes" in start else "no" if "no" in start else "other"


def agreed(read: Callable[[str], str], said: str, references: Sequence[str]) -> bool:
    """The word that `read` (pope or mme) hears is the reference, yes or no in any case."""
    wanted = {reference.strip().lower() for reference in references}
    if len(wanted) != 1 or not wanted <= {"yes", "no"}:
        raise BadData(f"the answer {list(references)}", "yes or no", "score it by another rule")
    return read(said) in wanted


def exact(said: str, references: Sequence[str]) -> bool:
    """One of the references, in any case, and nothing else."""
    return said.strip().lower() in {reference.strip().lower() for reference in references}


def _number(text: str) -> float | None:
    try:
        number = float(text.rstrip("%")) / 100 if text.endswith("%") else float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def relaxed(said: str, references: Sequence[str]) -> bool:
    """A number within 5 % of a reference, or its text in any case where either is no number (ChartQA, arXiv
    2203.10244). "7%" is 0.07, and a reference of 0 is matched as text, as in the public code (arXiv 2210.03347)."""
    heard = _number(said.strip())
    for wanted in map(_number, (reference.strip() for reference in references)):
        if heard is not None and wanted and abs(heard - wanted) / abs(wanted) <= RELAXED:
            return True
    texts = [r for r in references if heard is None or not _number(r.strip())]
    return exact(said, texts)


def together(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row a group ("category" and "group" alike), right where all its rows are: MMBench's circular evaluation,
    where a question counts if it is answered in every rotation, and MME's accuracy+, over both questions of a picture.
    chance: that of a guesser who guesses each by itself."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["category"], row["group"]), []).append(row)
    return [
        {
            "key": f"{category}/{group}",
            "category": category,
            "group": group,
            "right": all(row["right"] for row in part),
            "chance": math.prod(row["chance"] for row in part),
            "items": len(part),
        }
        for (category, group), part in groups.items()
    ]


def mme_scores(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """MME's score of every category, 0..200: accuracy over questions plus accuracy+ over pictures, in per cent (arXiv
    2306.13394). BadData where a picture has not two questions."""
    pairs = together(rows)
    for pair in pairs:
        if pair["items"] != 2:
            raise BadData(f"MME picture {pair['key']} with {pair['items']} questions", "two", "score the whole file")
    return {
        category: 100 * (_rate(rows, category) + _rate(pairs, category))
        for category in dict.fromkeys(row["category"] for row in rows)
    }


def _rate(rows: Sequence[Mapping[str, Any]], category: str) -> float:
    right = [bool(row["right"]) for row in rows if row["category"] == category]
    return sum(right) / len(right)


def pope_scores(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """POPE's five numbers over rows scored by its rule, each 0..1: accuracy; precision, recall and f1 of "yes";
    yes_ratio, the share of rows that said so. 0 where public code divides by zero: no "yes" said, or none right."""
    yes = [pope(row["said"]) == "yes" for row in rows]
    hits = sum(said and bool(row["right"]) for said, row in zip(yes, rows))
    there = sum(said == bool(row["right"]) for said, row in zip(yes, rows))  # said yes and right, or no and wrong
    precision, recall = hits / max(sum(yes), 1), hits / max(there, 1)
    return {
        "accuracy": sum(bool(row["right"]) for row in rows) / len(rows),
        "precision": precision,
        "recall": recall,
        "f1": 2 * precision * recall / (precision + recall) if hits else 0.0,
        "yes_ratio": sum(yes) / len(rows),
    }
