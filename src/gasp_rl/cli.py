"""The command line. Reads what was asked, calls what does it, and says faults in one line.

Nothing heavy is imported before it is needed: `gasp --help` and `gasp report` must not wait for torch.
"""

import difflib
import io
import itertools
import json
import os
import platform
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

import msgspec
import tyro
from tyro.conf import Positional, arg, subcommand

from gasp_rl import __version__
from gasp_rl.config import (
    CompareConfig,
    EndpointConfig,
    EvaluateConfig,
    ModelConfig,
    ReadingConfig,
    RunConfig,
    SamplingConfig,
    SandboxConfig,
    require,
)
from gasp_rl.errors import ConfigError, EngineError, GaspError, InputError, RunError, SandboxError
from gasp_rl.problems.forms.base import moment
from gasp_rl.problems.jsonl import complaint, read_rows
from gasp_rl.problems.split import Windows
from gasp_rl.progress import Observer
from gasp_rl.recipes import (
    ARMS,
    RECIPES,
    azr,
    demo,
    filtering,
    micro,
    micro_comparison,
    paper_comparison,
    rlvr,
)
from gasp_rl.report.text import one_line, visible
from gasp_rl.report.words import duration, plural, summary
from gasp_rl.runs.arms import SUFFIX, ArmResult, read_comparison
from gasp_rl.runs.directory import RunDirectory, open_run, read_config
from gasp_rl.runs.journal import Finished, Journal, JournalWriter, read_journal
from gasp_rl.runs.metrics import read_measurements
from gasp_rl.runs.store import rebuild_store

if TYPE_CHECKING:
    from gasp_rl.evaluate import Attempt

UNNAMED = frozenset({"config", "recipe", "size", "command", "windows", "rows"})
"""Fields whose own fields are flags without a prefix."""

Config: TypeAlias = Annotated[RunConfig, arg(name="")]
"""Settings whose flags carry no prefix: `--gasp.min-programs 32`."""


Rows: TypeAlias = Annotated[ReadingConfig, arg(name="")]


@dataclass(frozen=True)
class Training:
    config: Config
    out: Annotated[Path | None, arg(metavar="DIR")] = None
    """Run directory to create. By default the first free one of runs/RECIPE, runs/RECIPE-2, ..."""


def _trainings() -> dict[str, Training]:
    return {name: Training(recipe()) for name, recipe in RECIPES.items()}


def _first_sentence(text: str | None) -> str:
    return " ".join((text or "").split("\n\n")[0].split())


if TYPE_CHECKING:
    Recipe: TypeAlias = Training
else:
    Recipe = tyro.extras.subcommand_type_from_defaults(
        _trainings(), {name: _first_sentence(recipe.__doc__) for name, recipe in RECIPES.items()}
    )


@dataclass(frozen=True)
class Train:
    """Train by a recipe; any of its settings can be changed."""

    recipe: Annotated[Recipe, arg(name="")]


@dataclass(frozen=True)
class Demo:
    """See guided self-play happen: embedded model and problems, a few minutes on two CPU cores, ends with a report."""

    config: Config = field(default_factory=demo)
    out: Annotated[Path | None, arg(metavar="DIR")] = None
    """Run directory to create. By default the first free one of runs/demo, runs/demo-2, ..."""


