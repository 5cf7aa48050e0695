"""What can be asked on the command line: every command with its arguments, and how they are read.

Nothing heavy is imported: `gasp --help` must not wait for torch.
"""

import difflib
import io
import itertools
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import tyro
from tyro.conf import Positional, arg, subcommand

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
from gasp_rl.errors import ConfigError
from gasp_rl.problems.forms.base import moment
from gasp_rl.problems.split import Windows
from gasp_rl.recipes import RECIPES, azr, demo, filtering, micro, micro_comparison, paper_comparison, rlvr

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


def _one_of(by_recipe: dict[str, Any]) -> Any:
    """A subcommand for each, explained by its recipe."""
    about = {name: _first_sentence(recipe.__doc__) for name, recipe in RECIPES.items()}
    return tyro.extras.subcommand_type_from_defaults(by_recipe, about)


def _first_sentence(text: str | None) -> str:
    return " ".join((text or "").split("\n\n")[0].split())


if TYPE_CHECKING:
    Recipe: TypeAlias = Training
else:
    Recipe = _one_of(_trainings())


@dataclass(frozen=True)
class Train:
    """Train by a recipe; any of its settings can be changed."""

    recipe: Annotated[Recipe, arg(name="")]


@dataclass(frozen=True)
class Planning:
    config: Config
    rates: Annotated[Path | None, arg(metavar="RUN")] = None
    """An earlier run of this recipe, two iterations on one device or as few as it fits: times are reckoned from what it was
    measured to take."""
    device_memory_gb: float = 0.0
    """Of each device that it will run on, 10^9 bytes; by default what is free on this machine's."""
    host_memory_gb: float = 0.0
    """Of each machine, likewise."""
    machines: int = 1
    """That the processes of the engine `ray` are spread over."""
    devices: tuple[int, ...] = (1, 2, 4, 8, 16)
    """How many to compare."""
    link_gb_per_second: float = 0.0
    """That a device receives of others on its machine in messages of a layer's size (bench/link.py measures it); what is sent
    takes no time where it is not told."""
    network_gb_per_second: float = 0.0
    """Between machines, likewise."""
    cost_per_device_hour: float = 0.0

    def __post_init__(self) -> None:
        ours = self.config.engine != "tinker"
        require(
            ours, "engine", "local or ray: what a service needs for the model is its own affair", self.config.engine
        )
        require(self.machines >= 1, "machines", "at least 1", self.machines)
        some = bool(self.devices) and min(self.devices) >= 1
        require(some, "devices", "one or more, each 1 or more", self.devices)
        speeds = ("link_gb_per_second", "network_gb_per_second")
        for name in ("device_memory_gb", "host_memory_gb", *speeds, "cost_per_device_hour"):
            require(getattr(self, name) >= 0, name, "0 or more", getattr(self, name))


def _plannings() -> dict[str, Planning]:
    return {name: Planning(recipe()) for name, recipe in RECIPES.items()}


if TYPE_CHECKING:
    PlannedRecipe: TypeAlias = Planning
else:
    PlannedRecipe = _one_of(_plannings())


@dataclass(frozen=True)
class Plan:
    """Say what a recipe will take before it is run: memory with its arithmetic and, from a short run's rates, time and cost.

    Takes the settings of `gasp train`. Nothing is opened but the model's config.json.
    """

    recipe: Annotated[PlannedRecipe, arg(name="")]


@dataclass(frozen=True)
class Probing:
    config: Config
    goalposts: int = 16
    """Ask about the first so many; 0 = all."""
    proposals: int = 2
    """Of every rung, per goalpost and axis."""
    show: int = 1
    """Replies printed of each outcome."""
    out: Annotated[Path | None, arg(metavar="FILE")] = None
    """Write every prompt, proposal, try and answer to this JSON Lines file."""

    def __post_init__(self) -> None:
        for name, least in (("goalposts", 0), ("proposals", 1), ("show", 0)):
            value = getattr(self, name)
            require(value >= least, name, f"at least {least}", value)


def _probings() -> dict[str, Probing]:
    return {name: Probing(config) for name, recipe in RECIPES.items() if (config := recipe()).gasp}


if TYPE_CHECKING:
    ProbedRecipe: TypeAlias = Probing
else:
    ProbedRecipe = _one_of(_probings())


@dataclass(frozen=True)
class Probe:
    """See what a model makes of its prompts before training: how far its proposals come, and why not further.

    Takes the settings of `gasp train`. Nothing is learned and no run is written.
    """

    recipe: Annotated[ProbedRecipe, arg(name="")]


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
    | Annotated[Plan, subcommand("plan")]
    | Annotated[Probe, subcommand("probe")]
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
