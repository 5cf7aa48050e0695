"""Every setting of a run, with its default and the reason for it. Plain frozen values; imports nothing heavy.

A field that the paper fixes (arXiv:2603.15957, "the paper") names its place there; one that it leaves open says "ours"
or names whom we follow. docs/algorithm.md lists all that was open. AZR is Absolute Zero, arXiv:2505.03335.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, TypeAlias

from gasp_rl.errors import ConfigError


def require(holds: bool, path: str, rule: str, value: object) -> None:
    """Refuse a setting in one line: where it is, what must hold, what was given."""
    if not holds:
        raise ConfigError(f"{path} must be {rule}, got {value!r}")


def require_at_least(least: int, section: object, path: str, *names: str) -> None:
    """Refuse counts of a section that are smaller."""
    for name in names:
        require(getattr(section, name) >= least, f"{path}{name}", f"at least {least}", getattr(section, name))


@dataclass(frozen=True, slots=True)
class Band:
    """Acceptable pass rates, as integers over `of`, so that 3 of 10 is never below 0.3."""

    low: int
    high: int
    of: int = 10

    def __post_init__(self) -> None:
        require(0 <= self.low <= self.high <= self.of, "band", "0 <= low <= high <= of", (self.low, self.high, self.of))

    def below(self, passes: int, tries: int) -> bool:
        return passes * self.of < self.low * tries

    def above(self, passes: int, tries: int) -> bool:
        return passes * self.of > self.high * tries

    def holds(self, passes: int, tries: int) -> bool:
        return not self.below(passes, tries) and not self.above(passes, tries)


@dataclass(frozen=True, slots=True)
class RungConfig:
    """One step of the ladder."""

    name: str
    sees: Literal["goalpost", "previous", "both"]
    """What the teacher is shown. The paper's lift never sees the goalpost."""
    direction: Literal["easier", "harder"]
    band: Band
    peak: float
    """a of R(p; a, b): the pass rate that earns 1 (the paper's Eq. 5 and 6 are two of the family)."""
    sharpness: float
    """b of R(p; a, b)."""

    def __post_init__(self) -> None:
        require(0.0 < self.peak < 1.0, f"ladder.{self.name}.peak", "between 0 and 1", self.peak)
        require(self.sharpness > 0.0, f"ladder.{self.name}.sharpness", "positive", self.sharpness)


LEMMA = RungConfig("lemma", sees="goalpost", direction="easier", band=Band(3, 7), peak=0.5, sharpness=5.0)
LIFT = RungConfig("lift", sees="previous", direction="harder", band=Band(1, 5), peak=0.1, sharpness=1.0)


@dataclass(frozen=True, slots=True)
class TeacherRewards:
    """What a proposal earns that misses its band or never comes so far. The paper: -1 for format errors, -0.5 outside the
    band (Eq. 5 and 6); the others are ours.
    """

    malformed: float = -1.0
    unsafe: float = -1.0
    invalid: float = -1.0
    nondeterministic: float = -1.0
    contaminated: float = -0.5
    duplicate: float = -0.5
    outside_band: float = -0.5


@dataclass(frozen=True, slots=True)
class StudentRewards:
    """What an answer earns (the paper gives no numbers; these are AZR's code)."""

    correct: float = 1.0
    wrong: float = -0.5
    malformed: float = -1.0


@dataclass(frozen=True, slots=True)
class SamplingConfig:
    temperature: float = 1.0
    max_tokens: int = 8096
    """Completion tokens at most (the paper gives none; AZR: 8096)."""

    def __post_init__(self) -> None:
        require(self.temperature >= 0.0, "sampling.temperature", "0 (greedy) or more", self.temperature)
        require(self.max_tokens >= 1, "sampling.max_tokens", "at least 1", self.max_tokens)


@dataclass(frozen=True, slots=True)
class NoveltyConfig:
    threshold: float = 0.95
    """A proposal whose cosine to any accepted item exceeds this is a duplicate (paper §3.3.1: strictly above)."""
    fuse: Literal["mean", "any", "all"] = "mean"
    """How text and code similarity join: their mean, either one, or both (ours)."""
    text_weight: float = 0.04
    """Weight of the text in "mean". Below 1 - threshold, the same program is the same task however it is worded; the
    hashed embedder needs that, since it cannot know that "drop the odds" is "keep the evens" (a learned one: 0.5)."""
    scope: Literal["union", "own"] = "union"
    """Compare with everything accepted, or with items of the same rung only."""

    def __post_init__(self) -> None:
        require(0.0 <= self.threshold <= 1.0, "novelty.threshold", "between 0 and 1", self.threshold)
        require(0.0 <= self.text_weight <= 1.0, "novelty.text_weight", "between 0 and 1", self.text_weight)