@dataclass(frozen=True)
class Mining:
    candidates: Positional[Path]
    """A problem file."""
    out: Annotated[Path, arg(metavar="DIR")]
    """A directory for the goalposts, the evidence, and one run per filter. If it holds an interrupted search, that goes on."""
    rlvr: RunConfig
    """The runs of the first and the third filter."""
    azr: RunConfig
    """The run of the second filter."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """One run of the first filter each."""
    quick: bool = False
    """Only ask the untrained model."""


@dataclass(frozen=True)
class MiningModels:
    """With any models: each is asked what those before it never solved."""

    candidates: Positional[Path]
    """A problem file."""
    out: Annotated[Path, arg(metavar="DIR")]
    """A directory for the goalposts and the evidence. If it holds an interrupted search, that goes on."""
    models: Annotated[tuple[str, ...], arg(metavar="MODEL...")]
    """Runs, checkpoints, directories, GGUF files, hub names, endpoints; `micro` is the embedded model."""
    samples: int = 100
    """Draws per problem and model, at most: a problem that is solved is asked no more."""
    seed: int = 0
    max_candidates: int = 0
    """Use the first so many; 0 = all."""
    rows: Rows = field(default_factory=ReadingConfig)
    model: ModelConfig = field(default_factory=lambda: ModelConfig(prompts="auto"))
    """How each of them is opened and asked; its path is not used."""
    sampling: SamplingConfig = field(
        default_factory=lambda: SamplingConfig(temperature=EvaluateConfig().temperature, max_tokens=2048)
    )
    endpoint: EndpointConfig = field(default_factory=EndpointConfig)
    sandbox: SandboxConfig = field(default_factory=SandboxConfig)

    def __post_init__(self) -> None:
        require(self.samples >= 1, "samples", "at least 1", self.samples)
        require(self.max_candidates >= 0, "max_candidates", "0 or more", self.max_candidates)
        hot = self.sampling.temperature > 0 or self.samples == 1
        require(hot, "samples", "1 at temperature 0, where all draws are the same", self.samples)


if TYPE_CHECKING:
    Size: TypeAlias = Mining | MiningModels
else:
    _unset = {"candidates": tyro.MISSING, "out": tyro.MISSING}
    Size = Annotated[MiningModels, subcommand("models")] | tyro.extras.subcommand_type_from_defaults(
        {
            "micro": Mining(**_unset, rlvr=filtering(micro(rlvr())), azr=filtering(micro(azr()))),
            "paper": Mining(**_unset, rlvr=rlvr(), azr=filtering(azr())),
        },
        {
            "micro": "With the embedded model, by the paper's three filters.",
            "paper": "By the paper's three filters at its size: a 7B model.",
        },
    )


@dataclass(frozen=True)
class Mine:
    """Find goalposts: the problems of a file that no model ever solves. Can be interrupted, and goes on."""

    size: Annotated[Size, arg(name="")]


@dataclass(frozen=True)
class Comparing:
    arms: Positional[tuple[str, ...]]
    """Recipes, such as: gasp azr rlvr random-reward untrained."""
    out: Annotated[Path, arg(metavar="DIR")]
    """A directory for the results, one small file per arm and seed, and for the runs. What is finished there is not run
    again; files from several machines can be put together in one."""
    config: Annotated[CompareConfig, arg(name="")]
    prefix: Annotated[str, tyro.conf.Suppress] = ""
    """Of the recipes' names at this size."""


if TYPE_CHECKING:
    ComparingSize: TypeAlias = Comparing
else:
    _unset = {"arms": tyro.MISSING, "out": tyro.MISSING}
    ComparingSize = tyro.extras.subcommand_type_from_defaults(
        {
            "micro": Comparing(**_unset, config=micro_comparison(), prefix="micro-"),
            "paper": Comparing(**_unset, config=paper_comparison()),
        },
        {"micro": "In the embedded world, with the embedded model.", "paper": "At the paper's size: a 7B model."},
    )


@dataclass(frozen=True)
class Compare:
    """Train several recipes to an equal budget, over seeds, and say what the difference is. Can be interrupted, and goes on."""

    size: Annotated[ComparingSize, arg(name="")]


@dataclass(frozen=True)
class Pretrain:
    """Make the embedded model again: pretrain it from nothing on the embedded world."""

    out: Positional[Path]
    """A directory for the model."""
    seed: int = 0
    tokens: int = 8_000_000
    """Prompt and completion tokens in all, seen once."""
    device: Literal["cpu", "cuda"] = "cpu"


@dataclass(frozen=True)
class Draw:
    """Draw the embedded world's problems again."""

    out: Positional[Path]
    """An existing directory for its four files."""


@dataclass(frozen=True)
class World:
    """How the embedded world was made, to make it again."""

    command: Annotated[Annotated[Draw, subcommand("draw")] | Annotated[Pretrain, subcommand("pretrain")], arg(name="")]


