"""The filters: what is solved anywhere is out, what is left is given on, and an interrupted search goes on."""

import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gasp_rl.build import Examine
from gasp_rl.config import (
    AzrConfig,
    EndpointConfig,
    EvaluateConfig,
    ModelConfig,
    ReadingConfig,
    RlvrConfig,
    RunConfig,
    SandboxConfig,
)
from gasp_rl.errors import ConfigError, ProblemFileError, RunError
from gasp_rl.mine import Fate, Finding, Mined, Search, in_words, mine, model_filters, paper_filters, rounds
from gasp_rl.policy.policy import EnginePolicy
from gasp_rl.policy.scripted import ScriptedEngine
from gasp_rl.problem import Problem, TestCase
from gasp_rl.problems.jsonl import read_problems, write_problems
from gasp_rl.progress import Observer, Silent
from gasp_rl.runs.evidence import Asking, Certificate, Drawn, EvidenceLog, read_evidence
from gasp_rl.runs.results import ModelFacts
from gasp_rl.sandbox.base import Execution, Job, Result, Sandbox, Status
from gasp_rl.sandbox.scripted import ScriptedSandbox
from gasp_rl.selfplay.prompts.micro import MICRO
from gasp_rl.subject import Subject

EVALUATE = EvaluateConfig(every=5, samples=6, ks=(1, 4))
RLVR = RunConfig(recipe="rlvr", steps=10, rlvr=RlvrConfig(), evaluate=EVALUATE)
AZR = RunConfig(recipe="azr", steps=10, azr=AzrConfig(), evaluate=EVALUATE)


def program(word: str) -> str:
    return f"def f(x):\n    return {word}"


def sandboxes(_: SandboxConfig) -> Sandbox:
    """`right` programs are right; `flaky` ones only where all tests share a process, which the second look does not do."""

    def execute(job: Job) -> Execution:
        if "down" in job.source:
            return Execution(Status.INFRA, (), "no worker")
        right = "right" in job.source or ("flaky" in job.source and not job.alone)
        values = [text.strip("[]") if right else "0" for text in job.inputs]
        return Execution(Status.OK, tuple(Result(Status.OK, value) for value in values))

    return ScriptedSandbox(execute)


class StoppedError(Exception):
    """The machine went down."""


@dataclass
class World:
    """Models that solve by name: at `where`, from sample `solves[where][problem]` of a round on, they are right."""

    solves: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    writes: Mapping[str, str] = field(default_factory=dict)
    """What is written for a problem instead of a wrong program."""
    weights: str = "w"
    stop_after: int = 1 << 30
    asked: list[tuple[str, str, int]] = field(default_factory=list)
    """Where, problem, seed: one per round."""
    configs: dict[str, RunConfig] = field(default_factory=dict)

    def subject(self, where: str, path: str, step: int) -> Subject:
        def reply(prompt: str, sample: int, seed: int) -> str:
            problem = prompt.split("\n")[1]
            if sample == 0:
                if len(self.asked) == self.stop_after:
                    raise StoppedError
                self.asked.append((where, problem, seed))
            first = self.solves.get(where, {}).get(problem)
            if first is not None and sample >= first:
                return program("right")
            return self.writes.get(problem, program("wrong"))

        facts = ModelFacts(path, path, f"{self.weights} of {path} at {where}, {step}", "float32", step)
        return Subject(EnginePolicy(ScriptedEngine(reply, context=200)), MICRO, facts)

    @contextmanager
    def open_model(self, config: ModelConfig, endpoint: EndpointConfig, observer: Observer) -> Iterator[Subject]:
        yield self.subject(config.path, config.path, 0)

    def run_recipe(self, config: RunConfig, out: Path, observer: Observer, examine: Examine) -> None:
        where = out.parent.name
        self.configs[where] = config
        for step in (5, 10):
            examine(self.subject(where, where, step))

    def given(self, where: str) -> str:
        return "".join(dict.fromkeys(problem for at, problem, _ in self.asked if at == where))


