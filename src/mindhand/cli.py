"""The command line: twelve verbs. This file parses and reports; the work is a plain function under recipes/ or data/.

An engine is imported when its verb is called, and gets the verb's fields as keyword arguments. It returns None or
an exit code. Codes: 0 done, 1 done and something is wrong (doctor), 2 refused, 130 stopped by Ctrl-C, 141 nobody reads.
A new verb or option needs a line in docs/decisions.md and in the test that freezes them.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Union

import tyro
from tyro.conf import Positional, arg, subcommand

from mindhand.core.errors import Refusal
from mindhand.core.memory import large_pages

Run = Annotated[Path, arg(help="run folder; the same command continues what lies in it", metavar="DIR")]
Seed = Annotated[int, arg(help="everything random follows from it")]
Minutes = Annotated[float | None, arg(help="stop on the clock, with everything saved", metavar="M")]
Checkpoint = Annotated[Positional[Path], arg(help="checkpoint folder", metavar="CHECKPOINT")]


@dataclass(frozen=True)
class Demo:
    """A robot at work: the policy that comes with the package reads boards, places tiles and toys, and is filmed.

    Example: mindhand demo --equation 12+7

    From nothing to such a policy, in a quarter of an hour: mindhand demo --from-scratch
    """

    engine: ClassVar[str] = "mindhand.recipes.demo:demo"
    run: Run = Path("runs/demo")
    equation: Annotated[tuple[str, ...], arg(help="sums for the board, answers 0 to 99: 12+7 3x9", metavar="SUM")] = ()
    from_scratch: Annotated[bool, arg(help="record, pretrain, train, evaluate; nothing shipped is used")] = False
    minutes: Annotated[float | None, arg(help="from scratch: how long; scales everything", metavar="M")] = None
    quick: Annotated[bool, arg(help="an episode each; from scratch: every step tiny, it learns nothing")] = False
    seed: Seed = 0


@dataclass(frozen=True)
class Doctor:
    """Look over this machine: versions that fit together, rendering, fonts, disk, cores; or a checkpoint.

    Example: mindhand doctor
    """

    engine: ClassVar[str] = "mindhand.recipes.doctor:doctor"
    checkpoint: Annotated[Path | None, arg(help="compare its stored smoke prediction", metavar="DIR")] = None


@dataclass(frozen=True)
class DataDoctor:
    """Look over a dataset: files, statistics, spec, a contact sheet of what a model would see.

    Example: mindhand data doctor runs/demo/data
    """

    engine: ClassVar[str] = "mindhand.recipes.doctor:dataset"
    path: Annotated[Positional[Path], arg(help="dataset folder", metavar="PATH")]


@dataclass(frozen=True)
class DataRecord:
    """Record demonstrations of the scripted expert as a LeRobot v3 dataset.

    Example: mindhand data record maths --episodes 400 --run runs/maths
    """

    engine: ClassVar[str] = "mindhand.recipes.record:record"
    task: Annotated[
        Positional[str],
        arg(help="whose: maths, placing, course-near, metaworld-reach, metaworld-mt10, ...", metavar="TASK"),
    ] = "maths"
    episodes: Annotated[int, arg(help="how many")] = 400
    workers: Annotated[int, arg(help="processes; the data are the same for any number")] = 2
    video: Annotated[bool, arg(help="pictures as h264: far smaller, not quite exact")] = False
    run: Run = Path("runs/data")


@dataclass(frozen=True)
class DataAnnotate:
    """Thoughts for demonstrations that have none: a text a sub-step, by templates, a VLM's endpoint or the keyboard.

    Example: mindhand data annotate runs/data --say "reach: {instruction}." "carry it." --run runs/annotated

    A VLM: mindhand data annotate runs/data --by endpoint --url http://127.0.0.1:8000/v1 --model NAME
    """

    engine: ClassVar[str] = "mindhand.recipes.annotate:annotate"
    data: Annotated[Positional[Path], arg(help="dataset folder", metavar="DATASET")]
    by: Annotated[Literal["template", "endpoint", "keyboard"], arg(help="who says it")] = "template"
    say: Annotated[tuple[str, ...], arg(help="templates, one a sub-step: with {instruction}, {step}, {steps}")] = ()
    url: Annotated[str, arg(help="of the endpoint; OPENAI_API_KEY goes with it if set")] = ""
    model: Annotated[str, arg(help="the endpoint's name of its model")] = ""
    accept: Annotated[str, arg(help="a regular expression that a text must match; a sentence unless given")] = ""
    parse: Annotated[str, arg(help="or who must be able to read it: desk")] = ""
    longest: Annotated[float, arg(help="seconds of a sub-step, which also ends where a gripper turns")] = 6.0
    over: Annotated[bool, arg(help="also where there are thoughts already")] = False
    run: Run = Path("runs/annotate")


@dataclass(frozen=True)
class Pretrain:
    """Train nano, the small vision-language model, on the synthetic image-text corpus.

    Example: mindhand pretrain nano --run runs/nano --minutes 60
    """

    engine: ClassVar[str] = "mindhand.recipes.pretrain:pretrain"
    size: Annotated[Positional[Literal["nano", "test", "small"]], arg(help="of the model", metavar="SIZE")] = "nano"
    run: Run = Path("runs/nano")
    minutes: Minutes = None
    seed: Seed = 0


@dataclass(frozen=True)
class Train:
    """Make a VLM a robot policy by a recipe's stages.

    Example: mindhand train chatvla2 --data runs/maths --run runs/policy
    """

    engine: ClassVar[str] = "mindhand.recipes.train:train"
    recipe: Annotated[Positional[str], arg(help="name of a recipe", metavar="RECIPE")]
    data: Annotated[Path, arg(help="demonstrations", metavar="DIR")] = Path("runs/data")
    base: Annotated[Path | None, arg(help="VLM checkpoint; the packaged nano unless given", metavar="DIR")] = None
    run: Run = Path("runs/train")
    minutes: Minutes = None
    seed: Seed = 0


@dataclass(frozen=True)
class Tune:
    """From demonstrations of a robot to a policy for it: looked over, tuned, compared with what was recorded.

    Example: mindhand tune my_robot --from Qwen2-VL-2B-Instruct --run runs/mine

    What it would take, first: mindhand tune my_robot --from Qwen2-VL-2B-Instruct --plan

    A policy that there is: mindhand tune more_of_it --from runs/mine/checkpoint --run runs/more
    """

    engine: ClassVar[str] = "mindhand.recipes.tune:tune"
    data: Annotated[Positional[Path], arg(help="demonstrations", metavar="DATASET")]
    base: Annotated[
        Path | None,
        arg(name="from",
            help="checkpoint, or a VLM of transformers: a folder, or owner/name of the hub; else the packaged nano",
            metavar="CHECKPOINT|VLM"),
    ] = None  # fmt: skip
    full: Annotated[bool, arg(help="train all weights, not adapters")] = False
    plan: Annotated[bool, arg(help="say what it would take, and stop: parameters, memory, what fits, licence")] = False
    steps: Annotated[int, arg(help="of training")] = 2000
    rows: Annotated[int, arg(help="frames a step; --plan says how many fit")] = 16
    run: Run = Path("runs/tune")
    seed: Seed = 0


@dataclass(frozen=True)
class Eval:
    """Run a policy through a protocol: success, choice, reasoning, what was forgotten, with intervals and films.

    Example: mindhand eval runs/policy/checkpoint --split R K-dev

    All stages: mindhand eval runs/policy --base runs/nano/checkpoint --language

    Two of them: mindhand eval --compare runs/eval-a runs/eval-b

    With a method round it: mindhand eval runs/policy/checkpoint --wrap flashvla

    Behind a shield: mindhand eval runs/policy/checkpoint --protocol obstacle-course --shield aegis

    Without a policy: mindhand eval expert --protocol metaworld-mt10
    """

    engine: ClassVar[str] = "mindhand.recipes.evaluate:evaluate"
    checkpoint: Annotated[
        Positional[Path | None],
        arg(help="of a policy, or the folder of its training; or: expert, random", metavar="DIR"),
    ] = None
    protocol: Annotated[str, arg(help="name of a protocol")] = "maths-matching"
    split: Annotated[
        tuple[str, ...],
        arg(help="which knowledge: R C K-dev K-test X; R K-dev X unless given; elsewhere levels, or names of tasks"),
    ] = ()
    episodes: Annotated[int | None, arg(help="a split; fewer than the protocol's make a draft, no record")] = None
    language: Annotated[bool, arg(help="also with blank, swapped and paraphrased instructions")] = False
    blind: Annotated[bool, arg(help="also with black pictures")] = False
    thoughts: Annotated[bool, arg(help="also with thoughts given: right, misleading, empty, the last sentence")] = False
    wrap: Annotated[
        tuple[str, ...],
        arg(help="methods that go round the policy, the first innermost; of one that was fitted, NAME=DIR"),
    ] = ()
    shield: Annotated[tuple[str, ...], arg(help="methods that correct every command, in this order: aegis")] = ()
    perturb: Annotated[
        tuple[str, ...], arg(help="also so: an axis (camera), at a level (camera3), several (camera3+light2), all")
    ] = ()
    base: Annotated[
        Path | None, arg(help="the VLM it began with: also what each stage does and still knows", metavar="DIR")
    ] = None
    compare: Annotated[tuple[Path, ...], arg(help="two evaluations instead, or folders of them", metavar="DIR")] = ()
    against: Annotated[
        Path | None, arg(help="another evaluation: stop when surely better, worse or alike", metavar="DIR")
    ] = None
    workers: Annotated[int, arg(help="processes; the result is the same for any number")] = 2
    run: Run = Path("runs/eval")


@dataclass(frozen=True)
class Prove:
    """Run a method's experiment: on and off arms, several trainings, paired scenes, a record.

    Example: mindhand prove chatvla2 --queue --minutes 60
    """

    engine: ClassVar[str] = "mindhand.recipes.prove:prove"
    method: Annotated[Positional[tuple[str, ...]], arg(help="names of methods", metavar="METHOD")] = ()
    list: Annotated[bool, arg(help="the catalogue: name, seams, how far it is proven")] = False
    show: Annotated[bool, arg(help="the methods' cards: idea, claim, use, what was measured")] = False
    queue: Annotated[bool, arg(help="run what is not done yet; resumable, also after a kill")] = False
    minutes: Annotated[float, arg(help="of the queue; what is not finished by then goes on the next time")] = 60.0
    base: Annotated[Path | None, arg(help="the VLM to begin with; nano as shipped unless given", metavar="DIR")] = None
    workers: Annotated[int, arg(help="cells that run side by side, each on one core")] = 2
    run: Run = Path("runs/proofs")


@dataclass(frozen=True)
class Bench:
    """Measure speed on this machine, as ratios within one run.

    Example: mindhand bench prefill
    """

    engine: ClassVar[str] = "mindhand.recipes.bench:bench"
    name: Annotated[Positional[tuple[str, ...]], arg(help="which; all unless given", metavar="NAME")] = ()
    list: Annotated[bool, arg(help="what can be measured")] = False


@dataclass(frozen=True)
class Serve:
    """Serve a policy to a robot over a websocket; on this machine only, unless a token is set.

    Example: mindhand serve runs/policy/checkpoint --port 8000
    """

    engine: ClassVar[str] = "mindhand.recipes.serve:serve"
    checkpoint: Checkpoint
    host: Annotated[str, arg(help="address to listen on; others than loopback need a token")] = "127.0.0.1"
    port: Annotated[int, arg(help="port")] = 8000
    token: Annotated[Path | None, arg(help="file that holds the token clients must send", metavar="FILE")] = None


@dataclass(frozen=True)
class Chat:
    """Ask the mind about a picture: it should still read, count and reason. One picture at a time.

    Example: mindhand chat board.png --ask "what is written on the board?"

    Of your own: mindhand chat runs/policy/checkpoint --image board.png
    """

    engine: ClassVar[str] = "mindhand.recipes.chat:chat"
    checkpoint: Annotated[
        Positional[Path | None],
        arg(help="checkpoint folder, or a picture for the packaged nano", metavar="CHECKPOINT|PICTURE"),
    ] = None
    image: Annotated[Path | None, arg(help="picture; a sampled desk where none is given", metavar="FILE")] = None
    ask: Annotated[str | None, arg(help="one question; a conversation unless given", metavar="TEXT")] = None


@dataclass(frozen=True)
class Studio:
    """A page in the browser: watch a policy think and act, change the board, move the tiles.

    Example: mindhand studio runs/policy/checkpoint
    """

    engine: ClassVar[str] = "mindhand.recipes.studio:studio"
    checkpoint: Annotated[
        Positional[Path | None], arg(help="checkpoint folder; the packaged policy unless given", metavar="CHECKPOINT")
    ] = None
    port: Annotated[int, arg(help="port, on this machine only")] = 8080


@dataclass(frozen=True)
class Data:
    """Record a dataset, look one over, or give it thoughts.

    Example: mindhand data doctor runs/demo/data
    """

    action: (Annotated[DataDoctor, subcommand("doctor")] | Annotated[DataRecord, subcommand("record")]
             | Annotated[DataAnnotate, subcommand("annotate")])  # fmt: skip


VERBS: dict[str, Any] = {
    "demo": Demo,
    "doctor": Doctor,
    "data": Data,
    "pretrain": Pretrain,
    "train": Train,
    "tune": Tune,
    "eval": Eval,
    "prove": Prove,
    "bench": Bench,
    "serve": Serve,
    "chat": Chat,
    "studio": Studio,
}
CONFIG = (tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes, tyro.conf.FlagCreatePairsOff)


def parse(argv: Sequence[str] | None = None) -> Any:
    """The chosen verb with its fields; `argv` is the command line unless given.
    SystemExit 2 with a message on a wrong one, SystemExit 0 after --help."""
    special: Any = Annotated  # a type made at run time, which no checker can follow
    verbs: Any = Union.__getitem__(tuple(special[kind, subcommand(name)] for name, kind in VERBS.items()))
    about = "mindhand: train the hand, keep the mind. Every verb explains itself: mindhand train --help"
    picked = tyro.cli(verbs, prog="mindhand", description=about, args=argv, config=CONFIG)
    return picked.action if isinstance(picked, Data) else picked


def engine(verb: Any) -> Any:
    """The function that does the work of a parsed verb; Refusal where this version does not have it."""
    module, _, function = verb.engine.partition(":")
    try:
        return getattr(importlib.import_module(module), function)
    except ModuleNotFoundError as error:
        if error.name is None or not module.startswith(error.name):
            raise Refusal(
                f"'{error.name}' is not installed, and {module} needs it",
                "an installation with everything `mindhand` depends on",
                "run `mindhand doctor`: it names what is missing and the line that installs it",
            ) from error
        raise Refusal(
            f"`mindhand {spoken(type(verb))}` is not part of this version: there is no {module}",
            f"a verb that works here: {', '.join(working())}",
            "update mindhand; `mindhand doctor` prints the version you have",
        ) from error


ENGINES: dict[str, Any] = {
    **{k: v for k, v in VERBS.items() if v is not Data},
    "data doctor": DataDoctor,
    "data record": DataRecord,
    "data annotate": DataAnnotate,
}


def spoken(kind: type) -> str:
    """How a verb is written: "data record"."""
    return next(name for name, k in ENGINES.items() if k is kind)


def working() -> list[str]:
    """The verbs whose engines this version has."""
    return [name for name, kind in ENGINES.items() if importlib.util.find_spec(kind.engine.partition(":")[0])]


def saved(verb: Any) -> str:
    """What to say of the work that Ctrl-C stopped."""
    folder = getattr(verb, "run", None)
    if folder is None:
        return "stopped; nothing was being written"
    if folder.exists():
        return f"stopped; what was finished lies in {folder}, and the same command continues it"
    return f"stopped before anything was written to {folder}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; returns the exit code."""
    verb: Any = None
    large_pages()
    try:
        verb = parse(argv)
        code = engine(verb)(**{f.name: getattr(verb, f.name) for f in fields(verb)})
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read along has had enough: `| head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the exit would try to write the rest
        return 128 + signal.SIGPIPE
    except Refusal as refusal:
        print(f"mindhand: {refusal}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\nmindhand: {saved(verb)}", file=sys.stderr)
        return 130
    return int(code or 0)


if __name__ == "__main__":
    sys.exit(main())
