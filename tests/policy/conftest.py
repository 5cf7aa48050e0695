"""Small models of several families, with weights large enough that tokens differ in probability."""

from collections.abc import Callable
from typing import TypeAlias

import pytest

import gasp_rl.policy  # noqa: F401  (sets the OpenMP policy, so it comes before torch)

# isort: split
import torch
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

MakeModel: TypeAlias = Callable[[PreTrainedConfig], PreTrainedModel]


@pytest.fixture
def make_model() -> MakeModel:
    def make(config: PreTrainedConfig) -> PreTrainedModel:
        torch.manual_seed(0)
        from_config: Callable[[PreTrainedConfig], PreTrainedModel] = AutoModelForCausalLM.from_config
        model = from_config(config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.2)
        model.train(mode=False)
        return model

    return make
