"""Low-rank adapters (LoRA, arXiv:2106.09685): small matrices learn beside weights that stay as they are. By `peft`.

The adapters are put into the model itself, which stays the class it was; whoever copies or writes its weights asks here for
those that it acts with.
"""

import copy
import importlib.util
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from gasp_rl.config import LoraConfig
from gasp_rl.errors import ModelError

ADAPTER = "default"
BASE = ".base_layer"
"""Stands in the name of a weight that has an adapter beside it."""


def add_lora(model: PreTrainedModel, config: LoraConfig) -> None:
    """Freeze all weights and give every linear layer but the head an adapter in float32, which at first adds nothing.

    Equal models get equal adapters, whatever was drawn before.
    """
    if importlib.util.find_spec("peft") is None:
        raise ModelError("model.lora.rank above 0 needs the peft package: pip install 'gasp-rl[lora]'")
    import peft  # noqa: PLC0415 - an extra

    asked = peft.LoraConfig(r=config.rank, lora_alpha=config.alpha, lora_dropout=0.0, target_modules="all-linear")
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "fan_in_fan_out is set to False")  # of GPT-2's layers, where it then sets it
        torch.manual_seed(0)
        peft.inject_adapter_in_model(asked, model, ADAPTER)
    for name, parameter in model.named_parameters():
        learns = "lora_" in name
        parameter.requires_grad_(learns)
        if learns:
            parameter.data = parameter.data.float()


def has_adapters(model: nn.Module) -> bool:
    return any(hasattr(module, "get_delta_weight") for module in model.modules())


def weight_of(linear: Any) -> Tensor:
    """What a linear layer multiplies by, its adapter included, in float32."""
    weight: Tensor = linear.weight.float()
    return weight + linear.get_delta_weight(ADAPTER) if hasattr(linear, "get_delta_weight") else weight


def merged(model: PreTrainedModel) -> PreTrainedModel:
    """A copy whose weights have their adapters added; shares nothing with the model."""
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for name, module in list(twin.named_modules()):
            if hasattr(module, "get_delta_weight"):
                plain = module.get_base_layer()
                plain.weight.copy_(weight_of(module))
                parent, _, attribute = name.rpartition(".")
                setattr(twin.get_submodule(parent), attribute, plain)
    return twin


def named_weights(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Names and values of all parameters, in an order of their own, under the names that they have without adapters."""
    found = {name.replace(BASE, ""): parameter for name, parameter in model.named_parameters()}
    yield from sorted(found.items())


@torch.no_grad()
def acting_weights(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Names and values of what the model acts with, each adapter added to the weight that it is beside, one at a time; a
    head that is the embedding too comes under both names.
    """
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if "lora_" not in name:
            plain = name.replace(BASE, "")
            owner, _, attribute = plain.rpartition(".")
            module = model.get_submodule(owner)
            adapted = attribute == "weight" and hasattr(module, "get_delta_weight")
            yield plain, weight_of(module) if adapted else parameter
