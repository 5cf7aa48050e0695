"""The game: climb the ladder, then practise. Everything a phase does, above the policy and the sandbox.

Randomness comes from substreams named by step, phase and place, so any phase can be replayed alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean

from gasp_rl.config import GaspConfig, RlvrConfig, RungConfig, StudentRewards
from gasp_rl.curriculum.buffer import PracticeBuffer
from gasp_rl.curriculum.deck import GoalpostDeck
from gasp_rl.policy.policy import Policy
from gasp_rl.problem import Problem
from gasp_rl.progress import Observer
from gasp_rl.rollout import Answer, Axis, Iteration, Proposal, RolloutGroup, Task
from gasp_rl.selfplay.novelty import NoveltyArchive
from gasp_rl.selfplay.rewards import AnswerReward, by_coin, by_judgement
from gasp_rl.selfplay.student import Practice, Student, abduction, deduction, induction, real
from gasp_rl.selfplay.teacher import Foothold, Teacher
from gasp_rl.streams import seed_of, stream


@dataclass(frozen=True, slots=True)
class Climb:
    """What one rung brought: everything proposed, what to learn from it, and the footholds of the next rung."""

    proposals: tuple[Proposal, ...]
    groups: tuple[RolloutGroup, ...]
    frontier: tuple[Foothold, ...]
    tried: tuple[RolloutGroup, ...] = ()
    """The student's tries at what was accepted, if the recipe learns from them."""
    sampled_tokens: int = 0
    dissimilarity: float = 1.0
    """Of what was accepted from what had been accepted before (arXiv:2603.15957 Eq. 7)."""
    tries: tuple[Answer, ...] = ()
    """All of the student's tries."""

    @property
    def accepted(self) -> tuple[Proposal, ...]:
        return tuple(p for p in self.proposals if p.accepted)


@dataclass(slots=True)
class _Slot:
    """A foothold while it is being tried."""

    foothold: Foothold
    tries: int = 0
    climbed: bool = False


