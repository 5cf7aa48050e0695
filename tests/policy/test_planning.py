"""What a run will need, before anything of it is opened."""

from dataclasses import replace

import pytest

from gasp_rl.config import ModelConfig, RayConfig
from gasp_rl.errors import ConfigError
from gasp_rl.policy.needs import Part, Resources, Term
from gasp_rl.policy.planning import memory_plan
from gasp_rl.recipes import demo

FEW = RayConfig(learners=2, samplers=2)


def standing(ray: RayConfig) -> dict[Part, Term]:
    config = replace(demo(), engine="ray", ray=ray, model=ModelConfig(device="cpu", dtype="float32"))
    return {term.part: term for term in memory_plan(config, Resources()).machine.standing}


def test_published_weights_are_twice_in_the_object_store_or_once_with_the_learner_that_broadcasts_them() -> None:
    stored, broadcast = standing(FEW), standing(replace(FEW, transfer="broadcast"))

    assert Part.PUBLISHED not in stored
    assert Part.STORE not in broadcast
    assert stored[Part.STORE].size == 2 * broadcast[Part.PUBLISHED].size > 0


def test_processes_that_share_a_gpu_cannot_broadcast() -> None:
    with pytest.raises(ConfigError, match=r"ray\.transfer"):
        replace(FEW, transfer="broadcast", colocate=True)
