"""The command line: calls what does what was asked, and says faults in one line.

Nothing heavy is imported before it is needed: `gasp report` must not wait for torch.
"""

import difflib
import json
import os
import platform
import shutil
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from gasp_rl import __version__
from gasp_rl.commands import (
    Call,
    Command,
    Compare,
    Comparing,
    Demo,
    Doctor,
    Draw,
    Evaluate,
    Export,
    GradeSolution,
    Inspect,
    Mine,
    Mining,
    MiningModels,
    Plan,
    Planning,
    Pretrain,
    Probe,
    Probing,
    Problems,
    Rebuild,
    Replay,
    Report,
    Resume,
    Split,
    Train,
    Training,
    UseSandbox,
    Watch,
    World,
    read,
)
from gasp_rl.config import RunConfig, require
from gasp_rl.errors import ConfigError, EngineError, GaspError, InputError, RunError, SandboxError
from gasp_rl.policy.engine import ELSEWHERE
from gasp_rl.problems.jsonl import complaint, read_rows
from gasp_rl.progress import Observer
from gasp_rl.recipes import ARMS, RECIPES
from gasp_rl.report.text import one_line, visible
from gasp_rl.report.words import duration, plural, summary
from gasp_rl.runs.arms import SUFFIX, ArmResult, read_comparison
from gasp_rl.runs.directory import RunDirectory, open_run, read_config
from gasp_rl.runs.journal import Finished, Journal, JournalWriter, read_journal
from gasp_rl.runs.metrics import read_measurements
from gasp_rl.runs.store import rebuild_store

if TYPE_CHECKING:
    from gasp_rl.evaluate import Attempt


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


def execute(command: Command | Inspect | Split | Draw | Pretrain | Call | GradeSolution) -> None:
    match command:
        case Demo(config, out) | Train(Training(config, out)):
            train(config, out or first_free(Path("runs"), config.recipe))
        case Plan(planning):
            plan(planning)
        case Probe(probing):
            probe(probing)
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


def plan(asked: Planning) -> None:
    """Memory, then time as far as it was measured."""
    from gasp_rl import plan as planning
    from gasp_rl.policy.needs import Resources
    from gasp_rl.policy.planning import memory_plan
    from gasp_rl.report import planned

    config, width = asked.config, shutil.get_terminal_size().columns
    resources = Resources(round(asked.device_memory_gb * 1e9), round(asked.host_memory_gb * 1e9), asked.machines)
    memory = memory_plan(config, resources)
    print(visible(planned.memory_text(config, memory, width)), end="\n\n")
    if asked.rates is None:
        print(planned.unknown_times("runs/rates", width))
        return

    found = planning.measured(asked.rates, config, on_cpu=memory.device == "cpu")
    traffic = planning.traffic_of(config, memory, asked.link_gb_per_second * 1e9, asked.network_gb_per_second * 1e9)
    to = planning.arrangement_of(config, asked.machines, found.work.workers)
    print(visible(planned.times_text(found, traffic, to, asked.devices, width)), end="\n\n")
    print(planned.whole_text(found, planning.amounts_of(config), traffic, to, asked.cost_per_device_hour, width))


def probe(asked: Probing) -> None:
    """Ask phase by phase, write each down, then print what came of it."""
    config = asked.config
    _require_free(asked.out)
    if config.gasp is None:
        raise ConfigError(f"{config.recipe} has no goalposts to ask about")

    from gasp_rl.probe import probe as opened
    from gasp_rl.report.live import LiveView
    from gasp_rl.report.probed import examples, probed

    phases = []
    with (
        LiveView(f"gasp probe {config.recipe}", untrained="") as view,
        opened(config, config.gasp, asked.goalposts, asked.proposals, view) as found,
        _lines(asked.out) as write,
    ):
        for done in found.phases:
            write(done.lines())
            phases.append(done.phase)
    print(visible(probed(found.model, found.prompts, config, config.gasp, found.goalposts, phases)))
    print(visible(examples(phases, asked.show)), end="")
    if asked.out:
        print(f"\nAll that was written: {asked.out}")


def _require_free(file: Path | None) -> None:
    """Before anything is done: a file that is to be written can be, and destroys nothing."""
    if file and (file.exists() or not file.absolute().parent.is_dir()):
        reason = "exists; name a file that does not" if file.exists() else "cannot be written: its folder is missing"
        raise InputError(f"{file} {reason}")


@contextmanager
def _lines(path: Path | None) -> Iterator[Callable[[Iterable[object]], None]]:
    """Writes values, each as a line of JSON."""
    if path is None:
        yield lambda _: None
        return

    with path.open("xb") as file:

        def write(values: Iterable[object]) -> None:
            file.writelines(msgspec.json.encode(value) + b"\n" for value in values)
            file.flush()

        yield write


def evaluate(asked: Evaluate) -> None:
    """Measure, keep, and print."""
    for file in (asked.out, asked.answers):
        _require_free(file)

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
    if (run.model / ELSEWHERE).exists():
        raise RunError(f"the weights of {root} are with a Tinker service: {run.model / ELSEWHERE} says where; fetch them with "
                       "`tinker checkpoint download`")  # fmt: skip
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
