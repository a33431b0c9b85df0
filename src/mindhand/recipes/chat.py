"""The verb `mindhand chat`: questions about one picture, answered by a checkpoint's mind.

Answers go to the standard output, a line each where that is no terminal, and all else to the standard error: so
`mindhand chat ... --ask "..." > answer.txt` keeps the answer alone. Each question is asked afresh: what was said
before is not in it, and the picture is looked at once.
"""

from __future__ import annotations

import mimetypes
import sys
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.text import Text

from mindhand.core.errors import BadData, Refusal
from mindhand.core.keys import Keys
from mindhand.core.spec import Camera
from mindhand.data.files import read_json
from mindhand.data.picture_file import fit, fitted_size, open_picture
from mindhand.data.synthetic.questions import PHRASES
from mindhand.model.shipped import shipped
from mindhand.model.store import load_vla
from mindhand.model.vla import VLA
from mindhand.model.words import Words
from mindhand.worlds.draw import Draw
from mindhand.worlds.scene import MathsScene, place_words, sample_maths

LONGEST = 64  # tokens of a question; nothing that is asked in pretraining has half as many
LIMIT = 64  # tokens of an answer; a thought has up to 40
NAMED = 8  # characters, in a refusal of more
SPLITS = ("R", "C", "K-dev")  # of sampled desks: what the mind may know, but for the part that is kept for releases
TYPED = str.maketrans(
    dict.fromkeys("\u2018\u2019\u201a\u201b", "'")
    | dict.fromkeys("\u201c\u201d\u201e\u201f\u00ab\u00bb", '"')
    | dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212", "-")
    | {"\u00d7": "x"}
)
EXAMPLES = ("read", "solve", "tiles", "where", "calc in full")  # kinds that even a brief pretraining asks


def worded(text: str, words: Words, longest: int | None = LONGEST) -> tuple[str, list[str]]:
    """A question as the model reads it, and what was changed in it, a sentence each.

    Quotes, dashes and signs that no keyboard has become those that one has, runs of spaces become one, and capitals
    small letters where the tokenizer has the words only so. Refusal for a question that is empty, of more than
    `longest` tokens (None: any number), or holds characters that the tokenizer lacks (it would drop them in silence)
    or the special words that turns are made of.
    """
    notes = []
    if signs := [c for c in dict.fromkeys(text) if ord(c) in TYPED]:
        notes.append("read as on a keyboard: " + ", ".join(f"{c} as {c.translate(TYPED)}" for c in signs))
    plain = " ".join(text.translate(TYPED).split())
    example = f'ask in other words, for example "{PHRASES["read"][0]}"'
    if not plain:
        raise Refusal("an empty question", "a question in words", example)
    if lacks := words.unknown(plain):
        named = ", ".join(f"{c!r} (U+{ord(c):04X})" for c in lacks[:NAMED]) + (", ..." if lacks[NAMED:] else "")
        raise Refusal(
            f"the question holds characters that the model has no token for: {named}",
            "characters of its tokenizer; nano's has printable ASCII",
            example,
        )
    if turns := [w for w in words.marks if w in plain]:
        raise Refusal(f"the question holds {turns}", "words that do not begin or end a turn of the model's", example)
    small = plain.lower()
    if len(words.encode(small)) < len(words.encode(plain)):
        notes.append("read in small letters, as the model was taught")
        plain = small
    if longest is not None and (count := len(words.encode(plain))) > longest:
        raise Refusal(f"a question of {count} tokens", f"at most {longest}", "ask for one thing at a time")
    return plain, notes


def desk(number: int) -> tuple[np.ndarray, MathsScene]:
    """A sampled desk: its front picture uint8 (128,128,3), and what is on it. A pure function of the number."""
    from mindhand.worlds.desk.render import render_scene  # a simulator: not for those who bring a picture

    keys = Keys.seeded(1, "chat", number)
    scene = sample_maths(keys, Draw(keys.fold("class")).pick(SPLITS))
    return render_scene(scene).image, scene


def told(scene: MathsScene) -> list[str]:
    """What is on a desk, in words, a line each for the board and the tiles from left to right."""
    tiles = sorted(scene.tiles, key=lambda t: t.x)
    listed = ", ".join(f"{t.digit} {t.face} {place_words(t.x, t.y)}" for t in tiles)
    return [f"board: {scene.board.text} in {scene.board.ink} on {scene.board.paper}", f"tiles: {listed}"]


def framed(image: np.ndarray, camera: Camera) -> tuple[np.ndarray, str]:
    """A picture uint8 (h,w,3) as the model's camera would give it, and how it was made so."""
    size, frame = image.shape[:2], (camera.height, camera.width)
    high, wide = fitted_size(size, frame)
    said = f"{size[1]} x {size[0]} pixels"
    if size == frame:
        said += ", as the model sees them"
    else:
        said += f"; the model sees {camera.width} x {camera.height}: the picture at {wide} x {high}"
        said += "" if (high, wide) == frame else " in the middle, the rest in the mean colour of its border"
    return fit(image, *frame), said


