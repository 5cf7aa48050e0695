"""A learner that is one of several: each process holds a share of every parameter, gradient and moment (torch FSDP2).

Processes do the same things in the same order, each with its own items. Every pass through the model is a meeting of all
of them, so a process that has fewer batches than another runs empty ones.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from gasp_rl.policy.engine import Loss, StepStats, TrainItem
from gasp_rl.policy.learner import Batch, ModelLearner, Trunk
from gasp_rl.policy.lora import named_weights

BACKENDS = {"cpu": "gloo", "cuda": "nccl"}


class Meeting:
    """Where the processes find each other; opened by the first, at a port that the system chose."""

    def __init__(self, host: str, port: int, size: int, *, first: bool, seconds: float) -> None:
        """`port` 0 of the first: any."""
        self._store = dist.TCPStore(  # type: ignore[attr-defined] # documented, but not listed
            host, port, size, is_master=first, wait_for_workers=False, timeout=timedelta(seconds=seconds)
        )
        self.port = int(self._store.port)

    def join(self, rank: int, size: int, device: torch.device, seconds: float) -> None:
        """Wait for all of them. From here on none waits longer than this for another."""
        dist.init_process_group(
            BACKENDS[device.type], store=self._store, rank=rank, world_size=size, timeout=timedelta(seconds=seconds)
        )


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
        """Whole, on the CPU of whoever leads; nothing elsewhere. So are the next two."""
        return self._whole(super().weights())

    def moments(self) -> dict[str, Tensor]:
        return self._whole(super().moments())

    def all_weights(self) -> dict[str, Tensor]:
        """Those that stay as they are included, under the names that they have without adapters."""
        return self._whole(dict(named_weights(self.model)))

    def _whole(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        found = {}
        for name, tensor in tensors.items():
            whole: Tensor = tensor.full_tensor().detach() if isinstance(tensor, DTensor) else tensor
            if self.leads:
                found[name] = whole.cpu()
        return found

    def _own(self, parameter: Tensor, value: Tensor) -> Tensor:
        value = super()._own(parameter, value)
        if not isinstance(parameter, DTensor) or value.shape != parameter.shape:
            return value
        return distribute_tensor(value, parameter.device_mesh, parameter.placements, src_data_rank=None)

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


def leave() -> None:
    """End the meeting of this process with the others."""
    if dist.is_initialized():
        dist.destroy_process_group()


def threads(asked: int, beside: int) -> int:
    """Of one of so many processes on this machine."""
    return asked or max(1, len(os.sched_getaffinity(0)) // beside)
