"""Unit checks: a number in name and docstring, a row a number, and nothing counted that did not run."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from mindhand.core.card import fidelity
from mindhand.core.errors import BadData
from mindhand.core.record import read_records, read_rows, recompute
from mindhand.methods import catalogue, method
from mindhand.recipes.checks import file_of, numbered, publish, rows, run

from .tree import ROOT

TESTS = '''
import pytest

def test_1_holds():
    """(1) One is
    one."""

@pytest.mark.parametrize("x", [1, 2])
def test_2_one_case_fails(x):
    """(2) Both are one."""
    assert x == 1

def test_2_holds_elsewhere():
    """(2) Elsewhere too."""

@pytest.mark.skip(reason="needs a robot")
def test_3_skipped():
    """(3) A robot moves."""

def test_3_beside_it():
    """(3) And stops."""

@pytest.mark.xfail(reason="not yet", strict=False)
def test_4_expected_to_fail():
    """(4) Holds one day."""

@pytest.fixture
def broken():
    yield
    raise ValueError("too late")

def test_5_is_not_put_away(broken):
    """(5) Leaves nothing behind."""

class TestMore:
    def test_6_in_a_class(self):
        """(6) Is one as well."""

def test_of_something_else():
    assert False
'''


def written(folder: Path, text: str = TESTS) -> Path:
    file = file_of(folder, "tiny")
    file.parent.mkdir(parents=True)
    file.write_text(text)
    return file


def test_a_number_is_found_with_what_it_says(tmp_path):
    one, two, *_ = found = numbered(written(tmp_path))
    assert [c.number for c in found] == ["1", "2", "3", "4", "5", "6"]
    assert one.tests == {"test_1_holds": "One is one."}
    assert list(two.tests.values()) == ["Both are one.", "Elsewhere too."]


def test_what_a_docstring_does_not_say_the_name_does(tmp_path):
    one, two = numbered(written(tmp_path, 'def test_1_one_is_one(): pass\ndef test_2_two(): "Is two."\n'))
    assert (one.tests, two.tests) == ({"test_1_one_is_one": "One is one."}, {"test_2_two": "Is two."})


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('def test_a_x(): "(a) Holds."\ndef test_a_view_is_cut(): "A view."', "cut is check a by its name and None by"),
        ("def test_a_x(): pass", "check a by its name and None"),
        ('def test_holds(): "(1) Holds."', "check None by its name and 1"),
        ('def test_1_x(): "(2) Holds."', "check 1 by its name and 2"),
        ('def test_1_x(): "(1) Holds."\ndef test_3_x(): "(3) Holds."', r"the checks \['1', '3'\]"),
        ('def test_b_x(): "(b) Holds."', r"the checks \['b'\]"),
        ('def test_a_x(): "(a) Holds."\ndef test_2_x(): "(2) Holds."', r"the checks \['2', 'a'\]"),
        ("def test_it(): pass", r"the checks \[\]"),
    ],
)
def test_a_number_that_is_not_one_is_refused(tmp_path, text, why):
    with pytest.raises(BadData, match=why):
        numbered(written(tmp_path, text))


def test_every_method_has_numbered_checks():
    assert all(numbered(file_of(ROOT, name)) for name in catalogue())
    with pytest.raises(BadData, match=r"no tests test_alchemy\.py"):
        numbered(file_of(ROOT, "alchemy"))


def test_a_check_has_passed_where_all_of_its_cases_have(tmp_path):
    found, sources = run(written(tmp_path), tmp_path)
    passed = {row["key"]: row["passed"] for row in found}
    assert passed == {"1": True, "2": False, "3": False, "4": False, "5": False, "6": True}
    why = {row["key"]: row["skipped"] for row in found}
    assert why == {"1": None, "2": None, "3": "needs a robot", "4": "expected to fail: not yet", "5": None, "6": None}
    assert str(file_of(tmp_path, "tiny").resolve()) in sources


def test_what_did_not_run_has_not_passed(tmp_path):
    (one, *_) = rows(numbered(written(tmp_path)), {})
    assert (one["passed"], one["skipped"]) == (False, "test_1_holds did not run")


def test_tests_that_cannot_be_collected_are_refused(tmp_path):
    with pytest.raises(BadData, match=r"(?s)could not run test_tiny\.py.*no_such_module"):
        run(written(tmp_path, "import no_such_module\n" + TESTS), tmp_path)


def test_the_record_of_a_method(tmp_path):
    """A real run: its checks hold, and its sources are what was run, not the rest of the package."""
    (record,) = publish(tmp_path / "drafts", ["depthvla"])
    assert (record.name, record.value, record.n) == ("checks/depthvla/unit", 1.0, 4)
    assert recompute(record, tmp_path / "drafts") == record
    assert [row["key"] for row in read_rows(record, tmp_path / "drafts")] == ["a", "b", "c", "d"]
    assert {"src/mindhand/methods/see/depthvla.py", "tests/methods/test_depthvla.py", "tests/model/tiny.py",
            "src/mindhand/model/trunk.py"} <= set(record.sources)  # fmt: skip
    assert not {"src/mindhand/methods/see/memoryvla.py", "src/mindhand/cli.py"} & set(record.sources)
    assert set(fidelity(method("depthvla").card, read_records(tmp_path / "drafts"))) == {"mechanism"}


def test_results_are_not_written_from_changed_tests(tmp_path):
    subprocess.run(("git", "init", "-q", str(tmp_path / "house")), check=True)
    house = tmp_path / "house"
    written(house)
    git = ("git", "-C", str(house), "-c", "user.name=t", "-c", "user.email=t@t", "-c", "commit.gpgsign=false")
    subprocess.run((*git, "commit", "-q", "--allow-empty", "-m", "first"), check=True)
    with pytest.raises(BadData, match=r"differs from its commit: .*tests/methods/test_tiny\.py"):
        publish(house / "results", ["tiny"], house)
    assert read_records(house / "results") == {}
