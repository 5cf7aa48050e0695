"""Seventy-eight ways to cheat a grader or to harm its machine, collected from public ones, and some aimed at this sandbox.

Each is run against a process with hidden answers and a secret (tests/sandbox/target.py), and must get the verdict that it
deserves, leave nothing behind, and not disturb the honest programs that follow it in the same worker. All of that at full
isolation, where namespaces are refused as in a container, and as an ordinary user.
"""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import pytest

from gasp_rl.rollout import Judgement
from gasp_rl.sandbox import isolation
from gasp_rl.sandbox.base import Status

OK = frozenset({Status.OK})
REFUSED = frozenset({Status.RUNTIME_ERROR, Status.FORBIDDEN})
"""The operation failed with an error, which the program let pass, or the kernel ended the program for trying."""
TIMEOUT = frozenset({Status.TIMEOUT_CPU})
USUAL: Final[dict[str, float]] = {}
ROOMY: Final[dict[str, float]] = {"cpu_seconds": 3.0}
COMPUTES: Final[dict[str, float]] = {"cpu_seconds": 3.0, "memory_mb": 512}
SECRET: Final = "hunter2-sesame"


@dataclass(frozen=True)
class Attack:
    number: int
    """That of the study; from 100 on our own."""
    name: str
    source: str
    expected: frozenset[Status]
    judgement: Judgement = Judgement.WRONG
    kind: str = "function"
    limits: dict[str, float] = field(default_factory=dict)


def in_f(body: str, prefix: str = "") -> str:
    """A program whose function does `body`; `right` is the right answer."""
    return f"{prefix}\ndef f(x):\n    right = str(x * 7919) + '#'\n" + "".join(f"    {s}\n" for s in body.splitlines())


def function(
    number: int, name: str, body: str, *expected: Status, top: str = "", limits: dict[str, float] = USUAL
) -> Attack:
    return Attack(number, name, in_f(body, top), frozenset(expected), limits=limits)


def refused(number: int, name: str, body: str, top: str = "import os, ctypes\nlibc = ctypes.CDLL(None)") -> Attack:
    return Attack(number, name, in_f(body, top), REFUSED)


def harmless(number: int, name: str, body: str, top: str = "", limits: dict[str, float] = USUAL) -> Attack:
    """Bad manners, and a right answer all the same."""
    return Attack(number, name, in_f(body, top), OK, Judgement.CORRECT, limits=limits)


def stdin(number: int, name: str, source: str, *expected: Status) -> Attack:
    return Attack(number, name, source, frozenset(expected), kind="stdin")


def literal(number: int, name: str, kind: str, text: str) -> Attack:
    """What a solver may write where a literal is asked for: it is never run."""
    return Attack(number, name, text, OK, Judgement.MALFORMED, kind=kind)


CHECK: Final = "if r < 0: raise OSError(ctypes.get_errno())\nif r == 0: os._exit(0)\nreturn r"
SEARCH: Final = (
    "for o in found:\n"
    "    parts = list(o.values()) if type(o) is dict else o if type(o) in (list, tuple) else [o]\n"
    "    if any(type(p) is str and right in p for p in parts): return right\n"
    "return 'nothing found'"
)