@dataclass(frozen=True)
class Evaluate:
    """Measure pass@k of a model on problems, with intervals; every solve is confirmed in a fresh sandbox."""

    problems: Positional[str]
    """A problem file, or `micro` for the embedded world."""
    split: Literal["train", "validation", "test", "goalposts"] = "test"
    """Which problems of the embedded world."""
    samples: int = 100
    """Draws per problem: pass@k is given for every k of 1, 5, 10, 20, 100 up to it. 0: only the greedy answer."""
    greedy: bool = False
    """Ask for the most likely answer too, in a run of its own at temperature 0."""
    since: str = ""
    """Only problems of this date (YYYY-MM-DD) or later."""
    until: str = ""
    """Only problems before this date."""
    edges: tuple[str, ...] = ()
    """Dates at which windows begin, to break the numbers down by them instead of by month."""
    seed: int = 0
    rows: Rows = field(default_factory=ReadingConfig)
    out: Annotated[Path | None, arg(metavar="FILE")] = None
    """Write the results to this JSON file, with everything needed to take them again. `gasp report FILE` shows it."""
    answers: Annotated[Path | None, arg(metavar="FILE")] = None
    """Write every answer and how it was judged to this JSON Lines file."""
    model: ModelConfig = field(default_factory=lambda: ModelConfig(prompts="auto"))
    sampling: SamplingConfig = field(
        default_factory=lambda: SamplingConfig(temperature=EvaluateConfig().temperature, max_tokens=2048)
    )
    endpoint: EndpointConfig = field(default_factory=EndpointConfig)
    sandbox: SandboxConfig = field(default_factory=SandboxConfig)

    def __post_init__(self) -> None:
        least = 0 if self.greedy else 1
        require(self.samples >= least, "samples", "at least 1, or 0 with --greedy", self.samples)
        same = self.sampling.temperature > 0 or self.samples <= 1
        require(same, "samples", "1 at temperature 0, where all draws are the same", self.samples)
        for name, dates in (("since", [self.since]), ("until", [self.until]), ("edges", self.edges)):
            read = all(moment(date) for date in dates if date)
            require(read, name, "a date like 2024-08-01", " ".join(dates))
        require(list(self.edges) == sorted(set(self.edges)), "edges", "dates in order", self.edges)


@dataclass(frozen=True)
class Resume:
    """Go on with a run that ended early."""

    run: Positional[Annotated[Path, arg(metavar="RUN")]]
    """A run directory."""
    allow_changes: bool = False
    """Go on even though settings (config.json), problems or this package are not what they were; the journal says so."""


@dataclass(frozen=True)
class Replay:
    """Make recorded iterations again without the model: read, execute, judge and reward everything anew, and compare."""

    run: Positional[Annotated[Path, arg(metavar="RUN")]]
    """A run directory."""
    step: int | None = None
    """Only this iteration."""
    show: int = 10
    """Differences printed of each iteration."""


@dataclass(frozen=True)
class Report:
    """Write the report of a run or a comparison, one self-contained HTML file, and say what happened in words."""

    run: Positional[Path]
    """A run directory, finished or not; a folder of finished arms of a comparison; or a file written by `gasp evaluate
    --out`, which is shown in words only."""


@dataclass(frozen=True)
class Watch:
    """See a run, or the runs of a folder, in a browser while they go on: the report, kept up to date. Changes nothing."""

    run: Positional[Annotated[Path, arg(metavar="RUN|FOLDER")]]
    """A run directory, or a folder in which there are some, or will be."""
    port: int = 8417
    """Of 127.0.0.1, which only this machine can reach; another one if it is taken. From elsewhere, by SSH:
    ssh -L 8417:127.0.0.1:8417 HOST, then open the printed address there."""

    def __post_init__(self) -> None:
        require(0 <= self.port < 65536, "port", "from 0 to 65535", self.port)


@dataclass(frozen=True)
class Rebuild:
    """Make a run's curriculum store and report again from its journal, and say what was there."""

    run: Positional[Annotated[Path, arg(metavar="RUN")]]
    """A run directory that no run is being written to."""


@dataclass(frozen=True)
class Export:
    """Copy a run's trained model, a Hugging Face directory, to where you want it."""

    run: Positional[Path]
    to: Positional[Path]
    """A directory that does not exist yet."""


@dataclass(frozen=True)
class Inspect:
    """Read a problem file and say what is in it, of which form, and what was left out and why."""

    file: Positional[Path]
    """A problem file of any form that docs/problems.md lists."""
    json: bool = False
    """Print one JSON object instead: {"format", "problems", "usable", "excluded", "malformed", "first_malformed", ...}."""
    rows: Rows = field(default_factory=ReadingConfig)


