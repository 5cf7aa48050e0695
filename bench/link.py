"""What a device receives per second of the others when FSDP2 gathers a layer twice and sums its gradient once.

    python bench/link.py [--processes 2] [--device cpu|cuda] [--parameters 468480] [--tokens 700]

Say the parameters of one layer and the tokens of a micro-batch: between messages every process computes as with such a layer, and
what is sent costs what that takes longer than computing alone. The figure is for `gasp plan ... --link-gb-per-second`. Processes of
one machine, one device each.
"""

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

import torch
import torch.distributed as dist
import tyro
from torch import multiprocessing

from gasp_rl.policy.meeting import BACKENDS


@dataclass(frozen=True)
class Bench:
    processes: int = 2
    device: Literal["cpu", "cuda"] = "cpu"
    parameters: int = 468_480
    """Of a layer; by default the embedded model's."""
    tokens: int = 700
    rounds: int = 30


def take_part(rank: int, asked: Bench, port: int, found: Any) -> None:
    torch.set_num_threads(1)
    device = torch.device(asked.device, rank) if asked.device == "cuda" else torch.device("cpu")
    at = f"tcp://127.0.0.1:{port}"
    dist.init_process_group(BACKENDS[asked.device], init_method=at, rank=rank, world_size=asked.processes)
    own = torch.ones(-(-asked.parameters // asked.processes), device=device)
    whole = torch.ones(len(own) * asked.processes, device=device)
    gather: Callable[..., Any] = dist.all_gather_single
    scatter: Callable[..., Any] = dist.reduce_scatter_single
    width = max(1, round(asked.parameters**0.5))
    inputs, layer = torch.ones(asked.tokens, width, device=device), torch.ones(width, width, device=device)

    def seconds(*, sends: bool) -> float:
        """Of a layer's forward pass, and its backward pass of twice the work."""
        dist.barrier()
        start = time.perf_counter()
        for products in (1, 2):
            if sends:
                gather(whole, own)
            for _ in range(products):
                inputs @ layer
        if sends:
            scatter(own, whole)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - start

    both = [(seconds(sends=True), seconds(sends=False)) for _ in range(asked.rounds + 1)][1:]
    cost = median(sent for sent, _ in both) - median(alone for _, alone in both)
    received = 3 * own.nbytes * (asked.processes - 1)
    if rank == 0:
        found.put(received / max(cost, 1e-9))
    dist.destroy_process_group()


def speed(asked: Bench) -> float:
    """Bytes per second, float32 both ways."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    found = multiprocessing.get_context("spawn").SimpleQueue()
    spawn: Callable[..., Any] = multiprocessing.spawn  # type: ignore[attr-defined] # documented, but not listed
    spawn(take_part, (asked, port, found), nprocs=asked.processes)
    return float(found.get())


if __name__ == "__main__":
    print(f"{speed(tyro.cli(Bench)) / 1e9:.3f} GB/s")
