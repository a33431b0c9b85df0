"""The catalogue's pages are what methods, tests and records give, on every machine, and say what the records say."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest

from mindhand.core.card import Claim, MethodCard
from mindhand.core.record import write_record
from mindhand.methods import Method, catalogue
from mindhand.recipes.pages import CATALOGUE, COMMAND, PAGES, evidence, pages, picture, settings, stale, told

from .tree import ROOT, read

FAST = f"{PAGES}/fast.md"
METHODS = {name: catalogue()[name] for name in ("fast", "oft")}


def test_the_pages_are_what_methods_tests_and_records_give():
    odd = stale(pages(catalogue(), evidence(ROOT, catalogue())), ROOT)
    assert not odd, f"run: {COMMAND}"


def test_the_command_is_one():
    assert f"\n{COMMAND.removeprefix('make ')}: setup " in read("Makefile").decode()


def test_a_page_that_is_changed_missing_or_of_no_method_is_stale(tmp_path):
    made = pages(catalogue(), evidence(ROOT, catalogue()))
    assert stale(made, tmp_path) == sorted(made)
    for path, text in made.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(text.replace("\n", "\r\n").encode())  # as some checkouts have it
    assert stale(made, tmp_path) == []
    (tmp_path / CATALOGUE).unlink()
    (tmp_path / FAST).write_text(made[FAST].replace("FAST", "fast", 1))
    (tmp_path / PAGES / "gone.md").write_text("")
    (tmp_path / PAGES / "gone.svg").write_text("")
    assert stale(made, tmp_path) == [CATALOGUE, FAST, f"{PAGES}/gone.md", f"{PAGES}/gone.svg"]


# ---- what stands on them -----------------------------------------------------------------------------


@pytest.fixture
def house(tmp_path) -> Path:
    """A checkout with the tests of two methods and no record."""
    subprocess.run(("git", "init", "-q", str(tmp_path / "house")), check=True)
    for path in ("tests/methods/test_fast.py", "tests/methods/test_oft.py", "proofs/fast.py"):
        (tmp_path / "house" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "house" / path).write_bytes((ROOT / path).read_bytes() if "tests" in path else b"on = off\n")
    git = ("git", "-C", str(tmp_path / "house"), "-c", "user.name=t", "-c", "user.email=t@t")
    subprocess.run((*git, "add", "-A"), check=True)
    subprocess.run((*git, "-c", "commit.gpgsign=false", "commit", "-q", "-m", "first"), check=True)
    return tmp_path / "house"


def put(house: Path, name: str, rows: list[dict], kind: str = "rate", **more) -> None:
    given = {"field": "success", "unit": "1", "chance": None, "folder": house / "results", "seconds": 1.0}
    given |= {"sources": [house / "proofs" / "fast.py"], "command": "mindhand prove fast"}
    write_record(name, rows=rows, kind=kind, **{**given, **more})


def arm(wins: tuple[int, ...], **more) -> list[dict]:
    """A training an entry, so many of 40 scenes solved."""
    return [{"training": t, "key": i, "success": i < n, **more} for t, n in enumerate(wins) for i in range(40)]


def proven(house: Path, on: tuple[int, ...] = (30, 29, 32), off: tuple[int, ...] = (20, 21, 19)) -> None:
    put(house, "proofs/fast/baseline", arm(off), chance=0.25)
    put(house, "proofs/fast/method", arm(on), chance=0.25)
    put(house, "proofs/fast/control_more_steps", arm(off), chance=0.25)
    put(house, "proofs/fast/effect", arm(on, arm="on") + arm(off, arm="off"), "difference")


def checked(house: Path, **skipped: str) -> None:
    rows = [{"key": n, "passed": n not in skipped.values(), "skipped": None, "tests": []} for n in "1234"]
    for why, n in skipped.items():
        rows[int(n) - 1]["skipped"] = why
    put(house, "checks/fast/unit", rows, field="passed", sources=[house / "tests" / "methods" / "test_fast.py"])


def made(house: Path) -> dict[str, str]:
    return pages(METHODS, evidence(house, METHODS))


def test_without_records_nothing_is_said_to_hold(house):
    text = made(house)[FAST]
    assert "No proof yet." in text and text.count("| not run yet |") == 4
    assert "none of mechanism, parity, effect yet" in text and "passed" not in text
    assert "Reached: 0 mechanism, 0 parity, 0 effect." in made(house)[CATALOGUE]
    assert f"{PAGES}/fast.svg" not in made(house)


def test_checks_stand_as_their_record_has_them(house):
    checked(house)
    text = made(house)[FAST]
    assert text.count("| passed |") == 4 and "4 of 4 passed: commit" in text and "| reached | mechanism |" in text
    checked(house, no_robot="3")
    text = made(house)[FAST]
    assert "| skipped: no_robot |" in text and "3 of 4 passed" in text and "mechanism |" not in text
    put(house, "checks/fast/unit", [{"key": "1", "passed": False, "skipped": None}], field="passed")
    text = made(house)[FAST]
    assert text.count("| **failed** |") == 1 and text.count("| not run yet |") == 3  # of the others nothing is known


def test_a_proof_has_its_table_and_its_picture(house):
    proven(house)
    found = made(house)
    text, index = found[FAST], found[CATALOGUE]
    lines = [line for line in text.splitlines() if line.endswith(" | success | 3 |")]
    heads = [line.split(" | ")[0] for line in lines]
    assert heads == ["| without it (the tokens base)", "| with FAST", "| control: more steps", "| **effect**"]
    assert "| 50.0 % (" in lines[0] and ", chance 25 %)" in lines[0] and "**25.8 points (" in lines[3]
    assert "The claim is shown" in text and "| reached | effect |" in text
    assert "![FAST: baseline, method and controls with their intervals](fast.svg)" in text
    assert "25.8 points (" in index and "0 parity, 1 effect." in index
    root = ElementTree.fromstring(found[f"{PAGES}/fast.svg"])
    name = "{http://www.w3.org/2000/svg}"
    assert len(list(root.iter(f"{name}circle"))) == 3
    assert {"with FAST", "control: more steps", "50.0 %"} <= {t.text for t in root.iter(f"{name}text")}
    assert f"{PAGES}/oft.svg" not in found and "No proof yet." in found[f"{PAGES}/oft.md"]


@pytest.mark.parametrize(
    ("on", "why"), [((30, 29), "2 trainings, and 3 is the least"), ((30, 12, 21), "does not lie wholly on the claimed")]
)
def test_a_proof_without_effect_is_published_as_one(house, on, why):
    proven(house, on, (20, 21, 19)[: len(on)])
    text = made(house)[FAST]
    assert f"The claim is not shown: {why}" in text.replace("its interval ", "") and "| reached | none of" in text
    assert "points (" in made(house)[CATALOGUE]


def test_older_code_is_said_everywhere(house):
    proven(house)
    checked(house)
    assert "older code" not in "".join(made(house).values())
    (house / "proofs" / "fast.py").write_text("on = 2 * off\n")
    text, index = made(house)[FAST], made(house)[CATALOGUE]
    assert len(re.findall(r"\(\*older code\*\)\**? \| success", text)) == 4
    assert "| reached | mechanism, effect (*older code*) |" in text and "4 of 4 passed: commit" in text
    assert index.count("(*older code*)") == 2
    (house / "tests" / "methods" / "test_fast.py").open("a").write("\n")
    assert "4 of 4 passed (*older code*): commit" in made(house)[FAST]


def test_a_mean_is_drawn_in_its_own_unit_and_beside_its_like_only(house):
    for name, n in (("baseline", 4.0), ("method", 2.0), ("control_none", 3.0)):
        rows = [{"key": i, "steps": n + i} for i in range(9)]
        put(house, f"proofs/fast/{name}", rows, "mean", field="steps", unit="steps" if name != "control_none" else "s")
    drawn = picture(METHODS["fast"].card, evidence(house, METHODS))
    texts = [t.text for t in ElementTree.fromstring(drawn).iter("{http://www.w3.org/2000/svg}text")]
    assert {"8 steps", "6 steps", "steps, steps"} <= set(texts) and "control: none" not in texts


# ---- what is read ------------------------------------------------------------------------------------


def nothing() -> int:
    return 0


@dataclass
class Config:
    """Some fields."""

    size: int  # A, of | everything, `a|b` (paper: 7)
    rate: float = 1e-3  # a second
    # of what comes next
    pair: tuple[int, int] = (
        1,  # first
        2,  # second
    )
    made: int = field(default_factory=nothing)
    bare: str = "#x"


def test_settings_are_as_the_source_has_them():
    """No value's own representation: that of a function has an address."""
    assert settings(Config) == [
        ("size", "", "A, of | everything, `a|b` (paper: 7)"),
        ("rate", "1e-3", "a second"),
        ("pair", "(1, 2)", "first second"),
        ("made", "field(default_factory=nothing)", ""),
        ("bare", '"#x"', ""),
    ]