@dataclass(frozen=True, slots=True)
class FirewallConfig:
    """What of the self-play's tasks is too like the validation and held-out problems, and what follows (all ours)."""

    action: Literal["block", "quarantine", "report"] = "block"
    """block: refused, and the teacher pays for it; quarantine: set aside, nobody learns from it; report: used, and recorded."""
    overlap: float = 0.7
    """Share of n-grams, of the shorter of two texts, that is too much (PaLM, arXiv:2204.02311 §8: 70 % of 8-grams)."""
    ngram: int = 8
    """Words."""
    code_ngram: int = 16
    """Tokens of a syntax tree: a short statement has some ten."""
    similarity: float = 0.9
    """Cosine of text and text, or of code and code, that is too much."""
    behaviour: bool = True
    """Run every valid program on the problems' tests: one that passes them all is a solution."""

    def __post_init__(self) -> None:
        require(0.0 < self.overlap <= 1.0, "firewall.overlap", "above 0, at most 1", self.overlap)
        require(0.0 < self.similarity <= 1.0, "firewall.similarity", "above 0, at most 1", self.similarity)
        require_at_least(1, self, "firewall.", "ngram", "code_ngram")


@dataclass(frozen=True, slots=True)
class GaspConfig:
    """Guided self-play (paper §3.3)."""

    ladder: tuple[RungConfig, ...] = (LEMMA, LIFT)
    axes: tuple[Literal["io", "f"], ...] = ("io", "f")
    """Drawn uniformly for a lemma and kept by its lift; ("f",) is the ablation without the I/O axis."""
    goalposts_per_step: int = 64
    """Goalposts worked on at a time, uniformly without replacement within an epoch (ours). 64: the paper's batch."""
    tries_per_round: int = 1
    """Proposals per goalpost made at once, from one prompt: more make fewer, larger rounds."""
    tries_per_axis: int = 4
    """Failed tries before the axis is drawn anew, once; then the next goalpost takes the place (ours)."""
    max_attempts: int = 8
    """Rounds of generation per rung and iteration at most (paper App. D names the limit; the number is ours)."""
    min_programs: int = 64
    """A rung keeps generating until it has this many proposals or `max_attempts` is reached (as above)."""
    rejection_sampling: bool = True
    """Off: one round, and everything valid is accepted whatever its novelty and pass rate (the paper's ablation)."""
    tries: int = 10
    """N of the pass-rate estimate, on induction (paper App. D)."""
    pairs: int = 5
    """Input/output pairs per proposal (paper App. D)."""
    public_pairs: int = 2
    """How many of them the student sees (paper App. D)."""
    novelty: NoveltyConfig = NoveltyConfig()
    rewards: TeacherRewards = TeacherRewards()
    train_on_rejected: bool = True
    """Every scored proposal enters the teacher's update, not only accepted ones (ours)."""
    practice_per_step: int = 64
    """Student tasks per iteration: new ones first, the rest from the buffer (AZR's code)."""
    practice_rollouts: int = 1
    """Answers per student task (AZR: 1)."""
    reuse_tries: bool = False
    """The N tries at an accepted proposal are trained on as well, as induction answers (AZR: no). They were
    sampled before the rungs' updates, so their ratio is taken against the log-probs they were sampled with."""
    kinds: tuple[Literal["induction", "deduction", "abduction"], ...] = ("induction", "deduction", "abduction")
    """Drawn uniformly per student task."""
    buffer_capacity: int = 16_384
    """Accepted proposals kept for practice, the oldest evicted first. The novelty archive keeps all, ever."""

    def __post_init__(self) -> None:
        require(len(self.ladder) > 0, "gasp.ladder", "at least one rung", self.ladder)
        require(
            self.ladder[0].sees == "goalpost",
            "gasp.ladder.0.sees",
            "'goalpost': nothing comes before it",
            self.ladder[0].sees,
        )
        require(0 < self.public_pairs < self.pairs, "gasp.public_pairs", "between 1 and pairs - 1", self.public_pairs)
        names = [rung.name for rung in self.ladder]
        require(len(set(names)) == len(names), "gasp.ladder", "rungs of different names", names)
        require_at_least(
            1, self, "gasp.", "goalposts_per_step", "tries_per_round", "tries_per_axis", "max_attempts",
            "min_programs", "tries", "practice_per_step", "practice_rollouts", "buffer_capacity",
        )  # fmt: skip
        require(len(self.axes) > 0, "gasp.axes", "at least one axis", self.axes)
        require(len(self.kinds) > 0, "gasp.kinds", "at least one kind", self.kinds)


