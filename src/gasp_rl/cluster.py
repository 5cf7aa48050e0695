"""Processes on this machine or on others, by Ray: placed, called with deadlines, and named when they are lost.

The only module that knows Ray, which is an extra and imported when a cluster is opened. Knows no models and no programs.
What is called here runs in other processes: arguments and results travel as pickles, among processes of one user.
"""

import os
import re
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Concatenate, Final, Generic, ParamSpec, TypeVar

from gasp_rl.config import RayConfig
from gasp_rl.errors import ConfigError, GaspError, WorkerError, WorkerLostError

T = TypeVar("T")
R = TypeVar("R")
P = ParamSpec("P")

CULPRIT_SECONDS: Final = 5.0
"""After one of several processes that work together has failed: whoever dies within this time is the cause."""


@dataclass(frozen=True, slots=True)
class Room:
    """What a process is given."""

    cpus: float = 1
    gpus: float = 0


class Call(Generic[R]):
    """Something that a process was asked to do."""

    def __init__(self, reference: Any, name: str) -> None:
        self._reference = reference
        self.name = name
        """Of whoever was asked."""

    @property
    def handed_on(self) -> R:
        """Stands for the result as an argument of another call: it goes there without coming here."""
        reference: R = self._reference
        return reference

    def result(self, seconds: float) -> R:
        """WorkerLostError if the process is gone, or says nothing for so long; a fault of its own as it was raised there."""
        import ray  # noqa: PLC0415 - an extra

        with _told(self.name, seconds):
            result: R = ray.get(self._reference, timeout=seconds)
        return result


class Worker(Generic[T]):
    """A process that holds an object, and does what is called on it one after the other."""

    def __init__(self, handle: Any, name: str) -> None:
        self._handle = handle
        self.name = name

    def call(self, method: Callable[Concatenate[T, P], R], *args: P.args, **kwargs: P.kwargs) -> Call[R]:
        """Ask for a method of its class; does not wait."""
        return Call(getattr(self._handle, method.__name__).remote(*args, **kwargs), self.name)

    def kill(self) -> None:
        import ray  # noqa: PLC0415 - an extra

        ray.kill(self._handle)


