"""The teacher: shown a goalpost or a rung, it writes proposals; each is screened in the paper's order of checks.

malformed -> unsafe -> invalid -> non-deterministic -> too similar -> outside the pass-rate band (arXiv:2603.15957 §3.3.1);
last comes our own check, too like an evaluation problem.
A check is reached only by what passed all earlier ones, so no rollout is spent on a proposal that cannot be accepted.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from gasp_rl.config import GaspConfig, RungConfig, StudentRewards
from gasp_rl.policy.engine import SamplingParams
from gasp_rl.policy.policy import Policy, prompt_digest
from gasp_rl.problem import Problem
from gasp_rl.progress import Observer
from gasp_rl.rollout import (
    UNSCORED,
    Answer,
    Axis,
    Completion,
    Pair,
    Prompt,
    Proposal,
    Rejection,
    Role,
    Rollout,
    RolloutGroup,
)
from gasp_rl.sandbox.base import Sandbox
from gasp_rl.sandbox.judge import Program, check
from gasp_rl.selfplay.firewall import Firewall
from gasp_rl.selfplay.novelty import NoveltyArchive
from gasp_rl.selfplay.prompts.base import Draft, PromptSet, Unreadable
from gasp_rl.selfplay.rewards import by_judgement, rejection_reward, rung_reward
from gasp_rl.selfplay.student import Student, Tried, induction
from gasp_rl.streams import seed_of


@dataclass(frozen=True, slots=True)
class Foothold:
    """Where a rung is climbed from: a goalpost and an axis, and for later rungs the proposal below."""

    goalpost: Problem
    axis: Axis
    previous: Proposal | None = None

    @property
    def parent(self) -> str:
        return self.previous.id if self.previous else self.goalpost.id


@dataclass(frozen=True, slots=True)
class Written:
    """A completion of the teacher and what became of it. While screening goes on, no rejection means none so far."""

    completion: Completion
    proposal: Proposal
    tried: Tried | None = None
    """The student's tries, once there are any."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """What the teacher wrote in one round, screened and rewarded."""

    proposals: tuple[tuple[Proposal, ...], ...]
    """Of each foothold."""
    groups: tuple[RolloutGroup, ...]
    """What the teacher can learn from."""
    tried: tuple[RolloutGroup, ...]
    """The student's tries at what was accepted."""
    tries: tuple[Answer, ...]
    """All of the student's tries."""


