"""Public picture-question benchmarks from local files, asked and scored by their own rules (rules.py).

Files are read in two forms. Tables (.tsv) as VLMEvalKit (arXiv 2407.11691) keeps them: columns index, question,
answer, a picture as base64 in `image` or as a path in `image_path`, and where a benchmark has them the options A, B,
..., hint, category, split; an `image` of at most 64 characters names the index of the row whose picture it is. And
JSON or JSON lines in LLaVA's forms (arXiv 2304.08485): questions {question_id, image, text} with their answers in the
record or in a file of their own, or whole conversations.

Nothing is fetched and nothing is left out: a file with a row that cannot be asked and scored is refused.
"""

from __future__ import annotations

import ast
import base64
import binascii
import csv
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from os.path import relpath
from pathlib import Path
from string import ascii_uppercase
from typing import Any

import numpy as np

from mindhand.core.errors import BadData
from mindhand.data.image import decode, squeeze
from mindhand.data.llava import MARK, LlavaSet
from mindhand.data.synthetic.exam import answered

from . import rules

REFERS = 64  # an image cell this short is no picture but the index of the row that has it
LONGEST = 2**31 - 1  # characters of one cell: csv stops at 131072 by itself
COLUMNS = ("index", "question", "answer")
ANSWERS = ("answer", "answers", "label")  # where a question's own record may hold its answer
FORMULAS = "Handwritten Mathematical Expression Recognition"  # OCRBench's category

# Pictures uint8 (h,w,3), each of its own size, and Q questions about each -> Q answers for each.
PublicAnswerFn = Callable[[list[np.ndarray], list[list[str]]], list[list[str]]]


@dataclass(frozen=True)
class PublicItem:
    """One question of a benchmark. key: "file/index". image: an encoded picture or its path; picture: a name that
    items about the same one share. options: text by letter, {} for an open question. references: right answers, the
    letter where there are options."""

    key: str
    image: bytes | Path = field(repr=False)
    picture: str
    question: str
    options: Mapping[str, str]
    references: tuple[str, ...]
    category: str = ""
    split: str = ""

    @property
    def asked(self) -> str:
        """The question as it is put: with options, each on its line, it asks for the letter (LLaVA-1.5's prompt,
        arXiv 2310.03744)."""
        if not self.options:
            return self.question
        lines = [f"{letter}. {text}" for letter, text in self.options.items()]
        return "\n".join([self.question, *lines, "Answer with the option's letter from the given choices directly."])

    def decoded(self) -> np.ndarray:
        """The picture, uint8 (h,w,3); BadData where it is damaged."""
        return decode(self.image, f"the picture of '{self.key}'")


def _listed(cell: str) -> list[str] | None:
    """The texts of a cell that holds a list of them, None for any other cell."""
    if not (cell.startswith("[") and cell.endswith("]")):
        return None
    try:
        found = ast.literal_eval(cell)
    except (ValueError, SyntaxError):
        return None
    return found if isinstance(found, list) and all(isinstance(x, str) for x in found) else None


def _references(found: Any, options: Mapping[str, str], what: str) -> tuple[str, ...]:
    """The right answers out of one or a list of them; letters where there are options."""
    several = found if isinstance(found, list) else [found]
    if not all(isinstance(x, str | int | float) for x in several):
        raise BadData(f"{what}: the answer is {found!r}", "a text, a number or a list of them", "write it so")
    out = tuple(str(x).strip() for x in several)
    if not out or not all(out):
        raise BadData(f"{what} has an empty answer", "one for every question", "use a split whose answers are public")
    if options and not set(out) <= set(options):
        raise BadData(f"{what}: the answer {list(out)}", f"one of the options {list(options)}", "correct the row")
    return out


def _unique(items: Sequence[PublicItem], what: Path | str) -> None:
    if twice := [key for key, times in Counter(item.key for item in items).items() if times > 1]:
        raise BadData(
            f"{what}: {len(twice)} indices are there more than once, first {twice[0]}",
            "every index once",
            "number the questions anew; a picture's name is no index of its questions",
        )


