"""Runs untrusted programs in a confined process. Standard library only; runs as a script, never imported by the trainer.

    python -P -s -S worker.py CHANNEL LEVEL TIER        CHANNEL: file descriptor of a socket to whoever started it
                                                        TIER: small, or large for programs that name heavier modules

A **zygote** confines itself once, warms its heap, and then forks one child per job. The child holds the program and its
inputs, nothing else, and what it leaves in an anonymous file is read only when it is dead. Nothing here is trusted by the
side that judges: a program that takes its own child over can only choose which text it leaves.

Wire format, little endian. A message is `u32 length` and so many bytes.
    job      f64 CPU s | f64 CPU s of one input | f64 wall s | f64 clock (nan: it runs)
             | u64 memory, output, value bytes | u8 _STOP, _ALONE | u32 count | u32 length * count
             | texts in UTF-8: entry, source, input, input, ...
    reply    i32 wait status | u8 reason (_ENDED, _CPU, _INPUT_CPU, _WALL) | f64 CPU s | u64 most bytes in memory | frames as the child left them
             To a job whose inputs run alone: one such reply for each, each after its u32 length, as far as they were run.
    frame    u32 index | u8 status (_STATUSES) | u32 length | payload. Frame 0: the program was loaded, or why not.
             Frame i + 1: the result of input i, or why there is none.
The first reply is the zygote's own: `ready`, or one line that says what it could not enforce.
"""

import _thread
import atexit
import builtins
import ctypes
import datetime as dt
import errno
import gc
import io
import json
import marshal
import math
import os
import re
import resource
import select
import signal
import struct
import sys
import time
import types
import warnings
from collections.abc import Callable, Collection
from typing import Final, NamedTuple, NoReturn, Self, TypeAlias

# LiveCodeBench runs every program after these lines: `from ... import *` of all of them and of builtins and typing, then
# an import of each. So do we, once, before the fork.
PRELUDE: Final = (
    "string re datetime collections heapq bisect copy math random statistics itertools functools operator io sys json"
).split()
# Common in programs and slow to import: loaded before the fork, not in anybody's globals.
PRELOAD: Final = "array contextlib enum time threading".split()
LARGE: Final = "cmath statistics decimal fractions queue textwrap dataclasses inspect pprint traceback".split()
"""Three megabytes and as many tenths of a millisecond per fork: only in workers for programs that name one of these."""

RECURSION_LIMIT: Final = 50_000
STACK_BYTES: Final = 256 << 20
THREAD_STACK_BYTES: Final = 64 << 20
"""Programs ask for more out of habit (`threading.stack_size(1 << 29)`), and it counts against their memory."""
INT_DIGITS: Final = 50_000
MAX_NODES: Final = 20_000
"""Values in one result of up to 64 KiB; as many more as the limit is larger."""
MAX_DEPTH: Final = 64
MAX_DETAIL: Final = 300
TICK_SECONDS: Final = 0.1
LAST_WORDS: Final = 4 << 20
"""Memory to report with when the program has used up its own."""
BALLAST: Final = [bytes(LAST_WORDS)]
"""From calloc, and never written: costs address space, no page."""
HASH_SEED: Final = os.environ.get("PYTHONHASHSEED", "")
CHANNEL: Final = 60
RESULTS, STDIN, STDOUT, CODE = 3, 4, 5, 6
"""Descriptors of the child: the zygote keeps 3 and up free, so that new files land there. CODE: the compiled program,
where it is compiled once for inputs that run alone."""

_HEADER: Final = struct.Struct("<ddddQQQBI")
_REPLY: Final = struct.Struct("<iBdQ")
_FRAME: Final = struct.Struct("<IBI")
_LENGTH: Final = struct.Struct("<I")
_ENDED, _CPU, _INPUT_CPU, _WALL = range(4)
_STOP, _ALONE = 1, 2
_STATUSES: Final = ("ok", "compile_error", "runtime_error", "memory", "output_limit", "unserializable")
_OK, _COMPILE_ERROR, _RUNTIME_ERROR, _MEMORY, _OUTPUT_LIMIT, _UNSERIALIZABLE = range(6)


class Job(NamedTuple):
    cpu_seconds: float
    input_cpu_seconds: float
    """0: as many as the program has."""
    wall_seconds: float
    """Longest time without a result, where an input has a limit of its own; else for the whole program."""
    clock: float
    """What clocks show, standing still; nan: they run."""
    memory: int
    output: int
    value: int
    stop_on_error: bool
    alone: bool
    """Each input in a process of its own."""
    entry: str
    source: str
    inputs: tuple[str, ...]


# ---------------------------------------------------------------------------------------------------- values as text


class UnserializableError(Exception):
    """Not a plain value of exact builtin types, or too large or too deep."""


class Speller:
    """Writes one value as canonical text (the grammar of gasp_rl.sandbox.values) under budgets of nodes, depth, bytes."""

    def __init__(self, max_bytes: int) -> None:
        self._nodes = self._max_nodes = max_bytes * MAX_NODES >> 16
        self._bytes = self._max_bytes = max_bytes

    def spell(self, value: object, depth: int = 0) -> str:
        kind = type(value)
        if kind is int or kind is float or kind is bool or kind is str or value is None or kind is bytes:
            return self._leaf(value)
        if depth >= MAX_DEPTH:
            raise UnserializableError(f"deeper than {MAX_DEPTH}")
        # The exact type first, here and below: isinstance asks the object itself where that does not tell.
        if kind is list and isinstance(value, list):
            return "[" + ", ".join(self._items(value, depth)) + "]"
        if kind is tuple and isinstance(value, tuple):
            inside = ", ".join(self._items(value, depth))
            return f"({inside},)" if len(value) == 1 else f"({inside})"
        if (kind is set or kind is frozenset) and isinstance(value, set | frozenset):
            inside = ", ".join(sorted(self._items(value, depth)))
            braces = f"{{{inside}}}" if inside else ""
            return f"frozenset({braces})" if kind is frozenset else braces or "set()"
        if kind is dict and isinstance(value, dict):
            keys, values = self._items(list(value), depth), self._items(list(value.values()), depth)
            return "{" + ", ".join(f"{k}: {v}" for k, v in sorted(zip(keys, values, strict=True))) + "}"
        raise UnserializableError(f"a {kind.__name__}")

    def _items(self, items: Collection[object], depth: int) -> list[str]:
        if len(items) > self._nodes:
            raise UnserializableError(f"more than {self._max_nodes} values")
        self._nodes -= len(items)
        return [self.spell(item, depth + 1) for item in items]

    def _leaf(self, value: object) -> str:
        # Sizes before texts: the repr of a gigabyte is two.
        if isinstance(value, str | bytes):
            self._require(len(value))
        elif isinstance(value, int):
            digits = int(value.bit_length() * 0.30103)
            if digits > INT_DIGITS - 2:
                raise UnserializableError(f"an int of more than {INT_DIGITS - 2} digits")
            self._require(digits)
        text = repr(value)
        self._require(len(text))
        self._bytes -= len(text)
        return text

    def _require(self, size: int) -> None:
        if size > self._bytes:
            raise UnserializableError(f"more than {self._max_bytes} bytes")