@dataclass(slots=True)
class Play:
    """Guided self-play: the state of the curriculum, and the moves of an iteration."""

    policy: Policy
    teacher: Teacher
    student: Student
    deck: GoalpostDeck
    archive: NoveltyArchive
    buffer: PracticeBuffer
    cfg: GaspConfig
    student_rewards: StudentRewards
    seed: int
    observer: Observer = field(repr=False)

    def remember(self, past: Sequence[Iteration]) -> None:
        """Become what the game was after these iterations, from what they accepted."""
        accepted = [proposal for iteration in past for proposal in iteration.accepted]
        self.archive.add(accepted)
        self.buffer.add(accepted)
        self.deck.drawn = past[-1].goalposts_drawn if past else 0

    def draw_goalposts(self, n: int, step: int) -> list[Foothold]:
        """The next goalposts of the deck, each with an axis drawn uniformly."""
        first = self.deck.drawn
        return [
            Foothold(goalpost, self._draw_axis(step, first + place)) for place, goalpost in enumerate(self.deck.draw(n))
        ]

    def propose(self, rung: RungConfig, frontier: Sequence[Foothold], step: int) -> Climb:
        """Rejection sampling (arXiv:2603.15957 §3.3.1, App. D): rounds of proposals until every foothold is climbed or given up and
        there are `min_programs` of them, or `max_attempts` rounds are over.
        """
        self.observer.phase(rung.name)
        before = self.policy.sampled_tokens
        slots = [_Slot(foothold) for foothold in frontier]
        proposals: list[Proposal] = []
        groups: list[RolloutGroup] = []
        tried: list[RolloutGroup] = []
        tries: list[Answer] = []
        above: list[Foothold] = []
        distances: list[float] = []
        for attempt in range(self.cfg.max_attempts if self.cfg.rejection_sampling else 1):
            if not slots:
                break
            seed = seed_of(self.seed, step, rung.name, attempt)
            lesson = self.teacher.propose(rung, [slot.foothold for slot in slots], self.cfg, seed)
            groups.extend(lesson.groups)
            tried.extend(lesson.tried if self.cfg.reuse_tries else ())
            tries.extend(lesson.tries)
            for slot, written in zip(slots, lesson.proposals, strict=True):
                proposals.extend(written)
                slot.tries += self.cfg.tries_per_round
                climbed = [Foothold(slot.foothold.goalpost, slot.foothold.axis, p) for p in written if p.accepted]
                slot.climbed = bool(climbed)
                above.extend(climbed)
            fresh = [p for written in lesson.proposals for p in written if p.accepted]
            distances += [self.archive.dissimilarity(fresh, rung.name)] * len(fresh)
            self.archive.add(fresh)
            slots = self._next_slots(rung, slots, step, attempt, enough=len(proposals) >= self.cfg.min_programs)
        self.buffer.add([foothold.previous for foothold in above if foothold.previous])
        return Climb(
            tuple(proposals), tuple(groups), tuple(above), tuple(tried), self.policy.sampled_tokens - before,
            fmean(distances) if distances else 1.0, tuple(tries),
        )  # fmt: skip

    def practice_tasks(self, accepted: Sequence[Proposal], step: int) -> list[Task]:
        """New tasks first, the rest from the buffer; each turned into one of the kinds, uniformly (arXiv:2603.15957 §3.3.2)."""
        rng = stream(self.seed, step, "practice")
        n = self.cfg.practice_per_step
        chosen = list(accepted) if len(accepted) <= n else rng.sample(list(accepted), n)
        chosen += self.buffer.draw(n - len(chosen), rng, exclude=accepted)
        tasks = []
        for proposal in chosen:
            kind = rng.choice(self.cfg.kinds)
            pair = rng.randrange(len(proposal.pairs))
            match kind:
                case "induction":
                    tasks.append(induction(proposal, self.cfg.public_pairs))
                case "deduction":
                    tasks.append(deduction(proposal, pair))
                case "abduction":
                    tasks.append(abduction(proposal, pair))
        return tasks

    def practise(self, tasks: Sequence[Task], step: int) -> Practice:
        """The student answers; every answer is judged by execution."""
        self.observer.phase("practice")
        seeds = [seed_of(self.seed, step, "practice", place) for place in range(len(tasks))]
        return self.student.practise(tasks, self.cfg.practice_rollouts, seeds, by_judgement(self.student_rewards))

    def _draw_axis(self, step: int, *place: int | str) -> Axis:
        return Axis(stream(self.seed, step, "axis", *place).choice(self.cfg.axes))

    def _next_slots(
        self, rung: RungConfig, slots: Sequence[_Slot], step: int, attempt: int, *, enough: bool
    ) -> list[_Slot]:
        """Who goes on: failures try again, with a new axis after `tries_per_axis`; after twice as many the next
        goalpost takes the place. While there are too few programs, climbed places are filled again too.
        """
        guided = rung.sees == "goalpost"
        going: list[_Slot] = []
        for place, slot in enumerate(slots):
            spent = slot.tries >= self.cfg.tries_per_axis * (2 if guided else 1)
            if slot.climbed or spent:
                if guided and (spent or not enough):
                    going += [_Slot(foothold) for foothold in self.draw_goalposts(1, step)]
                elif not enough:
                    going.append(_Slot(slot.foothold))
            elif guided and slot.tries - self.cfg.tries_per_round < self.cfg.tries_per_axis <= slot.tries:
                axis = self._draw_axis(step, rung.name, attempt, place)
                going.append(_Slot(Foothold(slot.foothold.goalpost, axis, slot.foothold.previous), slot.tries))
            else:
                going.append(slot)
        return going


def solve_problems(student: Student, problems: Sequence[Problem], cfg: RlvrConfig, seed: int, step: int) -> Practice:
    """RL on real problems: a group of answers to each problem drawn for this step, uniformly without replacement."""
    rng = stream(seed, step, "real")
    drawn = rng.sample(list(problems), min(cfg.problems_per_step, len(problems)))
    seeds = [seed_of(seed, step, "real", place) for place in range(len(drawn))]
    reward = _real_reward(cfg, seed, step)
    return student.practise([real(problem) for problem in drawn], cfg.group_size, seeds, reward)


def _real_reward(cfg: RlvrConfig, seed: int, step: int) -> AnswerReward:
    match cfg.reward:
        case "tests":
            return by_judgement(StudentRewards(correct=cfg.correct, wrong=cfg.wrong, malformed=cfg.wrong))
        case "coin":
            return by_coin(cfg.correct, cfg.wrong, seed, step)
