"""What a seam does not carry yet. Every test says what should hold and is expected to fail, strictly: whoever mends
a gap finds the test passing, takes its mark away and moves it to where the thing is tested."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from mindhand.core.parts import config_from_json

from .test_clare import EDIT, world


def gap(reason: str, *raises: type[BaseException]):
    """Expected to fail, with an assertion or with one of `raises`; a pass is an error."""
    return pytest.mark.xfail(strict=True, raises=(AssertionError, *raises), reason=reason)


@gap("a Config's tuple of Configs is built from JSON only, not from what describe() gives")
def test_described_parts_can_be_built_without_a_file():
    grown = EDIT.after(world(1)[0])
    assert config_from_json(type(grown), asdict(grown), "clare") == grown
