"""Find goalposts: problems that no model ever solves (arXiv:2603.15957 §3.2).

A filter is a model that is asked, or a recipe whose every evaluated version is asked while it trains. The paper's:

0. The untrained model.
1. Post-RL: every evaluated version of RL on the train split, of several seeds.
2. Unguided self-play: every evaluated version of an AZR run (the paper: one released checkpoint).
3. Final RL: one more RL run, on what is left itself.

Problems are asked in rounds that grow, and a problem that is solved leaves: most cost little. A problem with a confirmed
solve is out. So is one that passed once and never again, and one that could not be asked as often as it should be (its
prompt does not fit, the sandbox failed): nobody knows whether it is never solved. So, too, before anything is asked, is one
whose reference fails its tests here.

Everything is written to a log first. A search that is interrupted goes on where it was; only what was in flight is drawn
again, with the same seeds.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import TypeAlias

import msgspec

from gasp_rl import __version__
from gasp_rl.build import Examine, Sandboxes, fresh_sandbox, go_on, problems_digest
from gasp_rl.config import EndpointConfig, ModelConfig, ReadingConfig, RunConfig, SandboxConfig
from gasp_rl.errors import ConfigError, RunError
from gasp_rl.evaluate import score_problems
from gasp_rl.policy.engine import SamplingParams
from gasp_rl.problem import Problem
from gasp_rl.problems.jsonl import read_problems, skipped, write_problems
from gasp_rl.progress import Observer
from gasp_rl.report.words import duration, plural
from gasp_rl.rollout import Judgement
from gasp_rl.runs.differences import differences
from gasp_rl.runs.evidence import (
    SCHEMA,
    Asking,
    AskModel,
    AskRun,
    Began,
    Certificate,
    Certified,
    Closed,
    Drawn,
    EvidenceLog,
    Filter,
    Opened,
    Record,
)
from gasp_rl.runs.results import ModelFacts, PromptFacts
from gasp_rl.sandbox.base import Sandbox
from gasp_rl.sandbox.grading import grade_problems
from gasp_rl.sandbox.remote import open_sandbox
from gasp_rl.streams import seed_of
from gasp_rl.subject import Subject, open_subject

FIRST_ROUND = 4
"""Samples of the first round; each later one doubles. A problem solved half of the time leaves after four."""
TOGETHER = 96
"""Programs judged together: what an interruption can cost, and how seldom the sandbox runs dry."""
QUICKEST = 5.0
"""Seconds of asking after which an estimate of the time is worth saying."""


@dataclass(frozen=True, slots=True)
class Search:
    """What is looked for, and by whom."""

    candidates: Path
    filters: tuple[Filter, ...]
    seed: int = 0
    max_candidates: int = 0
    """Use the first so many; 0 = all."""
    reading: ReadingConfig = ReadingConfig()  # noqa: RUF009 - a frozen value
    sandbox: SandboxConfig = SandboxConfig()  # noqa: RUF009 - a frozen value
    endpoint: EndpointConfig = EndpointConfig()  # noqa: RUF009 - a frozen value


def paper_filters(rlvr: RunConfig, azr: RunConfig, seeds: Sequence[int], *, quick: bool = False) -> tuple[Filter, ...]:
    """The three filters of the paper and, before them, the untrained model; `quick` stops after that one."""
    if not seeds or len(set(seeds)) < len(seeds):
        raise ConfigError(f"seeds must be at least one, all different, got {tuple(seeds)}")
    for config in (rlvr, azr):
        if config.steps < 1:
            raise ConfigError(f"{config.recipe}: steps must be at least 1 to filter anything, got {config.steps}")

    untrained = AskModel("0-untrained", rlvr.model, _draws(rlvr))
    if quick:
        return (untrained,)
    return (
        untrained,
        *(AskRun(f"1-rlvr-seed{seed}", _filtering(rlvr, seed), _draws(rlvr)) for seed in seeds),
        AskRun("2-azr", _filtering(azr, seeds[0]), _draws(azr)),
        AskRun("3-rlvr-on-the-rest", _filtering(rlvr, seeds[0]), _draws(rlvr), on_the_rest=True),
    )


def model_filters(models: Sequence[str], how: ModelConfig, draws: Asking) -> tuple[Filter, ...]:
    """One filter for each model that is named."""
    if not models or len(set(models)) < len(models):
        raise ConfigError(f"models must be at least one, all different, got {tuple(models)}")
    return tuple(
        AskModel(f"{place}-{_short(name)}", replace(how, path=name), draws) for place, name in enumerate(models)
    )


def _draws(config: RunConfig) -> Asking:
    return Asking(config.evaluate.samples, config.evaluate.temperature, config.sampling.max_tokens)


def _filtering(config: RunConfig, seed: int) -> RunConfig:
    """The run of a filter: it evaluates nothing itself."""
    return replace(
        config, seed=seed, matched_draws=False, evaluate=replace(config.evaluate, at_start=False),
        problems=replace(config.problems, goalposts="", validation="", max_goalposts=0),
    )  # fmt: skip


def _short(path: str) -> str:
    """The last part of a model's name, fit for a file name."""
    return "".join(c if c.isalnum() or c in "._-" else "-" for c in path.rstrip("/").rpartition("/")[2])[:40] or "model"


