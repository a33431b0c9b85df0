"""The project speaks of itself alone: no machine's paths, no registry's hosts, no word of how it was written."""

from __future__ import annotations

import codecs
import re

import pytest

from .tree import files, is_binary, read

# Rot13, so that this file does not hold what it looks for. A leading slash means an absolute path.
HIDDEN = (
    "/bcg/clcv",
    "/bcg/jurryf",
    "/jbex/",
    "/gzc/j/",
    "/ebbg/",
    "onfu_wbof",
    "fge_ercynpr_onfrq",
    "QRIRYBCREF.zq",
    "o-frrq-",
    "gur PRB",
    "bgure urycre",
    "nabgure urycre",
    "guvf jbexcynpr",
    "na rneyvre frffvba",
    "aivqvn-u100-k1",
)


def pattern() -> re.Pattern[str]:
    """One expression for all of them, and for references to issues by number."""
    words = [codecs.decode(w, "rot13") for w in HIDDEN]
    parts = [(r"(?<![\w.~-])" if w.startswith("/") else "") + re.escape(w) for w in words]
    return re.compile("|".join([*parts, r"\b[Ii]ssue #?\d+"]))


def test_no_text_names_the_place_it_was_written_in():
    found = []
    for path in files():
        data = read(path)
        if is_binary(data):
            continue
        for number, line in enumerate(data.decode().splitlines(), 1):
            if match := pattern().search(line):
                found.append(f"{path}:{number}: {match[0]}")
    assert not found


@pytest.mark.parametrize("word", HIDDEN)
def test_each_word_is_found_when_it_is_there(word):
    assert pattern().search(f"see {codecs.decode(word, 'rot13')}x for more")


@pytest.mark.parametrize(
    "text", ["a network/jobs table".replace("jobs", codecs.decode("jbex", "rot13")), "an issue of taste"]
)
def test_ordinary_sentences_pass(text):
    assert not pattern().search(text)