class Notes(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def candidates(tmp_path: Path) -> Path:
    path = tmp_path / "candidates.jsonl"
    write_problems(path, [Problem(name, name, (TestCase("1", "1"),), (TestCase("2", "2"),), reference=program("right"))
                          for name in "abcdef"])  # fmt: skip
    return path


def searched(search: Search, world: World, out: Path, observer: Observer | None = None) -> Mined:
    return mine(
        search, out, observer or Silent(), run_recipe=world.run_recipe, open_model=world.open_model, sandboxes=sandboxes,
        clock=lambda: 0.0,
    )  # fmt: skip


def by_paper(candidates: Path, world: World, *, quick: bool = False) -> Mined:
    search = Search(candidates, paper_filters(RLVR, AZR, (0, 1), quick=quick))
    return searched(search, world, candidates.parent / "out")


def by_models(candidates: Path, world: World, *models: str, samples: int = 6) -> Mined:
    search = Search(candidates, model_filters(models, ModelConfig(), Asking(samples, 0.6, 99)))
    return searched(search, world, candidates.parent / "out")


FALLEN = {"1-rlvr-seed0": {"a": 0}, "1-rlvr-seed1": {"b": 0}, "2-azr": {"c": 0}, "3-rlvr-on-the-rest": {"d": 0}}


def test_one_solve_anywhere_is_out_and_what_is_left_is_given_on(candidates: Path) -> None:
    world = World(FALLEN)

    found = by_paper(candidates, world)

    assert [problem.id for problem in found.goalposts] == ["e", "f"]
    assert {where: world.given(where) for where in ("micro", *FALLEN)} == {
        "micro": "abcdef",
        "1-rlvr-seed0": "abcdef",
        "1-rlvr-seed1": "bcdef",
        "2-azr": "cdef",
        "3-rlvr-on-the-rest": "def",
    }
    assert [one.solved for one in found.filters] == [(), ("a",), ("b",), ("c",), ("d",)]


def test_what_was_found_and_how_is_written_down(candidates: Path) -> None:
    found = by_paper(candidates, World(FALLEN))

    out = candidates.parent / "out"
    assert read_problems(out / "goalposts.jsonl").problems == found.goalposts
    filters = msgspec.json.decode((out / "filters.json").read_bytes())
    assert [
        (one["name"], one["asked"], one["seed"], one["samples"], one["versions"], one["given"]) for one in filters
    ] == [
        ("0-untrained", "micro", 0, 6, 1, 6),
        ("1-rlvr-seed0", "rlvr", 0, 6, 2, 6),
        ("1-rlvr-seed1", "rlvr", 1, 6, 2, 5),
        ("2-azr", "azr", 0, 6, 2, 4),
        ("3-rlvr-on-the-rest", "rlvr", 0, 6, 2, 3),
    ]
    assert msgspec.json.decode((out / "findings.json").read_bytes(), type=tuple[Finding, ...]) == found.findings


def test_only_the_last_filter_trains_on_what_is_left_and_no_run_evaluates_anything_itself(candidates: Path) -> None:
    world = World(FALLEN)

    by_paper(candidates, world)

    trained_on = {where: config.problems.train for where, config in world.configs.items()}
    last = trained_on.pop("3-rlvr-on-the-rest")
    assert set(trained_on.values()) == {RLVR.problems.train}
    assert [problem.id for problem in read_problems(Path(last)).problems] == ["d", "e", "f"]
    for config in world.configs.values():
        assert (config.problems.goalposts, config.problems.validation, config.matched_draws) == ("", "", False)


def test_quickly_only_the_untrained_model_is_asked(candidates: Path) -> None:
    world = World({"micro": {"a": 0}})

    found = by_paper(candidates, world, quick=True)

    assert {where for where, _, _ in world.asked} == {"micro"}
    assert [problem.id for problem in found.goalposts] == ["b", "c", "d", "e", "f"]


def test_any_models_are_asked_in_order_each_what_those_before_it_left(candidates: Path) -> None:
    world = World({"runs/one": {"a": 0, "b": 5}, "http://there/v1#two": {"c": 0}})

    found = by_models(candidates, world, "runs/one", "http://there/v1#two")

    assert (world.given("runs/one"), world.given("http://there/v1#two")) == ("abcdef", "bcdef")
    assert [(one.name, one.solved) for one in found.filters] == [("0-one", ("a",)), ("1-v1-two", ("c",))]


def test_a_solved_problem_leaves_after_the_round_in_which_it_fell(candidates: Path) -> None:
    world = World({"m": {"a": 0, "b": 3, "c": 7}})

    found = by_models(candidates, world, "m", samples=50)

    draws = {one.problem: one.asked[0].rounds for one in found.findings}
    assert draws["a"] == draws["b"] == (4,)
    assert draws["c"] == (4, 8)
    assert draws["d"] == (4, 8, 16, 22)


@given(st.integers(1, 5000))
def test_rounds_add_up_and_double(samples: int) -> None:
    sizes = rounds(samples)

    assert sum(sizes) == samples
    assert all(later == 2 * size for size, later in itertools.pairwise(sizes[:-1]))


def test_the_evidence_says_who_was_asked_what_how_often_and_how(candidates: Path) -> None:
    world = World({"m": {"a": 2}})

    found = {one.problem: one for one in by_models(candidates, world, "m").findings}

    (solve,) = found["a"].asked
    assert (found["a"].fate, found["e"].fate) == (Fate.SOLVED, Fate.GOALPOST)
    assert (solve.samples, solve.passes, solve.confirmed, solve.program) == (4, 2, 2, program("right"))
    assert (solve.model.path, solve.model.digest, solve.prompts.digest) == ("m", "w of m at m, 0", MICRO.digest)
    (never,) = found["e"].asked
    assert (never.temperature, never.max_tokens, never.rounds, never.samples, never.passes) == (0.6, 99, (4, 2), 6, 0)
    assert [seed for where, problem, seed in world.asked if problem == "e"] == list(never.seeds)


def test_a_pass_that_is_not_repeated_is_no_solve_and_no_goalpost_either(candidates: Path) -> None:
    world = World(writes={"a": program("flaky")})

    found = by_models(candidates, world, "m")

    assert found.filters[0].unsure == ("a",)
    assert (found.findings[0].fate, found.findings[0].asked[0].passes) == (Fate.UNSURE, 6)
    assert "a" not in [problem.id for problem in found.goalposts]


def test_a_problem_that_could_not_be_asked_often_enough_is_no_goalpost(tmp_path: Path, candidates: Path) -> None:
    problems = [*read_problems(candidates).problems]
    problems[0] = replace(problems[0], statement="a" * 300)  # beyond the context
    write_problems(candidates, problems)

    found = by_models(candidates, World(writes={"b": program("down")}), "m")

    assert found.filters[0].unsure == ("a", "b")
    assert [one.asked[0].rounds for one in found.findings[:2]] == [(4,), (4,)]
    assert [problem.id for problem in found.goalposts] == ["c", "d", "e", "f"]


def test_problems_whose_reference_fails_are_listed_and_not_asked(candidates: Path) -> None:
    problems = [*read_problems(candidates).problems]
    problems[0] = replace(problems[0], reference=program("wrong"))
    problems[1] = replace(problems[1], reference="")
    write_problems(candidates, problems)
    world = World()

    found = by_models(candidates, world, "m")

    assert [one.certificate for one in found.findings[:3]] == [
        Certificate.DOUBTFUL,
        Certificate.UNCERTIFIED,
        Certificate.CERTIFIED,
    ]
    assert "expected '1'" in found.findings[0].detail
    assert world.given("m") == "bcdef"
    out = candidates.parent / "out"
    assert [problem.id for problem in read_problems(out / "doubtful.jsonl").problems] == ["a"]
    assert in_words(found) == "5 goalposts of 6 candidates, 4 of them known to be solvable; 0 solved, 1 in doubt."


def test_the_number_of_candidates_can_be_limited(candidates: Path) -> None:
    search = Search(candidates, model_filters(["m"], ModelConfig(), Asking(4, 0.6, 99)), max_candidates=2)

    found = searched(search, World(), candidates.parent / "out")

    assert [problem.id for problem in found.goalposts] == ["a", "b"]


def test_malformed_candidates_are_skipped_only_by_choice_and_that_is_said(candidates: Path) -> None:
    candidates.write_bytes(b'{"id": 1}\n' + candidates.read_bytes())
    notes = Notes()
    search = Search(candidates, model_filters(["m"], ModelConfig(), Asking(4, 0.6, 99)))

    found = searched(
        replace(search, reading=ReadingConfig(skip_malformed=True)), World(), candidates.parent / "out", notes
    )

    assert [problem.id for problem in found.goalposts] == list("abcdef")
    assert "1 malformed row left out" in notes.notes[0]
    with pytest.raises(ProblemFileError, match=r"candidates\.jsonl:1: "):
        searched(search, World(), candidates.parent / "other")


def test_when_nothing_is_left_the_filters_end_and_say_what_they_solved(candidates: Path) -> None:
    found = by_paper(candidates, World({"1-rlvr-seed0": dict.fromkeys("abcdef", 0)}))

    assert found.goalposts == ()
    assert [(one.name, len(one.solved)) for one in found.filters] == [("0-untrained", 0), ("1-rlvr-seed0", 6)]


def test_the_cost_is_said_before_anything_is_asked_and_once_the_pace_is_known(candidates: Path) -> None:
    notes = Notes()
    times = iter(range(0, 1000, 3))
    world = World()
    search = Search(candidates, paper_filters(RLVR, AZR, (0,), quick=True))
    mine(
        search, candidates.parent / "out", notes, run_recipe=world.run_recipe, open_model=world.open_model,
        sandboxes=sandboxes, clock=lambda: float(next(times)),
    )  # fmt: skip

    assert notes.notes[0] == "6 candidates: at most 36 draws and 291,456 tokens; problems that are solved leave early"
    assert notes.notes[1].startswith("0-untrained: 27 tokens a draw, 36 tokens/s; asking this version takes 27 s more")
    assert notes.notes[2] == "0-untrained: 6 problems, 0 solved, 6 left; 36 draws, 972 tokens"


# Going on


def straight(candidates: Path) -> tuple[Mined, bytes, int]:
    world = World(FALLEN)
    found = by_paper(candidates, world)
    log = candidates.parent / "out" / "evidence.jsonl"
    return found, log.read_bytes(), len(world.asked)


@pytest.mark.parametrize("after", [0, 1, 5, 6, 7, 11, 30, 45])
def test_an_interrupted_search_ends_as_if_nothing_had_happened(tmp_path: Path, candidates: Path, after: int) -> None:
    expected, _, asked = straight(candidates)
    search = Search(candidates, paper_filters(RLVR, AZR, (0, 1)))
    first, second = World(FALLEN, stop_after=after), World(FALLEN)

    with pytest.raises(StoppedError):
        searched(search, first, tmp_path / "again")
    kept = [one for one in read_evidence(tmp_path / "again" / "evidence.jsonl") if isinstance(one, Drawn)]
    found = searched(search, second, tmp_path / "again")

    assert found == expected
    assert {seed for _, _, seed in second.asked}.isdisjoint(one.seed for one in kept)
    assert len(kept) + len(second.asked) == asked


def test_a_log_torn_anywhere_loses_one_line_at_most(tmp_path: Path, candidates: Path) -> None:
    expected, log, _ = straight(candidates)
    path = candidates.parent / "out" / "evidence.jsonl"
    first = log.index(b"\n") + 1

    for cut in range(first, len(log), 3001):
        path.write_bytes(log[:cut])
        assert by_paper(candidates, World(FALLEN)) == expected
        assert path.read_bytes() == log


def test_a_finished_search_is_not_asked_again(candidates: Path) -> None:
    expected, _, _ = straight(candidates)
    world = World(FALLEN)

    assert by_paper(candidates, world) == expected
    assert world.asked == []


@pytest.mark.parametrize(
    ("search", "line"),
    [
        (
            Search(Path(), model_filters(["m"], ModelConfig(), Asking(6, 1.0, 99))),
            "filters.0.draws.temperature: 0.6 -> 1.0",
        ),
        (Search(Path(), model_filters(["m", "n"], ModelConfig(), Asking(6, 0.6, 99))), "filters: 0-m -> 0-m, 1-n"),
        (Search(Path(), model_filters(["m"], ModelConfig(), Asking(6, 0.6, 99)), seed=3), "seed: 0 -> 3"),
        (
            Search(Path(), model_filters(["m"], ModelConfig(), Asking(6, 0.6, 99)), max_candidates=5),
            "candidates: 6 -> 5",
        ),
    ],
)
def test_other_settings_are_refused_and_named(candidates: Path, search: Search, line: str) -> None:
    by_models(candidates, World(), "m")
    before = (candidates.parent / "out" / "evidence.jsonl").read_bytes()

    with pytest.raises(ConfigError, match="began with other settings than it would go on with") as raised:
        searched(replace(search, candidates=candidates), World(), candidates.parent / "out")

    assert line in str(raised.value)
    assert (candidates.parent / "out" / "evidence.jsonl").read_bytes() == before


def test_a_model_that_was_exchanged_is_refused(candidates: Path) -> None:
    with pytest.raises(StoppedError):
        by_models(candidates, World(stop_after=8), "m")

    with pytest.raises(
        ConfigError, match="the weights of 'm' are not those that were asked before: give another --out"
    ):
        by_models(candidates, World(weights="others"), "m")


def test_a_directory_with_other_things_in_it_is_left_alone(candidates: Path) -> None:
    with pytest.raises(RunError, match="holds other files; name a directory that does not exist"):
        searched(Search(candidates, ()), World(), candidates.parent)


def test_a_log_has_one_writer_and_says_where_it_is_damaged(candidates: Path) -> None:
    by_models(candidates, World(), "m")
    path = candidates.parent / "out" / "evidence.jsonl"

    with EvidenceLog(path), pytest.raises(RunError, match="is being written by another process"):
        EvidenceLog(path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], b"{}\n", *lines[2:]]))
    with pytest.raises(RunError, match="line 3 cannot be read"):
        EvidenceLog(path)
    path.write_bytes(b"".join(lines[1:]))
    with pytest.raises(RunError, match="is no log of a search for goalposts"):
        EvidenceLog(path)


@pytest.mark.parametrize("seeds", [(), (1, 1)])
def test_filters_need_seeds_that_differ(seeds: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="seeds must be at least one, all different"):
        paper_filters(RLVR, AZR, seeds)


def test_a_filter_that_trains_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="rlvr: steps must be at least 1"):
        paper_filters(replace(RLVR, steps=0), AZR, (0,))


@pytest.mark.parametrize("models", [(), ("m", "m")])
def test_models_have_to_be_named_once_each(models: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="models must be at least one, all different"):
        model_filters(models, ModelConfig(), Asking(6, 0.6, 99))