def test_every_setting_says_what_it_is():
    bare = [(n, f) for n, m in catalogue().items() for f, _, note in settings(m.module.Config) if not note]
    assert not bare, "a comment a field, with the paper's value"


def odd(doc: str) -> Method:
    """A method that is in no paper, with everything that Markdown would take for its own."""
    module = ModuleType("mindhand.methods.act.fast")
    module.__doc__, module.Config = doc, Config
    card = MethodCard("fast", "A*B|C", "", "act", ("codec",), Claim("a | b < c", "effect"), needs=frozenset({"q", "p"}))
    return Method(card, module)


def test_words_are_not_taken_for_markdown(house):
    methods = {"fast": odd("Odd: *one* <b> of a|b and `a|b`.\n\nSeam: codec. Use: f(a | b)\n")}
    assert told(methods["fast"]) == {"": "Odd: *one* <b> of a|b and `a|b`.", "Seam": "codec.", "Use": "f(a | b)"}
    proven(house)
    known = evidence(house, methods)
    found = pages(methods, known)
    assert "# A\\*B|C\n" in found[FAST] and "Odd: \\*one\\* \\<b> of a|b and `a|b`." in found[FAST]
    assert "| `the method` | p, q | – |" in found[FAST] and "| paper | – |" in found[FAST]
    assert "A, of \\| everything, `a\\|b`" in found[FAST] and "arxiv" not in found[FAST] + found[CATALOGUE]
    check(found, house)


def check(found: dict[str, str], root: Path) -> None:
    """Every line of a table has as many cells as its head, and every link leads to a page, or to a file of `root`."""
    for path, text in found.items():
        if path.endswith(".svg"):
            continue
        for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
            counts = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
            assert len(counts) == 1, block
        for link in re.findall(r"\]\((?!https)([^)]+)\)", text):
            at = ((root / path).parent / link).resolve().relative_to(root.resolve()).as_posix()
            assert at in found or (ROOT / at).exists(), f"{path}: {link}"


def test_tables_and_links_hold(house):
    known = evidence(ROOT, catalogue())
    check(pages(catalogue(), known), ROOT)
    proven(house)
    checked(house, **{"a | b": "2"})
    check(made(house), house)


def test_a_card_without_an_effect_of_that_name_has_an_undecided_proof(house):
    proven(house)
    card = METHODS["fast"].card
    other = Method(replace(card, claim=Claim("faster", "speed", "lower")), METHODS["fast"].module)
    text = pages({"fast": other}, evidence(house, METHODS))[FAST]
    assert "What decides the claim is not measured yet." in text and "`proofs/fast/speed`, lower with" in text