@dataclass(frozen=True)
class Split:
    """Cut problem files into train, validation and test, by the paper's dates or others, or at random.

    Says how many problems fall where. Without --out nothing is written.
    """

    files: Positional[tuple[Path, ...]]
    """Problem files, cut as if they were one."""
    out: Annotated[Path | None, arg(metavar="DIR")] = None
    """Where to write train.jsonl, validation.jsonl and test.jsonl."""
    windows: Annotated[Windows, arg(name="")] = field(default_factory=Windows)
    share: float | None = None
    """At random instead: about this share becomes validation, the rest train."""
    seed: int = 0
    json: bool = False
    """Print one JSON object instead: {"train", "validation", "test", "later", "undated", "published", ...}."""
    rows: Rows = field(default_factory=ReadingConfig)

    def __post_init__(self) -> None:
        require(len(self.files) > 0, "files", "one or more", self.files)
        require(self.share is None or 0.0 <= self.share <= 1.0, "share", "between 0 and 1", self.share)


@dataclass(frozen=True)
class Problems:
    """Look at problem files, and cut them."""

    command: Annotated[Annotated[Inspect, subcommand("inspect")] | Annotated[Split, subcommand("split")], arg(name="")]


@dataclass(frozen=True)
class Call:
    """Run a program on inputs in the sandbox and say what each gave."""

    program: Positional[Path]
    """Python source that defines a function, or a class Solution with a method."""
    inputs: Path
    """A JSON file: a list with one list of arguments per call."""
    entry: str = "f"
    """The function. Empty: the program reads standard input, and each input is a string."""
    json: bool = False
    """Print one JSON object instead: {"verdict", "outputs": [{"value", "verdict", "detail"}], "level", ...}."""
    sandbox: SandboxConfig = field(default_factory=SandboxConfig)


@dataclass(frozen=True)
class GradeSolution:
    """Run a program on all tests of a problem and say which it passes."""

    problems: Positional[Path]
    """A problem file."""
    solution: Positional[Path]
    """Python source."""
    id: str = ""
    """Which problem of the file, where it holds several."""
    json: bool = False
    """Print one JSON object instead: {"verdict", "passed", "total", "tests": [{"verdict", "detail"}], "level", ...}."""
    sandbox: SandboxConfig = field(default_factory=SandboxConfig)


@dataclass(frozen=True)
class UseSandbox:
    """Run and grade single programs in the sandbox, from scripts."""

    command: Annotated[
        Annotated[Call, subcommand("call")] | Annotated[GradeSolution, subcommand("grade")], arg(name="")
    ]


@dataclass(frozen=True)
class Doctor:
    """Say what this machine can do, and what the sandbox can enforce here."""


Command: TypeAlias = (
    Annotated[Demo, subcommand("demo")]
    | Annotated[Train, subcommand("train")]
    | Annotated[Evaluate, subcommand("evaluate")]
    | Annotated[Mine, subcommand("mine")]
    | Annotated[Compare, subcommand("compare")]
    | Annotated[Resume, subcommand("resume")]
    | Annotated[Replay, subcommand("replay")]
    | Annotated[Report, subcommand("report")]
    | Annotated[Watch, subcommand("watch")]
    | Annotated[Rebuild, subcommand("rebuild")]
    | Annotated[Export, subcommand("export")]
    | Annotated[Problems, subcommand("problems")]
    | Annotated[World, subcommand("world")]
    | Annotated[UseSandbox, subcommand("sandbox")]
    | Annotated[Doctor, subcommand("doctor")]
)


