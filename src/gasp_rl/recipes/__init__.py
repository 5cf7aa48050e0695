"""Recipes: functions that return complete settings. An experiment is a small function whose difference to its parent
is its description; `gasp train NAME --key value` changes the rest.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

from gasp_rl.config import (
    LEMMA,
    LIFT,
    AzrConfig,
    CheckpointConfig,
    CompareConfig,
    EvaluateConfig,
    FirewallConfig,
    GaspConfig,
    LearnConfig,
    ModelConfig,
    ProblemsConfig,
    RlvrConfig,
    RunConfig,
    SamplingConfig,
)

LARGE_MODEL = ModelConfig(path="Qwen/Qwen2.5-Coder-7B", prompts="chat")


def gasp() -> RunConfig:
    """The paper's method at the paper's size: a 7B model, LiveCodeBench goalposts, 50 iterations."""
    return RunConfig(
        recipe="gasp",
        gasp=GaspConfig(),
        model=LARGE_MODEL,
        problems=ProblemsConfig(
            goalposts="goalposts.jsonl", train="train.jsonl", validation="validation.jsonl", held_out=""
        ),
        checkpoint=CheckpointConfig(every=5),  # weights and optimizer state of a 7B model: 90 GB
    )


def azr() -> RunConfig:
    """Unguided self-play, the paper's main baseline: no goalposts, three free proposal kinds, one joint update."""
    return replace(
        gasp(),
        recipe="azr",
        gasp=None,
        azr=AzrConfig(),
        steps=350,
        learn=LearnConfig(normalise="group"),
        evaluate=EvaluateConfig(every=10),
    )


def azr_paper_reward() -> RunConfig:
    """AZR, its proposer rewarded as in AZR's paper: 0 where all tries or none succeed; its code, and `azr`, give -0.5."""
    return replace(azr(), recipe="azr-paper-reward", azr=AzrConfig(zero_learnability_reward=0.0))


def rlvr() -> RunConfig:
    """RL on real problems, the paper's other baseline: GRPO groups of 8, every test must pass."""
    return replace(gasp(), recipe="rlvr", gasp=None, rlvr=RlvrConfig(), steps=500, evaluate=EvaluateConfig(every=50))


def gasp_rlvr() -> RunConfig:
    """GASP and RL on real problems, one update of it in each iteration (the paper's GASP + Real-data RL)."""
    return replace(gasp(), recipe="gasp-rlvr", rlvr=RlvrConfig())


def no_io_axis() -> RunConfig:
    """GASP without the I/O axis: every lemma and lift varies the mapping (ablation of the paper)."""
    return replace(gasp(), recipe="no-io-axis", gasp=GaspConfig(axes=("f",)))


def no_rejection_sampling() -> RunConfig:
    """GASP in one round per rung, everything valid accepted whatever its novelty and pass rate (ablation of the paper)."""
    return replace(
        gasp(),
        recipe="no-rejection-sampling",
        gasp=GaspConfig(rejection_sampling=False),
        steps=200,
        evaluate=EvaluateConfig(every=10),
    )


def one_step_medium() -> RunConfig:
    """GASP with a single rung, lemmas of medium difficulty: best solved by 3 of 10 tries (ablation of the paper)."""
    medium = replace(LEMMA, band=LIFT.band, peak=0.3)
    return replace(gasp(), recipe="one-step-medium", gasp=GaspConfig(ladder=(medium,)))


def one_step_hard() -> RunConfig:
    """GASP with a single rung, lemmas as hard as lifts: best solved by 1 of 10 tries (ablation of the paper)."""
    hard = replace(LEMMA, band=LIFT.band, peak=LIFT.peak, sharpness=LIFT.sharpness)
    return replace(gasp(), recipe="one-step-hard", gasp=GaspConfig(ladder=(hard,)))


def lemma_only() -> RunConfig:
    """GASP without the lift: the lemma is the only rung (ours)."""
    return replace(gasp(), recipe="lemma-only", gasp=GaspConfig(ladder=(LEMMA,)))


def lift_sees_goalpost() -> RunConfig:
    """GASP whose lift is shown the goalpost beside the lemma (ours)."""
    sighted = replace(LIFT, sees="both")
    return replace(gasp(), recipe="lift-sees-goalpost", gasp=GaspConfig(ladder=(LEMMA, sighted)))