def rounds(samples: int) -> list[int]:
    """Sizes of the rounds: 4, 8, 16, ... until there are as many samples as wanted."""
    sizes: list[int] = []
    while (left := samples - sum(sizes)) > 0:
        sizes.append(min(left, FIRST_ROUND * 2 ** len(sizes)))
    return sizes


RunRecipe: TypeAlias = Callable[[RunConfig, Path, Observer, Examine], None]
"""Runs a recipe to its end, from wherever it is, and has every version examined that it would evaluate."""

OpenModel: TypeAlias = Callable[[ModelConfig, EndpointConfig, Observer], AbstractContextManager[Subject]]


@dataclass(frozen=True, slots=True)
class Filtered:
    """One filter as it was run, and what it left."""

    name: str
    asked: str
    """The model, or the recipe that trained it."""
    seed: int
    """Of the recipe's run."""
    steps: int
    samples: int
    """Draws per problem and version, at most."""
    versions: int
    """Of the weights, that were asked."""
    given: int
    solved: tuple[str, ...]
    """Ids that had a confirmed solve at any version."""
    unsure: tuple[str, ...]
    """Ids without one that passed once, or were asked less often than they should."""
    draws: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Asked:
    """How one version of a model fared on one problem: what anybody needs to ask it again."""

    filter: str
    model: ModelFacts
    prompts: PromptFacts
    temperature: float
    max_tokens: int
    seeds: tuple[int, ...]
    """One per round, of the sizes in `rounds`."""
    rounds: tuple[int, ...]
    samples: int
    """That could be judged."""
    passes: int
    confirmed: int
    program: str = ""
    """One that solves it."""


class Fate(StrEnum):
    """What became of a candidate."""

    GOALPOST = "goalpost"
    SOLVED = "solved"
    UNSURE = "unsure"
    DOUBTFUL = "doubtful"


@dataclass(frozen=True, slots=True)
class Finding:
    """All the evidence about one candidate."""

    problem: str
    fate: Fate
    certificate: Certificate
    detail: str
    asked: tuple[Asked, ...]


@dataclass(frozen=True, slots=True)
class Mined:
    """The goalposts and how they were found."""

    goalposts: tuple[Problem, ...]
    filters: tuple[Filtered, ...]
    findings: tuple[Finding, ...]


def mine(
    search: Search,
    out: Path,
    observer: Observer,
    *,
    run_recipe: RunRecipe = go_on,
    open_model: OpenModel = open_subject,
    sandboxes: Sandboxes = open_sandbox,
    clock: Callable[[], float] = time.monotonic,
) -> Mined:
    """Ask filter after filter, each what the ones before it left, until nothing is left. Goes on where `out` is.

    Writes into `out`: evidence.jsonl, the log; and at the end goalposts.jsonl, doubtful.jsonl, findings.json with the
    evidence per candidate, filters.json with what each filter solved, and a run directory for each that trained.
    """
    given = read_problems(search.candidates, search.reading)
    if given.malformed:
        observer.note(skipped(search.candidates, given.malformed))
    candidates = given.problems[: search.max_candidates or None]
    with _open_log(out) as log:
        _begin(log, search, candidates)
        state = _State(log, search, candidates, observer, sandboxes, clock)
        state.certify()
        observer.note(state.cost())
        filters = []
        for one in search.filters:
            problems = state.given(one)
            if not problems:
                break
            if not state.closed(one):
                _run(one, out / one.name, problems, state, run_recipe, open_model)
                log.append(Closed(one.name))
            filters.append(state.filtered(one))
            observer.note(_in_words(filters[-1]))
        mined = Mined(state.left(), tuple(filters), tuple(state.findings()))

    write_problems(out / "goalposts.jsonl", mined.goalposts)
    doubtful = {finding.problem for finding in mined.findings if finding.fate is Fate.DOUBTFUL}
    write_problems(out / "doubtful.jsonl", [problem for problem in candidates if problem.id in doubtful])
    for name, found in (("filters.json", mined.filters), ("findings.json", mined.findings)):
        (out / name).write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")
    return mined


