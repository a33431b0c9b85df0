"""A policy in the Hugging Face hub's layout, with a card of what was measured of it.

    mindhand eval runs/policy --base runs/nano/checkpoint --language --run runs/eval
    python -m mindhand.recipes.hub runs/policy/checkpoint runs/mine --name owner/name --eval runs/eval \\
        --licence apache-2.0 --base nano --base-licence apache-2.0 --data "my demonstrations" --data-licence cc-by-4.0
    python -m mindhand.recipes.hub runs/policy/checkpoint runs/mine ... --push      private, until you open it there
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Sequence
from pathlib import Path

from mindhand.core.checkpoint import load_checkpoint
from mindhand.core.errors import Refusal
from mindhand.evaluate.card import About, model_card, read_measured
from mindhand.model.hub import push_to_hub, save_pretrained

TOLD = {
    "name": "of the repository: owner/name", "licence": "of these weights", "base": "model that it began with",
    "base_licence": "of the base model", "data": "that it learned from", "data_licence": "of the data",
}  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code, 2 for a refusal."""
    line = ArgumentParser("python -m mindhand.recipes.hub", None, __doc__, formatter_class=RawDescriptionHelpFormatter)
    line.add_argument("checkpoint", type=Path)
    line.add_argument("folder", type=Path, help="where it is written")
    for name, told in TOLD.items():
        line.add_argument(f"--{name.replace('_', '-')}", required=True, help=told)
    line.add_argument("--eval", type=Path, help="a finished evaluation of these weights")
    line.add_argument("--licence-file", type=Path, help="the licence's text")
    line.add_argument("--push", action="store_true", help="upload it, too")
    asked = line.parse_args(argv)
    try:
        found = load_checkpoint(asked.checkpoint, None)
        measured = read_measured(asked.eval, found.fingerprint) if asked.eval else None
        card = model_card(found, About(**{name: getattr(asked, name) for name in TOLD}), measured)
        text = asked.licence_file.read_bytes() if asked.licence_file else b""
        print(save_pretrained(asked.checkpoint, asked.folder, card, licence=text))
        if asked.push:
            print(push_to_hub(asked.folder, asked.name))
    except Refusal as refusal:
        print(f"mindhand: {refusal}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
