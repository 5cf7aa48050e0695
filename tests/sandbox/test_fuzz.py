"""Bytes that no honest worker sends, and values that no honest program returns: neither disturbs the trusted side."""

import os
import signal
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gasp_rl.config import Limits, SandboxConfig
from gasp_rl.errors import SandboxError
from gasp_rl.sandbox import isolation
from gasp_rl.sandbox.base import Job, Result, Status
from gasp_rl.sandbox.local import LocalSandbox, read_frames, read_reply
from gasp_rl.sandbox.values import canonical, canonical_arguments, decode, spell
from gasp_rl.sandbox.worker import Speller, UnserializableError, read_arguments

STATUSES = 6
JOB = Job("def f(x): return x", ("1", "2", "3"))
LIMITS = Limits()
LONG = 1 << 20


# --------------------------------------------------------------------------------------------------------------- frames


def frame(index: int, status: int, payload: bytes) -> bytes:
    return struct.pack("<IBI", index, status, len(payload)) + payload


def reply(frames: bytes, wait_status: int = 0, reason: int = 0, cpu: float = 0.1, peak: int = 1 << 20) -> bytes:
    return struct.pack("<iBdQ", wait_status, reason, cpu, peak) + frames


def status_of(frames: bytes) -> Status:
    return read_reply(JOB, LIMITS, reply(frames), "L4").status


FRAMES = st.lists(st.tuples(st.just(0), st.binary(max_size=20)), min_size=4, max_size=4)
"""What an honest child leaves: that it was loaded, and a result for each of its three inputs."""


@given(raw=st.binary(max_size=200), most=st.integers(0, 5))
def test_random_bytes_are_frames_or_they_are_not_but_reading_them_never_fails(raw: bytes, most: int) -> None:
    found = read_frames(raw, most)

    assert found is None or len(found) <= most


@given(frames=st.lists(st.tuples(st.integers(0, STATUSES - 1), st.binary(max_size=50)), max_size=5))
def test_well_formed_frames_are_read_as_what_they_say(frames: list[tuple[int, bytes]]) -> None:
    found = read_frames(b"".join(frame(index, *rest) for index, rest in enumerate(frames)), 5)

    assert found is not None
    assert len(found) == len(frames)
    for result, (status, payload) in zip(found, frames, strict=True):
        assert (result.status is Status.OK) == (status == 0)
        assert result.value == (payload.decode("utf-8", "replace") if status == 0 else "")
        assert result.detail.isprintable()


@given(frames=FRAMES, data=st.data())
def test_truncated_frames_are_tampering_and_missing_ones_are_no_result(
    frames: list[tuple[int, bytes]], data: st.DataObject
) -> None:
    pieces = [frame(index, *rest) for index, rest in enumerate(frames)]
    whole = b"".join(pieces)
    ends = {sum(map(len, pieces[:count])) for count in range(4)}
    cut = data.draw(st.integers(0, len(whole) - 1))

    assert status_of(whole) is Status.OK
    assert status_of(whole[:cut]) is (Status.NO_RESULT if cut in ends else Status.PROTOCOL)


@given(frames=FRAMES, at=st.integers(0, 3), other=st.integers(0, 3), extra=st.binary(min_size=1, max_size=30))
def test_frames_twice_out_of_order_too_many_or_too_long_are_tampering(
    frames: list[tuple[int, bytes]], at: int, other: int, extra: bytes
) -> None:
    pieces = [frame(index, *rest) for index, rest in enumerate(frames)]
    twice = [*pieces[: at + 1], *pieces[at:]]
    swapped = list(pieces)
    swapped[at], swapped[other] = swapped[other], swapped[at]
    too_long = [*pieces]
    too_long[at] = frame(at, 0, b"")[:-4] + struct.pack("<I", sum(map(len, pieces)) + 1)

    assert status_of(b"".join(twice)) is Status.PROTOCOL
    assert status_of(b"".join(swapped)) is (Status.OK if at == other else Status.PROTOCOL)
    assert status_of(b"".join(too_long)) is Status.PROTOCOL
    assert status_of(b"".join(pieces) + extra) is Status.PROTOCOL
    assert (
        status_of(b"".join([*pieces[:at], pieces[at][:4] + b"\xff" + pieces[at][5:], *pieces[at + 1 :]]))
        is Status.PROTOCOL
    )


