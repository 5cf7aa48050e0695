"""The filters of system calls, run here by an interpreter of ours, for machines that we need not have."""

import platform
import re
import struct
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from gasp_rl.sandbox import isolation, worker
from gasp_rl.sandbox.worker import MACHINES, Filter, child_filter, numbers, zygote_filter

ALLOW, KILL, REFUSED, NOTHING, UNKNOWN = "allow", "kill", "EPERM", "nothing", "ENOSYS"
ANSWERS: Final = {
    0x7FFF0000: ALLOW,
    0x80000000: KILL,
    0x50001: REFUSED,
    0x50000: NOTHING,
    0x50026: UNKNOWN,
    0x50019: "ENOTTY",
}


def answer(program: Filter, number: int, *arguments: int, machine: str) -> str:
    """What the kernel would do: classic BPF, as far as these filters use it."""
    data = struct.pack("<iIQ6Q", number, MACHINES[machine], 0, *arguments, *[0] * (6 - len(arguments)))
    instructions = list(struct.iter_unpack("HBBI", program._code.raw[:-1]))
    at = loaded = 0
    while True:
        code, if_true, if_false, constant = instructions[at]
        at += 1
        match code:
            case worker._LOAD:
                (loaded,) = struct.unpack_from("<I", data, constant)
            case worker._RETURN:
                return ANSWERS[constant]
            case _:
                holds = {
                    worker._EQUAL: loaded == constant,
                    worker._AT_LEAST: loaded >= constant,
                    worker._ANY_BIT: loaded & constant != 0,
                }[code]
                at += if_true if holds else if_false


SIGCHLD, THREAD = 17, 0x3D0F00


@pytest.mark.parametrize(("machine", "number"), [
    ("x86_64", {"read": 0, "openat": 257, "socket": 41, "execve": 59, "ptrace": 101, "clone": 56, "clone3": 435, "kill": 62,
                "prlimit64": 302, "ioctl": 16, "getrandom": 318, "bpf": 321, "io_uring_setup": 425, "setns": 308, "shmget": 29,
                "tgkill": 234, "chdir": 80, "unlinkat": 263, "mount": 165}),
    ("aarch64", {"read": 63, "openat": 56, "socket": 198, "execve": 221, "ptrace": 117, "clone": 220, "clone3": 435, "kill": 129,
                 "prlimit64": 261, "ioctl": 29, "getrandom": 278, "bpf": 280, "io_uring_setup": 425, "setns": 268, "shmget": 194,
                 "tgkill": 131, "chdir": 49, "unlinkat": 35, "mount": 40}),
])  # fmt: skip
def test_the_worst_kills_the_rest_is_refused_and_children_may_less(machine: str, number: dict[str, int]) -> None:
    outer = zygote_filter(files=True, machine=machine)
    inner = child_filter(machine)

    assert answer(outer, number["read"], machine=machine) == ALLOW
    assert answer(outer, number["openat"], machine=machine) == ALLOW
    assert answer(zygote_filter(files=False, machine=machine), number["openat"], machine=machine) == REFUSED
    for name in ("socket", "execve", "getrandom", "shmget", "tgkill", "chdir", "unlinkat"):
        assert answer(outer, number[name], machine=machine) == REFUSED, name
    for name in ("ptrace", "bpf", "io_uring_setup", "setns", "mount"):
        assert answer(outer, number[name], machine=machine) == KILL, name
    assert answer(outer, number["clone3"], machine=machine) == UNKNOWN
    assert answer(outer, number["clone"], SIGCHLD, machine=machine) == ALLOW
    assert answer(outer, number["clone"], 0x10000000, machine=machine) == KILL  # a namespace
    assert answer(inner, number["clone"], SIGCHLD, machine=machine) == REFUSED
    assert answer(inner, number["clone"], THREAD, machine=machine) == ALLOW
    assert answer(outer, number["kill"], machine=machine) == ALLOW
    assert answer(inner, number["kill"], machine=machine) == REFUSED
    assert answer(outer, number["prlimit64"], 1, machine=machine) == REFUSED  # somebody else's
    assert (
        answer(inner, number["prlimit64"], 0, 0, 0x7F0000000000, machine=machine) == NOTHING
    )  # to set: yes, and no effect
    assert answer(inner, number["prlimit64"], 0, 0, 0, machine=machine) == ALLOW  # to read
    assert answer(outer, number["ioctl"], 1, 0x5412, machine=machine) == "ENOTTY"  # TIOCSTI
    assert answer(outer, 0x40000000 | number["read"], machine=machine) == KILL


@pytest.mark.parametrize("machine", MACHINES)
def test_system_calls_of_another_architecture_kill(machine: str) -> None:
    other = next(name for name in MACHINES if name != machine)

    assert answer(zygote_filter(files=True, machine=machine), 0, machine=other) == KILL


@pytest.mark.parametrize("machine", MACHINES)
def test_no_system_call_is_both_allowed_and_deadly(machine: str) -> None:
    allowed = numbers(worker._ALLOWED + worker._READ_FILES, machine)
    deadly = numbers(worker._DEADLY, machine)

    assert not set(allowed.values()) & set(deadly.values())
    for table in (allowed, deadly, numbers(worker._OURS, machine)):
        assert len(set(table.values())) == len(table)


@pytest.mark.parametrize(("machine", "header"), [
    ("x86_64", "/usr/include/x86_64-linux-gnu/asm/unistd_64.h"), ("aarch64", "/usr/include/asm-generic/unistd.h"),
])  # fmt: skip
def test_the_numbers_are_those_of_the_kernels_headers_where_they_are_installed(machine: str, header: str) -> None:
    if not Path(header).exists():
        pytest.skip("no kernel headers here")
    known = {name: int(n) for name, n in re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)\b", Path(header).read_text())}
    known.setdefault("newfstatat", known.get("fstatat", -1))  # asm-generic knows it by another name
    ours = numbers(worker._ALLOWED + worker._READ_FILES + worker._DEADLY + worker._OURS, machine)

    assert {name: number for name, number in ours.items() if name in known} == {
        name: known[name] for name in ours if name in known
    }
    assert len(set(ours) - set(known)) <= 5  # newer than the headers


@pytest.mark.skipif(
    platform.machine() != "x86_64", reason="the trick needs a 64-bit machine that can pose as an older one"
)
def test_an_unknown_machine_is_refused_in_one_line_that_names_the_way_out_and_its_risk(tmp_path: Path) -> None:
    program = (
        "import ctypes; ctypes.CDLL(None).personality(8)  # now uname says i686\n"
        "from gasp_rl.cli import main\n"
        "open('p.py', 'w').write('def f(x): return x'); open('i.json', 'w').write('[[1]]')\n"
        "print(main(['sandbox', 'call', 'p.py', '--inputs', 'i.json']))\n"
        "print(main(['sandbox', 'call', 'p.py', '--inputs', 'i.json', '--sandbox.min-level', 'L1']))\n"
    )
    path = {"PYTHONPATH": str(Path(isolation.__file__).parents[2]), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=tmp_path, env=path
    )

    assert done.stderr == (
        "gasp: this machine isolates programs at level L1 only, L2 is required (system calls are filtered on x86_64 and "
        f"aarch64 only, this is i686); to accept that {isolation.RISK['L1']}: --sandbox.min-level L1\n"
    )
    assert done.stdout.split("\n")[0] == "2"
    assert done.stdout.split("\n")[1].startswith("ok (L1, ")