def trained_on(checkpoint: Path) -> str:
    """What the plan.json of a pretraining says that a checkpoint was taught; "" where there is none in its folder or
    beside it, or another kind of plan."""
    for file in (checkpoint / "plan.json", checkpoint.parent / "plan.json"):
        try:
            plan = read_json(file, "plan")
            shown = "the desk" if plan["brief"] else "the desk and of toys, notices and charts"
            return f"{plan['pictures']:,} pictures of {shown}"
        except (BadData, OSError, KeyError, TypeError, ValueError):
            continue
    return ""


def about(vla: VLA, checkpoint: Path, digit: int) -> list[str]:
    """What the model is, and what it may be asked, a line each. digit: of the tile that is asked for."""
    size = sum(p.numel() for p in vla.backbone.parameters()) / 1e6
    hand = f", with the hand of a '{vla.spec.robot}'" if vla.expert is not None else ""
    plan = trained_on(checkpoint)
    asks = " | ".join(PHRASES[kind][0].format("3+4" if "calc" in kind else digit) for kind in EXAMPLES)
    return [
        f"{checkpoint}: a mind of {size:.2f} million parameters{hand}" + (f", taught with {plan}" if plan else ""),
        f"A small model answers in the words that it was taught. Ask it for example: {asks}",
    ]


def load_mind(checkpoint: Path) -> VLA:
    """The model of a checkpoint; Refusal where there is none, or one that sees nothing."""
    if (checkpoint / "checkpoint").is_dir():
        raise Refusal(
            f"{checkpoint} is the folder of a run", "the checkpoint in it", f"give {checkpoint / 'checkpoint'}"
        )
    vla = load_vla(checkpoint)
    if not vla.see or "image" not in vla.backbone.provides:
        raise Refusal(f"{checkpoint} holds a model without eyes", "one that sees pictures", "give another checkpoint")
    return vla


def named(first: Path | None, image: Path | None) -> tuple[Path | None, Path | None]:
    """(checkpoint, picture) of a command line whose first word is either: a checkpoint is a folder, a picture a file.
    Refusal for two pictures."""
    if first is None or first.is_dir():
        return first, image
    if not first.is_file() and not (mimetypes.guess_type(first.name)[0] or "").startswith("image/"):
        return first, image
    if image is not None:
        raise Refusal(f"two pictures: {first} and {image}", "one at a time", "ask about each in a command of its own")
    return None, first


def chat(checkpoint: Path | None, image: Path | None, ask: str | None) -> int:
    """The verb: one answer, or a conversation that ends with an empty line or the end of the input. A question that is
    refused may be put again at a terminal; where questions come from a pipe it ends the command. checkpoint: a folder,
    or the picture, for the weights that are shipped."""
    checkpoint, image = named(checkpoint, image)
    tell = Console(stderr=True, highlight=False, soft_wrap=True)
    given = None if image is None else open_picture(image)  # before the weights: what cannot be shown is told at once
    checkpoint = checkpoint or shipped()
    vla = load_mind(checkpoint)
    question = None if ask is None else worded(ask, vla.backbone.words)
    if given is None:
        number = time.time_ns() // 1000 % 1_000_000  # another desk each time
        picture, scene = desk(number)
        name, notes, digit = f"a sampled desk, number {number}", told(scene), scene.tiles[0].digit
    else:
        (picture, notes), name, digit = given, str(image), 7
    seen, fitted = framed(picture, vla.spec.camera(vla.see[0]))
    for line in (*about(vla, checkpoint, digit), f"{name}: {fitted}", *notes):
        tell.print(Text(line, style="dim"))
    prefix = vla.look(seen[None])

    def answer(asked: tuple[str, list[str]]) -> None:
        for note in asked[1]:
            tell.print(Text(note, style="dim"))
        ((said,),) = vla.answer(prefix, [[asked[0]]], LIMIT)
        show(said)

    if question is not None:
        answer(question)
        return 0
    at_terminal = sys.stdin is not None and sys.stdin.isatty()
    if at_terminal:
        tell.print(Text("An empty line or Ctrl-D ends the conversation.", style="dim"))
    while (text := heard(tell if at_terminal else None)).strip():
        try:
            answer(worded(text, vla.backbone.words))
        except Refusal as refusal:
            if not at_terminal:
                raise
            tell.print(Text(str(refusal), style="yellow"))
    return 0


def show(said: str) -> None:
    """An answer, alone in its line; in colour at a terminal."""
    out, line = Console(highlight=False, soft_wrap=True), " ".join(said.split())
    if out.is_terminal:
        out.print(Text(line, style="bold green") if line else Text("(it says nothing)", style="dim"))
    else:
        print(line, flush=True)


def heard(terminal: Console | None) -> str:
    """The next line of the input, asked for at a terminal; "" at its end."""
    try:
        return input() if terminal is None else terminal.input("[bold]ask[/] ")
    except (EOFError, RuntimeError):  # at its end, or closed from the beginning
        if terminal is not None:
            terminal.print()  # the shell's next line begins at its left
        return ""
    except UnicodeDecodeError as error:
        raise Refusal(f"the input is no text ({error})", "lines in UTF-8", "save the questions as UTF-8") from error
