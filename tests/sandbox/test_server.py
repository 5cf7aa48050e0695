"""One pool of workers for several trainers: the same answers as one's own, and nothing left when either side dies."""

import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from gasp_rl.config import Limits, SandboxConfig
from gasp_rl.errors import SandboxError
from gasp_rl.sandbox.base import Execution, Job, Status
from gasp_rl.sandbox.local import LocalSandbox
from gasp_rl.sandbox.remote import LENGTH, RemoteSandbox, open_sandbox


@contextmanager
def serving(path: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "gasp_rl.sandbox.server", str(path), "--workers", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            assert server.stdout.readline().startswith("gasp: sandbox at level L")
            yield server
        finally:
            server.terminate()


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("server") / "gasp.sock"
    with serving(path):
        yield path


@pytest.fixture(scope="module")
def sandbox(path: Path) -> Iterator[RemoteSandbox]:
    with closing(RemoteSandbox(SandboxConfig(server=str(path)))) as opened:
        yield opened


MIXED = [
    Job("def f(x):\n    return [x, {1: (x,)}, 1.5]", ("1", "'a\\ud800'")),
    Job("print(input()[::-1])", ("abc\n", "déf\n"), entry=""),
    Job("def f(x):\n    return 1 / x", ("1", "0", "2"), stop_on_error=False),
    Job("def f(x", ("1",)),
    Job("s = '\ud800'\ndef f(x): return x", ("1",)),
    Job("import time\ndef f(x):\n    return time.time()", ("1",), clock=7.0, hash_seed=3),
    Job("def f(x):\n    return 'y' * x", ("70_000",), limits=Limits(value_bytes=1 << 17)),
    Job("def f(x): return x", ("[" + "1, " * 100_000 + "1]",), limits=Limits(value_bytes=1 << 20)),
]


def without_time(found: Iterator[tuple[int, Execution]]) -> list[tuple[int, object, str]]:
    return sorted((index, one.results, f"{one.status} {one.detail} {one.level}") for index, one in found)


def test_a_server_gives_the_answers_that_ones_own_workers_give(sandbox: RemoteSandbox) -> None:
    with LocalSandbox(SandboxConfig(workers=1)) as own:
        assert without_time(sandbox.execute(MIXED)) == without_time(own.execute(MIXED))


def test_what_a_program_used_is_told_by_the_server(sandbox: RemoteSandbox) -> None:
    busy = Job("import time\ndef f(x):\n    while time.process_time() < x: pass", ("0.2",))

    ((_, found),) = sandbox.execute([busy])

    assert found.cpu_seconds > 0.15


def test_the_setting_chooses(path: Path) -> None:
    with (
        closing(open_sandbox(SandboxConfig(server=str(path)))) as remote,
        closing(open_sandbox(SandboxConfig())) as own,
    ):
        assert isinstance(remote, RemoteSandbox)
        assert isinstance(own, LocalSandbox)


def test_the_limits_are_those_of_the_client(path: Path) -> None:
    strict = RemoteSandbox(SandboxConfig(server=str(path), limits=Limits(value_bytes=100)))
    ((_, execution),) = strict.execute([Job("def f(x): return 'x' * 200", ("1",))])

    assert execution.status is Status.UNSERIALIZABLE


def test_many_clients_share_it_and_each_gets_its_own_answers(sandbox: RemoteSandbox) -> None:
    def work(client: int) -> list[str]:
        jobs = (Job(f"def f(x): return [{client}, x]", (str(k),)) for k in range(60))
        return [execution.results[0].value for _, execution in sorted(sandbox.execute(jobs), key=lambda pair: pair[0])]

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(work, range(3))) == [[f"[{client}, {k}]" for k in range(60)] for client in range(3)]


def test_jobs_are_asked_for_only_as_far_as_there_is_room_and_answers_come_before_the_last(
    sandbox: RemoteSandbox,
) -> None:
    asked: list[int] = []

    def jobs() -> Iterator[Job]:
        for k in range(500):
            asked.append(k)
            yield Job("def f(x): return x", (str(k),))

    running = sandbox.execute(jobs())
    next(running)

    assert len(asked) < 100
    del running