@dataclass(frozen=True, slots=True)
class AzrConfig:
    """Unguided self-play: Absolute Zero's three free proposal kinds and three answer kinds in one joint update."""

    proposals_per_kind: int = 64
    answers_per_kind: int = 64
    references: int = 6
    """Earlier programs shown to the proposer (induction proposals always show one)."""
    seeds: int = 256
    """Free proposals collected before the first update; they fill the buffers."""
    tries: int = 8
    """Solver samples behind each proposer reward."""
    pairs: int = 10
    """Input/output pairs of an induction task, half of them public."""
    zero_learnability_reward: float = -0.5
    """Reward at pass rate 0 or 1: AZR's paper says 0 (its Eq. 4), its code gives -0.5."""
    invalid_reward: float = -1.0
    buffer_capacity: int = 16_384
    """Per kind, the oldest evicted first (AZR's code keeps the oldest and drops the new: a bug)."""

    def __post_init__(self) -> None:
        require_at_least(0, self, "azr.", "references", "seeds")
        require_at_least(1, self, "azr.", "proposals_per_kind", "answers_per_kind", "tries", "buffer_capacity")
        require_at_least(2, self, "azr.", "pairs")  # one public, one hidden


@dataclass(frozen=True, slots=True)
class RlvrConfig:
    """RL on real problems with verifiable rewards: GRPO groups, all tests must pass."""

    problems_per_step: int = 64
    group_size: int = 8
    correct: float = 1.0
    wrong: float = 0.0
    reward: Literal["tests", "coin"] = "tests"
    """coin: `correct` or `wrong` by a fair coin, whatever the answer; the control that models which gain from any reward
    call for (arXiv:2506.10947). How answers are judged stays true."""

    def __post_init__(self) -> None:
        require_at_least(1, self, "rlvr.", "problems_per_step", "group_size")


@dataclass(frozen=True, slots=True)
class LearnConfig:
    lr: float = 1e-6
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    grad_clip: float = 1.0
    clip_low: float = 0.2
    clip_high: float = 0.2
    """PPO clip range; with one update per phase the ratio is 1 and it never binds."""
    truncate: float = 0.0
    """Above 0: instead of the clip, weigh each token by min(ratio, truncate), the ratio being that of the learner's
    probability to the sampler's (truncated importance sampling; 2 is usual). For a sampler that rounds otherwise than the
    learner, as vLLM does: update/log_ratio_max shows how far they are apart."""
    overlap: bool = False
    """Sample the next phase while an update is still being applied, with the weights from before it: samples lag one update
    behind, which needs `truncate`. Saves time where learner and sampler are processes of their own (engine ray). Evaluations
    and checkpoints wait for the update: with checkpoint.every above 1 there is more to overlap."""
    advantages: Literal["trr++", "grpo", "rloo", "reinforce"] = "trr++"
    """Estimator for self-play phases (real-data phases use GRPO)."""
    whiten: Literal["token", "sequence"] = "token"
    """TRR++ statistics over tokens, as AZR's code does, or over rollouts, as its paper says."""
    normalise: Literal["token", "sequence", "group", "constant"] = "token"
    """The loss is a mean over tokens, over rollouts, over (role, kind) groups of their token means (AZR's joint update
    weighs its six groups equally), or a sum over `constant`."""
    constant: float = 1.0
    token_budget: int = 16_384
    """Prompt and completion tokens per micro-batch, padding included; changes memory, never the update."""

    def __post_init__(self) -> None:
        require(self.lr >= 0.0, "learn.lr", "0 or more", self.lr)
        require(all(0.0 <= beta < 1.0 for beta in self.betas), "learn.betas", "from 0 to below 1", self.betas)
        require(self.weight_decay >= 0.0, "learn.weight_decay", "0 or more", self.weight_decay)
        for name in ("grad_clip", "clip_low", "clip_high", "constant"):
            require(getattr(self, name) > 0.0, f"learn.{name}", "positive", getattr(self, name))
        require(self.truncate >= 0.0, "learn.truncate", "0 (off) or more", self.truncate)
        corrected = self.truncate > 0.0 or not self.overlap
        require(
            corrected,
            "learn.truncate",
            "positive (2 is usual) with learn.overlap, whose samples lag behind",
            self.truncate,
        )
        require_at_least(1, self, "learn.", "token_budget")


