"""A learner that is one of several: each process holds a share of every parameter, gradient and moment (torch FSDP2).

Processes do the same things in the same order, each with its own items. Every pass through the model is a meeting of all
of them, so a process that has fewer batches than another runs empty ones.
"""

import os
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from gasp_rl.policy.engine import Loss, StepStats, TrainItem
from gasp_rl.policy.learner import Batch, ModelLearner, Trunk
from gasp_rl.policy.lora import named_weights
from gasp_rl.policy.saved import Share


class _Root(nn.Module):
    """The trunk, with everything that the layers leave: one gathering brings embedding, last norm and head."""

    def __init__(self, model: PreTrainedModel, trunk: Trunk) -> None:
        super().__init__()
        self.model = model
        self._trunk = trunk

    def forward(self, *inputs: Any, **named: Any) -> Any:
        return self._trunk(*inputs, **named)


class ShardedLearner(ModelLearner):
    """The share that one process has of a learner. Sums over processes are what `ModelLearner` would have found."""

    def __init__(
        self, model: PreTrainedModel, token_budget: int, compute: torch.dtype, device: torch.device, *, recompute: bool
    ) -> None:
        """`model` in float32, whole and on the CPU: shares of it are moved to the device layer by layer."""
        self._root: FSDPModule

        def shard(model: PreTrainedModel, trunk: Trunk) -> Trunk:
            mesh = init_device_mesh(device.type, (dist.get_world_size(),))
            # What is gathered is cast on the way; gradients are summed in float32.
            policy = MixedPrecisionPolicy(None if compute == torch.float32 else compute, torch.float32)
            for module in list(model.modules()):
                if isinstance(module, GradientCheckpointingLayer):
                    fully_shard(module, mesh=mesh, mp_policy=policy)
            # Not given back after the forward pass: the head is used then, and the backward pass comes next.
            root = _Root(model, trunk)
            self._root = fully_shard(root, mesh=mesh, mp_policy=policy, reshard_after_forward=False)
            for module in root.modules():
                if isinstance(module, FSDPModule):  # sums, not means: the loss has its denominator
                    module.set_gradient_divide_factor(1.0)
                    module.set_force_sum_reduction_for_comms(enable=True)
            return root

        super().__init__(model, token_budget, compute, recompute=recompute, shard=shard)

    @property
    def leads(self) -> bool:
        """Whether this process speaks for all."""
        return dist.get_rank() == 0

    def logprobs(self, items: Sequence[TrainItem], temperature: float) -> list[list[float]]:
        found = super().logprobs(items, temperature)
        self._root.reshard()
        return found

    def forward_backward(self, items: Sequence[TrainItem], loss: Loss) -> StepStats:
        found = super().forward_backward(items, loss)
        self._root.reshard()
        return found

    def weights(self) -> dict[str, Tensor]:
        """Whole, on the CPU of whoever leads; nothing elsewhere."""
        return {name: whole for name, weight in super().weights().items() if (whole := self._whole(weight)) is not None}

    def all_weights(self) -> Iterator[tuple[str, Tensor]]:
        """By name, whole, one after the other for whoever leads, none for the others. Those that stay as they are are included,
        under the names that they have without adapters.
        """
        for name, weight in sorted(named_weights(self.model)):
            whole = self._whole(weight)
            if whole is not None:
                yield name, whole

    def own_weights(self) -> dict[str, Tensor]:
        """The rows that this process has, on the CPU."""
        return {name: _own_rows(weight) for name, weight in super().weights().items()}

    def own_moments(self) -> dict[str, Tensor]:
        return {key: _own_rows(value) for key, value in super().moments().items()}

    @property
    def share(self) -> Share:
        return Share(dist.get_rank(), dist.get_world_size())

    def _whole(self, tensor: Tensor) -> Tensor | None:
        whole = tensor.full_tensor().detach() if isinstance(tensor, DTensor) else tensor
        # A copy in any case: a share that is all there is would go on learning.
        return whole.to("cpu", copy=True) if self.leads else None

    def _own(self, parameter: Tensor, value: Tensor) -> Tensor:
        """`value`: the rows that this process has."""
        value = super()._own(parameter, value)
        if not isinstance(parameter, DTensor) or not value.dim():
            return value
        return DTensor.from_local(
            value, parameter.device_mesh, parameter.placements, shape=parameter.shape, stride=parameter.stride()
        )

    def _clip(self, largest: float) -> float:
        norm = torch.nn.utils.clip_grad_norm_(self.parameters.values(), largest)
        return (norm.full_tensor() if isinstance(norm, DTensor) else norm).item()

    def _batches(self, items: Sequence[TrainItem]) -> Iterator[Batch]:
        own = self._planned(items)
        most = torch.tensor(len(own), device=self._device)
        dist.all_reduce(most, dist.ReduceOp.MAX)
        yield from map(self._batch, own)
        for _ in range(int(most) - len(own)):
            yield self._idle()

    def _idle(self) -> Batch:
        """One token that nothing is learned from."""
        none = torch.zeros(0, dtype=torch.int64, device=self._device)
        return Batch([], torch.zeros(1, 1, dtype=torch.int64, device=self._device), none, none, [])


def _own_rows(tensor: Tensor) -> Tensor:
    own: Tensor = tensor.to_local() if isinstance(tensor, DTensor) else tensor
    return own.detach().cpu()


def leave() -> None:
    """End the meeting of this process with the others."""
    if dist.is_initialized():
        dist.destroy_process_group()


def threads(asked: int, beside: int) -> int:
    """Of one of so many processes on this machine."""
    return asked or max(1, len(os.sched_getaffinity(0)) // beside)
