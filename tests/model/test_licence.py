"""A licence is what the folder states, in the words of the folder; a folder that is silent is not guessed at."""

import shutil

import pytest

from mindhand.core.errors import BadCheckpoint
from mindhand.model.licence import FILE, Licence, licence_of
from mindhand.model.shipped import shipped


@pytest.mark.parametrize(
    ("card", "name"),
    [
        ("---\nlanguage: en\nlicense: apache-2.0\n---\n# A model", "apache-2.0"),
        ("---\r\nlicense: other\r\nlicense_name: qwen-research\r\n---\r\n", "qwen-research"),
        ('---\nlicense: "gemma"\n---\n', "gemma"),
        ("# A model\nlicense: apache-2.0, it says in prose\n", ""),
    ],
)
def test_the_front_matter_of_a_card_says_it(tmp_path, card, name):
    (tmp_path / "README.md").write_bytes(card.encode())
    found = licence_of(tmp_path)
    assert found.name == name
    assert ("not stated" in str(found)) == (name == "")


def test_a_licence_file_says_it_where_the_card_does_not(tmp_path):
    (tmp_path / "README.md").write_text("# A model")
    (tmp_path / "LICENSE").write_text("\n   Apache License\n   Version 2.0, January 2004\n")
    assert licence_of(tmp_path).name == "apache-2.0"
    (tmp_path / "LICENSE").write_text("You may look at it on Tuesdays.")
    assert licence_of(tmp_path) == Licence("own terms, see LICENSE", "LICENSE", tmp_path.name)


def test_our_own_weights_state_theirs_and_what_is_carried_goes_first(tmp_path):
    assert licence_of(shipped()).name == "apache-2.0" and licence_of(shipped()).of == "nano"
    folder = tmp_path / "run" / "checkpoint"
    shutil.copytree(shipped(), folder)
    assert licence_of(folder).name == ""
    carried = Licence("gemma", "README.md", "paligemma-3b")
    (folder / FILE).write_bytes(carried.to_bytes())
    assert licence_of(folder) == carried
    (folder / FILE).write_text("{}")
    with pytest.raises(BadCheckpoint, match="licence"):
        licence_of(folder)