@dataclass(frozen=True, slots=True)
class EvaluateConfig:
    every: int = 2
    """Iterations between evaluations (paper App. D)."""
    times: int = 0
    """Instead, evaluate so often in all: after equal shares of the budget of training tokens or seconds. 0 = by `every`."""
    at_start: bool = True
    """Evaluate the untrained model too, before the first iteration."""
    samples: int = 100
    """Draws per problem; pass@k needs samples >= k."""
    temperature: float = 0.6
    ks: tuple[int, ...] = (1, 5, 10, 20, 100)
    validation_problems: int = 0
    """Validation problems per evaluation; 0 = all."""

    def __post_init__(self) -> None:
        require_at_least(1, self, "evaluate.", "every", "samples")
        require(self.temperature >= 0.0, "evaluate.temperature", "0 (greedy) or more", self.temperature)
        within = bool(self.ks) and min(self.ks) >= 1 and max(self.ks) <= self.samples
        require(within, "evaluate.ks", f"from 1 to evaluate.samples, which is {self.samples}", self.ks)
        require_at_least(0, self, "evaluate.", "times", "validation_problems")


@dataclass(frozen=True, slots=True)
class Limits:
    """What one execution may use. CPU seconds decide; the wall clock is only a backstop."""

    cpu_seconds: float = 5.0
    """Per program, over all its inputs."""
    input_cpu_seconds: float = 0.0
    """Per input; 0 = as much as the program has."""
    wall_factor: float = 4.0
    """Wall backstop = 2 s + wall_factor * CPU seconds: those of an input where that has a limit, else the program's."""
    memory_mb: int = 512
    output_bytes: int = 1 << 20
    """Standard output, and all results together."""
    value_bytes: int = 1 << 16
    """Canonical text of one result."""
    source_bytes: int = 1 << 16

    def __post_init__(self) -> None:
        for name in ("cpu_seconds", "wall_factor", "memory_mb", "output_bytes", "value_bytes", "source_bytes"):
            require(getattr(self, name) > 0, f"sandbox.limits.{name}", "positive", getattr(self, name))
        least = "0 or more"
        require(self.input_cpu_seconds >= 0, "sandbox.limits.input_cpu_seconds", least, self.input_cpu_seconds)


class GradeIsolation(StrEnum):
    """What shares a process when a program is graded on the tests of a problem."""

    PROGRAM = "program"
    """All tests; one that fails is run again in a process of its own, and that run decides. Fast."""
    TEST = "test"
    """Each test has a process of its own."""


class GradeSemantics(StrEnum):
    """How a program is run and its output compared when it is graded on the tests of a problem."""

    FAITHFUL = "faithful"
    """As Python would run it, compared as the problem says."""
    LCB = "lcb"
    """As LiveCodeBench's own grader does, mocked stdin and all: for numbers to set beside its leaderboard's."""


@dataclass(frozen=True, slots=True)
class GradingConfig:
    """How real problems are graded."""

    isolation: GradeIsolation = GradeIsolation.PROGRAM
    semantics: GradeSemantics = GradeSemantics.FAITHFUL
    limits: Limits = Limits(
        cpu_seconds=60.0, input_cpu_seconds=6.0, memory_mb=1024, output_bytes=8 << 20, value_bytes=1 << 20,
        source_bytes=1 << 18,
    )  # fmt: skip
    """Tests are larger than self-play's inputs; 6 s per test is LiveCodeBench's limit."""

    def __post_init__(self) -> None:
        fits = self.semantics is GradeSemantics.FAITHFUL or self.isolation is GradeIsolation.PROGRAM
        require(
            fits, "sandbox.grading.isolation", "program with lcb, whose tests share a process", self.isolation.value
        )


@dataclass(frozen=True, slots=True)
class SandboxConfig:
    workers: int = 0
    """Programs executed at a time; 0 = one per core."""
    server: str = ""
    """Unix socket of a running `python -m gasp_rl.sandbox.server`; empty: worker processes of one's own."""
    min_level: Literal["L1", "L2", "L3", "L4"] = "L2"
    """Refuse to run model-written code where the machine enforces less (see docs/sandbox.md)."""
    limits: Limits = Limits()
    """Of programs and answers of self-play."""
    grading: GradingConfig = GradingConfig()
    """Of answers to real problems."""

    def __post_init__(self) -> None:
        require_at_least(0, self, "sandbox.", "workers")