def main(args: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 0, 2 for a fault with one line on stderr, 130 after Ctrl-C or SIGTERM."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a cluster's way of pressing Ctrl-C
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads starve the sandboxes beside the model
    try:
        execute(read(sys.argv[1:] if args is None else args))
    except GaspError as fault:
        print(f"gasp: {fault}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as interrupt:
        print(f"gasp: interrupted{interrupt}", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as fault:  # a full disk, a folder that may not be written: the system says which
        print(f"gasp: {fault}", file=sys.stderr)
        return 2
    return 0


def read(args: Sequence[str]) -> Command:
    """The command that was asked for. A flag that does not exist is refused with the nearest that does."""
    complaint = io.StringIO()
    try:
        with redirect_stderr(complaint):
            command, unknown = tyro.cli(
                Command,
                prog="gasp",
                description="Guided asymmetric self-play: teach a code model the problems it never solves.",
                args=args,
                config=(tyro.conf.AvoidSubcommands, tyro.conf.EnumChoicesFromValues),
                return_unknown_args=True,
            )
    except SystemExit as leaving:
        if not leaving.code:  # --help
            raise
        match args:
            case ["train", str(name), *_] if name not in RECIPES and not name.startswith("-"):
                raise ConfigError(_unknown_recipe(name)) from None
        raise ConfigError(f"{_first_paragraph(complaint.getvalue())}; got: gasp {' '.join(args)}".rstrip()) from None
    if unknown:
        if not unknown[0].startswith("--"):
            raise ConfigError(f"one argument too many: {unknown[0]}")
        given = unknown[0].removeprefix("--").replace("_", "-").split("=")[0]
        close = difflib.get_close_matches(given, list(_flags(command)), n=1)
        if given in close:
            raise ConfigError(f"{unknown[0]} stands before the recipe; put it behind")
        raise ConfigError(f"unknown option {unknown[0]}" + (f"; did you mean --{close[0]}?" if close else ""))
    return command


def _unknown_recipe(name: str) -> str:
    close = difflib.get_close_matches(name, RECIPES, n=1)
    return f"unknown recipe {name}; " + (f"did you mean {close[0]}?" if close else "see gasp train --help")


def _first_paragraph(box: str) -> str:
    """What tyro's box of several lines says, without the help that it adds: indented further, or below a rule."""
    lines = [line.removeprefix("│ ").removesuffix("│").rstrip() for line in box.splitlines()[1:]]
    said = itertools.takewhile(lambda line: line.strip("─╰╯ "), lines)
    return " ".join(line.strip() for line in said if not line.startswith(" " * 8)).removesuffix(".")


def _flags(value: object, prefix: str = "") -> Iterator[str]:
    """Every flag that sets a field of this command, without its dashes."""
    if isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from _flags(item, f"{prefix}{index}.")
    elif is_dataclass(value):
        for one in fields(value):
            inner = getattr(value, one.name)
            if one.name in UNNAMED and is_dataclass(inner):
                yield from _flags(inner, prefix)
            elif is_dataclass(inner) or (isinstance(inner, tuple) and inner and is_dataclass(inner[0])):
                yield from _flags(inner, f"{prefix}{one.name.replace('_', '-')}.")
            else:
                yield f"{prefix}{one.name.replace('_', '-')}"


def execute(command: Command | Inspect | Split | Draw | Pretrain | Call | GradeSolution) -> None:
    match command:
        case Demo(config, out) | Train(Training(config, out)):
            train(config, out or first_free(Path("runs"), config.recipe))
        case Evaluate():
            evaluate(command)
        case Mine(size):
            mine(size)
        case Compare(size):
            compare(size)
        case Resume(run, allow_changes):
            resume(run, allow_changes=allow_changes)
        case Replay():
            replay(command)
        case Report(run):
            report(run)
        case Watch(root, port):
            watch(root, port)
        case Rebuild(run):
            rebuild(run)
        case Export(run, to):
            export(run, to)
        case Problems(inner) | World(inner) | UseSandbox(inner):
            execute(inner)
        case Inspect():
            inspect(command)
        case Split():
            split(command)
        case Draw(out):
            draw(out)
        case Pretrain():
            pretrain(command)
        case Call():
            call(command)
        case GradeSolution():
            grade(command)
        case Doctor():
            doctor()


def first_free(parent: Path, name: str) -> Path:
    """`name`, or the first of `name-2`, `name-3`, ... that does not exist."""
    path, n = parent / name, 1
    while path.exists():
        n += 1
        path = parent / f"{name}-{n}"
    return path


def train(config: RunConfig, out: Path) -> None:
    """Train with a live view, then say what happened and where the report is."""
    run = RunDirectory(out)
    if run.config.exists():
        raise RunError(f"{out} holds a run already; give another --out, or see it with: gasp report {out}")
    print(f"{config.recipe}: {plural(config.steps, 'iteration')} into {out}")

    from gasp_rl.build import run_recipe

    _watch(config.recipe, run, lambda observer: run_recipe(config, out, observer))


def resume(root: Path, *, allow_changes: bool) -> None:
    """Go on with a run, watched as it was from the start."""
    run = open_run(root)

    from gasp_rl.build import resume_run

    _watch(
        read_config(run.config).recipe, run, lambda observer: resume_run(root, observer, allow_changes=allow_changes)
    )


def replay(asked: Replay) -> None:
    """One line for each iteration, and those that differ leave a fault behind."""
    from gasp_rl.replay import replay as replayed

    done, differing = 0, []
    for one in replayed(asked.run, asked.step):
        done += 1
        if one.differences:
            differing.append(one.recorded.step)
        counts = [
            plural(sum(len(values) for values in per_phase), noun)
            for per_phase, noun in (
                ([phase.proposals for phase in one.recorded.phases], "proposal"),
                ([phase.tries + phase.answers for phase in one.recorded.phases], "answer"),
            )
        ]
        outcome = plural(len(one.differences), "difference") if one.differences else "as recorded"
        unknown = f", {plural(one.unknown, 'prompt')} unknown to the journal" if one.unknown else ""
        print(f"iteration {one.recorded.step:<4} {', '.join(counts)}: {outcome}{unknown}", flush=True)
        for difference in one.differences[: asked.show]:
            then, now = (one_line(str(value), 60) for value in (difference.before, difference.after))
            print(f"    {difference.place}: {then} -> {now}")
        if (more := len(one.differences) - asked.show) > 0:
            print(f"    and {more:,} more")
    if differing:
        raise RunError(
            f"{len(differing)} of {plural(done, 'iteration')} came out differently, the first is {differing[0]}"
        )
    print(f"{plural(done, 'iteration')} came out bit for bit as recorded")


def _watch(recipe: str, run: RunDirectory, go: Callable[[Observer], object]) -> None:
    from gasp_rl.report.live import LiveView

    try:
        with LiveView(f"gasp {recipe}") as view:
            go(view)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(_kept(run)) from None
    except ConfigError:  # before anything was done
        raise
    except GaspError as fault:
        raise type(fault)(f"{fault}{_kept(run)}") from fault
    print()
    _conclude(run, read_journal(run.journal))


def evaluate(asked: Evaluate) -> None:
    """Measure, keep, and print."""
    for file in (asked.out, asked.answers):
        if file and (file.exists() or not file.absolute().parent.is_dir()):
            reason = (
                "exists; name a file that does not" if file.exists() else "cannot be written: its folder is missing"
            )
            raise InputError(f"{file} {reason}")

    from gasp_rl.measure import Question, measure
    from gasp_rl.report.live import LiveView
    from gasp_rl.report.measured import measured
    from gasp_rl.runs.results import write_results

    question = Question(
        asked.problems, asked.split, asked.since, asked.until, asked.edges, asked.samples, asked.greedy, asked.seed,
        asked.sampling, asked.rows,
    )  # fmt: skip
    with LiveView(f"gasp evaluate {asked.problems}", untrained="") as view, _witness(asked.answers) as witness:
        results = measure(question, asked.model, asked.endpoint, asked.sandbox, view, witness)
    if asked.out:
        write_results(asked.out, results)
    print(visible(measured(results)))
    if asked.out:
        print(f"\nResults: {asked.out}")


@contextmanager
def _witness(path: Path | None) -> Iterator[Callable[[str, "Attempt"], None]]:
    """Writes down every answer as it is judged."""
    if path is None:
        yield lambda *_: None
        return

    with path.open("x", encoding="ascii") as file:  # escaped, so that whatever a model wrote can be held

        def write(run: str, attempt: "Attempt") -> None:
            file.write(json.dumps({"run": run} | asdict(attempt)) + "\n")

        yield write


def mine(asked: Mining | MiningModels) -> None:
    """Ask filter after filter; each leaves fewer candidates."""
    from gasp_rl import mine as mining
    from gasp_rl.report.live import LiveView
    from gasp_rl.runs.evidence import Asking

    if isinstance(asked, Mining):
        filters = mining.paper_filters(asked.rlvr, asked.azr, asked.seeds, quick=asked.quick)
        problems = asked.rlvr.problems
        search = mining.Search(
            asked.candidates, filters, asked.seeds[0], problems.max_goalposts, problems.reading, asked.rlvr.sandbox
        )
    else:
        draws = Asking(asked.samples, asked.sampling.temperature, asked.sampling.max_tokens)
        filters = mining.model_filters(asked.models, asked.model, draws)
        search = mining.Search(
            asked.candidates, filters, asked.seed, asked.max_candidates, asked.rows, asked.sandbox, asked.endpoint
        )
    try:
        with LiveView(f"gasp mine {asked.candidates.name}", untrained="") as view:
            mined = mining.mine(search, asked.out, view)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"; {asked.out} keeps what was found, the same command goes on") from None
    except (EngineError, SandboxError) as fault:
        raise type(fault)(f"{fault}; {asked.out} keeps what was found, the same command goes on") from fault
    print(mining.in_words(mined))
    print(f"Goalposts: {asked.out / 'goalposts.jsonl'}\nEvidence: {asked.out / 'findings.json'}")


def compare(asked: Comparing) -> None:
    """One line for each run that is over, then the comparison."""
    for name in asked.arms:
        if name not in ARMS:
            close = difflib.get_close_matches(name, ARMS, n=1)
            known = f"did you mean {close[0]}?" if close else f"there are {', '.join(ARMS)}"
            raise ConfigError(f"unknown arm {name}; {known}")
    require(0 < len(asked.arms) == len(set(asked.arms)), "arms", "one or more, all different", " ".join(asked.arms))

    from gasp_rl import compare as comparing
    from gasp_rl.report.live import LiveView

    def view(standing: comparing.Standing) -> LiveView:
        left = "" if standing.seconds_left is None else f", about {duration(standing.seconds_left)} left for all"
        title = f"run {standing.done + 1} of {standing.of}: {standing.cell.arm.name}, seed {standing.cell.seed}{left}"
        print(title, flush=True)
        return LiveView(title)

    def tell(result: ArmResult) -> None:
        print(
            f"{result.arm}, seed {result.seed}: {plural(result.iterations, 'iteration')} in {duration(result.seconds)}\n"
        )

    recipes = {name: RECIPES[f"{asked.prefix}{name}"]() for name in asked.arms}
    try:
        comparing.compare(comparing.arms(recipes, asked.config), asked.config, asked.out, view, tell)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"; {asked.out} keeps what was done, the same command goes on") from None
    except (EngineError, SandboxError) as fault:
        raise type(fault)(f"{fault}; {asked.out} keeps what was done, the same command goes on") from fault
    _report_comparison(asked.out)


def draw(out: Path) -> None:
    from gasp_rl.problems.microcode import splits

    splits.main(out)


def pretrain(asked: Pretrain) -> None:
    from gasp_rl.world import pretrain as world

    world.pretrain(asked.out, world.PretrainConfig(seed=asked.seed, tokens=asked.tokens), asked.device)


def _kept(run: RunDirectory) -> str:
    """What an unfinished run leaves behind, to end the line that says why it is unfinished."""
    if not run.journal.exists():
        return ""
    done = plural(len(read_journal(run.journal).iterations), "iteration")
    return f"; {done} kept in {run.root}: gasp report {run.root} shows them, gasp resume {run.root} goes on"


def report(root: Path) -> None:
    if root.is_file():
        from gasp_rl.report.measured import measured
        from gasp_rl.runs.results import read_results

        print(visible(measured(read_results(root))))
        return

    if any(root.glob(f"*{SUFFIX}")):
        _report_comparison(root)
        return

    run = open_run(root)
    journal = read_journal(run.journal) if run.journal.exists() else Journal()
    _conclude(run, journal)
    if not isinstance(journal.ending, Finished):
        print(f"To go on, if nothing does: gasp resume {root}")


def _report_comparison(folder: Path) -> None:
    from gasp_rl.report.comparison import findings
    from gasp_rl.report.comparison_page import write_comparison
    from gasp_rl.report.comparison_words import comparison_text

    found = findings(read_comparison(folder))
    page = write_comparison(folder, found)
    print(visible(comparison_text(found)))
    print(f"\nReport: {page}")


def watch(root: Path, port: int) -> None:
    """Serve until Ctrl-C."""
    try:
        from gasp_rl.report.watch import serve
    except ModuleNotFoundError as missing:
        raise InputError(f"gasp watch needs {missing.name}: pip install 'gasp-rl[watch]'") from missing

    def announce(url: str) -> None:
        print(f"Watching {root}; Ctrl-C ends it, and no run with it. Open\n\n    {url}\n", flush=True)

    os.nice(10)  # a run on this machine goes first
    serve(root, _recipe_of, port, announce)


def rebuild(root: Path) -> None:
    from gasp_rl.report.write import write_report

    run = open_run(root)
    if not run.journal.exists():
        raise RunError(f"{root} has no journal yet, so there is nothing to make again")
    with JournalWriter(run.journal) as journal:
        for note in journal.journal.notes:
            print(f"{run.journal}: {note}")
        made = rebuild_store(run.store, journal)
    page = write_report(run, _recipe_of(journal.journal))
    print(f"Store:  {run.store}, from {plural(made.records, 'record')} of the journal; before, {made.found}")
    for what in (
        f"{plural(made.goalposts, 'goalpost')}, {plural(made.proposals, 'proposal')}, {made.accepted:,} of them accepted",
        f"tried {made.tries:,} times by the student; {plural(made.answers, 'answer')} in practice",
        plural(made.evaluations, "evaluation"),
    ):
        print(f"        {what}")
    print(f"Report: {page}")


def _conclude(run: RunDirectory, journal: Journal) -> None:
    """The last thing that a command about a run says."""
    from rich.console import Console

    from gasp_rl.report.write import write_report

    words = summary(journal, read_measurements(run.metrics))
    Console(soft_wrap=not sys.stdout.isatty()).print(visible(words), markup=False, highlight=False)
    print(f"\nReport: {write_report(run, _recipe_of(journal))}")


def _recipe_of(journal: Journal) -> RunConfig | None:
    """The settings of a run's recipe, as this version has them."""
    recipe = RECIPES.get(journal.started.config.recipe) if journal.started else None
    return recipe() if recipe else None


def export(root: Path, to: Path) -> None:
    run = open_run(root)
    if not run.model.is_dir():
        raise RunError(f"{root} has no trained model yet: it is written when a run finishes")
    if to.exists():
        raise RunError(f"{to} exists; name a directory that does not")
    shutil.copytree(run.model, to)
    print(f"{to} can be loaded with transformers.AutoModelForCausalLM.from_pretrained")


def inspect(asked: Inspect) -> None:
    """Count what is there, and name what is not used and why. The first malformed row is a fault unless they are skipped."""
    from gasp_rl.problems.inspection import in_words, inspect

    found = inspect(read_rows(asked.file, errata=asked.rows.errata))
    print(msgspec.json.encode(found).decode() if asked.json else visible(in_words(asked.file, found)))
    if found.first_malformed and not asked.rows.skip_malformed:
        raise complaint(asked.file, found.first_malformed)


def split(asked: Split) -> None:
    from gasp_rl.problems import split as parts

    part_of = parts.by_date(asked.windows) if asked.share is None else parts.at_random(asked.share, asked.seed)
    found = parts.cut(asked.files, part_of, asked.rows, asked.out)
    windows = asked.windows if asked.share is None else None
    print(parts.to_json(found, windows) if asked.json else visible(parts.in_words(found, windows, asked.out)))


def call(asked: Call) -> None:
    from gasp_rl import once

    called = once.call(
        once.read_source(asked.program), once.read_inputs(asked.inputs, asked.entry), asked.entry, asked.sandbox
    )
    print(once.to_json(called) if asked.json else visible(once.in_words(called)))


def grade(asked: GradeSolution) -> None:
    from gasp_rl import once

    graded = once.grade(once.find_problem(asked.problems, asked.id), once.read_source(asked.solution), asked.sandbox)
    print(once.to_json(graded) if asked.json else visible(once.in_words(graded)))


def doctor() -> None:
    from gasp_rl.sandbox.isolation import describe

    print(f"python   {platform.python_version()} on {platform.system()} {platform.release()}, {platform.machine()}")
    print(f"gasp-rl  {__version__}")
    for package in ("torch", "transformers"):
        print(f"{package:<8} {_version(package)}")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    print(f"cores    {len(os.sched_getaffinity(0))} usable of {os.cpu_count()}, {memory:.0f} GiB of memory")
    print("sandbox  " + describe().replace("\n", "\n         "))


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


if __name__ == "__main__":
    sys.exit(main())