class Teacher:
    """The policy in its teacher's role. Holds collaborators only; accepted items are added to the archive by `Play`."""

    def __init__(
        self,
        policy: Policy,
        sandbox: Sandbox,
        prompts: PromptSet,
        params: SamplingParams,
        archive: NoveltyArchive,
        firewall: Firewall,
        student: Student,
        student_rewards: StudentRewards,
        observer: Observer,
    ) -> None:
        self._policy = policy
        self._sandbox = sandbox
        self._prompts = prompts
        self._params = params
        self._archive = archive
        self._firewall = firewall
        self._student = student
        self._student_rewards = student_rewards
        self._observer = observer

    def propose(self, rung: RungConfig, footholds: Sequence[Foothold], cfg: GaspConfig, seed: int) -> Lesson:
        """`cfg.tries_per_round` proposals from each foothold, screened and rewarded."""
        prompts = [self.ask(rung, foothold, cfg) for foothold in footholds]

        def blank(place: int, text: str) -> Proposal:
            foothold = footholds[place]
            return Proposal(
                id="", rung=rung.name, text=text, axis=foothold.axis, goalpost=foothold.goalpost.id,
                parent=foothold.parent,
            )  # fmt: skip

        def read(_: int, text: str) -> Draft | Unreadable:
            return self._prompts.read_proposal(text, cfg.pairs)

        written = self.write(prompts, cfg.tries_per_round, seed, blank, read)
        flat = [one for group in written for one in group]
        flat = self._screen_novelty(flat, cfg)
        flat = self._estimate(flat, rung, cfg, seed)
        flat = self.screen_contamination(flat)
        flat = [_rewarded(one, rung, cfg) for one in flat]

        for one in flat:
            self._observer.proposal(one.proposal)
        scored = iter(flat)
        regrouped = [[next(scored) for _ in group] for group in written]
        return Lesson(
            proposals=tuple(tuple(one.proposal for one in group) for group in regrouped),
            groups=tuple(
                RolloutGroup(
                    Role.TEACHER, rung.name, self._policy.encode(prompt), tuple(_rollout(o, cfg) for o in group)
                )
                for prompt, group in zip(prompts, regrouped, strict=True)
            ),
            tried=tuple(one.tried.group for one in flat if one.tried and one.proposal.accepted),
            tries=tries(flat),
        )

    def ask(self, rung: RungConfig, foothold: Foothold, cfg: GaspConfig) -> Prompt:
        """The prompt for one rung from one foothold."""
        goalpost = foothold.goalpost if rung.sees in {"goalpost", "both"} else None
        previous = foothold.previous if rung.sees in {"previous", "both"} else None
        return self._prompts.teach(rung, foothold.axis, goalpost, previous, cfg.pairs)

    def write(
        self,
        prompts: Sequence[Prompt],
        n: int,
        seed: int,
        blank: Callable[[int, str], Proposal],
        read: Callable[[int, str], Draft | Unreadable],
    ) -> list[list[Written]]:
        """Sample `n` proposals per prompt, read them, and run what can be read twice: well-formed, safe, valid,
        deterministic, in that order. Programs run while later proposals are still being sampled.
        """
        seeds = [seed_of(seed, "write", place) for place in range(len(prompts))]
        written: list[list[Written]] = [[] for _ in prompts]
        waiting: list[tuple[int, int]] = []

        def readable() -> Iterator[Program]:
            for place, completions in self._policy.sample(prompts, n, self._params, seeds):
                for sample, completion in enumerate(completions):
                    proposal = replace(
                        blank(place, completion.text),
                        id=_proposal_id(seed, place, sample, completion.text),
                        prompt=prompt_digest(prompts[place]),
                        tokens=len(completion.tokens),
                    )
                    match read(place, completion.text):
                        case Unreadable(reason):
                            proposal = replace(proposal, rejection=Rejection.MALFORMED, detail=reason)
                        case Draft(message, program, inputs):
                            pairs = tuple(Pair(text, "") for text in inputs)
                            proposal = replace(proposal, message=message, program=program, pairs=pairs)
                    written[place].append(Written(completion, proposal))
                    if proposal.accepted:
                        waiting.append((place, sample))
                        yield Program(proposal.program, tuple(pair.input for pair in proposal.pairs))

        for index, checked in check(self._sandbox, readable()):
            place, sample = waiting[index]
            one = written[place][sample]
            pairs = one.proposal.pairs
            if checked.rejection is None:
                pairs = tuple(Pair(i, o) for i, o in zip(checked.inputs, checked.outputs, strict=True))
            proposal = replace(one.proposal, pairs=pairs, rejection=checked.rejection, detail=checked.detail)
            written[place][sample] = replace(one, proposal=proposal)
        return written

    def screen_contamination(self, written: Sequence[Written]) -> list[Written]:
        """Find out what of the accepted gives an evaluation problem away, and refuse it where that is asked for."""
        screened = iter(self._firewall.screen([one.proposal for one in written if one.proposal.accepted]))
        return [replace(one, proposal=next(screened)) if one.proposal.accepted else one for one in written]

    def _screen_novelty(self, written: Sequence[Written], cfg: GaspConfig) -> list[Written]:
        """Refuse what is too similar to anything ever accepted, or to an earlier candidate of the same round."""
        candidates = [one.proposal for one in written if one.proposal.accepted]
        neighbours = iter(self._archive.screen(candidates))
        screened = []
        for one in written:
            if one.proposal.accepted:
                near = next(neighbours)
                proposal = replace(one.proposal, similarity=near.similarity, neighbour=near.id)
                if near.duplicate and cfg.rejection_sampling:
                    detail = f"similarity {near.similarity:.3f} to {near.id}"
                    proposal = replace(proposal, rejection=Rejection.DUPLICATE, detail=detail)
                one = replace(one, proposal=proposal)  # noqa: PLW2901
            screened.append(one)
        return screened

    def _estimate(self, written: Sequence[Written], rung: RungConfig, cfg: GaspConfig, seed: int) -> list[Written]:
        """Let the student try each remaining candidate `cfg.tries` times on induction and test the band."""
        candidates = [one.proposal for one in written if one.proposal.accepted]
        tasks = [induction(proposal, cfg.public_pairs) for proposal in candidates]
        seeds = [seed_of(seed, "try", proposal.id) for proposal in candidates]
        attempts = iter(self._student.attempt(tasks, cfg.tries, seeds, by_judgement(self._student_rewards)))
        estimated = []
        for one in written:
            if one.proposal.accepted:
                tried = next(attempts)
                proposal = replace(one.proposal, passes=tried.passes, tries=tried.tries)
                one = replace(one, proposal=_in_band(proposal, rung, cfg), tried=tried)  # noqa: PLW2901
            estimated.append(one)
        return estimated


def tries(written: Sequence[Written]) -> tuple[Answer, ...]:
    """The student's tries at these, in their order."""
    return tuple(answer for one in written if one.tried for answer in one.tried.answers)


def _in_band(proposal: Proposal, rung: RungConfig, cfg: GaspConfig) -> Proposal:
    if proposal.tries == 0:
        return replace(
            proposal, rejection=Rejection.SANDBOX_FAULT, detail="the student could not be asked: no try was judged"
        )
    if not cfg.rejection_sampling:
        return proposal
    share = f"{proposal.passes} of {proposal.tries} solved it"
    if rung.band.below(proposal.passes, proposal.tries):
        return replace(proposal, rejection=Rejection.TOO_HARD, detail=share)
    if rung.band.above(proposal.passes, proposal.tries):
        return replace(proposal, rejection=Rejection.TOO_EASY, detail=share)
    return proposal


def _rewarded(one: Written, rung: RungConfig, cfg: GaspConfig) -> Written:
    proposal = one.proposal
    if proposal.rejection is None:
        reward = rung_reward(rung, proposal.passes, proposal.tries, cfg.rewards)
    else:
        reward = rejection_reward(proposal.rejection, cfg.rewards)
    return replace(one, proposal=replace(proposal, reward=reward))


def _rollout(one: Written, cfg: GaspConfig) -> Rollout:
    unscored = one.proposal.rejection in UNSCORED
    return Rollout(
        one.completion, one.proposal.reward, masked=unscored or not (cfg.train_on_rejected or one.proposal.accepted)
    )


def _proposal_id(seed: int, place: int, sample: int, text: str) -> str:
    """Content and place: the same text written twice is two proposals."""
    return hashlib.sha256(f"{seed}/{place}/{sample}/{text}".encode()).hexdigest()[:12]