_NUMBERS_ONLY: Final = re.compile(r"[-\[\]0-9,. \n]*")
_LITERAL_NAMES: Final = {"nan": math.nan, "inf": math.inf, "set": set, "frozenset": frozenset, "__builtins__": {}}


def read_arguments(text: str) -> list[object]:
    """Fresh values of an argument list `[1, 2], 'a'`, in plain literals or spelled as canonical text.

    Whoever sends jobs has read it as literals, and the program around it may run what it likes anyway: so to evaluate it
    is only the fastest way to read it.
    """
    if _NUMBERS_ONLY.fullmatch(
        text
    ):  # long arrays are common, and the JSON reader is ten times faster than the compiler
        try:
            return list(json.loads(f"[{text}]"))
        except ValueError:
            pass  # `1.` or `[1,]`: literals, but not JSON
    arguments: object = eval(f"[{text}\n]", dict(_LITERAL_NAMES))  # noqa: S307 - as said above
    if not isinstance(arguments, list):
        raise ValueError("not a list of arguments")  # noqa: TRY004 - `1], [2`: their text is wrong, not their type
    return arguments


# ------------------------------------------------------------------------------------------ the program, in its child


class Report:
    """Leaves frames in the results file."""

    def __init__(self) -> None:
        self._index = 0

    def write(self, status: int, payload: bytes = b"") -> bool:
        """True if this was a success."""
        os.write(RESULTS, _FRAME.pack(self._index, status, len(payload)) + payload)
        self._index += 1
        return status == _OK

    def failure(self, status: int, text: str) -> bool:
        return self.write(status, text[:MAX_DETAIL].encode("utf-8", "backslashreplace"))

    def raised(self, error: BaseException, status: int = _RUNTIME_ERROR) -> bool:
        no_memory = isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
        if no_memory and status == _RUNTIME_ERROR:
            BALLAST.clear()
            return self.failure(_MEMORY, "MemoryError")
        name = type(error).__name__
        try:
            message = str(error)[:MAX_DETAIL]
        except BaseException:  # noqa: BLE001 - it is the program's own __str__
            message = ""
        return self.failure(status, f"{name}: {message}" if message else name)


def new_module(name: str) -> dict[str, object]:
    """Fresh globals, registered: dataclasses and typing look a class's module up."""
    module = sys.modules[name] = types.ModuleType(name)
    return module.__dict__


def find_entry(name: str, namespace: dict[str, object]) -> Callable[..., object]:
    """The function, or the method of a fresh Solution."""
    solution = namespace.get("Solution")
    found = getattr(solution(), name, None) if isinstance(solution, type) else None
    if found is None:
        found = namespace.get(name)
    if not callable(found):
        raise NameError(f"the program does not define {name}")  # noqa: TRY004 - as if it had called it itself
    function: Callable[..., object] = found
    return function


def run_function(job: Job, code: types.CodeType, report: Report) -> bool:
    namespace = new_module("program")
    try:
        exec(code, namespace)
        find_entry(job.entry, namespace)
    except BaseException as error:  # noqa: BLE001 - whatever a program raises is its outcome
        return report.raised(error)
    report.write(_OK)

    left, fine = job.output, True
    for text in job.inputs:
        try:
            value = find_entry(job.entry, namespace)(*read_arguments(text))
            spelled = Speller(job.value).spell(value).encode()
            left -= len(spelled)
            if len(spelled) > job.value:
                fine = report.failure(_UNSERIALIZABLE, f"more than {job.value} bytes")
            elif left < 0:
                fine = report.failure(_OUTPUT_LIMIT, f"results of more than {job.output} bytes")
            else:
                fine = report.write(_OK, spelled)
        except UnserializableError as error:
            fine = report.failure(_UNSERIALIZABLE, str(error))
        except BaseException as error:  # noqa: BLE001 - as above
            fine = report.raised(error)
        if not fine and job.stop_on_error:
            break
    return fine


def run_stdin(job: Job, code: types.CodeType, report: Report) -> bool:
    report.write(_OK)
    left, fine = job.output, True
    for text in job.inputs:
        stdout = open_standard_files(text.encode("utf-8", "surrogateescape"))
        namespace = new_module("__main__")
        failure: BaseException | None = None
        try:
            exec(code, namespace)
        except SystemExit as error:
            failure = None if error.code is None or error.code == 0 else error
        except BaseException as error:  # noqa: BLE001 - whatever a program raises is its outcome
            failure = error
        try:
            finish(stdout, namespace)
        except BaseException as error:  # noqa: BLE001 - from the program's own exit handlers and files
            failure = failure or error

        size = os.fstat(STDOUT).st_size
        if size > left:
            fine = report.failure(_OUTPUT_LIMIT, f"more than {job.output} bytes")
        elif failure is not None:
            fine = report.raised(failure)
        else:
            fine = report.write(_OK, os.pread(STDOUT, size, 0))
        left -= min(size, left)
        if not fine and job.stop_on_error:
            break
    return fine