@given(
    frames=st.binary(max_size=60) | FRAMES.map(lambda fs: b"".join(frame(i, *rest) for i, rest in enumerate(fs))),
    ended=st.integers(0, 255).map(lambda code: code << 8) | st.integers(1, 64) | st.integers(1, 64).map(lambda n: n | 0x80),
    reason=st.integers(0, 255),
    cpu=st.floats(0, 1e9),
    peak=st.integers(0, 2**64 - 1),
)  # fmt: skip
def test_whatever_way_a_child_ends_there_is_an_execution(
    frames: bytes, ended: int, reason: int, cpu: float, peak: int
) -> None:
    execution = read_reply(JOB, LIMITS, reply(frames, ended, reason, cpu, peak), "L4")

    assert len(execution.results) <= len(JOB.inputs) + 1
    if execution.status is Status.OK:
        assert [result.status for result in execution.results] == [Status.OK] * 3
        assert os.WIFEXITED(ended)
    assert all(result.detail.isprintable() for result in execution.results)


ROGUES = {
    "says nothing and ends": "",
    "never reads": "say(b'ready')\ntime.sleep(0.2)",
    "sends half a message": "say(b'ready')\nhear()\nos.write(channel, struct.pack('<I', 100) + b'x')",
    "answers with too little": "say(b'ready')\nhear()\nsay(b'x')\nhear()",
    "announces gigabytes": "say(b'ready')\nhear()\nos.write(channel, struct.pack('<I', 2**32 - 1))\nhear()",
    "answers with garbage": "say(b'ready')\nwhile True: hear(); say(OK[:21] + b'garbage')",
    "answers in single bytes": "say(b'ready')\nwhile True: hear(); [os.write(channel, bytes([b])) for b in struct.pack('<I', len(OK)) + OK]",
}
PREFACE = (
    "import os, struct, sys, time\nchannel = int(sys.argv[1])\n"
    "def say(message): os.write(channel, struct.pack('<I', len(message)) + message)\n"
    "def hear():\n    if not os.read(channel, 1 << 20): os._exit(0)\n"
    f"OK = {reply(b''.join(frame(i, 0, str(i).encode()) for i in range(4)))!r}\n"
)
ANSWERED: dict[str, set[Status | str]] = {
    "answers with garbage": {Status.PROTOCOL},
    "answers in single bytes": {Status.OK},
}
"""What these leave. After the others the job was tried twice, or there is no worker that can be kept alive."""


@pytest.mark.parametrize("rogue", ROGUES)
def test_a_worker_gone_mad_is_replaced_or_reported_and_never_waited_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, rogue: str
) -> None:
    mad = tmp_path / "worker.py"
    mad.write_text(PREFACE + ROGUES[rogue])
    sandbox = LocalSandbox(SandboxConfig(workers=1))
    monkeypatch.setattr(isolation, "WORKER", mad)

    with sandbox:
        assert outcome(sandbox) in ANSWERED.get(rogue, {Status.INFRA, "no worker can be kept alive"})


def outcome(sandbox: LocalSandbox) -> Status | str:
    try:
        return next(execution.status for _, execution in sandbox.execute([JOB]))
    except SandboxError as error:
        return "no worker can be kept alive" if "workers in a row died" in str(error) else str(error)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[LocalSandbox]:
    with LocalSandbox(SandboxConfig(limits=Limits(cpu_seconds=1.0), workers=1)) as started:
        yield started


OPERATIONS = st.lists(
    st.one_of(
        st.builds("os.write(3, {!r})".format, st.binary(max_size=30)),
        st.builds("os.pwrite(3, {!r}, {})".format, st.binary(max_size=30), st.integers(0, 60)),
        st.builds("os.lseek(3, {}, {})".format, st.integers(0, 60), st.integers(0, 2)),
        st.builds("os.ftruncate(3, {})".format, st.integers(0, 60)),
        st.builds("os.write(3, struct.pack('<IBI', {}, {}, {}))".format, st.integers(0, 4), st.integers(0, 7), st.integers(0, 9)),
        st.sampled_from(["os._exit(0)", "os._exit(1)", "os.close(3)", "os.dup2(1, 3)", "os.kill(os.getpid(), 9)", "1 / 0", "pass"]),
    ),
    min_size=1,
    max_size=6,
)  # fmt: skip