@dataclass(frozen=True, slots=True)
class LoraConfig:
    """Train small matrices beside the weights instead of the weights (LoRA, arXiv:2106.09685)."""

    rank: int = 0
    """Of the matrices beside every linear layer but the head; 0 = train all weights. Wants a higher `learn.lr`."""
    alpha: int = 32
    """What they add is multiplied by alpha / rank."""

    def __post_init__(self) -> None:
        require_at_least(0, self, "model.lora.", "rank")
        require(self.alpha > 0, "model.lora.alpha", "positive", self.alpha)


PromptsName: TypeAlias = Literal["auto", "micro", "chat", "base", "r1", "lcb", "lcb-qwen"]

TRAINABLE: tuple[PromptsName, ...] = ("micro", "chat", "r1")
"""Prompt sets that know every role."""


@dataclass(frozen=True, slots=True)
class ModelConfig:
    path: str = "micro"
    """`micro` (the embedded model), a Hugging Face directory, a GGUF file, or a hub name. To be measured only, also a
    run directory, one of its checkpoints, or an OpenAI-compatible endpoint like http://localhost:8000/v1#model."""
    prompts: PromptsName = "micro"
    """How the model is asked and its replies are read. `micro` (the embedded model), `chat` (instruct models) and `r1` (base
    models) know every role; the others ask real problems only, to measure a model (docs/your-problems.md); `auto`, also
    for that only, goes by the model."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the sampling copy; also of the arithmetic, and with LoRA of the weights that stay, but on a CPU without instructions
    for bfloat16. auto = bfloat16 where a probe shows that it pays."""
    sampler: Literal["in-process", "vllm"] = "in-process"
    """What samples: a sampler of this package's own, or vLLM in the same process, which has to be installed
    (docs/models.md). What is sampled is the same, up to rounding."""
    batch_rows: int = 512
    """Rows decoded together at most."""
    batch_tokens: int = 131_072
    """Cached tokens of the rows decoded together, at most: bounds the memory of the KV cache."""
    threads: int = 0
    """CPU threads of the model; 0 = one per core."""
    lora: LoraConfig = LoraConfig()
    eight_bit_adam: bool = False
    """Keep AdamW's moments in 8 bits, a quarter of their memory, by bitsandbytes: pip install 'gasp-rl[adam8bit]'."""
    recompute: bool = False
    """Keep only what enters each layer and compute the rest again for its gradient (gradient checkpointing): a third more
    arithmetic in updates, and of their memory only a small part."""

    def __post_init__(self) -> None:
        require_at_least(1, self, "model.", "batch_rows", "batch_tokens")
        require_at_least(0, self, "model.", "threads")


@dataclass(frozen=True, slots=True)
class ReadingConfig:
    """Which rows of problem files are used. What is not used is always said."""

    skip_malformed: bool = False
    """Leave out rows that break their form; else the first one stops everything."""
    errata: bool = False
    """Use problems that are known to be misjudged: wrong tests, several right answers, a dialogue."""


@dataclass(frozen=True, slots=True)
class EndpointConfig:
    """How an OpenAI-compatible endpoint is asked."""

    key_variable: str = "GASP_API_KEY"
    """Environment variable that holds the key, where one is needed; it is read from nowhere else and never written."""
    concurrency: int = 16
    """Requests in flight, one completion each."""
    timeout_seconds: float = 600.0
    """Without a byte from the server."""
    tries: int = 9
    """Per request, with pauses of .5, 1, 2, ... s, two minutes in all, or as long as the server asks for."""

    def __post_init__(self) -> None:
        require_at_least(1, self, "endpoint.", "concurrency", "tries")
        require(self.timeout_seconds > 0, "endpoint.timeout_seconds", "positive", self.timeout_seconds)


@dataclass(frozen=True, slots=True)
class ProblemsConfig:
    goalposts: str = "micro"
    """`micro` (embedded), or a file of problems (docs/problems.md)."""
    train: str = "micro"
    validation: str = "micro"
    held_out: str = "micro"
    """Problems that will measure the model outside this run: generated tasks must keep clear of them too."""
    max_goalposts: int = 0
    """Use the first so many; 0 = all."""
    reading: ReadingConfig = ReadingConfig()

    def __post_init__(self) -> None:
        require_at_least(0, self, "problems.", "max_goalposts")