PREPARED: Final[list[tuple[io.TextIOWrapper, io.TextIOWrapper]]] = []
"""Standard input and output for the first input of a child, made before the fork: that saves it a hundred page faults."""


def standard_files() -> tuple[io.TextIOWrapper, io.TextIOWrapper]:
    stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(0, "r", closefd=False)), "utf-8", "surrogateescape")
    stdout = io.TextIOWrapper(io.BufferedWriter(io.FileIO(1, "w", closefd=False)), "utf-8", "surrogateescape")
    vars(stdin)["mode"], vars(stdout)["mode"] = "r", "w"  # the interpreter's own have it, and programs ask for it
    return stdin, stdout


def open_standard_files(data: bytes) -> io.TextIOWrapper:
    """Real descriptors 0 and 1 that hold `data` and nothing, and the objects of `sys` over them."""
    os.ftruncate(STDIN, 0)
    os.pwrite(STDIN, data, 0)
    os.ftruncate(STDOUT, 0)
    for master, fd in ((STDIN, 0), (STDOUT, 1)):
        os.lseek(master, 0, os.SEEK_SET)
        os.dup2(master, fd)
    stdin, stdout = PREPARED.pop() if PREPARED else standard_files()
    sys.stdin, sys.stdout = stdin, stdout
    vars(sys).update(__stdin__=stdin, __stdout__=stdout)
    return stdout


def finish(stdout: io.TextIOWrapper, namespace: dict[str, object]) -> None:
    """What the interpreter does at exit: wait for threads, run exit handlers, flush, forget the program's globals."""
    threading = sys.modules["threading"]
    for thread in threading.enumerate():
        if thread is not threading.main_thread() and not thread.daemon:
            thread.join()
    atexit._run_exitfuncs()  # noqa: SLF001 - there is no public way
    if sys.stdout is not stdout and sys.stdout is not None:
        sys.stdout.flush()
    if not stdout.closed:
        stdout.flush()
    sys.stdin = sys.stdout = stdout  # the program's own, and files among its globals, write what they hold when they go
    namespace.clear()


# What a program that asks for the time is told where clocks stand still. It is there to differ between two runs, not to keep
# the time secret: no filter of system calls reaches the clock that the kernel maps into every process.

NOW: Final = [0.0]
_localtime, _gmtime, _strftime, _asctime, _ctime = time.localtime, time.gmtime, time.strftime, time.asctime, time.ctime


class StillDatetime(dt.datetime):
    @classmethod
    def now(cls, tz: dt.tzinfo | None = None) -> Self:
        return cls.fromtimestamp(NOW[0], tz)

    @classmethod
    def utcnow(cls) -> Self:
        return cls.fromtimestamp(NOW[0], dt.UTC).replace(tzinfo=None)


STILL_CLOCKS: Final[dict[str, object]] = {
    **dict.fromkeys(("time", "monotonic", "perf_counter", "process_time", "thread_time"), lambda: NOW[0]),
    **dict.fromkeys(
        ("time_ns", "monotonic_ns", "perf_counter_ns", "process_time_ns", "thread_time_ns"), lambda: int(NOW[0]) * 10**9
    ),
    "clock_gettime": lambda _: NOW[0],
    "clock_gettime_ns": lambda _: int(NOW[0]) * 10**9,
    "localtime": lambda seconds=None: _localtime(NOW[0] if seconds is None else seconds),
    "gmtime": lambda seconds=None: _gmtime(NOW[0] if seconds is None else seconds),
    "ctime": lambda seconds=None: _ctime(NOW[0] if seconds is None else seconds),
    "asctime": lambda when=None: _asctime(_localtime(NOW[0]) if when is None else when),
    "strftime": lambda form, when=None: _strftime(form, _localtime(NOW[0]) if when is None else when),
}


def no_thread(*_: object, **__: object) -> NoReturn:
    raise RuntimeError("can't start new thread: their order is not determined")


STILL: Final[list[tuple[dict[str, object], dict[str, object]]]] = []
"""Namespace and what changes in it where clocks stand still, made ready before the fork."""


def prepare_to_hold_still() -> None:
    threads = "start_new", "start_new_thread", "_start_new_thread", "start_joinable_thread", "_start_joinable_thread"
    STILL.extend([(vars(time), STILL_CLOCKS), (vars(dt), {"datetime": StillDatetime})])
    for module in (_thread, sys.modules["threading"]):
        STILL.append((vars(module), {name: no_thread for name in threads if name in vars(module)}))


def hold_still(now: float) -> None:
    """Clocks stop, and what cannot be held still is refused."""
    NOW[0] = now
    for namespace, changes in STILL:
        namespace.update(changes)


class Jail(NamedTuple):
    """What each child must do because its zygote cannot do it for it."""

    filter: "Filter | None"
    dies_with_us: bool
    """The kernel ends it with the zygote, process 1 of its own tree."""


def child(job: Job, jail: Jail) -> bool:
    """Give up what only the zygote needs, then run the program. True if all went well."""
    report = Report()
    if not jail.dies_with_us:
        _quick(PRCTL, PR_SET_PDEATHSIG, signal.SIGKILL, 0)
    # The zygote watches the exact limit; this one holds if it cannot. It counts ticks, up to a third too many on a busy machine.
    cpu = math.ceil(2 * job.cpu_seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu + 1))
    resource.setrlimit(resource.RLIMIT_AS, (job.memory, job.memory))
    largest_input = max((4 * len(text) for text in job.inputs), default=0)
    details = (_FRAME.size + 4 * MAX_DETAIL) * (len(job.inputs) + 1)
    size = max(job.output + details, largest_input)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    if jail.filter is None:
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))  # without a filter this is all that stops processes
    if job.alone:
        os.closerange(STDIN if job.entry else STDOUT + 1, CODE)
        os.closerange(CODE + 1, CHANNEL + 4)
    else:
        os.closerange(STDIN if job.entry else STDOUT + 1, CHANNEL + 4)
    if jail.filter is not None:
        jail.filter.install()

    try:
        code = compiled_once(job.source) if job.alone else compiled(job.source)
    except BaseException as error:  # noqa: BLE001 - all that a source can make the compiler raise
        return report.raised(error, _COMPILE_ERROR)
    if not math.isnan(job.clock):
        hold_still(job.clock)
    return run_function(job, code, report) if job.entry else run_stdin(job, code, report)


