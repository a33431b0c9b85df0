"""Policies in the hub's layout: a folder, or a repository of the Hugging Face hub, with all that goes with a policy.

    README.md      its card; who uploads it may go on writing it, so no manifest lists it
    LICENSE        of the weights, where there is one
    checkpoint/    the policy, whole or refused (`core/checkpoint.py`)

The packaged weights lie in the same layout. Nothing of it is ever run: no code, no pickle.

save_pretrained(vla, "runs/mine", card)
push_to_hub("runs/mine", "owner/name")            # the extra `hub`
vla = from_pretrained("owner/name", parse=read)   # or a folder
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mindhand.core.checkpoint import load_checkpoint
from mindhand.core.errors import BadCheckpoint, Refusal
from mindhand.core.files import write_atomic
from mindhand.core.folder import exists, replacing_folder, settled
from mindhand.core.nouns import smoke_observation
from mindhand.core.spec import Spec

from .licence import FILES, stated
from .store import load_vla, save_vla
from .vla import VLA

CARD, LICENCE, POLICY = "README.md", "LICENSE", "checkpoint"
WANTED = (CARD, LICENCE, f"{POLICY}/*")  # what is up- and downloaded of a policy; what else there is stays there
VLM = ("*.json", "*.safetensors", "merges.txt", *FILES)  # and of a VLM of others, from its first level
REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


def _hub() -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        raise Refusal("the hub needs huggingface_hub", "the extra `hub`", "pip install 'mindhand[hub]'") from error
    return huggingface_hub


def save_pretrained(
    vla: VLA | Path | str, folder: Path | str, card: str, *, licence: bytes = b"", half: bool = False
) -> Path:
    """Write a policy, its card (`evaluate.card`) and its licence's text into a folder, which replaces an older one only
    when it is whole; returns it. half: parameters in bfloat16 (`save_vla`). A checkpoint's folder in the place of a
    policy is copied as it is, so that what was measured of its fingerprint is true of the copy. Refusal for a card
    without a licence."""
    folder = Path(folder)
    require_card(card, folder)
    with replacing_folder(folder) as fresh:
        if isinstance(vla, VLA):
            save_vla(vla, fresh / POLICY, smoke=smoke_observation(vla.spec), half=half)
        else:
            shutil.copytree(load_checkpoint(vla, None).folder, fresh / POLICY)
        write_atomic(fresh / CARD, card)
        if licence:
            (fresh / LICENCE).write_bytes(licence)
    return folder


def pretrained_folder(
    source: Path | str, *, revision: str | None = None, token: str | None = None, endpoint: str | None = None
) -> Path:
    """The checkpoint folder of `source`: a folder in the hub's layout, a checkpoint itself, or a repository's
    "owner/name", which is downloaded, or found in the hub's cache where there is no network. revision: a branch, tag or
    commit. BadCheckpoint for neither."""
    got = _here(source, WANTED, revision, token, endpoint)
    if got.name != POLICY and not exists(Path(source)):
        raise BadCheckpoint(f"{source} holds no {POLICY}/", "a policy in mindhand's layout", "name another repository")
    return got


def weights_folder(source: Path | str, *, token: str | None = None, endpoint: str | None = None) -> Path:
    """As `pretrained_folder`, of whatever can be begun with: also a VLM as transformers keeps it, of which safetensors,
    tokenizer, settings and licence are downloaded."""
    return _here(source, (*WANTED, *VLM), None, token, endpoint)


def _here(
    source: Path | str, wanted: Sequence[str], revision: str | None, token: str | None, endpoint: str | None
) -> Path:
    """The checkpoint within a folder, or a repository of which what is wanted is downloaded; or all of it."""
    got = settled(source) if exists(Path(source)) else _downloaded(source, wanted, revision, token, endpoint)
    return got / POLICY if exists(got / POLICY) else got


def _downloaded(
    source: Path | str, wanted: Sequence[str], revision: str | None, token: str | None, endpoint: str | None
) -> Path:
    if not REPOSITORY.fullmatch(str(source)):
        raise BadCheckpoint(f"{source}: no such folder", "a folder, or a repository 'owner/name'", "check the path")
    how = {"revision": revision, "token": token, "endpoint": endpoint, "allow_patterns": list(wanted)}
    hub = _hub()
    try:
        return Path(hub.snapshot_download(str(source), **how))
    except Exception as error:  # of its own kinds, of its HTTP library's, of the system's: all say that it is not here
        raise BadCheckpoint(
            f"{source} cannot be downloaded ({type(error).__name__}: {str(error).splitlines()[0]})",
            "a folder, or a repository that can be read",
            "check the name, the network and `hf auth login`",
        ) from error


def from_pretrained(
    source: Path | str,
    expect_spec: Spec | None = None,
    *,
    revision: str | None = None,
    token: str | None = None,
    **given: Any,
) -> VLA:
    """The policy of a folder or a repository. expect_spec: the robot's, SpecMismatch for a policy of another one.
    given: what code must bring (`load_vla`). Its backbone's licence is in its card."""
    return load_vla(pretrained_folder(source, revision=revision, token=token), expect_spec, **given)


def push_to_hub(
    folder: Path | str,
    repository: str,
    *,
    private: bool = True,
    message: str = "A policy of mindhand",
    token: str | None = None,
    endpoint: str | None = None,
) -> str:
    """Upload a folder that `save_pretrained` wrote; returns the commit's address. The repository is made if there is
    none, for its owner's eyes alone unless private=False. Refused before anything is sent: a name that is no
    repository's, a checkpoint that is not whole, a card without a licence."""
    folder = Path(folder)
    if not REPOSITORY.fullmatch(repository):
        raise Refusal(f"a repository '{repository}'", "owner/name", "name one")
    load_checkpoint(folder / POLICY, None)
    require_card((folder / CARD).read_text() if (folder / CARD).is_file() else "", folder)
    api = _hub().HfApi(endpoint=endpoint, token=token)
    api.create_repo(repository, private=private, exist_ok=True)
    sent = api.upload_folder(
        repo_id=repository, folder_path=folder, allow_patterns=list(WANTED), commit_message=message
    )
    return str(sent.commit_url)


def require_card(card: str, folder: Path) -> None:
    """Refusal for a card without front matter that names a licence: weights that nobody knows whether to use."""
    if not stated(card):
        raise Refusal(
            f"{folder}: a card that names no licence",
            f"{CARD} with front matter, in it 'license: ...'",
            "make one: python -m mindhand.recipes.hub --help",
        )
