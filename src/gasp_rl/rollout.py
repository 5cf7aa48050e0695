"""What happened: proposals, tasks, rollouts, iterations. Values only; a run's journal is a sequence of these.

Nothing here holds a time, a device or a path, so two runs that decide the same things write the same bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from gasp_rl.problem import Problem


class Role(StrEnum):
    TEACHER = "teacher"
    STUDENT = "student"


class Axis(StrEnum):
    """What a rung varies (arXiv:2603.15957 §3.3.1). Drawn per lemma, kept by its lift."""

    IO = "io"
    """Instances and representation; the algorithmic motif stays."""
    F = "f"
    """The mapping itself: constraints, composed operations."""


class Kind(StrEnum):
    """What the student is asked."""

    INDUCTION = "induction"
    """Message and public pairs -> the program; judged on the hidden pairs."""
    DEDUCTION = "deduction"
    """Program and input -> the output."""
    ABDUCTION = "abduction"
    """Program and output -> any input that gives it."""
    PROBLEM = "problem"
    """A real problem -> a program; judged on all its tests."""


@dataclass(frozen=True, slots=True)
class Message:
    role: str
    """`system`, `user` or `assistant`, as in a chat template."""
    content: str


Prompt: TypeAlias = str | tuple[Message, ...]
"""Raw text, or messages for a model with a chat template."""


@dataclass(frozen=True, slots=True)
class Completion:
    """What the policy wrote for one prompt."""

    tokens: tuple[int, ...]
    """Token ids, the end-of-text token included when it was sampled."""
    logprobs: tuple[float, ...]
    """Natural log-probability of each token under the sampling distribution (temperature applied)."""
    text: str
    finished: bool
    """False if it was cut off at the token limit."""
    version: int
    """Version of the weights that sampled it."""


class Rejection(StrEnum):
    """Why a proposal was not accepted, in the paper's order of checks (arXiv:2603.15957 §3.3.1)."""

    MALFORMED = "malformed"
    UNSAFE = "unsafe"
    INVALID = "invalid"
    """The program fails on its own inputs: an error, a limit, a result that is not a plain value."""
    NONDETERMINISTIC = "nondeterministic"
    CONTAMINATED = "contaminated"
    """Too like an evaluation problem (not in the paper)."""
    QUARANTINED = "quarantined"
    """The same, set aside: masked out of the loss, never scored."""
    DUPLICATE = "duplicate"
    TOO_HARD = "too_hard"
    TOO_EASY = "too_easy"
    SANDBOX_FAULT = "sandbox_fault"
    """A fault of ours; masked out of the loss, never scored."""


BROKEN = frozenset({Rejection.MALFORMED, Rejection.UNSAFE, Rejection.INVALID, Rejection.NONDETERMINISTIC})
"""The proposal itself is not one: it cannot be read, or its program cannot be used."""

UNSCORED = frozenset({Rejection.SANDBOX_FAULT, Rejection.QUARANTINED})
"""Nobody learns from what was rejected for these."""


class LikenessKind(StrEnum):
    """In what a proposal is like an evaluation problem."""

    WORDS = "words"
    """Its message shares most n-grams of words with the statement."""
    CODE = "code"
    """Its program shares most n-grams of tokens with the reference."""
    EMBEDDING = "embedding"
    """The cosine of message and statement, or of program and reference, is high."""
    BEHAVIOUR = "behaviour"
    """Its program passes the problem's tests."""


@dataclass(frozen=True, slots=True)
class Likeness:
    """A proposal is too like this evaluation problem."""

    kind: LikenessKind
    problem: str
    """Its id."""
    score: float
    """A share of n-grams, a cosine, or 1."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One input and the output the program gave for it, as canonical literals.

    `input` is the text of the argument tuple without its parentheses: `[1, 2], 3`.
    """

    input: str
    output: str


@dataclass(frozen=True, slots=True)
class Proposal:
    """A teacher completion, read: message + program + inputs, with everything that was found out about it."""

    id: str
    """Content hash of rung, parent and text, with the iteration and place that make it unique."""
    rung: str
    """The rung's name: lemma, lift, ... For free proposals (AZR) the kind of task proposed."""
    text: str
    """The completion as written."""
    axis: Axis | None = None
    goalpost: str = ""
    """Id of the goalpost at the top of this ladder; empty for free proposals."""
    parent: str = ""
    """Id of what it was made from: the goalpost of a lemma, the lemma of a lift."""
    message: str = ""
    program: str = ""
    pairs: tuple[Pair, ...] = ()
    """Inputs and executed outputs; the first `public_pairs` are shown to the student."""
    rejection: Rejection | None = None
    detail: str = ""
    """Why, in words: the parser's complaint, the error, the neighbour."""
    similarity: float = 0.0
    """Cosine to the nearest item ever accepted (0 where the check was not reached)."""
    neighbour: str = ""
    passes: int = 0
    tries: int = 0
    """`passes` of `tries` student attempts were right (0 of 0 where it was not tried)."""
    reward: float = 0.0
    likenesses: tuple[Likeness, ...] = ()
    """To evaluation problems, one of each kind at most."""
    prompt: str = ""
    """Digest of the prompt that it answers."""
    tokens: int = 0
    """Of the completion."""

    @property
    def accepted(self) -> bool:
        return self.rejection is None


