"""Recipes: functions that return complete settings. An experiment is a small function whose difference to its parent
is its description; `gasp train NAME --key value` changes the rest.
"""

from collections.abc import Callable
from dataclasses import replace

from gasp_rl.config import (
    AzrConfig,
    CheckpointConfig,
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


def rlvr() -> RunConfig:
    """RL on real problems, the paper's other baseline: GRPO groups of 8, every test must pass."""
    return replace(gasp(), recipe="rlvr", gasp=None, rlvr=RlvrConfig(), steps=500, evaluate=EvaluateConfig(every=50))


def micro(run: RunConfig, steps: int) -> RunConfig:
    """The same recipe for the embedded model and world: minutes on a laptop."""
    return replace(
        run,
        recipe=f"micro-{run.recipe}",
        steps=steps,
        model=ModelConfig(path="micro", prompts="micro", dtype="float32"),
        problems=ProblemsConfig(),
        firewall=FirewallConfig(action="report"),  # so small a world repeats itself: what coincides is counted
        sampling=SamplingConfig(max_tokens=200),
        checkpoint=CheckpointConfig(),
        learn=replace(run.learn, lr=1.5e-4),
        evaluate=EvaluateConfig(every=6, samples=20, temperature=1.0, ks=(1, 5, 10, 20), validation_problems=60),
    )


def micro_gasp() -> RunConfig:
    """Guided self-play in the embedded world."""
    guided = GaspConfig(goalposts_per_step=16, tries_per_round=4, max_attempts=1, reuse_tries=True)
    return micro(replace(gasp(), gasp=guided), steps=30)


def micro_azr() -> RunConfig:
    """Unguided self-play in the embedded world."""
    free = AzrConfig(proposals_per_kind=32, answers_per_kind=32, references=2, seeds=64, pairs=5)
    return micro(replace(azr(), azr=free), steps=30)


def micro_rlvr() -> RunConfig:
    """RL on the train split of the embedded world."""
    return micro(replace(rlvr(), rlvr=RlvrConfig(problems_per_step=32)), steps=30)


def filtering(run: RunConfig) -> RunConfig:
    """A recipe as a goalpost filter: pass@100, half way and at the end."""
    return replace(run, evaluate=replace(run.evaluate, samples=100, every=max(1, run.steps // 2)))


def demo() -> RunConfig:
    """`gasp demo`: guided self-play in the embedded world, sized for two CPU cores and a few minutes."""
    return replace(micro_gasp(), recipe="demo", problems=ProblemsConfig(max_goalposts=48))


RECIPES: dict[str, Callable[[], RunConfig]] = {
    "gasp": gasp,
    "azr": azr,
    "rlvr": rlvr,
    "micro-gasp": micro_gasp,
    "micro-azr": micro_azr,
    "micro-rlvr": micro_rlvr,
    "demo": demo,
}
