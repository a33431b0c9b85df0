"""The tokenizer in a local folder of transformers: tokenizer.json, or Qwen's vocab.json and merges.txt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from mindhand.core.errors import BadCheckpoint, BadData

from .transformers_folder import AGAIN, read_json
from .words import Words

WHOLE, VOCAB, MERGES, PIECES = "tokenizer.json", "vocab.json", "merges.txt", "tokenizer.model"
ADDED, ABOUT = "added_tokens.json", "tokenizer_config.json"
SPLIT = (  # Qwen2's: words with the sign before them, single digits, runs of signs, ends of lines, spaces
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def read_words(folder: Path, rows: int) -> Words | None:
    """The tokenizer of a model whose embedding has so many rows; None where the folder holds none. Rows beyond the
    tokenizer are nobody's. BadCheckpoint for a tokenizer that is damaged, has more tokens than there are rows, leaves
    ids out, frames turns in no form that is known (`words.FORMS`), or comes as sentencepiece alone."""
    if (folder / WHOLE).exists():
        tokenizer = _whole(folder / WHOLE)
    elif (folder / VOCAB).exists() and (folder / MERGES).exists():
        tokenizer = _merged(folder)
    elif (folder / PIECES).exists():
        raise BadCheckpoint(
            f"{folder}: {PIECES} alone, which is sentencepiece's",
            f"{WHOLE}, which holds the same words",
            f"write it beside: transformers.AutoTokenizer.from_pretrained(folder).save_pretrained(folder); "
            f"or download {WHOLE}; or give a tokenizer of your own: vlm(words)",
        )
    else:
        return None
    ids = sorted(tokenizer.get_vocab(with_added_tokens=True).values())
    if ids and ids[-1] >= rows:
        what = f"{folder}: the tokenizer has ids up to {ids[-1]}, the embedding {rows} rows"
        raise BadCheckpoint(what, "a row for every token", "take weights and tokenizer from one model")
    if ids != list(range(len(ids))):
        raise BadCheckpoint(f"{folder}: the tokenizer's {len(ids)} ids are not 0 to {len(ids) - 1}", "no gaps", AGAIN)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    try:
        return Words(tokenizer)
    except BadData as error:
        raise BadCheckpoint(f"{folder}: {error.what}", error.expected, "give one that has: vlm(words)") from error


def _whole(path: Path) -> Tokenizer:
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing narrower
        raise BadCheckpoint(f"{path} cannot be read ({error})", "what save_pretrained writes", AGAIN) from error


def _merged(folder: Path) -> Tokenizer:
    try:
        bpe = models.BPE.from_file(str(folder / VOCAB), str(folder / MERGES))
    except Exception as error:  # the library raises nothing narrower
        raise BadCheckpoint(
            f"{folder}: {VOCAB} and {MERGES} do not make a tokenizer ({error})", "both", AGAIN
        ) from error
    tokenizer = Tokenizer(bpe)
    tokenizer.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(SPLIT), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    for id, token in sorted(_added(folder).items()):
        tokenizer.add_tokens([token])
        if (now := tokenizer.token_to_id(token.content)) != id:
            what = f"{folder}: the added token {token.content!r} is {id}, and would be {now}"
            raise BadCheckpoint(what, "added tokens behind the others, without gaps", AGAIN)
    return tokenizer


def _added(folder: Path) -> dict[int, AddedToken]:
    """By their ids, as either file says it."""
    about: dict[str, Any] = read_json(folder / ABOUT) if (folder / ABOUT).exists() else {}
    keep = ("single_word", "lstrip", "rstrip", "normalized", "special")
    try:
        if found := about.get("added_tokens_decoder"):
            return {int(i): AddedToken(t["content"], **{k: t[k] for k in keep if k in t}) for i, t in found.items()}
        plain = read_json(folder / ADDED) if (folder / ADDED).exists() else {}
        return {int(i): AddedToken(t, special=True) for t, i in plain.items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise BadCheckpoint(f"{folder}: added tokens that cannot be read ({error})", f"{ABOUT}'s", AGAIN) from error


def token_files(words: Words) -> dict[str, bytes]:
    """The tokenizer as a folder of transformers holds it, by file name."""
    about = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": words.tokenizer.id_to_token(words.end),
        "pad_token": words.tokenizer.id_to_token(words.pad),
        "clean_up_tokenization_spaces": False,
    }
    return {WHOLE: words.to_bytes(), ABOUT: (json.dumps(about, indent=1) + "\n").encode()}