def compiled(source: str) -> types.CodeType:
    return compile(source, "<program>", "exec", dont_inherit=True)


def compiled_once(source: str) -> types.CodeType:
    """The first child compiles and leaves the code for the next ones. The zygote never looks at it."""
    if size := os.fstat(CODE).st_size:
        code: types.CodeType = marshal.loads(os.pread(CODE, size, 0))  # noqa: S302 - in the jail, and its own
    else:
        code = compiled(source)
        dumped = marshal.dumps(code)
        if os.write(CODE, dumped) < len(dumped):  # past the limit of files
            os.ftruncate(CODE, 0)
    os.close(CODE)  # before the program could reach it
    return code


# ------------------------------------------------------------------------------------------------------- kernel calls

_libc: Final = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long

# System calls: name=number on x86-64/number on aarch64 ("-": it has none), from the kernel's syscall_64.tbl and its
# asm-generic/unistd.h. What is allowed everywhere, to read files, and what nobody asks for but an attack; then ours.
_ALLOWED: Final = """
read=0/63 write=1/64 close=3/57 fstat=5/80 poll=7/- lseek=8/62 mmap=9/222 mprotect=10/226 munmap=11/215 brk=12/214
rt_sigaction=13/134 rt_sigprocmask=14/135 rt_sigreturn=15/139 pread64=17/67 pwrite64=18/68 readv=19/65 writev=20/66
pipe=22/- select=23/- sched_yield=24/124 mremap=25/216 msync=26/227 mincore=27/232 madvise=28/233 dup=32/23 dup2=33/-
pause=34/- nanosleep=35/101 getitimer=36/102 alarm=37/- setitimer=38/103 getpid=39/172 exit=60/93 wait4=61/260
uname=63/160 fsync=74/82 ftruncate=77/46 getcwd=79/17 gettimeofday=96/169 getrlimit=97/163 getrusage=98/165
sysinfo=99/179 times=100/153 getuid=102/174 getgid=104/176 geteuid=107/175 getegid=108/177 getppid=110/173
getpgrp=111/- sigaltstack=131/132 gettid=186/178 futex=202/98 sched_getaffinity=204/123 epoll_create=213/-
getdents64=217/61 restart_syscall=219/128 clock_gettime=228/113 clock_getres=229/114 clock_nanosleep=230/115
exit_group=231/94 epoll_wait=232/- epoll_ctl=233/21 waitid=247/95 newfstatat=262/79 pselect6=270/72 ppoll=271/73
set_robust_list=273/99 epoll_pwait=281/22 eventfd2=290/19 epoll_create1=291/20 dup3=292/24 pipe2=293/59 getcpu=309/168
rseq=334/293 close_range=436/436 epoll_pwait2=441/441
"""
_READ_FILES: Final = """
open=2/- stat=4/- lstat=6/- access=21/- readlink=89/- openat=257/56 readlinkat=267/78 faccessat=269/48 statx=332/291
faccessat2=439/439
"""
_DEADLY: Final = """
ptrace=101/117 process_vm_readv=310/270 process_vm_writev=311/271 pivot_root=155/41 chroot=161/51 mount=165/40
umount2=166/39 unshare=272/97 setns=308/268 open_tree=428/428 move_mount=429/429 fsopen=430/430 fsconfig=431/431
fsmount=432/432 mount_setattr=442/442 perf_event_open=298/241 bpf=321/280 userfaultfd=323/282 io_uring_setup=425/425
io_uring_enter=426/426 io_uring_register=427/427 reboot=169/142 init_module=175/105 delete_module=176/106
kexec_load=246/104 add_key=248/217 request_key=249/218 keyctl=250/219 name_to_handle_at=303/264
open_by_handle_at=304/265 finit_module=313/273 kexec_file_load=320/294
"""
_OURS: Final = """
ioctl=16/29 clone=56/220 kill=62/129 fcntl=72/25 capset=126/91 pivot_root=155/41 prctl=157/167 mount=165/40
umount2=166/39 unshare=272/97 prlimit64=302/261 seccomp=317/277 memfd_create=319/279 pidfd_open=434/434 clone3=435/435
mount_setattr=442/442 landlock_create_ruleset=444/444 landlock_add_rule=445/445 landlock_restrict_self=446/446
"""
MACHINES: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""Machine -> what seccomp calls it."""


def numbers(table: str, machine: str) -> dict[str, int]:
    """Name -> number of the system calls of a table that this machine has."""
    column = list(MACHINES).index(machine)
    rows = ((name, number.split("/")[column]) for name, number in (entry.split("=") for entry in table.split()))
    return {name: int(number) for name, number in rows if number != "-"}


MACHINE: Final = os.uname().machine
COVERED: Final = MACHINE in MACHINES and sys.maxsize == 2**63 - 1
"""Whether we know this machine's system calls. Where not, no filter is made and only L1 is left."""
_here: Final = numbers(_OURS, MACHINE if COVERED else "x86_64")
PIVOT_ROOT, PRCTL, MOUNT, UMOUNT2, UNSHARE = (_here[n] for n in ("pivot_root", "prctl", "mount", "umount2", "unshare"))
CLONE, CLONE3, SECCOMP, MOUNT_SETATTR = (_here[n] for n in ("clone", "clone3", "seccomp", "mount_setattr"))
LANDLOCK_CREATE, LANDLOCK_ADD = _here["landlock_create_ruleset"], _here["landlock_add_rule"]
LANDLOCK_RESTRICT = _here["landlock_restrict_self"]
NAMES: Final = {UNSHARE: "user namespaces", MOUNT: "mounting in a user namespace", MOUNT_SETATTR: "read-only mounts",
                PIVOT_ROOT: "a root directory of its own", LANDLOCK_CREATE: "Landlock", SECCOMP: "seccomp"}  # fmt: skip
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS = 1, 4, 38