def _there(images: Mapping[str, Path], path: Path, root: Path) -> None:
    """images: row -> path. One refusal for all that are missing."""
    if missing := [row for row, image in images.items() if not image.is_file()]:
        raise BadData(
            f"{path}: {len(missing)} of {len(images)} pictures are not there, first that of {missing[0]}: "
            f"{images[missing[0]]}",
            f"every picture under {root}",
            "give images=, the folder the paths are relative to",
        )


def _cells(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """(where, cells by column) of every row, one in memory at a time."""
    was = csv.field_size_limit(LONGEST)
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            table = csv.reader(file, delimiter="\t", strict=True)
            head = next(table, [])
            lacks = [column for column in COLUMNS if column not in head]
            if lacks or not {"image", "image_path"} & set(head):
                raise BadData(
                    f"{path} has the columns {head[:20]}" + (f" and lacks {lacks}" if lacks else ", none a picture"),
                    f"{COLUMNS} and 'image' or 'image_path', tab-separated",
                    "see the form in evaluate/public.py",
                )
            for number, row in enumerate(table, 1):
                where = f"{path}, row {number}"
                if len(row) != len(head):
                    raise BadData(f"{where} has {len(row)} cells", f"{len(head)}, as its head", "restore the file")
                yield where, {column: cell.strip() for column, cell in zip(head, row)}
    except FileNotFoundError:
        raise BadData(f"no file {path}", "a benchmark's file", "check the path") from None
    except (csv.Error, UnicodeDecodeError) as error:
        raise BadData(f"{path} is no whole table ({error})", "tab-separated UTF-8 text", "restore the file") from error
    finally:
        csv.field_size_limit(was)


def _picture(row: Mapping[str, str], where: str, root: Path) -> tuple[bytes | Path | None, str]:
    """A row's picture and its name: of bytes a digest, of a file its path as written, else None and the index of the
    row that has it."""
    for column in ("image", "image_path"):
        cell = row.get(column, "")
        several = _listed(cell)
        if several is not None and len(several) != 1:
            raise BadData(
                f"{where} is about {len(several)} pictures",
                "one picture a question",
                "remove such rows, and say how many where the score is reported",
            )
        cell = several[0] if several else cell
        if not cell:
            continue
        if column == "image_path":
            return root / cell, cell
        if len(cell) <= REFERS:
            return None, cell
        try:
            image = base64.b64decode(cell, validate=True)
            return image, hashlib.blake2b(image, digest_size=8).hexdigest()
        except binascii.Error as error:
            raise BadData(f"{where}: the picture is not base64 ({error})", "a whole picture", "restore it") from error
    raise BadData(f"{where} has no picture", "'image' or 'image_path'", "restore it, or remove the row")


def _read_table(path: Path, root: Path) -> list[PublicItem]:
    items: list[PublicItem] = []
    wheres: list[str] = []
    held: dict[str, tuple[bytes, str]] = {}  # pictures by index; rows that share one share its bytes
    refers: dict[int, str] = {}
    for where, row in _cells(path):
        index = row["index"]
        where = f"{where} (index {index or 'none'})"
        if not index or not row["question"]:
            raise BadData(f"{where} has no {'question' if index else 'index'}", "both", "complete or remove the row")
        image, name = _picture(row, where, root)
        if isinstance(image, bytes):
            held[index] = (image, name)
        elif image is None:
            refers[len(items)] = name
        options = {x: row[x] for x in ascii_uppercase if row.get(x)}
        texts = None if options else _listed(row["answer"])
        references = _references(texts if texts is not None else row["answer"], options, where)
        question = f"Hint: {row['hint']}\n{row['question']}" if row.get("hint") else row["question"]
        category, split = row.get("category", ""), row.get("split", "")
        items.append(
            PublicItem(f"{path.stem}/{index}", image or b"", name, question, options, references, category, split)
        )
        wheres.append(where)
    _unique(items, path)
    _there({w: i.image for w, i in zip(wheres, items) if isinstance(i.image, Path)}, path, root)
    for at, index in refers.items():
        if index not in held:
            raise BadData(
                f"{wheres[at]}: its picture is '{index}'",
                "a picture as base64, or the index of a row that has one",
                "restore the file",
            )
        items[at] = replace(items[at], image=held[index][0], picture=held[index][1])
    return items


def _records(path: Path) -> list[Any]:
    """JSON or JSON lines, whatever the file's name says: POPE's files of lines end in .json."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise BadData(f"no file {path}", "a benchmark's file", "check the path") from None
    except UnicodeDecodeError as error:
        raise BadData(f"{path} is no text ({error})", "JSON or JSON lines", "restore the file") from error
    try:
        whole = json.loads(text)
        return whole if isinstance(whole, list) else [whole]
    except json.JSONDecodeError:
        pass
    try:
        return [json.loads(line) for line in text.split("\n") if line.strip()]
    except json.JSONDecodeError as error:
        raise BadData(f"{path} is neither JSON nor JSON lines ({error})", "one of them", "restore the file") from error


def _answer(record: Mapping[str, Any], names: Sequence[str] = ANSWERS) -> Any:
    return next((record[name] for name in names if record.get(name) is not None), None)


def _answer_file(path: Path) -> dict[str, Any]:
    """Answers by question, {} where there is no such file."""
    out: dict[str, Any] = {}
    for number, record in enumerate(_records(path) if path.is_file() else [], 1):
        if not isinstance(record, Mapping) or "question_id" not in record:
            raise BadData(f"{path}, record {number} has no question_id", "question_id and an answer", "restore it")
        if (name := str(record["question_id"])) in out:
            raise BadData(f"{path}, record {number} answers question {name} again", "one record", "remove one")
        out[name] = _answer(record, (*ANSWERS, "text"))
    return out


def _read_questions(path: Path, root: Path, records: list[Any]) -> list[PublicItem]:
    beside = path.with_name(path.name.replace("question", "answer"))
    answers = {} if beside == path else _answer_file(beside)
    needed = ("question_id", "image", "text")
    items = []
    for number, record in enumerate(records, 1):
        where = f"{path}, record {number}"
        if not isinstance(record, Mapping) or any(record.get(x) in (None, "") for x in needed):
            raise BadData(f"{where} is no question", f"a record with {needed}", "restore it")
        name, image, text, several = str(record["question_id"]), record["image"], record["text"], record.get("options")
        where = f"{where} (question {name})"
        if not isinstance(image, str) or not isinstance(text, str) or not isinstance(several, list | None):
            raise BadData(f"{where}: image, text or options of another kind", "text, text and a list", "restore it")
        found = _answer(record)
        if found is None and (found := answers.get(name)) is None:
            raise BadData(
                f"{where} has no answer",
                f"one of {ANSWERS} in its record, or in a file of answers",
                "put them beside, under the name of the file of questions with 'answer' for 'question'",
            )
        options = dict(zip(ascii_uppercase, map(str, several or [])))
        references = _references(found, options, where)
        question, category = text.replace(MARK, "").strip(), str(record.get("category", ""))
        items.append(PublicItem(f"{path.stem}/{name}", root / image, image, question, options, references, category))
    _unique(items, path)
    _there({item.key: item.image for item in items}, path, root)
    return items


def _read_talk(path: Path, root: Path) -> list[PublicItem]:
    """Every turn by itself: a later question is put without what was said before it."""
    items = []
    for talk in LlavaSet(path, root).conversations:
        if talk.image is None:
            raise BadData(f"{path}: '{talk.name}' is about no picture", "a picture", "remove the conversation")
        name = relpath(talk.image, root)
        for number, turn in enumerate(talk.turns):
            key = f"{path.stem}/{talk.name}/{number}"
            items.append(PublicItem(key, talk.image, name, turn.question, {}, (turn.answer,)))
    _unique(items, path)
    return items


def read_public(path: Path | str, images: Path | str | None = None) -> list[PublicItem]:
    """Every question of one file, in its order. images: the folder that picture paths are relative to (default: the
    file's). Checks the whole file and that every picture is there; pictures are decoded when they are asked about, and
    those that a table holds are kept in memory as they are encoded there, once."""
    path = Path(path)
    root = path.parent if images is None else Path(images)
    if path.suffix == ".tsv":
        items = _read_table(path, root)
    elif path.suffix in (".json", ".jsonl"):
        records = _records(path)
        talks = bool(records) and isinstance(records[0], Mapping) and "conversations" in records[0]
        items = _read_talk(path, root) if talks else _read_questions(path, root, records)
    else:
        raise BadData(f"{path} is no form of benchmark known here", ".tsv, .json or .jsonl", "convert it")
    if not items:
        raise BadData(f"{path} holds no question", "at least one", "restore the file")
    return items


# The rule of each family of benchmarks: a bool where an answer is right or wrong, a share of 1 where it can be near.
Rule = Callable[[str, PublicItem], bool | float]
RULES: dict[str, Rule] = {
    **dict.fromkeys(
        ("mmbench", "mmstar", "ai2d", "seedbench", "scienceqa", "realworldqa"),
        lambda said, item: rules.picked(rules.choice, said, item.references, item.options),
    ),
    "mmmu": lambda said, item: rules.picked(rules.mmmu, said, item.references, item.options),
    "pope": lambda said, item: rules.agreed(rules.pope, said, item.references),
    "mme": lambda said, item: rules.agreed(rules.mme, said, item.references),
    "textvqa": lambda said, item: rules.vqa(said, item.references),
    **dict.fromkeys(("docvqa", "infovqa", "stvqa"), lambda said, item: rules.anls(said, item.references)),
    "ocrbench": lambda said, item: rules.ocrbench(said, item.references, item.category == FORMULAS),
    "chartqa": lambda said, item: rules.relaxed(said, item.references),
    "exact": lambda said, item: rules.exact(said, item.references),
}


def _group(item: PublicItem, rule: str) -> str:
    index = item.key.rpartition("/")[2]
    return str(int(index) % rules.ROUNDS) if rule == "mmbench" and index.isdigit() else item.picture


def _chance(item: PublicItem, rule: str) -> float:
    return 1 / len(item.options) if item.options else 0.5 if rule in ("pope", "mme") else 0.0


def squeezed(answer_fn: Callable[..., list[list[str]]], height: int, width: int) -> PublicAnswerFn:
    """An answer_fn of pictures (n,height,width,3) for pictures of any size: squeezed to that shape as LlavaSet does,
    by area where both sides shrink, bilinear otherwise."""
    return lambda pictures, asked: answer_fn(np.stack([squeeze(picture, height, width) for picture in pictures]), asked)


def score_public(
    answer_fn: PublicAnswerFn, items: Sequence[PublicItem], rule: str, rows: int = 32
) -> list[dict[str, Any]]:
    """Ask every item and grade it by RULES[rule]: one row an item, with the columns of core/record.py ("key"; a rate
    of "right", or a mean of "score" for rules that give shares; chance="chance"). At most `rows` pictures at once.

    "group" names what rules.together joins: MMBench's question in all its rotations, else the picture.
    """
    if rule not in RULES:
        raise BadData(f"rule '{rule}'", f"one of {sorted(RULES)}", "name the benchmark's family, or 'exact'")
    grade = RULES[rule]
    _unique(items, "the items")
    for item in items:  # what this rule cannot score is refused before a model has worked on the rest
        try:
            grade("", item)
        except BadData as error:
            raise BadData(f"'{item.key}' by the rule '{rule}': {error.what}", error.expected, error.do) from None
    out = []
    told = answered(
        answer_fn, items, about=lambda i: i.image, show=lambda i: i.decoded(), ask=lambda i: i.asked, rows=rows
    )
    for item, said in told:
        points = grade(said, item)
        out.append(
            {
                "key": item.key,
                "category": item.category,
                "split": item.split,
                "group": _group(item, rule),
                "question": item.asked,
                "expected": list(item.references),
                "said": said,
                "right" if isinstance(points, bool) else "score": points,
                "chance": _chance(item, rule),
            }
        )
    return out