def _open_log(out: Path) -> EvidenceLog:
    path = out / "evidence.jsonl"
    try:
        if out.is_dir() and any(out.iterdir()) and not path.exists():
            raise RunError(
                f"{out} holds other files; name a directory that does not exist, or one of gasp mine to go on"
            )
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{out} cannot be created: {error.strerror}") from error
    return EvidenceLog(path)


def _begin(log: EvidenceLog, search: Search, candidates: Sequence[Problem]) -> None:
    """Write down what decides everything, or see that it is what it was."""
    now = Began(
        SCHEMA, __version__, search.filters, search.seed, search.sandbox.grading, len(candidates),
        problems_digest(candidates),
    )  # fmt: skip
    if not log.records:
        log.append(now)
        return
    before = log.records[0]
    assert isinstance(before, Began), "read_evidence sees to that"
    names = [[one.name for one in began.filters] for began in (before, now)]
    changes = list(map(str, differences(msgspec.to_builtins(before), msgspec.to_builtins(now))))
    if names[0] != names[1]:
        changes = [f"filters: {', '.join(names[0])} -> {', '.join(names[1])}"]
    if changes:
        raise ConfigError(
            f"{log.path.parent} began with other settings than it would go on with: {'; '.join(changes)}; "
            "give those again, or another --out"
        )


def _run(
    one: Filter, here: Path, problems: Sequence[Problem], state: "_State", run_recipe: RunRecipe, open_model: OpenModel
) -> None:
    """Have all versions of one filter asked."""
    match one:
        case AskModel():
            with open_model(one.model, state.search.endpoint, state.observer) as subject:
                state.require_same(one, subject)
                state.ask(one, subject)
        case AskRun():
            config = one.config
            if one.on_the_rest:
                here.mkdir(exist_ok=True)
                rest = here / "candidates.jsonl"
                write_problems(rest, problems)
                config = replace(config, problems=replace(config.problems, train=str(rest)))
            run_recipe(config, here / "run", state.observer, lambda subject: state.ask(one, subject))


