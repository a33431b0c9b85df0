"""The plan of a run folder: what lies there was made by it, and nothing else goes on there."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from mindhand.core.errors import BadData
from mindhand.data.files import read_json, write_json


def keep_to(file: Path, plan: Mapping[str, Any], *, free: Collection[str] = (), grows: Collection[str] = ()) -> None:
    """Write the plan of a folder as JSON. BadData where another one is there, as of `require_plan`."""
    require_plan(file, plan, free=free, grows=grows)
    write_json(file, json.loads(json.dumps(plan)))


def require_plan(
    file: Path, plan: Mapping[str, Any], *, free: Collection[str] = (), grows: Collection[str] = ()
) -> None:
    """BadData where another plan is there, and going on would make neither; where there is none, nothing.

    Values that are dictionaries are compared field by field, "plan.seed"; None is the same as what is not there, so
    that a field that comes later and is None by default leaves earlier plans what they are. free: names that may differ
    (how many processes share the work); grows: lengths that may be larger than they were.
    """
    if file.exists():
        was, here = _flat(read_json(file, "plan")), _flat(json.loads(json.dumps(plan)))
        odd = [f"{k}: {was.get(k)} | {here.get(k)}" for k in [*was, *(k for k in here if k not in was)]
               if was.get(k) != here.get(k) and k not in free and not (k in grows and was[k] < here[k])]  # fmt: skip
        if odd:
            raise BadData(
                f"{file.parent} is of another plan (there | now):\n    " + "\n    ".join(odd),
                "the same, or a longer one where its end alone is longer",
                "take another folder, or the plan that is there",
            )


def _flat(plan: Mapping[str, Any]) -> dict[str, Any]:
    inner = {k: v if isinstance(v, dict) else {"": v} for k, v in plan.items()}
    return {f"{k}.{n}".rstrip("."): x for k, v in inner.items() for n, x in v.items()}