@dataclass(frozen=True, slots=True)
class CheckpointConfig:
    every: int = 1
    """Iterations between checkpoints: what a crash can cost. Where validation is better than ever there is one too. 0 =
    none: a run that ends early cannot go on."""
    keep: int = 2
    """Newest ones that stay, beside the best by validation."""
    best: tuple[int, ...] = (1,)
    """The one with the best validation pass@k stays for each of these k."""

    def __post_init__(self) -> None:
        require(all(k >= 1 for k in self.best), "checkpoint.best", "1 or more each", self.best)
        require_at_least(0, self, "checkpoint.", "every")
        require_at_least(1, self, "checkpoint.", "keep")


@dataclass(frozen=True, slots=True)
class BudgetConfig:
    """What a run may spend. Asked after each iteration, so that it ends as a run of fewer iterations would: evaluated,
    exported, finished. 0 = no limit.
    """

    tokens: int = 0
    """Sampled in all, but for the base model's matched draws."""
    training_tokens: int = 0
    """Of these, sampled to learn from: what arms of a comparison are matched by."""
    seconds: float = 0.0
    """By the wall clock, interruptions not counted. Under this setting and the next equal runs may differ; where it ended
    a run is in the journal."""
    training_seconds: float = 0.0
    """Of these, in iterations: evaluations and checkpoints not counted."""

    def __post_init__(self) -> None:
        require_at_least(0, self, "budget.", "tokens", "training_tokens", "seconds", "training_seconds")


Action: TypeAlias = Literal["off", "warn", "stop", "switch"]
"""stop: end the run as a budget does. switch: change a setting for the rest of it, once (docs/run-directory.md)."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """When a signal means harm, and what is done then."""

    threshold: float
    action: Action = "warn"


@dataclass(frozen=True, slots=True)
class HealthConfig:
    """Signals of each iteration that foretell a collapse. The thresholds are ours: outside what 17 healthy runs in the
    embedded world showed at any iteration, whose extreme each names (docs/log.md).
    """

    patience: int = 3
    """Iterations in a row that a signal must be beyond its threshold: one alone is noise."""
    valid: Alarm = Alarm(0.5)
    """Below: share of proposals that can be read and run (.75 at the least). Format penalties can drive it to nothing."""
    flat: Alarm = Alarm(0.95)
    """Above: share of tried proposals with pass rate 0 or 1 (.94 at the most, when nothing was left to learn)."""
    duplicates: Alarm = Alarm(0.8)
    """Above: share of proposals that run but repeat what was accepted (.64 at the most)."""
    dissimilarity: Alarm = Alarm(0.2)
    """Below: that of accepted proposals from those before (paper Eq. 7; .41 at the least, with the hashed embedder)."""
    dishonest: Alarm = Alarm(0.3)
    """Above: share of tried proposals whose message does not describe their program (.25 at the most, in a trial that
    collapsed .44). Only the embedded world can tell, so only there."""
    entropy: Alarm = Alarm(0.2)
    """Below: entropy of what was trained on, as a share of its mean over the first `patience` iterations (.27 at the least)."""
    reward: Alarm = Alarm(0.5)
    """Above: how far the student's mean reward has fallen from its best mean over `patience` iterations (.21 at the most)."""
    held_out: Alarm = Alarm(0.1)
    """Above: how far pass@1 of validation or of the goalposts, whichever fell more, is from its best (.02 at the most)."""
    log_ratio: Alarm = Alarm(3.0)
    """Above: the largest |log ratio| of learner and sampler over trained tokens (1.3 at the most, with reused tries)."""

    def __post_init__(self) -> None:
        require_at_least(1, self, "health.", "patience")
        for name in ("flat", "dishonest", "entropy", "reward", "held_out", "log_ratio"):
            action = getattr(self, name).action
            require(
                action != "switch", f"health.{name}.action", "off, warn or stop: there is nothing to switch", action
            )


