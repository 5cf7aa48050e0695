"""What all tests share. Hypothesis on busy machines: how long an example takes says nothing about it."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import pytest
from hypothesis import HealthCheck, settings

from gasp_rl.cluster import Cluster
from gasp_rl.config import RayConfig

settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@dataclass(frozen=True, slots=True)
class TinkerServer:
    """A service on loopback that speaks the Tinker interface (tinker_server.py), in a process of its own."""

    port: int
    process: subprocess.Popen[str]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


ServeTinker: TypeAlias = Callable[..., TinkerServer]


@pytest.fixture(scope="session")
def serve_tinker() -> Iterator[ServeTinker]:
    """Start a server with these options; all end with the tests."""
    with ExitStack() as stack:

        def serve(**options: object) -> TinkerServer:
            script = Path(__file__).with_name("tinker_server.py")
            given = [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", str(value))]
            process = subprocess.Popen([sys.executable, str(script), *given], stdout=subprocess.PIPE, text=True)
            stack.enter_context(process)
            stack.callback(process.kill)
            assert process.stdout is not None
            return TinkerServer(int(process.stdout.readline()), process)

        yield serve


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """One for all tests that are marked `ray`: a process can have one only, and it takes seconds to start."""
    os.environ["RAY_memory_monitor_refresh_ms"] = "0"  # noqa: SIM112 - what else runs on this machine is no fault of these tests
    with closing(Cluster(RayConfig(learners=4, samplers=6, object_store_mb=80))) as cluster:
        yield cluster
