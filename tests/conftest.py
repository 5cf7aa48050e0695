"""What all tests share. Hypothesis on busy machines: how long an example takes says nothing about it."""

import os
from collections.abc import Iterator
from contextlib import closing

import pytest
from hypothesis import HealthCheck, settings

from gasp_rl.cluster import Cluster
from gasp_rl.config import RayConfig

settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """One for all tests that are marked `ray`: a process can have one only, and it takes seconds to start."""
    os.environ["RAY_memory_monitor_refresh_ms"] = "0"  # noqa: SIM112 - what else runs on this machine is no fault of these tests
    with closing(Cluster(RayConfig(learners=4, samplers=6, object_store_mb=80))) as cluster:
        yield cluster