def syscall(number: int, *arguments: int | bytes | None) -> int:
    words = [ctypes.c_char_p(a) if isinstance(a, bytes) else ctypes.c_ulong(a or 0) for a in arguments]
    result = int(_libc.syscall(ctypes.c_long(number), *words))
    if result < 0:
        raise OSError(ctypes.get_errno(), f"{os.strerror(ctypes.get_errno())} ({NAMES.get(number, number)})")
    return result


_quick = ctypes.CDLL(None).syscall
"""For children: without the conversions and the error numbers of `syscall`, which touch a hundred pages."""
_quick.argtypes = [ctypes.c_long] * 4
_quick.restype = ctypes.c_long


def prctl(option: int, value: int) -> None:
    if _libc.prctl(option, *map(ctypes.c_ulong, (value, 0, 0, 0))) < 0:
        raise OSError(ctypes.get_errno(), f"{os.strerror(ctypes.get_errno())} (prctl {option})")


# ------------------------------------------------------------------------------------------------- system call filters

ZYGOTE_ONLY: Final = ("kill", "prctl", "seccomp", "memfd_create", "pidfd_open")

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL_PROCESS, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_REFUSE: Final = _ERRNO | errno.EPERM
_X32: Final = 0x40000000
"""Numbers from here on are those of another ABI of x86-64."""
_NUMBER_AT, _ARCH_AT, _ARGUMENTS_AT = 0, 4, 16
CLONE_THREAD, CLONE_NEW = 0x10000, 0x7E020080
TCGETS, FIONCLEX, FIOCLEX = 0x5401, 0x5450, 0x5451
DUPFD, GETFD, SETFD, GETFL, SETFL, DUPFD_CLOEXEC = 0, 1, 2, 3, 4, 1030

Instruction: TypeAlias = tuple[int, int, int, int]
"""Code, instructions to skip if true, if false, constant."""


class Filter:
    """A seccomp program, assembled once and installed by whoever forks."""

    def __init__(self, instructions: list[Instruction]) -> None:
        self._code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *i) for i in instructions))
        self._program = ctypes.create_string_buffer(
            struct.pack("HxxxxxxQ", len(instructions), ctypes.addressof(self._code))
        )
        self._address = ctypes.addressof(self._program)

    def install(self) -> None:
        if _quick(SECCOMP, 1, 0, self._address) < 0:  # SECCOMP_SET_MODE_FILTER
            raise OSError(errno.EPERM, "cannot filter system calls (seccomp)")


def _answer(number: int, action: int) -> list[Instruction]:
    return [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, action)]


def _only_with(number: int, argument: int, values: tuple[int, ...], otherwise: int) -> list[Instruction]:
    """Allow a system call if an argument has one of these values."""
    n = len(values)
    return [
        (_EQUAL, 0, n + 3, number),
        (_LOAD, 0, 0, _ARGUMENTS_AT + 8 * argument),
        *((_EQUAL, n - k, 0, value) for k, value in enumerate(values)),
        (_RETURN, 0, 0, otherwise),
        (_RETURN, 0, 0, _ALLOW),
    ]


def zygote_filter(*, files: bool, machine: str = MACHINE) -> Filter:
    """What the zygote and its children may ask of the kernel: an allow-list; the rest fails, and the worst kills."""
    ours = numbers(_OURS, machine)
    allowed = [*numbers(_ALLOWED + (_READ_FILES if files else ""), machine).values(), *(ours[n] for n in ZYGOTE_ONLY)]
    return Filter([
        (_LOAD, 0, 0, _ARCH_AT), (_EQUAL, 1, 0, MACHINES[machine]), (_RETURN, 0, 0, _KILL_PROCESS),
        (_LOAD, 0, 0, _NUMBER_AT), (_AT_LEAST, 0, 1, _X32), (_RETURN, 0, 0, _KILL_PROCESS),
        *(instruction for number in allowed for instruction in _answer(number, _ALLOW)),
        *(instruction for number in numbers(_DEADLY, machine).values() for instruction in _answer(number, _KILL_PROCESS)),
        *_answer(ours["clone3"], _ERRNO | errno.ENOSYS),  # its flags lie where no filter can see them; libc then tries clone
        *_only_with(ours["prlimit64"], 0, (0,), _REFUSE),
        *_only_with(ours["ioctl"], 1, (TCGETS, FIONCLEX, FIOCLEX), _ERRNO | errno.ENOTTY),
        *_only_with(ours["fcntl"], 1, (DUPFD, GETFD, SETFD, GETFL, SETFL, DUPFD_CLOEXEC), _REFUSE),
        (_EQUAL, 0, 4, ours["clone"]), (_LOAD, 0, 0, _ARGUMENTS_AT), (_ANY_BIT, 1, 0, CLONE_NEW),
        (_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _KILL_PROCESS),
        (_RETURN, 0, 0, _REFUSE),
    ])  # fmt: skip


def child_filter(machine: str = MACHINE) -> Filter:
    """Takes from a child what only the zygote may do. Small, because every job installs it."""
    ours, new_limit = numbers(_OURS, machine), _ARGUMENTS_AT + 8 * 2
    return Filter([
        (_LOAD, 0, 0, _NUMBER_AT),
        *(instruction for name in ZYGOTE_ONLY for instruction in _answer(ours[name], _REFUSE)),
        # Limits can be read. To set one's own does nothing, successfully: honest programs ask for a larger stack, and
        # dishonest ones for a lower CPU limit, to look as if somebody else had killed them.
        (_EQUAL, 0, 8, ours["prlimit64"]), (_LOAD, 0, 0, _ARGUMENTS_AT), (_EQUAL, 0, 5, 0),
        (_LOAD, 0, 0, new_limit), (_EQUAL, 0, 2, 0), (_LOAD, 0, 0, new_limit + 4), (_EQUAL, 1, 0, 0),
        (_RETURN, 0, 0, _ERRNO), (_RETURN, 0, 0, _ALLOW),
        (_EQUAL, 0, 3, ours["clone"]), (_LOAD, 0, 0, _ARGUMENTS_AT), (_ANY_BIT, 1, 0, CLONE_THREAD),
        (_RETURN, 0, 0, _REFUSE),
        (_RETURN, 0, 0, _ALLOW),
    ])  # fmt: skip