@dataclass(slots=True)
class _State:
    """What is known so far; every word of it is in the log."""

    log: EvidenceLog
    search: Search
    candidates: Sequence[Problem]
    observer: Observer
    sandboxes: Sandboxes
    clock: Callable[[], float]
    drawn: dict[tuple[str, str], list[Drawn]] = field(default_factory=dict)
    """By filter and problem."""
    opened: dict[tuple[str, str], Opened] = field(default_factory=dict)
    certificates: dict[str, Certified] = field(default_factory=dict)
    shut: set[str] = field(default_factory=set)
    """Filters that have asked all they had to."""

    def __post_init__(self) -> None:
        for record in self.log.records:
            self._learn(record)

    def append(self, record: Record) -> None:
        self.log.append(record)
        self._learn(record)

    def _learn(self, record: Record) -> None:
        match record:
            case Certified():
                self.certificates[record.problem] = record
            case Opened():
                self.opened[record.filter, record.version] = record
            case Drawn():
                self.drawn.setdefault((record.filter, record.score.problem), []).append(record)
            case Closed():
                self.shut.add(record.filter)
            case Began():
                pass

    # What follows from it

    def closed(self, one: Filter) -> bool:
        return one.name in self.shut

    def of(self, one: Filter, problem: str) -> list[Drawn]:
        return self.drawn.get((one.name, problem), [])

    def solved(self, one: Filter, problem: str) -> bool:
        return any(drawn.score.solved for drawn in self.of(one, problem))

    def short(self, one: Filter, problem: str) -> bool:
        """Fewer samples could be judged than were asked for."""
        return any(drawn.score.samples < drawn.wanted for drawn in self.of(one, problem))

    def unsure(self, one: Filter, problem: str) -> bool:
        unconfirmed = any(drawn.score.passes for drawn in self.of(one, problem))
        return not self.solved(one, problem) and (unconfirmed or self.short(one, problem))

    def doubtful(self, problem: str) -> bool:
        return self.certificates[problem].certificate is Certificate.DOUBTFUL

    def given(self, one: Filter) -> tuple[Problem, ...]:
        """What the filters before this one left."""
        before = self.search.filters[: self.search.filters.index(one)]
        return tuple(problem for problem in self.candidates if self._left_by(before, problem.id))

    def left(self) -> tuple[Problem, ...]:
        return tuple(problem for problem in self.candidates if self._left_by(self.search.filters, problem.id))

    def _left_by(self, filters: Sequence[Filter], problem: str) -> bool:
        return not self.doubtful(problem) and not any(
            self.solved(one, problem) or self.unsure(one, problem) for one in filters
        )

    # What is done

    def certify(self) -> None:
        """Run the references that there are, once."""
        unknown = [problem for problem in self.candidates if problem.id not in self.certificates]
        known = [problem for problem in unknown if problem.reference]
        for problem in unknown:
            if not problem.reference:
                self.append(Certified(problem.id, Certificate.UNCERTIFIED, "no reference"))
        if known:
            self.observer.phase("references", f"{len(known)} to run")
            with closing(self.fresh_sandbox()) as sandbox:
                attempts = ((problem.reference, problem) for problem in known)
                for index, found in grade_problems(sandbox, attempts, self.search.sandbox.grading):
                    match found.judgement:
                        case Judgement.CORRECT:
                            certified = Certified(known[index].id, Certificate.CERTIFIED)
                        case Judgement.SANDBOX_FAULT:
                            certified = Certified(known[index].id, Certificate.UNCERTIFIED, found.detail)
                        case _:
                            certified = Certified(known[index].id, Certificate.DOUBTFUL, found.detail)
                    self.append(certified)
        doubtful = [problem.id for problem in self.candidates if self.doubtful(problem.id)]
        if doubtful:
            some = ", ".join(doubtful[:5]) + (f" and {len(doubtful) - 5} more" if len(doubtful) > 5 else "")
            self.observer.note(f"in doubt, since their references fail here: {some} (doubtful.jsonl, findings.json)")

    def ask(self, one: Filter, subject: Subject) -> None:
        """Draw what this version of the model still has to be asked, round after round."""
        version = _version(subject.facts)
        problems = [problem for problem in self.given(one) if not self._settled(one, problem.id)]
        if not problems:
            return
        if (one.name, version) not in self.opened:
            facts = PromptFacts(subject.prompts.name, subject.prompts.digest)
            self.append(Opened(one.name, version, subject.facts, facts))
        progress = _Pace(self.clock, self.observer, one)
        sizes = rounds(one.draws.samples)
        for number, size in enumerate(sizes):
            problems = [problem for problem in problems if not self._settled(one, problem.id)]
            asked = [problem for problem in problems if not self._has(one, version, problem.id, number)]
            if not asked:
                continue
            detail = f"round {number + 1} of {len(sizes)}, {len(problems)} problems left"
            self.observer.phase(one.name, detail)
            seeds = {p.id: seed_of(self.search.seed, "mine", one.name, version, p.id, number) for p in asked}
            params = SamplingParams(one.draws.max_tokens, one.draws.temperature, subject.prompts.stop)
            for score in score_problems(
                subject.respondent, subject.prompts, self.fresh_sandbox, asked, size, params, list(seeds.values()),
                grading=self.search.sandbox.grading, at_once=max(1, TOGETHER // size),
            ):  # fmt: skip
                self.append(Drawn(one.name, version, number, size, seeds[score.problem], score))
                progress.drew(size, score.tokens, ahead=len(problems) * sum(sizes[number:]))

    def _settled(self, one: Filter, problem: str) -> bool:
        return self.solved(one, problem) or self.short(one, problem)

    def _has(self, one: Filter, version: str, problem: str, number: int) -> bool:
        return any(drawn.version == version and drawn.round == number for drawn in self.of(one, problem))

    def require_same(self, one: AskModel, subject: Subject) -> None:
        """A model that has been asked before must still be what it was."""
        version = _version(subject.facts)
        digest = subject.prompts.digest
        for (name, other), opened in self.opened.items():
            if name == one.name and (other != version or opened.prompts.digest != digest):
                what = "weights" if other != version else "prompts"
                raise ConfigError(
                    f"the {what} of {one.model.path!r} are not those that were asked before: give another --out"
                )

    def fresh_sandbox(self) -> Sandbox:
        return fresh_sandbox(self.search.sandbox, self.observer, self.sandboxes)

    # What is said of it

    def cost(self) -> str:
        """An upper bound for what is still to come."""
        left = len(self.left())
        draws = tokens = 0
        for one in self.search.filters:
            if not self.closed(one):
                versions = 1 if isinstance(one, AskModel) else -(-one.config.steps // one.config.evaluate.every)
                draws += left * versions * one.draws.samples
                tokens += left * versions * one.draws.samples * one.draws.max_tokens
        training = sum(
            one.config.steps for one in self.search.filters if isinstance(one, AskRun) and not self.closed(one)
        )
        besides = f", and {training:,} iterations of training" if training else ""
        return (f"{left:,} candidates: at most {draws:,} draws and {tokens:,} tokens{besides}; "
                "problems that are solved leave early")  # fmt: skip

    def filtered(self, one: Filter) -> Filtered:
        given = [problem.id for problem in self.given(one)]
        drawn = [drawn for problem in given for drawn in self.of(one, problem)]
        run = one.config if isinstance(one, AskRun) else None
        return Filtered(
            one.name, run.recipe if run else one.model.path if isinstance(one, AskModel) else "", run.seed if run else 0,
            run.steps if run else 0, one.draws.samples, sum(name == one.name for name, _ in self.opened), len(given),
            tuple(sorted(problem for problem in given if self.solved(one, problem))),
            tuple(sorted(problem for problem in given if self.unsure(one, problem))),
            sum(d.wanted for d in drawn), sum(d.score.tokens for d in drawn),
        )  # fmt: skip

    def findings(self) -> Iterator[Finding]:
        for problem in self.candidates:
            certified = self.certificates[problem.id]
            if self.doubtful(problem.id):
                fate = Fate.DOUBTFUL
            elif any(self.solved(one, problem.id) for one in self.search.filters):
                fate = Fate.SOLVED
            elif any(self.unsure(one, problem.id) for one in self.search.filters):
                fate = Fate.UNSURE
            else:
                fate = Fate.GOALPOST
            asked = tuple(self._asked(one, version, problem.id) for one in self.search.filters
                          for version in dict.fromkeys(drawn.version for drawn in self.of(one, problem.id)))  # fmt: skip
            yield Finding(problem.id, fate, certified.certificate, certified.detail, asked)

    def _asked(self, one: Filter, version: str, problem: str) -> Asked:
        opened = self.opened[one.name, version]
        drawn = sorted((d for d in self.of(one, problem) if d.version == version), key=lambda d: d.round)
        return Asked(
            one.name, opened.model, opened.prompts, one.draws.temperature, one.draws.max_tokens,
            tuple(d.seed for d in drawn), tuple(d.wanted for d in drawn), sum(d.score.samples for d in drawn),
            sum(d.score.passes for d in drawn), sum(d.score.confirmed for d in drawn),
            next((d.score.program for d in drawn if d.score.program), ""),
        )  # fmt: skip


@dataclass(slots=True)
class _Pace:
    """Says once, after a few seconds, how long the rest may take."""

    clock: Callable[[], float]
    observer: Observer
    one: Filter
    begun: float = field(init=False)
    draws: int = 0
    tokens: int = 0
    said: bool = False

    def __post_init__(self) -> None:
        self.begun = self.clock()

    def drew(self, draws: int, tokens: int, ahead: int) -> None:
        """So many more, with at most `ahead` to come."""
        self.draws += draws
        self.tokens += tokens
        spent = self.clock() - self.begun
        if not self.said and spent >= QUICKEST:
            self.said = True
            self.observer.note(
                f"{self.one.name}: {self.tokens / self.draws:,.0f} tokens a draw, {self.tokens / spent:,.0f} tokens/s; "
                f"asking this version takes {duration(spent / self.draws * ahead)} more if nothing is solved"
            )


def _version(facts: ModelFacts) -> str:
    """With the step, so that a run whose weights do not move is asked anew at each evaluation, as any other is."""
    return f"{facts.digest or facts.weights}@{facts.step}"


def _in_words(one: Filtered) -> str:
    unsure = f", {len(one.unsure)} unsure" if one.unsure else ""
    left = one.given - len(one.solved) - len(one.unsure)
    return (f"{one.name}: {one.given} problems, {len(one.solved)} solved{unsure}, {left} left; "
            f"{one.draws:,} draws, {one.tokens:,} tokens")  # fmt: skip


def in_words(mined: Mined) -> str:
    """How many goalposts there are, and what became of the others."""
    fates = Counter(finding.fate for finding in mined.findings)
    certain = sum(f.fate is Fate.GOALPOST and f.certificate is Certificate.CERTIFIED for f in mined.findings)
    others = [
        f"{fates[Fate.SOLVED]} solved",
        *([f"{fates[Fate.UNSURE]} unsure"] if fates[Fate.UNSURE] else []),
        *([f"{fates[Fate.DOUBTFUL]} in doubt"] if fates[Fate.DOUBTFUL] else []),
    ]
    return (f"{plural(len(mined.goalposts), 'goalpost')} of {plural(len(mined.findings), 'candidate')}, {certain} of them known "
            f"to be solvable; {', '.join(others)}.")  # fmt: skip
