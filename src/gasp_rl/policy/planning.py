"""What memory a run will need, wherever it is going to run: nothing is opened but the model's configuration."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch

from gasp_rl.config import ModelConfig, RunConfig
from gasp_rl.policy.local import choose_device, choose_dtype
from gasp_rl.policy.memory import (
    FLOAT,
    Crowd,
    Shape,
    free_memory,
    learned_parameters,
    many,
    needs,
    opened_whole,
    shape_of,
)
from gasp_rl.policy.needs import Holder, Machine, MemoryPlan, Needs, Part, Resources, Setup, Term, remedy

CPU = torch.device("cpu")


def memory_plan(config: RunConfig, resources: Resources) -> MemoryPlan:
    """For these settings. ModelError if the model's configuration is not to be had."""
    device = planned_device(config.model, resources)
    dtype = planned_dtype(config.model, device)
    shape = shape_of(config.model.path)
    learned = learned_parameters(shape, config.model)
    return MemoryPlan(
        parameters=shape.parameters,
        learned=learned,
        device=device.type,
        dtype=str(dtype).removeprefix("torch."),
        holders=tuple(_holders(config, shape, resources, device, dtype)),
        machine=_machine(config, shape, resources),
        checkpoint=3 * FLOAT * learned,
        export=FLOAT * shape.parameters,
    )


def planned_device(config: ModelConfig, resources: Resources) -> torch.device:
    """A device whose memory was told need not be here."""
    if resources.device_memory and config.device != "cpu":
        return torch.device("cuda")
    return choose_device(config.device)


def planned_dtype(config: ModelConfig, device: torch.device) -> torch.dtype:
    """`auto` on a device that is not here: bfloat16, as all that are large enough have it."""
    if config.dtype == "auto" and device.type == "cuda" and not torch.cuda.is_available():
        return torch.bfloat16
    return choose_dtype(config.dtype, device)


def _holders(
    config: RunConfig, shape: Shape, resources: Resources, device: torch.device, dtype: torch.dtype
) -> Iterator[Holder]:
    ray = config.ray
    on_cpu = device.type == "cpu"
    available = resources.host_memory if on_cpu else resources.device_memory
    available = available or (free_memory(device) if resources.here else 0)
    setup = Setup(config.model, config.learn.token_budget)
    if config.engine == "local":
        where = "beside programs and everything else" if on_cpu else "on one device"
        yield _holder(f"one process, {where}", setup, lambda s: needs(shape, s, device, dtype, learns=True), available)
        return

    setup = replace(setup, learners=ray.learners)

    def crowd(title: str, learners: int, samplers: int) -> Holder:
        together = Crowd("", device, dtype, learners, samplers, available)
        spreads = learners > 0 and not on_cpu
        return _holder(
            title, setup, lambda s: together.needs(shape, s), available, learns=learners > 0, spreads=spreads
        )

    if on_cpu:
        each = [math.ceil(count / resources.machines) for count in (ray.learners, ray.samplers)]
        learners, samplers = (
            f"{n} {noun}{'s' * (n > 1)}" for n, noun in zip(each, ("learner", "sampler"), strict=True)
        )
        yield crowd(f"{learners} and {samplers} on each machine", each[0], each[1])
    elif ray.colocate:
        both, alone = min(ray.learners, ray.samplers), ray.learners - ray.samplers
        yield crowd(f"a learner and a sampler on each of {both} devices", 1, 1)
        if alone:
            yield crowd(f"alone on each of {abs(alone)} devices", int(alone > 0), int(alone < 0))
    else:
        yield crowd(f"each of {ray.learners} learners, on a device of its own", 1, 0)
        yield crowd(f"each of {ray.samplers} samplers, on a device of its own", 0, 1)


def _holder(
    title: str,
    setup: Setup,
    needed: Callable[[Setup], Needs],
    available: int,
    *,
    learns: bool = True,
    spreads: bool = False,
) -> Holder:
    found = needed(setup)
    helps = None
    if available and found.total > available:
        helps = remedy(setup, needed, available, learns=learns, spreads=spreads)
    return Holder(title, found, available, helps)


def _machine(config: RunConfig, shape: Shape, resources: Resources) -> Machine:
    """What a machine's own memory is needed for beside that of the processes, where these are on devices."""
    ray, learned = config.ray, learned_parameters(shape, config.model)
    processes = math.ceil((ray.learners + ray.samplers) / resources.machines) if config.engine == "ray" else 1
    whole = opened_whole(shape, config.model)
    opening = Term(
        Part.OPENING, processes * whole, f"{processes} × 4 bytes × {many(whole // FLOAT)} parameters, for a moment"
    )
    machines = resources.machines if config.engine == "ray" else 1
    shared = f" / {machines} machines" if machines > 1 else ""
    saving = f"3 × 4 bytes × {many(learned)}{shared}, weights and moments, at a checkpoint"
    standing = [Term(Part.SAVING, 3 * FLOAT * learned // machines, saving)]
    if config.engine == "ray":
        match ray.transfer:
            case "store":
                how = f"2 × 4 bytes × {many(learned)}, those that are published and those before them"
                standing.append(Term(Part.STORE, 2 * FLOAT * learned, how))
            case "broadcast":
                how = f"4 bytes × {many(learned)}, kept by the first learner for a sampler that is replaced"
                standing.append(Term(Part.PUBLISHED, FLOAT * learned, how))
    available = resources.host_memory or (free_memory(CPU) if resources.here else 0)
    return Machine(opening, tuple(standing), available)