# --------------------------------------------------------------------------------------------------------- confinement


NEW_MOUNTS, NEW_UTS, NEW_IPC, NEW_USER, NEW_PID, NEW_NET = 0x20000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000  # fmt: skip
MS_BIND, MS_REC, MS_PRIVATE, MNT_DETACH, AT_FDCWD, AT_RECURSIVE = 0x1000, 0x4000, 0x40000, 2, -100, 0x8000
READ_ONLY_NO_SUID_NO_DEVICES = 1 | 2 | 4
NOBODY: Final = 65_534
MAX_TASKS: Final = 64
"""Threads of a program, where the kernel counts them per namespace."""
THIRD_PARTY: Final = {"site-packages", "dist-packages"}


def library_trees() -> list[str]:
    """Where Python's standard library and the system's shared libraries are."""
    return [path for path in ("/lib", "/lib64", "/usr/lib", "/usr/lib64", *sys.path) if os.path.isdir(path)]  # noqa: PTH112


def landlock() -> None:
    """No files but libraries to read, nothing to write, no TCP, no signals and sockets out of here."""
    abi = syscall(LANDLOCK_CREATE, 0, 0, 1)
    handled = (1 << 13) - 1
    for since, bit in ((2, 13), (3, 14), (5, 15)):
        handled |= (abi >= since) << bit
    attributes = ctypes.create_string_buffer(struct.pack("QQQ", handled, 3 * (abi >= 4), 3 * (abi >= 6)))
    size = 24 if abi >= 6 else 16 if abi >= 4 else 8
    ruleset = syscall(LANDLOCK_CREATE, ctypes.addressof(attributes), size, 0)

    def allow(path: str, rights: int) -> None:
        tree = os.open(path, os.O_PATH | os.O_CLOEXEC)
        rule = ctypes.create_string_buffer(struct.pack("=Qi", rights, tree))
        syscall(LANDLOCK_ADD, ruleset, 1, ctypes.addressof(rule), 0)
        os.close(tree)

    read_file, read_directory = 1 << 2, 1 << 3
    for path in library_trees():
        if path not in sys.path:
            allow(path, read_file | read_directory)
            continue
        allow(path, read_directory)  # the import system lists it
        for entry in os.scandir(path):
            if entry.name not in THIRD_PARTY and os.path.exists(entry.path):  # noqa: PTH110 - Debian has dangling links
                allow(entry.path, read_file | (read_directory if entry.is_dir() else 0))
    syscall(LANDLOCK_RESTRICT, ruleset, 0)
    os.close(ruleset)


def enter_namespaces() -> None:
    """Continue as a user, in a network and a process tree where there is nothing else."""
    prctl(PR_SET_DUMPABLE, 1)  # else our own maps would not be ours to write
    user, group = os.getuid(), os.getgid()
    syscall(UNSHARE, NEW_USER | NEW_PID | NEW_NET | NEW_IPC | NEW_UTS | NEW_MOUNTS)
    write_file("/proc/self/setgroups", "deny")
    write_file("/proc/self/uid_map", f"{NOBODY} {user} 1")
    write_file("/proc/self/gid_map", f"{NOBODY} {group} 1")
    if inside := os.fork():
        os.close(CHANNEL)
        os.waitpid(inside, 0)
        os._exit(0)
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # process 1 of its tree: all others end with it

    first = 1_000 + int.from_bytes(os.urandom(2), "little") // 3
    write_file("/proc/sys/kernel/ns_last_pid", str(first))  # a process number must not look like a constant
    resource.setrlimit(resource.RLIMIT_NPROC, (MAX_TASKS, MAX_TASKS))
    _libc.sethostname(b"sandbox", 7)  # that of the machine is nobody's business


def change_root() -> None:
    """A root directory where there is nothing but libraries, which cannot be written."""
    syscall(MOUNT, b"none", b"/", None, MS_REC | MS_PRIVATE, None)
    trees = [(path, os.open(path, os.O_PATH | os.O_DIRECTORY)) for path in library_trees()]  # the next line hides some
    syscall(MOUNT, b"none", b"/usr", b"tmpfs", 0, b"size=64k,mode=755")
    for path, tree in trees:
        os.makedirs(f"/usr{path}", exist_ok=True)  # noqa: PTH103
        syscall(MOUNT, f"/proc/self/fd/{tree}".encode(), f"/usr{path}".encode(), None, MS_BIND | MS_REC, None)
        os.close(tree)
    os.chdir("/usr")
    syscall(PIVOT_ROOT, b".", b".")
    syscall(UMOUNT2, b".", MNT_DETACH)
    attributes = ctypes.create_string_buffer(struct.pack("QQQQ", READ_ONLY_NO_SUID_NO_DEVICES, 0, 0, 0))
    syscall(MOUNT_SETATTR, AT_FDCWD, b"/", AT_RECURSIVE, ctypes.addressof(attributes), 32)
    os.chdir("/")


def write_file(path: str, text: str) -> None:
    with open(path, "w") as file:  # noqa: PTH123 - pathlib costs 10 ms
        file.write(text)


def become_nobody() -> None:
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)


def nobody_reads_libraries() -> bool:
    """False where Python itself is installed under root's home."""
    os.seteuid(NOBODY)
    readable = os.access(os.__file__, os.R_OK, effective_ids=True)
    os.seteuid(0)
    return readable


def drop_capabilities() -> None:
    version_3 = ctypes.create_string_buffer(struct.pack("Ii", 0x20080522, 0))
    none = ctypes.create_string_buffer(24)
    if _libc.capset(version_3, none) < 0:
        raise OSError(ctypes.get_errno(), "cannot drop capabilities")


