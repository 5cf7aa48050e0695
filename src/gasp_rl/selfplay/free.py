"""Unguided self-play: Absolute Zero's three free proposal kinds and three answer kinds (arXiv:2505.03335).

The baseline without goalposts. Everything valid is kept, whatever its pass rate; the proposer earns 1 - p.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from gasp_rl.config import AzrConfig, StudentRewards
from gasp_rl.curriculum.buffer import PracticeBuffer
from gasp_rl.policy.policy import Policy
from gasp_rl.progress import Observer
from gasp_rl.rollout import UNSCORED, Answer, Iteration, Kind, Pair, Proposal, Role, Rollout, RolloutGroup, Task
from gasp_rl.selfplay.prompts.base import Draft, PromptSet, Unreadable
from gasp_rl.selfplay.rewards import by_judgement, free_reward
from gasp_rl.selfplay.student import Practice, Student, abduction, deduction, induction
from gasp_rl.selfplay.teacher import Teacher, Written, tries
from gasp_rl.streams import seed_of, stream

FREE_KINDS = (Kind.ABDUCTION, Kind.DEDUCTION, Kind.INDUCTION)

IDENTITY = Proposal(
    id="identity", rung="seed", text="", program="def f(x):\n    return x", pairs=(Pair("[1, 2, 3]", "[1, 2, 3]"),)
)
"""What the first proposals are shown, before there is anything else (AZR starts from the identity program too)."""


@dataclass(frozen=True, slots=True)
class FreeProposals:
    """What one kind of free proposal brought."""

    proposals: tuple[Proposal, ...]
    groups: tuple[RolloutGroup, ...]
    sampled_tokens: int = 0
    tries: tuple[Answer, ...] = ()

    @property
    def accepted(self) -> tuple[Proposal, ...]:
        return tuple(p for p in self.proposals if p.accepted)


@dataclass(slots=True)
class FreePlay:
    """Unguided self-play: a buffer of valid programs per kind, and the moves of an iteration."""

    policy: Policy
    teacher: Teacher
    student: Student
    prompts: PromptSet
    cfg: AzrConfig
    student_rewards: StudentRewards
    seed: int
    observer: Observer = field(repr=False)
    buffers: dict[Kind, PracticeBuffer] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for kind in FREE_KINDS:
            self.buffers[kind] = PracticeBuffer(self.cfg.buffer_capacity)

    def remember(self, past: Sequence[Iteration]) -> None:
        """Become what the game was after these iterations, from what they accepted."""
        for kind in FREE_KINDS:
            self.buffers[kind].add(p for it in past for p in it.accepted if p.rung == _rung(kind))

    def collect_seeds(self, step: int) -> Iterator[FreeProposals]:
        """Before the first iteration: proposals until each buffer holds `seeds`, or twice as many were made.
        Nothing is learned from them.
        """
        if step > 1:
            return
        self.observer.phase("seeds")
        for kind in FREE_KINDS:
            for attempt in range(1 + 2 * self.cfg.seeds // self.cfg.proposals_per_kind):
                if len(self.buffers[kind]) >= self.cfg.seeds:
                    break
                yield self._propose(kind, seed_of(self.seed, "seeds", kind, attempt), estimate=False)

    def propose(self, kind: Kind, step: int) -> FreeProposals:
        """One proposal per prompt, each tried `cfg.tries` times by the student on that kind of task."""
        self.observer.phase(_rung(kind))
        return self._propose(kind, seed_of(self.seed, step, "propose", kind), estimate=True)

    def practice_tasks(self, kind: Kind, fresh: Sequence[Proposal], step: int) -> list[Task]:
        """New tasks first, the rest from the buffer (AZR `max_new`)."""
        rng = stream(self.seed, step, "practice", kind)
        n = self.cfg.answers_per_kind
        chosen = list(fresh) if len(fresh) <= n else rng.sample(list(fresh), n)
        chosen += self.buffers[kind].draw(n - len(chosen), rng, exclude=fresh)
        return [self._task(kind, proposal) for proposal in chosen]

    def practise(self, tasks: Sequence[Task], step: int) -> Practice:
        self.observer.phase("practice")
        seeds = [seed_of(self.seed, step, "practice", place) for place in range(len(tasks))]
        return self.student.practise(tasks, 1, seeds, by_judgement(self.student_rewards))

    def _propose(self, kind: Kind, seed: int, *, estimate: bool) -> FreeProposals:
        references = [self._references(kind, seed, place) for place in range(self.cfg.proposals_per_kind)]
        pairs = self.cfg.pairs if kind is Kind.INDUCTION else 1
        asked = [self.prompts.propose_freely(kind, shown, pairs) for shown in references]

        def blank(place: int, text: str) -> Proposal:
            return Proposal(id="", rung=_rung(kind), text=text, parent=references[place][0].id)

        def read(place: int, text: str) -> Draft | Unreadable:
            return self.prompts.read_free_proposal(kind, references[place], text, pairs)

        before = self.policy.sampled_tokens
        written = self.teacher.write(asked, 1, seed, blank, read)
        flat = self.teacher.screen_contamination([one for group in written for one in group])
        scored = self._scored(kind, flat, seed) if estimate else flat
        for one in scored:
            self.observer.proposal(one.proposal)
        self.buffers[kind].add([one.proposal for one in scored if one.proposal.accepted])

        remaining = iter(scored)
        groups = [
            RolloutGroup(Role.TEACHER, _rung(kind), self.policy.encode(prompt), (_rollout(next(remaining)),))
            for prompt, group in zip(asked, written, strict=True)
            if group
        ]
        tokens = self.policy.sampled_tokens - before
        return FreeProposals(tuple(one.proposal for one in scored), tuple(groups), tokens, tries(scored))

    def _scored(self, kind: Kind, written: Sequence[Written], seed: int) -> list[Written]:
        valid = [one.proposal for one in written if one.proposal.accepted]
        seeds = [seed_of(seed, "try", proposal.id) for proposal in valid]
        tasks = [self._task(kind, proposal) for proposal in valid]
        rates = iter(self.student.attempt(tasks, self.cfg.tries, seeds, by_judgement(self.student_rewards)))
        scored = []
        for one in written:
            proposal, rate = one.proposal, None
            if proposal.accepted:
                rate = next(rates)
                # AZR: a proposal that could not be tried counts as never solved.
                reward = free_reward(rate.passes, max(rate.tries, 1), self.cfg.zero_learnability_reward)
                proposal = replace(proposal, passes=rate.passes, tries=rate.tries, reward=reward)
            elif proposal.rejection not in UNSCORED:
                proposal = replace(proposal, reward=self.cfg.invalid_reward)
            scored.append(replace(one, proposal=proposal, tried=rate))
        return scored

    def _references(self, kind: Kind, seed: int, place: int) -> list[Proposal]:
        """Up to `references` earlier programs; an induction proposal writes about one, of either other kind."""
        rng = stream(seed, "references", place)
        if kind is Kind.INDUCTION:
            pool = self.buffers[rng.choice((Kind.ABDUCTION, Kind.DEDUCTION))]
            return pool.draw(1, rng) or [IDENTITY]
        return self.buffers[kind].draw(self.cfg.references, rng) or [IDENTITY]

    def _task(self, kind: Kind, proposal: Proposal) -> Task:
        match kind:
            case Kind.ABDUCTION:
                return abduction(proposal, 0)
            case Kind.DEDUCTION:
                return deduction(proposal, 0)
            case _:
                return induction(proposal, self.cfg.pairs // 2)


def _rung(kind: Kind) -> str:
    return f"propose {kind}"


def _rollout(one: Written) -> Rollout:
    return Rollout(one.completion, one.proposal.reward, masked=one.proposal.rejection in UNSCORED)