def test_a_slow_client_gets_its_first_answers_while_it_writes_its_last_jobs(sandbox: RemoteSandbox) -> None:
    answered: list[int] = []

    def jobs() -> Iterator[Job]:
        yield Job("def f(x): return x", ("1",))
        deadline = time.monotonic() + 20
        while not answered and time.monotonic() < deadline:
            time.sleep(0.01)
            yield Job("def f(x): return x", ("2",))

    for index, _ in sandbox.execute(jobs()):
        answered.append(index)

    assert 0 in answered


def test_a_client_that_goes_away_takes_its_jobs_along(sandbox: RemoteSandbox) -> None:
    slow = Job("import time\ndef f(x): time.sleep(0.1)", ("1",))
    running = sandbox.execute([Job("def f(x): return x", ("1",)), *[slow] * 40])
    next(running)
    del running

    ((_, execution),) = sandbox.execute([Job("def f(x): return x", ("1",))])

    assert execution.status is Status.OK


@pytest.mark.parametrize("noise", [b"\xff" * 64, LENGTH.pack(3) + b"abc", LENGTH.pack(1) + b"\x90" + b"GET / HTTP"])
def test_noise_on_the_socket_ends_only_that_connection(path: Path, sandbox: RemoteSandbox, noise: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.connect(str(path))
        stranger.sendall(noise)
        while stranger.recv(1 << 16):
            pass

    ((_, execution),) = sandbox.execute([Job("def f(x): return x", ("1",))])
    assert execution.status is Status.OK


def test_only_its_owner_may_open_the_socket(path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_killed_server_is_one_line_for_its_client_and_leaves_no_process(tmp_path: Path) -> None:
    path = tmp_path / "gasp.sock"
    with serving(path) as server:
        sandbox = RemoteSandbox(SandboxConfig(server=str(path)))
        running = sandbox.execute([Job("def f(x): return x", ("1",)), Job("def f(x):\n    while x: pass", ("1",))])
        next(running)
        family = descendants(server.pid)
        assert family
        server.kill()

        with pytest.raises(SandboxError, match=r"^the sandbox server at .* ended while it was needed$"):
            next(running)
    with pytest.raises(SandboxError, match=r"no sandbox server at .*: Connection refused; start one: python -m"):
        next(sandbox.execute([Job("", ())]))
    deadline = time.monotonic() + 20
    while any(map(alive, family)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(map(alive, family))

    with serving(path):  # the socket that was left behind is replaced
        assert RemoteSandbox(SandboxConfig(server=str(path))).level


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_that_is_asked_to_end_takes_its_socket_and_its_workers_along(tmp_path: Path, number: int) -> None:
    path = tmp_path / "gasp.sock"
    with serving(path) as server:
        list(RemoteSandbox(SandboxConfig(server=str(path))).execute([Job("def f(x): return x", ("1",))]))
        family = descendants(server.pid)
        server.send_signal(number)
        assert server.wait(20) == 0

    assert not path.exists()
    assert not any(map(alive, family))


def test_two_servers_do_not_share_a_socket(path: Path) -> None:
    second = subprocess.run(
        [sys.executable, "-m", "gasp_rl.sandbox.server", str(path)], capture_output=True, text=True, check=False
    )

    assert (second.returncode, second.stderr) == (2, f"gasp: cannot listen at {path}: Address already in use\n")


def test_a_server_that_enforces_too_little_is_refused(path: Path, sandbox: RemoteSandbox) -> None:
    if sandbox.level == "L4":
        return
    with pytest.raises(SandboxError, match="L4 is required; to accept that"):
        RemoteSandbox(SandboxConfig(server=str(path), min_level="L4"))


def test_no_server_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match=r"no sandbox server at .*: No such file or directory; start one"):
        RemoteSandbox(SandboxConfig(server=str(tmp_path / "none")))


def descendants(pid: int) -> list[int]:
    children = [
        int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    ]
    return [found for child in children for found in (child, *descendants(child))]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