def move_in(level: str) -> int:
    """The part of the confinement before modules are loaded; returns a descriptor that tells our memory."""
    if level != "L1" and not COVERED:
        raise OSError(errno.ENOSYS, f"system calls are filtered on {' and '.join(MACHINES)} only, this is {MACHINE}")
    write_file("/proc/self/oom_score_adj", "1000")  # rather us than the trainer
    os.environ.clear()
    if HASH_SEED != "0":  # nobody's result should depend on this, and on the directory below
        os.environ.update(TZ="RUN7", RUN=HASH_SEED)
        time.tzset()
    hard = resource.getrlimit(resource.RLIMIT_STACK)[1]
    stack = STACK_BYTES if hard == resource.RLIM_INFINITY else min(STACK_BYTES, hard)
    resource.setrlimit(resource.RLIMIT_STACK, (stack, stack))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write past the limit fails instead

    if os.getuid() == 0 and level in {"L3", "L4"} and nobody_reads_libraries():
        become_nobody()
    if level == "L4":
        enter_namespaces()
    memory = os.open("/proc/self/statm", os.O_RDONLY)
    if level == "L4":
        change_root()
    os.chdir("/" if HASH_SEED == "0" else "/lib")
    return memory


def lock(level: str) -> Jail:
    """The rest of the confinement: give up everything that no program needs."""
    if os.getuid() == 0 and level in {"L1", "L2"}:  # which load nothing more
        become_nobody()
    drop_capabilities()
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    prctl(PR_SET_DUMPABLE, 0)
    if level in {"L3", "L4"}:
        landlock()
    if level == "L1":
        return Jail(None, dies_with_us=False)
    zygote_filter(files=level != "L2").install()
    return Jail(child_filter(), dies_with_us=level == "L4")


# Run in a child like any program: returns what it could do and must not.
ATTEMPTS: Final = """
import os
def attempts(level):
    def connect():
        import socket
        socket.socket()
    def start_a_process():
        if not os.fork():
            os._exit(0)
    done = []
    tries = [('start a process', start_a_process), ('open a socket', connect), ('get entropy', lambda: os.getrandom(1)),
             ('signal its parent', lambda: os.kill(os.getppid(), 0)), ('list a directory', lambda: os.listdir('/')),
             ('write a file', lambda: os.open('/tmp', os.O_TMPFILE | os.O_WRONLY))]
    if level == 'L4':
        tries += [('see the processes of the machine', lambda: 1 / (os.getppid() != 1)),
                  ('see the files of the machine', lambda: os.stat('/etc'))]
    for what, attempt in tries:
        try:
            attempt()
            done.append(what)
        except (OSError, ImportError, ZeroDivisionError):
            pass
    if level in ('L3', 'L4'):
        import colorsys
    return done
"""


def check_confinement(level: str, own_memory: int, jail: Jail) -> None:
    """Raises if a program could do what it must not: mechanisms are believed when they have been seen to work."""
    memory, size = own_memory + (256 << 20), 1 << 16
    job = Job(5.0, 0.0, 60.0, math.nan, memory, size, size, True, False, "attempts", ATTEMPTS, (repr(level),))
    frames = run(job, jail)[_REPLY.size :]
    said = frames[2 * _FRAME.size :].decode("utf-8", "replace")
    if not said.startswith("["):
        raise OSError(errno.EPERM, f"a program could not run: {frames!r}")
    if said != "[]" and level != "L1":
        raise OSError(errno.EPERM, f"a program could {said}")


# -------------------------------------------------------------------------------------------------------------- zygote


def read_exactly(size: int) -> bytes:
    """From the channel. Ends the process when the other side is gone."""
    data = bytearray()
    while len(data) < size:
        piece = os.read(CHANNEL, min(size - len(data), 1 << 20))
        if not piece:
            os._exit(0)
        data += piece
    return bytes(data)


def read_job() -> Job:
    (length,) = _LENGTH.unpack(read_exactly(4))
    message = read_exactly(length)
    cpu, input_cpu, wall, clock, memory, output, value, flags, count = _HEADER.unpack_from(message)
    at = _HEADER.size + 4 * count
    texts = []
    for size in struct.unpack_from(f"<{count}I", message, _HEADER.size):
        texts.append(message[at : at + size].decode("utf-8", "surrogatepass"))
        at += size
    return Job(
        cpu,
        input_cpu,
        wall,
        clock,
        memory,
        output,
        value,
        bool(flags & _STOP),
        bool(flags & _ALONE),
        texts[0],
        texts[1],
        tuple(texts[2:]),
    )


def write_message(message: bytes) -> None:
    left = memoryview(_LENGTH.pack(len(message)) + message)
    while left:
        left = left[os.write(CHANNEL, left) :]


def run(job: Job, jail: Jail) -> bytes:
    """Run one program; the reply."""
    if not job.alone:
        return run_child(job, jail)
    code = os.memfd_create("code")
    os.dup2(code, CODE)
    os.close(code)
    replies, left = [], job.output
    for text in job.inputs:
        reply = run_child(job._replace(inputs=(text,), output=left), jail)
        replies += [_LENGTH.pack(len(reply)), reply]
        left -= len(reply)
        wait_status, reason, *_ = _REPLY.unpack_from(reply)
        if left <= 0 or (job.stop_on_error and (wait_status != 0 or reason != _ENDED)):
            break
    os.close(CODE)
    return b"".join(replies)


def run_child(job: Job, jail: Jail) -> bytes:
    """Run it in a child, which exits with 0 if all went well; its reply."""
    files = [os.memfd_create(name) for name in (("results",) if job.entry else ("results", "stdin", "stdout"))]
    pid = os.fork()
    if pid == 0:
        fine = False
        try:
            fine = child(job, jail)
        finally:
            os._exit(not fine)
    reason = watch(pid, job)
    _, status, usage = os.wait4(pid, 0)
    frames = os.pread(RESULTS, os.fstat(RESULTS).st_size, 0)
    for file in files:
        os.close(file)
    return _REPLY.pack(status, reason, usage.ru_utime + usage.ru_stime, usage.ru_maxrss << 10) + frames


