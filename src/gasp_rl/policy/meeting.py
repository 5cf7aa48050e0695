"""Where processes find each other, and how weights go from one of them to the others at once (torch.distributed)."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from gasp_rl.errors import HandoverError

BACKENDS = {"cpu": "gloo", "cuda": "nccl"}


class Meeting:
    """A place where processes find each other; opened by one of them, at a port that the system chose."""

    def __init__(self, host: str, port: int, *, first: bool, seconds: float) -> None:
        """`port` 0 of the first: any. Nobody waits longer than this for anybody."""
        self._limit = timedelta(seconds=seconds)
        self._store = dist.TCPStore(  # type: ignore[attr-defined] # documented, but not listed
            host, port, is_master=first, wait_for_workers=False, timeout=self._limit
        )
        self.host = host
        self.port = int(self._store.port)

    @property
    def at(self) -> tuple[str, int]:
        return self.host, self.port

    def join(self, rank: int, size: int, device: torch.device, seconds: float) -> None:
        """Wait for all, to work together from here on. From then on none waits longer than this for another."""
        limit = timedelta(seconds=seconds)
        dist.init_process_group(BACKENDS[device.type], store=self._store, rank=rank, world_size=size, timeout=limit)

    def expect(self, takers: int) -> None:
        """Tell whoever hands over how many will take."""
        self._store.set("takers", str(takers))

    def hand_over(self, weights: Mapping[str, Tensor], device: torch.device) -> None:
        """Send these to all who take them here, once it is known how many those are. HandoverError if one is lost."""
        with _told():
            self._store.set("names", json.dumps(list(weights)))
            group = self._group(0, int(self._store.get("takers")) + 1, device)
            for name in weights:
                group.broadcast(weights[name].to(device).contiguous(), 0).wait()
            self._all_done(group, device)

    def take(self, into: Mapping[str, Tensor], place: int, takers: int, device: torch.device) -> None:
        """Receive them into those of the same names; this is one of so many. HandoverError if another is lost: what is there is
        of no use then.
        """
        with _told(), torch.no_grad():
            group = self._group(place + 1, takers + 1, device)
            for name in json.loads(self._store.get("names")):
                whole = torch.empty(into[name].shape, dtype=torch.float32, device=device)
                group.broadcast(whole, 0).wait()
                into[name].copy_(whole)
            self._all_done(group, device)

    def _group(self, rank: int, size: int, device: torch.device) -> Any:
        """Of these processes alone, beside any other that they belong to."""
        if device.type == "cpu":
            gloo: Callable[..., Any] = dist.ProcessGroupGloo
            return gloo(self._store, rank, size, self._limit)
        nccl: Callable[..., Any] = dist.ProcessGroupNCCL
        return nccl(self._store, rank, size, self._limit)

    def _all_done(self, group: Any, device: torch.device) -> None:
        """Nobody leaves before the last has everything."""
        done = torch.ones(1, device=device)
        group.allreduce([done]).wait()
        done.item()


@contextmanager
def _told() -> Iterator[None]:
    """Someone else's death becomes one line."""
    try:
        yield
    except RuntimeError as error:  # what torch.distributed raises for a peer that is lost, or late
        raise HandoverError(f"weights did not arrive: {' '.join(str(error).split())[:200]}") from error