@dataclass(frozen=True, slots=True)
class RayConfig:
    """The engine `ray`: processes on this machine or on a cluster (docs/engines.md)."""

    address: str = ""
    """Of a running cluster: `auto` for the one that this machine is part of, or HOST:PORT. Empty: a cluster of this machine
    alone is started, and ended with the run."""
    learners: int = 1
    """Processes that share the parameters, their gradients and the optimizer (FSDP2), a GPU each where `model.device` is
    one."""
    samplers: int = 1
    """Processes that sample, requests dealt among them, a GPU each likewise."""
    colocate: bool = False
    """A sampler shares the GPU of a learner, by turns, instead of having its own. Both must fit."""
    sandboxes: int = 0
    """Processes that run programs, `sandbox.workers` at a time each, spread over the machines; 0 = beside the loop."""
    start_seconds: float = 600.0
    """For a process to be placed, started and given its model."""
    answer_seconds: float = 1800.0
    """For one answer: a call to a learner, the next request that a sampler finishes. Longer is taken for dead."""
    transfer: Literal["store", "broadcast"] = "store"
    """How published weights get to the samplers: through Ray's object store, or broadcast by torch.distributed: NCCL where
    models are on GPUs (not with `colocate`: it wants a GPU for each process), gloo on CPUs."""
    object_store_mb: int = 512
    """Shared memory of a cluster that is started here. Published weights go through it, in float32, unless broadcast."""

    @property
    def processes(self) -> int:
        return self.learners + self.samplers + self.sandboxes

    def __post_init__(self) -> None:
        require_at_least(1, self, "ray.", "learners", "samplers")
        require_at_least(0, self, "ray.", "sandboxes")
        require_at_least(80, self, "ray.", "object_store_mb")  # Ray's own limit
        apart = not (self.colocate and self.transfer == "broadcast")
        require(apart, "ray.transfer", "store with ray.colocate: NCCL wants a GPU for each process", self.transfer)
        for name in ("start_seconds", "answer_seconds"):
            require(getattr(self, name) > 0, f"ray.{name}", "positive", getattr(self, name))


@dataclass(frozen=True, slots=True)
class TinkerConfig:
    """The engine `tinker`: a service that samples and learns (docs/engines.md). Its key is read from TINKER_API_KEY."""

    address: str = ""
    """URL of a server of one's own, like http://localhost:8000. Empty: the hosted service, or what TINKER_BASE_URL names."""
    model: str = ""
    """Name of the model as the service has it. Empty: that of `model.path`, which in any case says where the tokenizer is."""
    sums: Literal["tokens", "means"] = "tokens"
    """How the service adds up a loss: over tokens (hosted), or as the mean over sequences of their means over tokens (SkyRL's
    JAX backend). Either gives the same update if what is set here is true."""
    context: int = 0
    """Prompt and completion tokens at most; 0 = as the service says."""
    start_seconds: float = 600.0
    """For a session, and for a model to be made ready."""
    answer_seconds: float = 1800.0
    """For one answer: an update, the next request that is sampled."""
    silence_seconds: float = 60.0
    """A service that nobody can connect to for so long is taken for dead, whatever it still owes."""

    def __post_init__(self) -> None:
        require_at_least(0, self, "tinker.", "context")
        for name in ("start_seconds", "answer_seconds", "silence_seconds"):
            require(getattr(self, name) > 0, f"tinker.{name}", "positive", getattr(self, name))
        whole = not self.address or self.address.startswith(("http://", "https://"))
        require(whole, "tinker.address", "a URL like http://localhost:8000", self.address)


TINKER_ALPHA = 32
"""What the services multiply adapters by, over their rank."""