class Places:
    """Room for several processes, held together: either all of it was found or none."""

    def __init__(self, group: Any) -> None:
        self._group = group

    def start(
        self, place: int, name: str, room: Room, kind: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> Worker[T]:
        """A process for an object of this class, at this place. Does not wait for it."""
        import ray  # noqa: PLC0415 - an extra

        at = ray.util.scheduling_strategies.PlacementGroupSchedulingStrategy(
            placement_group=self._group, placement_group_bundle_index=place
        )
        make = ray.remote(kind).options(num_cpus=room.cpus, num_gpus=room.gpus, scheduling_strategy=at, max_restarts=0)
        return Worker(make.remote(*args, **kwargs), name)

    def give_back(self) -> None:
        import ray  # noqa: PLC0415 - an extra

        ray.util.remove_placement_group(self._group)


class Cluster:
    """Machines to start processes on: this one, or all of a cluster that is running."""

    def __init__(self, config: RayConfig) -> None:
        """Starts what belongs to this machine alone, or joins what is there."""
        if find_spec("ray") is None:
            raise ConfigError("engine ray needs the ray package: pip install 'gasp-rl[ray]'")
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        # By default Ray's processes give way to all others: beside sandboxes that are busy they would hardly run.
        os.environ.setdefault("RAY_worker_niceness", "0")
        import ray  # noqa: PLC0415 - an extra

        at_signal = signal.getsignal(signal.SIGTERM)
        quiet: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
        try:
            if config.address:
                ray.init(address=config.address, **quiet)
            else:
                ray.init(
                    address="local",
                    num_cpus=max(config.processes, os.cpu_count() or 1),
                    object_store_memory=config.object_store_mb << 20,
                    include_dashboard=False,
                    **quiet,
                )
        except Exception as error:
            # Ray raises Exception itself where its own processes do not start within half a minute: a busy machine.
            if type(error) is not Exception and not isinstance(error, (ValueError, RuntimeError, OSError)):
                raise
            ray.shutdown()  # what did start
            reason = " ".join(str(error).split())[:300]
            where = f"no Ray cluster at ray.address {config.address!r}" if config.address else "Ray cannot start here"
            raise ConfigError(f"{where}: {reason}") from error
        finally:
            if at_signal is not None:
                signal.signal(signal.SIGTERM, at_signal)  # Ray would have it end this process without a word

    @property
    def gpus(self) -> float:
        import ray  # noqa: PLC0415 - an extra

        found: float = ray.cluster_resources().get("GPU", 0)
        return found

    def reserve(self, rooms: Sequence[Room], seconds: float, *, spread: bool = False) -> Places:
        """Hold so much; WorkerError if it is not to be had in time. `spread` over machines, else as near as can be."""
        import ray  # noqa: PLC0415 - an extra
        import ray.util.scheduling_strategies  # noqa: PLC0415

        bundles = [{"CPU": room.cpus} | ({"GPU": room.gpus} if room.gpus else {}) for room in rooms]
        group = ray.util.placement_group(bundles, strategy="SPREAD" if spread else "PACK")
        if not group.wait(seconds):
            ray.util.remove_placement_group(group)
            have = ray.cluster_resources()
            cpus, gpus = (sum(getattr(room, kind) for room in rooms) for kind in ("cpus", "gpus"))
            raise WorkerError(
                f"the cluster has no room for {len(rooms)} processes: they need {cpus:g} CPUs and {gpus:g} GPUs, it has "
                f"{have.get('CPU', 0):g} and {have.get('GPU', 0):g}, others may hold them; ask for fewer (--ray.learners, "
                "--ray.samplers, --ray.sandboxes)"
            )
        return Places(group)

    def close(self) -> None:
        """Ends every process that was started here, and the cluster if it was."""
        import ray  # noqa: PLC0415 - an extra

        ray.shutdown()


def own_address() -> str:
    """Of the machine that this process of a cluster runs on, as the others reach it."""
    import ray  # noqa: PLC0415 - an extra

    address: str = ray.util.get_node_ip_address()
    return address


def ready(calls: Sequence[Call[Any]], seconds: float) -> list[Call[Any]]:
    """Those that are done, or whose process is gone, as soon as there is one; none after so long."""
    import ray  # noqa: PLC0415 - an extra

    known = {call._reference: call for call in calls}  # noqa: SLF001 - one of ours
    done, _ = ray.wait(list(known), num_returns=1, timeout=seconds, fetch_local=False)
    return [known[reference] for reference in done]


def together(calls: Sequence[Call[R]], seconds: float) -> list[R]:
    """The results of processes that work together, where one that fails leaves the others waiting for it.

    Raises as soon as one has failed; of several the fault of one that died, which is the cause of the rest.
    """
    waiting, end = list(calls), time.monotonic() + seconds
    while waiting:
        left = max(0.0, end - time.monotonic())
        done = ready(waiting, left)
        if not done:
            raise _silent(", ".join(call.name for call in waiting), seconds)
        for call in done:
            try:
                call.result(seconds)
            except WorkerLostError:
                raise
            except GaspError:
                _raise_culprit([other for other in waiting if other is not call])
                raise
            waiting.remove(call)
    return [call.result(seconds) for call in calls]


def _raise_culprit(calls: Sequence[Call[Any]]) -> None:
    """WorkerLostError if one of these is gone."""
    end = time.monotonic() + CULPRIT_SECONDS
    waiting = list(calls)
    while waiting and (done := ready(waiting, max(0.0, end - time.monotonic()))):
        for call in done:
            try:
                call.result(CULPRIT_SECONDS)
            except WorkerLostError:
                raise
            except GaspError:
                pass
            waiting.remove(call)


def _silent(name: str, seconds: float) -> WorkerLostError:
    return WorkerLostError(f"{name} gave no answer for {seconds:g} s (--ray.answer-seconds); taken for dead")


@contextmanager
def _told(name: str, seconds: float) -> Iterator[None]:
    """Faults of a call become one line that names the process."""
    import ray  # noqa: PLC0415 - an extra

    try:
        yield
    except ray.exceptions.GetTimeoutError:
        raise _silent(name, seconds) from None
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        if isinstance(cause, GaspError):
            raise type(cause)(str(cause)) from None
        reason = " ".join(str(cause).split())[:300]
        raise WorkerError(f"{name} failed: {type(cause).__name__}: {reason}") from error
    except ray.exceptions.RayError as error:  # the process, its machine, or an object that was there
        raise WorkerLostError(f"{name} died{_circumstances(str(error))}") from error


def _circumstances(text: str) -> str:
    """Of a death, as Ray tells it at length: which process, where, and why."""
    line = " ".join(text.split())
    process = re.search(r"\bpid: (\d+)\b.* ip: ([\w.:]+)", line)
    reason = line.partition("is dead because ")[2].partition(" Worker exit type")[0] or line
    return (f" (process {process[1]} on {process[2]})" if process else "") + f": {reason.rstrip('.')[:200]}"