def watch(pid: int, job: Job) -> int:
    """Wait for the child; end it at a limit. CPU time decides, the wall clock is for those who sleep.

    What an input has used counts from when we saw the result before it, a tick late at most. A program could write there
    itself to have more, but no more than all its inputs together.

    The wall clock counts the ticks that we asked for, not how late we were woken: where others hold the processors, that
    is how much longer everything takes.
    """
    cpu_clock = (~pid << 3) | 2  # the CPU time of a whole process, as clock_getcpuclockid makes it
    process = os.pidfd_open(pid)
    poll = select.poll()
    poll.register(process, select.POLLIN)
    poll.register(CHANNEL, 0)  # says only that the other side is gone
    reason, tick, elapsed, written, earlier = _ENDED, min(job.cpu_seconds, TICK_SECONDS), 0.0, 0, 0.0
    while reason == _ENDED:
        ready = [fd for fd, _ in poll.poll(tick * 1000 + 1)]
        if process in ready:
            break
        if ready:
            os._exit(0)  # and the child dies with us
        cpu = time.clock_gettime(cpu_clock)
        elapsed += tick
        if job.input_cpu_seconds and (size := os.fstat(RESULTS).st_size) != written:
            written, elapsed, earlier = size, 0.0, cpu  # it came to another input
        left = job.cpu_seconds - cpu
        left_for_input = job.input_cpu_seconds - (cpu - earlier) if job.input_cpu_seconds else left
        # A program that does compute gets more patience than one that sleeps: the machine may be busy.
        patience = job.wall_seconds * (4 if cpu - earlier > 0.01 * elapsed else 1)
        tick = min(max(left, 0.005), max(left_for_input, 0.005), TICK_SECONDS)
        reason = _CPU if left <= 0 else _INPUT_CPU if left_for_input <= 0 else _WALL if elapsed >= patience else _ENDED
    if reason != _ENDED:
        os.kill(pid, signal.SIGKILL)
    os.close(process)
    return reason


WARM_UP: Final = """
class A:
    def __init__(self, x): self.x = x
    def g(self): return [self.x]
def f(a, b):
    d = {}
    for i, c in enumerate(a): d[c] = d.get(c, 0) + i
    s = sorted(d.items(), key=lambda t: (-t[1], t[0]))
    try: raise ValueError('x')
    except ValueError as e: m = f'{type(e).__name__}: {e}'
    return ''.join(str(x) for x, _ in s), A(3).g(), {1, 2}, 2.5 * b, m
"""


WARM_UP_STDIN: Final = (
    "n = int(input())\nxs = sorted(map(int, input().split()))\nprint(*xs, sep=',')\nprint(n, f'{sum(xs):.2f}')"
)


def warm_up() -> None:
    """Touch the heap that programs will touch, so that their children copy fewer pages: half of a job's cost.

    And run what children run as often as the interpreter needs to specialise it: else each of them would do so anew.
    """
    files = [os.memfd_create(name) for name in ("results", "stdin", "stdout")]
    standard, main_module = [os.dup(0), os.dup(1)], sys.modules["__main__"]
    names = {name: vars(sys)[name] for name in ("stdin", "stdout", "__stdin__", "__stdout__")}

    size = 1 << 16
    function = Job(1.0, 0.0, 1.0, math.nan, 0, size, size, True, False, "f", WARM_UP, ("[1, 2, 3], 2", "'a', 1.5"))
    program = function._replace(entry="", source=WARM_UP_STDIN, inputs=("3\n1 2 3\n", "2\n5 6"))
    for _ in range(40):
        run_function(function, compiled(function.source), Report())
        run_stdin(program, compiled(program.source), Report())
    for number in range(3000):
        sys.intern(f"warm{number}")

    vars(sys).update(names)
    sys.modules["__main__"] = main_module
    for number, descriptor in enumerate(standard):
        os.dup2(descriptor, number)
    for descriptor in (*files, *standard):
        os.close(descriptor)
    gc.collect()


def load_modules(*, large: bool) -> None:
    """Everything that programs find loaded, once, before they are forked."""
    names = [name for name in PRELUDE if large or name not in LARGE]
    lines = [f"from {name} import *" for name in (*names, "builtins", "typing")]
    # As builtins, not copied into globals: to copy four hundred names would touch a page of each in every child.
    # The site module, which is off, would define these two.
    prelude: dict[str, object] = {"exit": sys.exit, "quit": sys.exit}
    repair = os.register_at_fork
    # random and threading would repair every child: half a millisecond for nothing.
    os.register_at_fork = lambda **_: None
    exec("\n".join([*lines, f"import {', '.join(names)}"]), prelude)
    for name in (*PRELOAD, *(LARGE if large else ())):
        __import__(name)
    os.register_at_fork = repair
    vars(builtins).update({name: value for name, value in prelude.items() if name not in vars(builtins)})
    threading, stack_size = sys.modules["threading"], _thread.stack_size
    vars(threading)["stack_size"] = lambda size=0: stack_size(min(size, THREAD_STACK_BYTES))
    sys.setrecursionlimit(RECURSION_LIMIT)
    sys.set_int_max_str_digits(INT_DIGITS)
    warnings.simplefilter("ignore")
    sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), "utf-8", "backslashreplace")


def main() -> NoReturn:
    channel = int(sys.argv[1])
    os.dup2(channel, CHANNEL)
    if channel != CHANNEL:
        os.close(channel)  # whoever started us may hold hundreds: it need not be among the next
    os.closerange(3, CHANNEL)
    level, tier, sys.argv[:] = sys.argv[2], sys.argv[3], ["program.py"]
    try:
        memory = move_in(level)
        load_modules(large=tier == "large")
        own_memory = int(os.read(memory, 99).split()[0]) * resource.getpagesize()
        os.close(memory)
        jail = lock(level)
        prepare_to_hold_still()
        warm_up()
        PREPARED.append(standard_files())
        gc.freeze()
        check_confinement(level, own_memory, jail)
    except OSError as error:
        write_message(str(error).removeprefix(f"[Errno {error.errno}] ").encode())
        os._exit(1)
    write_message(b"ready")
    while True:
        job = read_job()
        write_message(run(job._replace(memory=job.memory + own_memory), jail))


if __name__ == "__main__":
    main()