@dataclass(frozen=True, slots=True)
class RunConfig:
    """A complete run. Exactly one of `gasp` and `azr` may be set; `rlvr` stands alone or beside `gasp`."""

    recipe: str
    seed: int = 0
    steps: int = 50
    """Iterations (the paper: about 50 with rejection sampling, about 200 without, App. C and D)."""
    gasp: GaspConfig | None = None
    azr: AzrConfig | None = None
    rlvr: RlvrConfig | None = None
    engine: Literal["local", "ray", "tinker"] = "local"
    """local: one process and one device. ray: learners, samplers and sandboxes in processes of their own. tinker: a service
    samples and learns."""
    ray: RayConfig = RayConfig()
    tinker: TinkerConfig = TinkerConfig()
    model: ModelConfig = ModelConfig()
    problems: ProblemsConfig = ProblemsConfig()
    firewall: FirewallConfig = FirewallConfig()
    sampling: SamplingConfig = SamplingConfig()
    learn: LearnConfig = LearnConfig()
    student: StudentRewards = StudentRewards()
    evaluate: EvaluateConfig = EvaluateConfig()
    matched_draws: bool = True
    """At the end, give the untrained model as many draws per goalpost as all evaluations of the trained one had."""
    sandbox: SandboxConfig = SandboxConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    budget: BudgetConfig = BudgetConfig()
    health: HealthConfig = HealthConfig()
    track: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = ()
    """Dashboards that are told the curves, beside scalars.jsonl. Each is an extra: pip install 'gasp-rl[tensorboard]'."""

    def __post_init__(self) -> None:
        require(self.steps >= 0, "steps", "0 or more", self.steps)
        require(len(set(self.track)) == len(self.track), "track", "different trackers", self.track)
        if self.engine == "tinker":
            self._require_what_services_know()
        chosen = [name for name in ("gasp", "azr", "rlvr") if getattr(self, name) is not None]
        require(bool(chosen), "recipe", "one with a gasp, azr or rlvr section", self.recipe)
        known = self.model.prompts in TRAINABLE
        require(known, "model.prompts", "micro, chat or r1 to train: the others only ask problems", self.model.prompts)
        measured = self.budget.training_tokens or self.budget.training_seconds or not self.evaluate.times
        require(
            bool(measured), "evaluate.times", "0 without a budget of training tokens or seconds", self.evaluate.times
        )
        spread = self.engine == "ray" and self.model.eight_bit_adam
        require(not spread, "model.eight_bit_adam", "off with the engine ray, which spreads the moments", True)
        require(not (self.gasp and self.azr), "recipe", "guided (gasp) or unguided (azr), not both", chosen)
        for section, split in (("gasp", "goalposts"), ("rlvr", "train")):
            named = section not in chosen or bool(getattr(self.problems, split))
            require(named, f"problems.{split}", f"a problem file, since the recipe has a {section} section", "")

    def _require_what_services_know(self) -> None:
        """Refuse what the Tinker interface has no word for."""
        model, alike = self.model, "with the engine tinker"
        require(model.lora.rank >= 1, "model.lora.rank", f"1 or more {alike}, which trains adapters only", 0)
        alpha = model.lora.alpha
        require(alpha == TINKER_ALPHA, "model.lora.alpha", f"{TINKER_ALPHA} {alike}, where it is fixed", alpha)
        require(not model.eight_bit_adam, "model.eight_bit_adam", f"off {alike}, which keeps the moments", True)
        require(not model.recompute, "model.recompute", f"off {alike}, which arranges its own memory", True)
        require(model.sampler == "in-process", "model.sampler", f"left alone {alike}, which samples", model.sampler)
        require(model.device == "auto", "model.device", f"auto {alike}, which has its own", model.device)
        heat = self.sampling.temperature
        require(heat == 1.0, "sampling.temperature", f"1 {alike}, whose losses know no other", heat)


class Matched(StrEnum):
    """What all arms of a comparison spend the same of."""

    TOKENS = "tokens"
    """Sampled to learn from. Equal tokens give equal runs."""
    SECONDS = "seconds"
    """Of training, by the wall clock: this machine's, so nothing else should run on it."""


@dataclass(frozen=True, slots=True)
class CompareConfig:
    """What all arms of a comparison share."""

    budget: float
    """Training tokens, or seconds of training, that every arm spends; an arm ends with the iteration that reaches it."""
    model: ModelConfig
    problems: ProblemsConfig
    sampling: SamplingConfig
    lr: float
    """Learning rate."""
    test: str
    """The problems that are looked at once, with the chosen versions: `micro`, or a file."""
    match: Matched = Matched.TOKENS
    """What `budget` counts. Equal tokens give equal runs; seconds are this machine's, so nothing else should run on it."""
    seeds: int = 3
    """Runs of every arm."""
    first_seed: int = 1
    """The others follow it; the goalposts of the embedded world were mined with seed 0."""
    evaluations: int = 5
    """Of every run, on validation and goalposts, after equal shares of the budget."""
    samples: int = 20
    """Draws per problem at each of them."""
    validation_problems: int = 0
    """Validation problems per evaluation; 0 = all."""
    ks: tuple[int, ...] = (1, 20)
    """For each k the version with the best validation pass@k is chosen and tested (the paper: 1 and 20, on the test split)."""
    test_samples: int = 40
    """Draws per test problem."""
    temperature: float = 0.6
    """Of evaluations and test (paper App. D)."""
    sandbox: SandboxConfig = SandboxConfig()

    def __post_init__(self) -> None:
        require(self.budget > 0, "budget", "positive", self.budget)
        require(self.lr > 0, "lr", "positive", self.lr)
        require_at_least(1, self, "", "seeds", "evaluations", "samples", "test_samples")
        require_at_least(0, self, "", "first_seed", "validation_problems")
        least = min(self.samples, self.test_samples)
        within = bool(self.ks) and min(self.ks) >= 1 and max(self.ks) <= least
        require(within, "ks", f"from 1 to {least}, the fewest draws per problem", self.ks)
        for split in ("goalposts", "train", "validation"):
            require(bool(getattr(self.problems, split)), f"problems.{split}", "a problem file: arms share it", "")
        require(bool(self.test), "test", "a problem file", "")