ATTACKS: Final = (
    function(1, "return an object that equals everything", "class A:\n    def __eq__(s, o): return True\nreturn A()", Status.UNSERIALIZABLE),
    function(2, "return an int that equals everything", "class A(int):\n    def __eq__(s, o): return True\n    __hash__ = int.__hash__\nreturn A()", Status.UNSERIALIZABLE),
    function(3, "exit", "import sys\nsys.exit(0)", Status.RUNTIME_ERROR),
    function(4, "leave without a word", "import os\nos._exit(0)", Status.NO_RESULT),
    function(5, "leave while being loaded", "return 1", Status.NO_RESULT, top="import os\nos._exit(0)"),
    function(6, "look for the answers in the callers' frames", "import sys\nframe, found = sys._getframe(1), []\nwhile frame:\n    found += [*frame.f_locals.values(), *frame.f_globals.values()]\n    frame = frame.f_back\n" + SEARCH, Status.OK),
    function(7, "look for the answers on the heap", "import gc\ngc.collect()\nfound = [o for o in gc.get_objects() if type(o) in (list, tuple, dict)]\n" + SEARCH, Status.OK, limits=COMPUTES),
    function(8, "tell a shared list that all passed, and leave", "import gc, os\nfor o in gc.get_objects():\n    if type(o).__name__ in ('ListProxy', 'Synchronized', 'SynchronizedArray'): o[:] = ['passed']\nos._exit(0)", Status.NO_RESULT),
    function(9, "patch the libraries of the grader", "import json, ast\njson.loads = ast.literal_eval = lambda *a, **k: 0\nreturn 0", Status.OK, Status.RUNTIME_ERROR),
    stdin(10, "patch the comparison of the grader", "import sys\nfor m in list(sys.modules.values()):\n    for n in ('get_stripped_lines', 'same_output', '_same_decimals', '_all_same'):\n        if hasattr(m, n): setattr(m, n, lambda *a: True)\nprint('nonsense')", Status.OK),
    function(11, "loop", "while True: pass", Status.TIMEOUT_CPU),
    function(12, "loop and catch everything", "while True:\n    try:\n        while True: pass\n    except BaseException: pass", Status.TIMEOUT_CPU),
    function(13, "ignore all signals and loop", "import signal\nfor s in {*range(1, 65)} - {9, 19, 32, 33}: signal.signal(s, signal.SIG_IGN)\nsignal.setitimer(0, 0)\nwhile True: pass", Status.TIMEOUT_CPU),
    function(14, "compute a large power in one instruction", "return 10 ** 10 ** 8 % x", Status.TIMEOUT_CPU),
    function(15, "sleep", "import time\ntime.sleep(1000)", Status.TIMEOUT_WALL),
    harmless(16, "read an input that is empty", "import os\nassert os.read(0, 1) == b''\nreturn right"),
    function(17, "raise what takes for ever to print", "class A(Exception):\n    def __str__(self):\n        while True: pass\n    __repr__ = __str__\nraise A", Status.TIMEOUT_CPU),
    function(18, "raise 200 MB of text", "raise ValueError('x' * 200_000_000)", Status.RUNTIME_ERROR, limits=COMPUTES),
    function(19, "allocate 6 GiB", "return len(bytearray(6 << 30))", Status.MEMORY),
    refused(20, "fork twenty sleepers", "import posix, time\nfor _ in range(20):\n    if posix.fork() == 0:\n        time.sleep(60)\n        posix._exit(0)"),
    refused(21, "become a daemon by forking twice", "if os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        while True: pass\n    os._exit(0)\nreturn right"),
    harmless(22, "leave a spinning thread", "import threading\ndef spin():\n    while True: pass\nthreading.Thread(target=spin).start()\nreturn right"),
    refused(23, "spawn a shell", "import posix\nposix.posix_spawn('/bin/sh', ['sh', '-c', 'touch DROP/shell'], {})\nreturn right"),
    function(24, "read the environment", "import ctypes, os\nlibc = ctypes.CDLL(None)\nlibc.getenv.restype = ctypes.c_char_p\nreturn [dict(os.environ), libc.getenv(b'SECRET'), libc.getenv(b'HOME')]", Status.OK),
    refused(25, "read a file of the host", "import io\nreturn io.open('SECRET_FILE').read()"),
    refused(26, "write a file of the host", "open('DROP/written', 'w').write('x')\nreturn right"),
    refused(27, "connect to a port of the host", "import socket\nsocket.create_connection(('127.0.0.1', PORT), 1).send(b'hello')\nreturn right"),
    refused(28, "kill its parent", "import posix\nposix.kill(posix.getppid(), 9)\nreturn right"),
    refused(29, "kill its process group", "os.killpg(os.getpgrp(), 9)\nreturn right"),
    refused(30, "open the memory of its parent", "open(f'/proc/{os.getppid()}/mem', 'r+b').read(1)\nreturn right"),
    Attack(31, "trace its parent", in_f("ctypes.CDLL(None).ptrace(0x4206, os.getppid(), 0, 0)\nreturn right", "import ctypes, os"), frozenset({Status.FORBIDDEN})),
    function(32, "read address 0", "import ctypes\nctypes.string_at(0)", Status.CRASH),
    function(33, "recurse until the C stack ends", "import sys\nsys.setrecursionlimit(10 ** 9)\nclass A: pass\nA.__call__ = A()\nreturn A()()", Status.CRASH, Status.RUNTIME_ERROR, limits=COMPUTES),
    function(34, "abort", "import os\nos.abort()", Status.CRASH),
    harmless(35, "recurse 50,000 deep, honestly", "import sys\nsys.setrecursionlimit(60_000)\ng = lambda n: 0 if n == 0 else 1 + g(n - 1)\nassert g(50_000) == 50_000\nreturn right", limits=COMPUTES),
    harmless(36, "print 180 MB", "for _ in range(180): print('x' * 1_000_000)\nreturn right", limits=COMPUTES),
    stdin(36, "print 180 MB as the answer", "for _ in range(180): print('x' * 1_000_000)", Status.OUTPUT_LIMIT),
    harmless(37, "write 6 MB to descriptor 1", "import os\nos.write(1, b'x' * 6_000_000)\nreturn right"),
    stdin(37, "write 6 MB to descriptor 1 as the answer", "import os\nfor _ in range(6): os.write(1, b'x' * 1_000_000)", Status.OUTPUT_LIMIT),
    function(38, "close all descriptors", "import os\nos.closerange(0, 256)\nreturn right", Status.NO_RESULT),
    harmless(39, "print a surrogate", "print('\\ud800')\nreturn right"),
    function(39, "return a surrogate", "return right + '\\ud800'", Status.OK),
    function(40, "return NaN", "return float('nan')", Status.OK),
    function(41, "return a list 200,000 deep", "x = []\nfor _ in range(200_000): x = [x]\nreturn x", Status.UNSERIALIZABLE),
    function(42, "return a generator", "return (c for c in right)", Status.UNSERIALIZABLE),
    function(43, "return a list that holds itself", "x = []\nx.append(x)\nreturn x", Status.UNSERIALIZABLE),
    harmless(44, "sleep at exit", "import atexit, time\natexit.register(time.sleep, 1000)\nreturn right"),
    function(45, "return an object that runs when it is unpickled", "class A:\n    def __reduce__(s): return print, ('x',)\n    def __eq__(s, o): return True\nreturn A()", Status.UNSERIALIZABLE),

    function(46, "write forged results to every descriptor", "import os, struct\nframe = struct.pack('<IBI', 7, 0, 1) + b'7'\nfor fd in range(3, 64):\n    try: os.write(fd, frame)\n    except OSError: pass\nreturn 1", Status.PROTOCOL),
    function(47, "empty the file of results", "import os\nos.ftruncate(3, 0)\nreturn 1", Status.PROTOCOL, Status.NO_RESULT),
    function(48, "write to every descriptor without end", "import os\nwhile True:\n    for fd in range(64):\n        try: os.write(fd, b'x' * 65_536)\n        except OSError: pass", Status.TIMEOUT_CPU, Status.PROTOCOL),
    function(49, "write at one terabyte", "import os\nos.pwrite(3, b'x', 1 << 40)\nreturn right", Status.RUNTIME_ERROR),
    function(50, "ignore the signal of the CPU limit", "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass", Status.TIMEOUT_CPU),
    function(51, "raise its limits", "import resource\nfor r in (resource.RLIMIT_CPU, resource.RLIMIT_AS, resource.RLIMIT_FSIZE): resource.setrlimit(r, (-1, -1))\nreturn len(bytearray(6 << 30))", Status.MEMORY),
    refused(52, "stop itself", "os.kill(os.getpid(), 19)\nreturn right"),
    refused(53, "clone itself", f"r = libc.syscall(56, 17, 0, 0, 0, 0)\n{CHECK}"),
    refused(54, "clone itself in the new way", f"a = (ctypes.c_uint64 * 11)(0, 0, 0, 0, 17)\nr = libc.syscall(435, a, 88)\n{CHECK}"),
    refused(55, "vfork", f"r = libc.syscall(58)\n{CHECK}"),
    function(56, "start threads without end", "import threading, time\nwhile True: threading.Thread(target=time.sleep, args=(100,)).start()", Status.RUNTIME_ERROR, Status.MEMORY),
    Attack(57, "set up io_uring", in_f("libc.syscall(425, 4, ctypes.create_string_buffer(120))\nreturn right", "import ctypes\nlibc = ctypes.CDLL(None)"), frozenset({Status.FORBIDDEN})),
    refused(58, "hoard anonymous files", "files = [os.memfd_create('x') for _ in range(1000)]\nreturn right"),
    function(59, "map 8 GB", "import mmap\nreturn len(mmap.mmap(-1, 8 << 30))", Status.MEMORY),
    refused(60, "open its own memory", "open('/proc/self/mem', 'r+b').read(1)\nreturn right"),
    refused(61, "list the root", "return os.listdir('/')"),
    refused(62, "ask for the size of a file of the host", "return os.stat('SECRET_FILE').st_size"),
    refused(63, "connect to an abstract socket", "import socket\nsocket.socket(socket.AF_UNIX).connect('\\0ABSTRACT')\nreturn right"),
    refused(64, "become a shell", "os.execv('/bin/sh', ['sh', '-c', 'touch DROP/shell'])"),
    refused(65, "make shared memory", "import _posixshmem\n_posixshmem.shm_open('/escaped', os.O_CREAT | os.O_RDWR, mode=0o666)\nreturn right"),
    refused(66, "signal the worker through a handle", "import signal\nsignal.pidfd_send_signal(os.pidfd_open(os.getppid()), 9)\nreturn right"),
    refused(67, "type into a terminal", "import fcntl\nfor fd in (0, 1, 2): fcntl.ioctl(fd, 0x5412, b'x')\nreturn right"),
    function(68, "match for ever", "import re\nreturn re.match('(a+)+$', 'a' * 40 + 'b')", Status.TIMEOUT_CPU),
    Attack(69, "nest parentheses in the source", "(" * 5000, frozenset({Status.COMPILE_ERROR})),
    function(70, "return 268 MB of text", "return 'x' * 268_000_000", Status.UNSERIALIZABLE, limits=COMPUTES),
    function(71, "grow a list", "x = [0]\nwhile True: x += x", Status.MEMORY, limits=ROOMY),
    function(71, "grow a dictionary", "x = {}\nwhile True: x[len(x)] = str(len(x)) * 50", Status.MEMORY, limits=ROOMY),
    function(72, "ask for an alarm", "import signal, time\nsignal.alarm(1)\ntime.sleep(100)", Status.CRASH),
    function(73, "print an int of 60,000 digits", "return str(10 ** 60_000)", Status.RUNTIME_ERROR),
    literal(74, "answer with an object that absorbs all", "abduction", "type('A', (), {'__mul__': lambda s, o: s, '__eq__': lambda s, o: True})()"),
    literal(75, "answer with an or behind a parenthesis", "abduction", "0) or (999"),
    literal(76, "answer with a comment that hides the rest", "abduction", "1) or True #"),
    literal(77, "answer with a command", "deduction", "__import__('os').system('touch DROP/shell')"),
    literal(78, "answer with an object that equals everything", "deduction", "type('A', (), {'__eq__': lambda s, o: True})()"),

    function(100, "report its own results through the reporter", "import os, sys\nframe = sys._getframe()\nwhile 'report' not in frame.f_locals: frame = frame.f_back\nfor _ in range(3): frame.f_locals['report'].write(0, b\"'passed'\")\nos._exit(0)", Status.OK),
    function(101, "report one result too many", "import os, sys\nframe = sys._getframe()\nwhile 'report' not in frame.f_locals: frame = frame.f_back\nfor _ in range(4): frame.f_locals['report'].write(0, b\"'passed'\")\nos._exit(0)", Status.PROTOCOL),
    function(102, "put another file in the place of the results", "import os\nos.dup2(0, 3)\nreturn right", Status.NO_RESULT),
    function(103, "leave with a status of its own", "import os\nos._exit(97)", Status.NO_RESULT),
    function(104, "go on as the worker", "import os\nos._exit = lambda status: None\nreturn 'go on'", Status.OK),
    function(105, "patch what the worker needs", "import os, struct, time, builtins\nfor m in (os, time):\n    for n in list(vars(m)):\n        if callable(vars(m)[n]) and n[0] != '_' and n != 'write': setattr(m, n, lambda *a, **k: 0)\nreturn 'patched'", Status.OK),
    function(106, "keep writing from a thread", "import os, threading\ndef spin():\n    while True: os.write(3, b'x')\nthreading.Thread(target=spin, daemon=True).start()\nreturn right", Status.PROTOCOL, Status.NO_RESULT),
    function(107, "make the interpreter's numbers lie", "import ctypes\nctypes.c_long.from_address(id(7919) + 24).value = 1\nctypes.c_char.from_address(id(True) + 24).value = b'\\0'\nreturn 7919", Status.OK, Status.CRASH, Status.RUNTIME_ERROR),
    refused(108, "write over a library", "import json\nopen(json.__file__, 'a').write('x')\nreturn right"),
    refused(109, "read an installed package", "import importlib.util\nreturn open('PACKAGE').read()"),
    refused(110, "change the mode of a file", "os.chmod('SECRET_FILE', 0o777)\nreturn right"),
    refused(111, "move the working directory", "os.chdir('/usr')\nreturn right"),
    refused(112, "make a name in the file system", "os.mkfifo('DROP/pipe')\nreturn right"),
    refused(113, "link a file", "os.link('SECRET_FILE', 'DROP/link')\nreturn right"),
    refused(114, "enter a namespace of its own", "r = libc.unshare(0x10000000)\nif r < 0: raise OSError\nreturn right"),
    refused(115, "use 32-bit system calls", "code = b'\\xb8\\x14\\0\\0\\0\\xcd\\x80\\xc3'\nimport mmap\nm = mmap.mmap(-1, 4096, prot=7)\nm.write(code)\ng = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(m)))\nr = g()\nif r < 0: raise OSError(-r)\nreturn r"),
    refused(116, "send a datagram", "import socket\nsocket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', PORT))\nreturn right"),
    refused(117, "have signals sent by the kernel", "import fcntl\nfcntl.fcntl(0, 8, os.getppid())\nreturn right"),
    refused(118, "read the clipboard of the kernel", "r = libc.syscall(250, 0, 0)\nif r < 0: raise OSError\nreturn r"),
    function(119, "fill its pipes", "import os\nfor _ in range(100):\n    r, w = os.pipe()\n    os.set_blocking(w, False)\n    os.write(w, b'x' * 65_536)", Status.RUNTIME_ERROR),
    function(120, "exhaust memory and then report", "x = []\ntry:\n    while True: x.append(bytes(1 << 16))\nexcept MemoryError: pass\nraise ValueError('full')", Status.RUNTIME_ERROR, Status.MEMORY, limits=ROOMY),
    stdin(121, "leave the second test without input", "import os\nos.ftruncate(0, 0)\nos.closerange(0, 64)\nprint('x')", Status.RUNTIME_ERROR, Status.NO_RESULT),
    stdin(122, "answer for the tests to come", "import os\nos.write(1, b'23757#\\n')\nfor fd in range(3, 9):\n    try: os.write(fd, b'79190#\\n')\n    except OSError: pass", Status.PROTOCOL, Status.OK),
    stdin(123, "never stop reading", "import sys\nwhile True: sys.stdin.read()", Status.TIMEOUT_CPU),
)  # fmt: skip