@dataclass(frozen=True, slots=True)
class Task:
    """What the student is asked."""

    kind: Kind
    source: str
    """Id of the proposal or problem it comes from."""
    message: str = ""
    program: str = ""
    shown: tuple[Pair, ...] = ()
    """Pairs in the prompt. Deduction shows only the input of its pair, abduction only the output."""
    hidden: tuple[Pair, ...] = ()
    """Pairs that decide."""
    problem: Problem | None = None
    """The real problem, for kind PROBLEM."""


class Judgement(StrEnum):
    """What an answer was worth."""

    CORRECT = "correct"
    WRONG = "wrong"
    MALFORMED = "malformed"
    """No answer could be read from the completion."""
    SANDBOX_FAULT = "sandbox_fault"


@dataclass(frozen=True, slots=True)
class Rollout:
    """A completion and what it earned."""

    completion: Completion
    reward: float
    masked: bool = False
    """Left out of the loss and of its group's statistics (a fault of ours, not an answer)."""


@dataclass(frozen=True, slots=True)
class RolloutGroup:
    """Rollouts of one prompt; (role, kind) names the baseline they share under TRR++."""

    role: Role
    kind: str
    prompt: tuple[int, ...]
    """Token ids of the prompt."""
    rollouts: tuple[Rollout, ...]


Advantages: TypeAlias = list[list[float]]
"""One number per rollout, grouped as the RolloutGroups they belong to."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A student completion, judged: one that was trained on, or a try that measured a proposal's pass rate."""

    kind: Kind
    source: str
    text: str
    judgement: Judgement
    detail: str
    reward: float
    tokens: int = 0
    """Of the completion."""


@dataclass(frozen=True, slots=True)
class Draws:
    """What the policy wrote for one prompt: all that is needed to say it again without the model."""

    seed: int
    """Of the request; no two requests of an iteration have the same."""
    prompt: str
    """Its digest."""
    texts: tuple[str, ...]
    tokens: tuple[int, ...]
    """How many each has."""
    finished: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class UpdateStats:
    """One optimizer step."""

    phase: str
    rollouts: int
    """Rollouts with a non-zero advantage; the others add nothing and are not run."""
    tokens: int
    """Completion tokens that carried a gradient."""
    mean_reward: float
    loss: float
    grad_norm: float
    """Before clipping."""
    entropy: float
    """Mean of -log p over the sampled tokens, nats."""
    ratio_max: float
    """Largest |log ratio| between learner and sampler over the trained tokens."""
    skipped: bool
    """True where there was nothing to learn from, or the gradient was not finite."""
    advantages: tuple[tuple[float, ...], ...] = ()
    """Of every rollout, by prompt; those that are 0 are not run."""
    lag: int = 0
    """Updates that the oldest of the weights which sampled these rollouts lacked when it began: 1 where sampling overlaps learning,
    more where rollouts of an earlier phase are learned from again."""


@dataclass(frozen=True, slots=True)
class Phase:
    """Everything seen in one phase and the update that closed it."""

    name: str
    proposals: tuple[Proposal, ...] = ()
    answers: tuple[Answer, ...] = ()
    update: UpdateStats | None = None
    sampled_tokens: int = 0
    dissimilarity: float = 1.0
    """Of a rung's accepted proposals from those accepted before (arXiv:2603.15957 Eq. 7): near 0, diversity collapsed."""
    tries: tuple[Answer, ...] = ()
    """The student's tries at its candidates, in the order of the proposals. Left out where a journal is read as a whole."""


@dataclass(frozen=True, slots=True)
class Iteration:
    """One pass of the ladder plus the solver phase: one journal record."""

    step: int
    phases: tuple[Phase, ...]
    goalposts_drawn: int = 0
    """Goalposts drawn since the run began: the position in the deck."""

    @property
    def accepted(self) -> tuple[Proposal, ...]:
        return tuple(p for phase in self.phases for p in phase.proposals if p.accepted)


@dataclass(frozen=True, slots=True)
class ProblemScore:
    """How one problem fared at an evaluation."""

    problem: str
    samples: int
    passes: int
    confirmed: int
    """Passing samples whose program passed again in a fresh sandbox (two or more: a solid solve)."""
    program: str = ""
    """One confirmed program, kept as evidence."""
    truncated: int = 0
    """Samples cut off at the token limit."""
    empty: int = 0
    """Samples without a word."""
    unreadable: int = 0
    """Samples in which no program was found, the empty ones included."""
    tokens: int = 0
    """Sampled for this problem."""

    @property
    def solved(self) -> bool:
        return self.confirmed > 0

    @property
    def solid(self) -> bool:
        return self.confirmed > 1


@dataclass(frozen=True, slots=True)
class Evaluation:
    """pass@k evidence on one split at one version of the weights."""

    step: int
    """Iterations trained before it; 0 is the base model."""
    split: str
    """train, validation, test, goalposts; or matched_base: the base model's draws on the goalposts, as many as the run's."""
    temperature: float
    scores: tuple[ProblemScore, ...]
    sampled_tokens: int = 0

    @property
    def solved(self) -> Sequence[str]:
        return [s.problem for s in self.scores if s.solved]