def random_reward() -> RunConfig:
    """RLVR whose rewards are a fair coin's, whatever the answer: what learning from nothing brings (ours)."""
    return replace(rlvr(), recipe="random-reward", rlvr=RlvrConfig(reward="coin"))


def untrained() -> RunConfig:
    """No iterations: the base model, measured as the others are (ours)."""
    return replace(rlvr(), recipe="untrained", steps=0)


def micro(run: RunConfig) -> RunConfig:
    """The same recipe for the embedded model and world: minutes on a laptop."""
    guided, free, real = run.gasp, run.azr, run.rlvr
    return replace(
        run,
        recipe=f"micro-{run.recipe}",
        steps=min(run.steps, 30),
        gasp=guided and _micro_guided(guided),
        azr=free and replace(free, proposals_per_kind=32, answers_per_kind=32, references=2, seeds=64, pairs=5),
        rlvr=real and replace(real, problems_per_step=32),
        model=ModelConfig(path="micro", prompts="micro", dtype="float32"),
        problems=ProblemsConfig(),
        firewall=FirewallConfig(action="report"),  # so small a world repeats itself: what coincides is counted
        sampling=SamplingConfig(max_tokens=200),
        checkpoint=CheckpointConfig(),
        learn=replace(run.learn, lr=1.5e-4),
        evaluate=EvaluateConfig(every=6, samples=20, temperature=1.0, ks=(1, 5, 10, 20), validation_problems=60),
    )


def _micro_guided(guided: GaspConfig) -> GaspConfig:
    """One round of 64 lemmas: 4 of each goalpost or, where all valid ones are lifted, 1, or there would be 256 lifts."""
    each = 4 if guided.rejection_sampling else 1
    return replace(guided, goalposts_per_step=64 // each, tries_per_round=each, max_attempts=1, reuse_tries=True)


def filtering(run: RunConfig) -> RunConfig:
    """A recipe as a goalpost filter: pass@100, half way and at the end."""
    return replace(run, evaluate=replace(run.evaluate, samples=100, every=max(1, run.steps // 2)))


def micro_comparison() -> CompareConfig:
    """Arms in the embedded world, to where on validation neither guided nor unguided self-play still rises (docs/log.md)."""
    run = micro(gasp())
    return CompareConfig(
        budget=400_000, model=run.model, problems=run.problems, sampling=run.sampling, lr=run.learn.lr, test="micro",
        validation_problems=60, temperature=1.0,
    )  # fmt: skip


def paper_comparison() -> CompareConfig:
    """Arms at the paper's size. Its budgets are unknown and ours is a guess: set it by learning curves on validation."""
    run = gasp()
    return CompareConfig(
        budget=500_000_000, model=run.model, problems=run.problems, sampling=run.sampling, lr=run.learn.lr,
        test="test.jsonl", evaluations=25, samples=100, test_samples=100,
    )  # fmt: skip


def demo() -> RunConfig:
    """`gasp demo`: guided self-play in the embedded world, sized for two CPU cores and a few minutes."""
    return replace(micro(gasp()), recipe="demo", problems=ProblemsConfig(max_goalposts=48))


Recipe: TypeAlias = Callable[[], RunConfig]

PAPER_SIZE: tuple[Recipe, ...] = (
    gasp, azr, azr_paper_reward, rlvr, gasp_rlvr, no_io_axis, no_rejection_sampling, one_step_medium, one_step_hard,
    lemma_only, lift_sees_goalpost, random_reward, untrained,
)  # fmt: skip


def _micro_of(recipe: Recipe) -> Recipe:
    def made() -> RunConfig:
        return micro(recipe())

    made.__doc__ = f"`{recipe().recipe}` for the embedded model and world."
    return made


RECIPES: dict[str, Recipe] = {
    recipe().recipe: recipe for recipe in (*PAPER_SIZE, *(_micro_of(recipe) for recipe in PAPER_SIZE), demo)
}

ARMS = tuple(recipe().recipe for recipe in PAPER_SIZE)
"""What can be compared, at either size."""