NAMESPACES: Final = "pivot_root,mount,umount2,unshare,setns,mount_setattr"
LANDLOCK: Final = "landlock_create_ruleset,landlock_add_rule,landlock_restrict_self"
NOBODY: Final[dict[str, Any]] = {"user": 65_534, "group": 65_534, "extra_groups": []}


@dataclass(frozen=True)
class Machine:
    """Where attacks are tried: system calls that the kernel refuses, and whether we are root there if we are root here."""

    level: isolation.Level
    refused: str = ""
    ordinary: bool = False


MACHINES: Final = {
    "L4": Machine("L4"),
    "L3": Machine("L3", NAMESPACES),
    "L2": Machine("L2", f"{NAMESPACES},{LANDLOCK}"),
    "ordinary user": Machine("L4", ordinary=True),
    "ordinary user in a container": Machine("L3", NAMESPACES, ordinary=True),
}


class Target:
    """The process under attack, and traps around it: a listener, a secret file, a folder that anybody may write to."""

    def __init__(self, machine: Machine, folder: Path, stack: ExitStack) -> None:
        folder.chmod(0o755)
        self.drop = folder / "drop"
        self.drop.mkdir()
        self.drop.chmod(0o777)
        self.secret = folder / "secret"
        self.secret.write_text(SECRET)
        self.tcp, self.udp, self.unix = (stack.enter_context(socket.socket(*kind)) for kind in (
            (socket.AF_INET, socket.SOCK_STREAM), (socket.AF_INET, socket.SOCK_DGRAM), (socket.AF_UNIX, socket.SOCK_STREAM),
        ))  # fmt: skip
        self.tcp.bind(("127.0.0.1", 0))
        self.udp.bind(self.tcp.getsockname())
        self.abstract = f"gasp-target-{os.getpid()}-{id(self)}"
        self.unix.bind("\0" + self.abstract)
        for trap in (self.tcp, self.unix):
            trap.listen()
        for trap in (self.tcp, self.udp, self.unix):
            trap.setblocking(False)

        ordinary = machine.ordinary and os.getuid() == 0
        self.process = stack.enter_context(subprocess.Popen(
            [python_for_all() if ordinary else sys.executable, str(Path(__file__).with_name("target.py")), machine.refused],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/", **(NOBODY if ordinary else {}),
            env={"PYTHONPATH": str(Path(isolation.__file__).parents[2]), "PATH": "/usr/bin:/bin", "SECRET": SECRET},
        ))  # fmt: skip
        self.ready: dict[str, Any] = self._hear()
        self.level: isolation.Level = self.ready["level"]
        self.family = len(descendants(self.process.pid))

    def attack(self, attack: Attack) -> dict[str, Any]:
        assert self.process.stdin is not None
        source = attack.source
        for token, text in (("SECRET_FILE", self.secret), ("DROP", self.drop), ("PORT", self.tcp.getsockname()[1]),
                            ("ABSTRACT", self.abstract), ("PACKAGE", pytest.__file__)):  # fmt: skip
            source = source.replace(token, str(text))
        request = {"kind": attack.kind, "source": source, "limits": json.dumps(attack.limits)}
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return self._hear()

    def traces(self) -> list[str]:
        """What is left of an attack outside the sandbox."""
        found = [f"the file {path.name}" for path in self.drop.iterdir()]
        for trap in (self.tcp, self.unix):
            with suppress(BlockingIOError):
                trap.accept()[0].close()
                found.append("a connection")
        with suppress(BlockingIOError):
            found.append(f"a datagram {self.udp.recv(100)!r}")
        if self.secret.read_text() != SECRET or self.secret.stat().st_mode & 0o111:
            found.append("a changed secret")
        deadline = time.monotonic() + 10
        while (more := len(descendants(self.process.pid)) - self.family) > 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        if more > 0:
            found.append(f"{more} processes")
        return found

    def _hear(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the target ended with status {self.process.wait()}"
        heard: dict[str, Any] = json.loads(line)
        return heard


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=[] if name == "L4" else pytest.mark.slow) for name in MACHINES],
)
def target(request: pytest.FixtureRequest) -> Iterator[Target]:
    machine = MACHINES[request.param]
    with ExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory())  # pytest's are closed to others, and traps must not be
        started = Target(machine, Path(folder), stack)
        most = isolation.probe().level  # this machine may hold less than a level asks for
        assert started.level == max(machine.level, most, key=isolation.LEVELS.index)
        assert started.ready["honest"]
        yield started
        assert started.process.stdin is not None
        started.process.stdin.close()
        assert started.process.wait(30) == 0


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: f"{attack.number}-{attack.name.replace(' ', '-')}")
def test_no_attack_gets_more_than_it_deserves(target: Target, attack: Attack) -> None:
    said = target.attack(attack)

    assert said["status"] in expected(attack, target.level), said
    assert said["judgement"] == attack.judgement, said
    assert said["honest"], "an honest program after it failed"
    assert SECRET not in json.dumps(said)
    assert target.traces() == []
    assert len(json.dumps(said)) < 20_000


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["test", "lcb"])
@pytest.mark.parametrize("target", ["L4"], indirect=True)
def test_no_way_of_grading_is_fooled(target: Target, mode: str) -> None:
    assert target.attack(Attack(0, "", in_f("return right"), OK, kind=mode))["judgement"] == Judgement.CORRECT

    for attack in ATTACKS:
        if attack.kind == "function" and attack.judgement is Judgement.WRONG:
            said = target.attack(replace(attack, kind=mode))
            assert said["judgement"] == Judgement.WRONG, (attack.name, said)
            assert said["honest"], attack.name
    assert target.traces() == []


