"""What a model makes of its prompts before anything is trained: how far its proposals come, and which answers can be read.

Roles, checks and settings are those of a run. Unlike there every goalpost is asked about on every axis, nothing is retried,
and the next rung starts from proposals that merely run where too few were accepted.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace

from gasp_rl.build import PROMPT_SETS, both_roles, fresh_sandbox, load_problems
from gasp_rl.config import GaspConfig, RunConfig, StudentRewards
from gasp_rl.policy.policy import EnginePolicy
from gasp_rl.problem import Problem
from gasp_rl.progress import Observer
from gasp_rl.rollout import BROKEN, UNSCORED, Answer, Axis, Phase, Prompt, Proposal, Task
from gasp_rl.runs.results import ModelFacts, PromptFacts
from gasp_rl.selfplay.novelty import HashedEmbedder, NoveltyArchive
from gasp_rl.selfplay.rewards import by_judgement
from gasp_rl.selfplay.student import Student, abduction, deduction
from gasp_rl.selfplay.teacher import Foothold, Teacher
from gasp_rl.streams import seed_of
from gasp_rl.subject import open_engine

PRACTICE = "practice"


@dataclass(frozen=True, slots=True)
class ProposalLine:
    """What the teacher was asked and wrote, and what was found out about it."""

    phase: str
    prompt: Prompt
    proposal: Proposal


@dataclass(frozen=True, slots=True)
class AnswerLine:
    """What the student wrote, and what it was worth. `source` is the id of the proposal."""

    phase: str
    answer: Answer


@dataclass(frozen=True, slots=True)
class Probed:
    """One phase, and what was asked in it."""

    phase: Phase
    asked: tuple[Prompt, ...] = ()
    """The teacher's prompt of each proposal."""

    def lines(self) -> Iterator[ProposalLine | AnswerLine]:
        """All that was written, one by one, for a file."""
        for prompt, proposal in zip(self.asked, self.phase.proposals, strict=True):
            yield ProposalLine(self.phase.name, prompt, proposal)
        for answer in (*self.phase.tries, *self.phase.answers):
            yield AnswerLine(self.phase.name, answer)


@dataclass(frozen=True, slots=True)
class Opened:
    """The model that is asked, and how many goalposts there are to ask about."""

    model: ModelFacts
    prompts: PromptFacts
    goalposts: int
    phases: Iterator[Probed]
    """Asked as they are taken."""


@contextmanager
def probe(config: RunConfig, gasp: GaspConfig, goalposts: int, proposals: int, observer: Observer) -> Iterator[Opened]:
    """Ask about the first so many goalposts (0: all), for so many proposals on each axis. `gasp` is that of `config`."""
    sets = load_problems(config, observer)
    chosen = sets.goalposts[:goalposts] if goalposts else sets.goalposts
    prompts = PROMPT_SETS[config.model.prompts]
    with open_engine(config.model) as (engine, _, facts), closing(fresh_sandbox(config.sandbox, observer)) as sandbox:
        policy = EnginePolicy(engine, observer)
        archive = NoveltyArchive(HashedEmbedder(), gasp.novelty)
        student, teacher = both_roles(config, sets, policy, sandbox, prompts, observer, archive)
        phases = play(teacher, student, chosen, replace(gasp, tries_per_round=proposals), config.seed, observer)
        yield Opened(facts, PromptFacts(prompts.name, prompts.digest), len(chosen), phases)


def play(
    teacher: Teacher, student: Student, goalposts: Sequence[Problem], cfg: GaspConfig, seed: int, observer: Observer
) -> Iterator[Probed]:
    """Every rung, then one deduction and one abduction for each program that runs (induction is what the tries are)."""
    footholds = [Foothold(goalpost, Axis(axis)) for goalpost in goalposts for axis in cfg.axes]
    running: list[Proposal] = []
    for rung in cfg.ladder:
        observer.phase(rung.name)
        lesson = teacher.propose(rung, footholds, cfg, seed_of(seed, "probe", rung.name))
        written = [p for group in lesson.proposals for p in group]
        prompts = [teacher.ask(rung, foothold, cfg) for foothold in footholds]
        asked = [prompt for prompt, group in zip(prompts, lesson.proposals, strict=True) for _ in group]
        yield Probed(Phase(rung.name, tuple(written), tries=lesson.tries), tuple(asked))

        above = [
            Foothold(foothold.goalpost, foothold.axis, p)
            for foothold, group in zip(footholds, lesson.proposals, strict=True)
            for p in group if p.rejection not in BROKEN | UNSCORED
        ]  # fmt: skip
        running += [foothold.previous for foothold in above if foothold.previous]
        footholds = sorted(above, key=_far_from_accepted)[: len(goalposts) * len(cfg.axes)]
    observer.phase(PRACTICE)
    tasks: list[Task] = [deduction(p, 0) for p in running] + [abduction(p, 0) for p in running]
    seeds = [seed_of(seed, "probe", PRACTICE, place) for place in range(len(tasks))]
    yield Probed(Phase(PRACTICE, answers=student.practise(tasks, 1, seeds, by_judgement(StudentRewards())).answers))


def _far_from_accepted(foothold: Foothold) -> tuple[bool, float]:
    """Accepted ones first, then by how far the pass rate is from a half."""
    found = foothold.previous
    assert found is not None
    return not found.accepted, abs(found.passes / found.tries - 0.5) if found.tries else 1.0
