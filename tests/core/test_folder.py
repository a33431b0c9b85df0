"""A folder that is made beside its place and moved there: whole, as it was before, or not there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mindhand.core.folder import exists, replacing_folder, settled


def put(folder: Path, text: str, error: type[BaseException] | None = None) -> None:
    """Make the folder say so, or fail half-way."""
    with replacing_folder(folder) as fresh:
        assert not [*fresh.iterdir()] and fresh.parent == folder.resolve().parent
        (fresh / "a").mkdir()
        (fresh / "a" / "text").write_text(text)
        if error is not None:
            raise error("half-way")


def said(folder: Path) -> str:
    return (folder / "a" / "text").read_text()


def test_an_older_one_is_replaced_and_nothing_is_left_beside(tmp_path):
    folder = tmp_path / "deep" / "f"
    put(folder, "one")
    (folder / "more").write_text("of the older one alone")
    put(folder, "two")
    assert said(folder) == "two" and [p.name for p in folder.iterdir()] == ["a"]
    assert [p.name for p in folder.parent.iterdir()] == ["f"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("older", [True, False])
def test_an_error_leaves_what_was_there(tmp_path, error, older):
    folder = tmp_path / "f"
    if older:
        put(folder, "one")
    with pytest.raises(error, match="half-way"):
        put(folder, "two", error)
    assert [p.name for p in tmp_path.iterdir()] == ["f"] * older
    assert not older or said(folder) == "one"


def test_an_older_one_comes_back_where_the_new_one_cannot_be_moved(tmp_path):
    folder = tmp_path / "f"
    put(folder, "one")
    with pytest.raises(FileNotFoundError), replacing_folder(folder) as fresh:
        fresh.rmdir()  # so that the second rename fails, after the first
    assert said(folder) == "one" and [p.name for p in tmp_path.iterdir()] == ["f"]


@pytest.mark.parametrize("fails", [False, True])
def test_after_a_kill_between_the_renames(tmp_path, fails):
    """The older one is read until a writer comes, which puts it back first: its own failure must not cost it."""
    folder = tmp_path / "f"
    put(folder, "one")
    put(tmp_path / "other", "two")
    os.rename(folder, tmp_path / ".f.old")
    os.rename(tmp_path / "other", tmp_path / ".f.new")
    assert exists(folder) and not folder.exists() and said(settled(folder)) == "one"
    if fails:
        with pytest.raises(ValueError, match="half-way"):
            put(folder, "three", ValueError)
    else:
        put(folder, "three")
    assert said(folder) == ("one" if fails else "three") and [p.name for p in tmp_path.iterdir()] == ["f"]


def test_after_a_kill_behind_the_renames(tmp_path):
    """The new one has its place and part of the older one lies beside it still."""
    folder = tmp_path / "f"
    put(folder, "two")
    (tmp_path / ".f.old" / "a").mkdir(parents=True)
    assert said(settled(folder)) == "two"
    with pytest.raises(ValueError, match="half-way"):
        put(folder, "three", ValueError)
    assert said(folder) == "two" and [p.name for p in tmp_path.iterdir()] == ["f"]


def test_a_link_stays_a_link(tmp_path):
    put(tmp_path / "real" / "f", "one")
    (tmp_path / "link").symlink_to(tmp_path / "real" / "f")
    put(tmp_path / "link", "two")
    assert (tmp_path / "link").is_symlink() and said(tmp_path / "real" / "f") == "two"
    assert [p.name for p in (tmp_path / "real").iterdir()] == ["f"]