def expected(attack: Attack, level: isolation.Level) -> frozenset[Status]:
    if attack.number == 62 and level in {"L2", "L3"}:
        return REFUSED | OK  # sizes and dates of files can be learned there: it is documented
    if level == "L2" and attack.kind == "function":
        return attack.expected | {Status.RUNTIME_ERROR}  # many cannot even import what they need
    return attack.expected


def test_no_descriptor_of_ours_gets_in_however_many_are_open() -> None:
    body = "import os\nopened = []\nfor fd in range(2000):\n    try: os.fstat(fd); opened.append(fd)\n    except OSError: pass\nreturn opened"
    program = (
        "import os, sys\nfrom gasp_rl.sandbox.base import Job\nfrom gasp_rl.sandbox.local import LocalSandbox\n"
        "held = [os.open(os.devnull, os.O_RDWR) for _ in range(300)]\n"
        "with LocalSandbox() as sandbox:\n"
        f"    jobs = [Job({in_f(body)!r}, ('1',), hash_seed=seed) for seed in (0, 1)]\n"
        "    print([execution.results[0].value for _, execution in sandbox.execute(jobs)])\n"
    )
    environment = {"PYTHONPATH": str(Path(isolation.__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)

    assert done.stdout == "['[0, 1, 2, 3]', '[0, 1, 2, 3]']\n"


def test_the_code_that_workers_start_from_cannot_be_written_to() -> None:
    with pytest.raises(PermissionError):
        os.pwrite(isolation._compiled(isolation.WORKER), b"x", 0)


def test_every_attack_of_the_study_is_here() -> None:
    assert {attack.number for attack in ATTACKS if attack.number < 100} == set(range(1, 79))
    assert len({attack.name for attack in ATTACKS}) == len(ATTACKS)


def python_for_all() -> str:
    """An interpreter that everybody may run: ours may live in a private home."""
    question = "import sys; print(sys.version_info >= (3, 11))"
    for python in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        with suppress(PermissionError, FileNotFoundError):
            found = subprocess.run([python, "-c", question], capture_output=True, check=False, cwd="/", **NOBODY)
            if found.stdout == b"True\n":
                return python
    pytest.skip("no Python here that an unprivileged user may run")


def descendants(pid: int) -> list[int]:
    try:
        children = [
            int(child) for t in Path(f"/proc/{pid}/task").iterdir() for child in (t / "children").read_text().split()
        ]
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [found for child in children for found in (child, *descendants(child))]