@settings(max_examples=40)
@given(operations=OPERATIONS)
def test_whatever_a_program_does_to_its_results_it_is_judged_and_the_next_is_none_the_worse(
    sandbox: LocalSandbox, operations: list[str]
) -> None:
    body = "".join(f"    {operation}\n" for operation in operations)
    hostile = Job(f"import os, struct\ndef f(x):\n{body}    return 'mine'", ("1", "2"))

    executions = dict(sandbox.execute([hostile, JOB]))

    assert executions[0].status is not Status.INFRA, executions[0]
    assert executions[1].results == tuple(Result(Status.OK, text) for text in JOB.inputs)


@pytest.mark.parametrize("number", [signal.SIGRTMIN + 1, signal.SIGUSR1, signal.SIGSEGV])
def test_death_by_any_signal_has_a_name(number: int) -> None:
    execution = read_reply(JOB, LIMITS, reply(frame(0, 0, b""), number), "L1")

    assert execution.status is Status.CRASH
    assert execution.detail


# --------------------------------------------------------------------------------------------------------------- values

LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.binary(max_size=8)
    | st.text(st.characters(categories=["Cs", "Cc", "So"]), max_size=3)
)  # fmt: skip
HASHABLE = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3), max_leaves=6
)
VALUES = st.recursive(
    HASHABLE,
    lambda inner: (
        st.lists(inner, max_size=4) | st.lists(inner, max_size=4).map(tuple) | st.sets(HASHABLE, max_size=4)
        | st.dictionaries(HASHABLE, inner, max_size=4)
    ),
    max_leaves=12,
)  # fmt: skip


@given(value=VALUES)
def test_a_value_is_spelled_alike_inside_and_outside_and_read_back_on_both_sides(value: object) -> None:
    text = spell(value)

    assert Speller(LONG).spell(value) == text
    assert spell(decode(text)) == text
    assert [spell(argument) for argument in read_arguments(text)] == [text]
    assert canonical(text) == text
    assert canonical_arguments(f"{text},\t{text}") == f"{text}, {text}"


class PoisonError(Exception):
    """Somebody ran a hostile object's method."""


def poisoned(base: type) -> type:
    def bite(*_: object, **__: object) -> None:
        raise PoisonError

    spells = ("__repr__", "__str__", "__len__", "__iter__", "__eq__", "__lt__", "__getitem__", "__bool__", "__index__",
              "__int__", "__float__", "__bytes__", "__format__", "__contains__", "__reduce_ex__", "__getattribute__",
              "items", "keys", "values", "bit_length", "encode")  # fmt: skip
    return type("Poison", (base,), {**dict.fromkeys(spells, bite), "__hash__": lambda _: 1})


HOSTILE: list[object] = [
    *(poisoned(base)() for base in (object, int, float, str, bytes, list, tuple, set, frozenset, dict, complex, bytearray)),
    *(1j, bytearray(), range(3), len, type, object(), NotImplemented, ..., memoryview(b""), iter(()), (x for x in [1])),
]  # fmt: skip


@given(
    which=st.integers(0, len(HOSTILE) - 1),
    around=st.lists(st.sampled_from(["list", "tuple", "dict value"]), max_size=5),
    value=VALUES,
)
def test_a_hostile_object_is_refused_wherever_it_hides_and_none_of_its_methods_run(
    which: int, around: list[str], value: object
) -> None:
    hostile = HOSTILE[which]
    for container in around:
        match container:
            case "list":
                hostile = [value, hostile]
            case "tuple":
                hostile = (hostile, value)
            case _:
                hostile = {"a": value, "b": hostile}

    with pytest.raises(UnserializableError):
        Speller(LONG).spell(hostile)


LITERAL_LIKE = st.text(
    st.sampled_from("[](){},:'\"\\ 0123456789.eE+-~jxNoneTrueFalsenainfsetfrozenbB#\n\t"), max_size=40
)


@given(text=LITERAL_LIKE | st.text(max_size=40))
def test_any_text_is_a_value_or_is_refused_and_one_spelling_is_enough(text: str) -> None:
    once, arguments = canonical(text), canonical_arguments(text)

    assert once is None or canonical(once) == once
    assert arguments is None or canonical_arguments(arguments) == arguments
    if once is not None:
        assert spell(decode(text)) == once


@given(text=LITERAL_LIKE)
def test_both_sides_read_the_same_arguments_from_any_text(text: str) -> None:
    outside = canonical_arguments(text)
    if outside is not None:
        assert ", ".join(spell(argument) for argument in read_arguments(outside)) == outside
