import base64
import hashlib
import json
import os
import re
import resource
import signal
import subprocess
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gasp_rl.config import GaspConfig, RunConfig
from gasp_rl.errors import RunError
from gasp_rl.rollout import (
    Answer,
    Axis,
    Draws,
    Evaluation,
    Iteration,
    Judgement,
    Kind,
    Pair,
    Phase,
    ProblemScore,
    Proposal,
    Rejection,
    UpdateStats,
)
from gasp_rl.runs.journal import (
    Digests,
    EvaluationRecord,
    Finished,
    GoalpostText,
    IterationRecord,
    Journal,
    JournalTail,
    JournalWriter,
    Record,
    Started,
    Stopped,
    read_journal,
    read_whole,
)

CONFIG = RunConfig(recipe="demo", gasp=GaspConfig())

# Any text and any number a run can produce, but for those the journal is documented to change.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=60) | st.just("#0123456789abcdef")
numbers = st.floats(allow_nan=False)
counts = st.integers(0, 10**9)

proposals = st.builds(
    Proposal,
    id=texts,
    rung=texts,
    text=texts,
    axis=st.none() | st.sampled_from(Axis),
    message=texts,
    program=texts,
    pairs=st.lists(st.builds(Pair, texts, texts), max_size=2).map(tuple),
    rejection=st.none() | st.sampled_from(Rejection),
    similarity=numbers,
    passes=counts,
    reward=numbers,
)
answers = st.builds(Answer, st.sampled_from(Kind), texts, texts, st.sampled_from(Judgement), texts, numbers)
updates = st.builds(UpdateStats, texts, counts, counts, numbers, numbers, numbers, numbers, numbers, st.booleans())
phases = st.builds(
    Phase,
    texts,
    st.lists(proposals, max_size=2).map(tuple),
    st.lists(answers, max_size=2).map(tuple),
    st.none() | updates,
    counts,
)
draws = st.builds(
    Draws,
    counts,
    texts,
    st.lists(texts, max_size=2).map(tuple),
    st.lists(counts, max_size=2).map(tuple),
    st.lists(st.booleans(), max_size=2).map(tuple),
)
scores = st.builds(ProblemScore, texts, counts, counts, counts, texts)
records = st.one_of(
    st.builds(
        Started,
        st.just(CONFIG),
        texts,
        st.builds(Digests, texts),
        st.lists(st.builds(GoalpostText, texts, texts), max_size=2).map(tuple),
    ),
    st.builds(IterationRecord, st.builds(Iteration, counts, st.lists(phases, max_size=2).map(tuple))),
    st.builds(
        EvaluationRecord, st.builds(Evaluation, counts, texts, numbers, st.lists(scores, max_size=2).map(tuple), counts)
    ),
    st.builds(Finished, texts),
    st.builds(Stopped, texts),
)


tried_phases = st.builds(Phase, texts, tries=st.lists(answers, max_size=2).map(tuple))
traced = st.builds(
    IterationRecord,
    st.builds(Iteration, counts, st.lists(tried_phases, max_size=2).map(tuple)),
    st.lists(draws, max_size=2).map(tuple),
)


def iteration(step: int, text: str = "def f(x): return x") -> IterationRecord:
    proposal = Proposal(f"p{step}", "lemma", text, axis=Axis.F, passes=5, tries=10, reward=1.0)
    return IterationRecord(Iteration(step, (Phase("lemma", (proposal,)),)))


def write(path: Path, *written: Record) -> bytes:
    with JournalWriter(path) as journal:
        for record in written:
            journal.append(record)
    return path.read_bytes()


@settings(deadline=None)
@given(written=st.lists(records, max_size=4))
def test_what_is_written_is_read_back(tmp_path_factory: pytest.TempPathFactory, written: list[Record]) -> None:
    path = tmp_path_factory.mktemp("run") / "journal.jsonl"

    write(path, *written)

    assert read_journal(path) == Journal(tuple(written))


@given(written=st.lists(traced, max_size=3))
def test_draws_and_tries_are_read_back_where_they_are_asked_for(
    tmp_path_factory: pytest.TempPathFactory, written: list[Record]
) -> None:
    path = tmp_path_factory.mktemp("run") / "journal.jsonl"

    write(path, *written)

    assert list(read_whole(path)) == written
    assert all(not phase.tries for one in read_journal(path).iterations for phase in one.phases)


def test_a_long_text_lies_once_in_a_line_and_compressed(tmp_path: Path) -> None:
    program = "def f(x):\n    return sorted(x)[::-1] + [len(x)] * 3\n"
    proposal = Proposal("p1", "lemma", text=program, program=program)
    tries = (Answer(Kind.INDUCTION, "p1", program, Judgement.CORRECT, "", 1.0),) * 100
    record = IterationRecord(Iteration(1, (Phase("lemma", (proposal,), tries=tries),)))

    data = write(tmp_path / "j", record)

    assert b"sorted" not in data
    line = json.loads(data)
    address = line["record"]["iteration"]["phases"][0]["proposals"][0]["program"]
    assert address == "#" + hashlib.sha256(program.encode()).hexdigest()[:16]
    assert json.loads(zlib.decompress(base64.b64decode(line["texts"]))) == [program]


def test_a_journal_of_schema_1_is_still_read_and_gone_on_with(tmp_path: Path) -> None:
    text = "# what a model wrote once, longer than what is kept in place today"
    body = msgspec.json.encode(iteration(1, text))
    checksum = hashlib.sha256(body).hexdigest()[:16]
    line = b'{"schema":1,"sum":"%s","record":%s}\n' % (checksum.encode(), body)
    (tmp_path / "j").write_bytes(line)

    write(tmp_path / "j", iteration(2))

    assert [record.iteration.step for record in read_whole(tmp_path / "j") if isinstance(record, IterationRecord)] == [
        1,
        2,
    ]
    assert read_journal(tmp_path / "j").iterations[0].phases[0].proposals[0].text == text


def test_a_corrupt_line_is_named_with_what_is_whole_and_how_to_go_on(tmp_path: Path) -> None:
    write(tmp_path / "j", Started(CONFIG, "0.1"), iteration(1), iteration(2), iteration(3))
    lines = (tmp_path / "j").read_bytes().splitlines(keepends=True)
    lines[2] = lines[2].replace(b'"step":2', b'"step":7')
    (tmp_path / "j").write_bytes(b"".join(lines))

    with pytest.raises(RunError, match=r"line 3 is corrupt .*2 lines before it are whole, up to iteration 1") as caught:
        read_journal(tmp_path / "j")

    advice = re.search(r"rest: (.*), then gasp resume", str(caught.value))
    assert advice
    subprocess.run(advice[1], shell=True, check=True)
    assert len(read_journal(tmp_path / "j").iterations) == 1


def test_a_number_that_is_not_finite_survives(tmp_path: Path) -> None:
    stats = UpdateStats("lemma", 1, 2, 0.5, float("inf"), float("-inf"), 0.0, 0.0, skipped=True)

    write(tmp_path / "j", IterationRecord(Iteration(1, (Phase("lemma", update=stats),))))

    assert read_journal(tmp_path / "j").iterations[0].phases[0].update == stats


def test_a_lone_surrogate_in_what_a_model_wrote_becomes_a_question_mark(tmp_path: Path) -> None:
    write(tmp_path / "j", iteration(1, "a\ud800b"))

    assert read_journal(tmp_path / "j").iterations[0].phases[0].proposals[0].text == "a?b"


def test_equal_records_give_equal_bytes(tmp_path: Path) -> None:
    written: list[Record] = [Started(CONFIG, "0.1"), iteration(1), iteration(2)]

    assert write(tmp_path / "a", *written) == write(tmp_path / "b", *written)


def test_writing_in_two_sittings_gives_the_bytes_of_one(tmp_path: Path) -> None:
    straight = write(tmp_path / "a", iteration(1), iteration(2))

    write(tmp_path / "b", iteration(1))

    assert write(tmp_path / "b", iteration(2)) == straight


def test_cut_at_any_byte_it_keeps_every_whole_record_and_says_what_it_dropped(tmp_path: Path) -> None:
    written = (Started(CONFIG, "0.1"), iteration(1), Finished())
    data = write(tmp_path / "j", *written)
    ends = [i + 1 for i, byte in enumerate(data) if byte == ord("\n")]

    for length in range(len(data)):
        (tmp_path / "j").write_bytes(data[:length])
        journal = read_journal(tmp_path / "j")

        whole = sum(end <= length for end in ends)
        assert journal.records == written[:whole]
        assert bool(journal.notes) == (length not in {0, *ends})


def test_a_torn_line_is_removed_before_the_next_is_written(tmp_path: Path) -> None:
    data = write(tmp_path / "j", iteration(1), iteration(2))
    (tmp_path / "j").write_bytes(data[:-3])

    assert write(tmp_path / "j", iteration(2)) == data


def test_a_changed_last_line_is_dropped(tmp_path: Path) -> None:
    data = write(tmp_path / "j", iteration(1), iteration(2))
    (tmp_path / "j").write_bytes(data[:-10] + b"!" + data[-9:])

    journal = read_journal(tmp_path / "j")

    assert journal.records == (iteration(1),)
    assert "line 2" in journal.notes[0]


def test_a_changed_line_elsewhere_is_an_error_that_names_it(tmp_path: Path) -> None:
    data = write(tmp_path / "j", iteration(1), iteration(2), iteration(3))
    (tmp_path / "j").write_bytes(data.replace(b'"step":2', b'"step":9'))

    with pytest.raises(RunError, match="line 2 is corrupt"):
        read_journal(tmp_path / "j")


def test_a_missing_line_is_noticed(tmp_path: Path) -> None:
    data = write(tmp_path / "j", iteration(1), iteration(2), iteration(3))
    first, _, last = data.splitlines(keepends=True)
    (tmp_path / "j").write_bytes(first + last + last)

    with pytest.raises(RunError, match="line 2 is corrupt"):
        read_journal(tmp_path / "j")


def test_a_newer_schema_is_refused_even_in_the_last_line(tmp_path: Path) -> None:
    data = write(tmp_path / "j", iteration(1))
    (tmp_path / "j").write_bytes(data.replace(b'{"schema":2', b'{"schema":3'))

    with pytest.raises(RunError, match="has schema 3, this gasp-rl reads 2"):
        read_journal(tmp_path / "j")


def test_two_processes_cannot_write_one_journal(tmp_path: Path) -> None:
    with JournalWriter(tmp_path / "j"), pytest.raises(RunError, match="another process"):
        JournalWriter(tmp_path / "j")


def test_rewinding_gives_the_bytes_of_a_run_that_never_went_further(tmp_path: Path) -> None:
    straight = write(tmp_path / "a", iteration(1), iteration(2, "other"))
    write(tmp_path / "b", iteration(1), iteration(2), iteration(3))

    with JournalWriter(tmp_path / "b") as journal:
        journal.rewind(1)
        journal.append(iteration(2, "other"))

    assert (tmp_path / "b").read_bytes() == straight


def test_a_tail_reads_on_from_where_it_stopped(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    tail = JournalTail(path)
    assert tail.read() == []

    with JournalWriter(path) as journal:
        journal.append(iteration(1))
        journal.append(iteration(2))
        assert tail.read() == [iteration(1), iteration(2)]
        assert tail.read() == []
        journal.append(iteration(3))
        torn = path.read_bytes()
        path.write_bytes(torn[:-3])
        assert tail.read() == []
        path.write_bytes(torn)
        assert tail.read() == [iteration(3)]


def test_a_tail_notices_that_a_run_went_back_behind_what_was_read(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    tail = JournalTail(path)
    with JournalWriter(path) as journal:
        journal.append(iteration(1))
        journal.append(iteration(2))
        tail.read()
        journal.rewind(1)
        assert tail.read() is None
        journal.append(iteration(3))
        journal.append(iteration(2))
        assert tail.read() is None


@contextmanager
def file_size_limit(limit: int) -> Iterator[None]:
    """Writes beyond it fail half-way, as on a full disk."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))


def test_a_full_disk_is_one_clear_error_and_leaves_whole_records(tmp_path: Path) -> None:
    data = write(tmp_path / "j", iteration(1), iteration(2))

    with JournalWriter(tmp_path / "j") as journal:
        with file_size_limit(len(data) + 50), pytest.raises(RunError, match="Its 2 records are intact"):
            journal.append(iteration(3))
        assert (tmp_path / "j").read_bytes() == data
        journal.append(iteration(3))

    assert read_journal(tmp_path / "j").records == (iteration(1), iteration(2), iteration(3))


WRITER = """
import signal
import sys
from pathlib import Path
from gasp_rl.rollout import Iteration
from gasp_rl.runs.journal import IterationRecord, JournalWriter
signal.signal(signal.SIGINT, signal.default_int_handler)  # tests may run where it is ignored: in the background
with JournalWriter(Path(sys.argv[1])) as journal:
    step = len(journal.journal.records)
    while True:
        step += 1
        journal.append(IterationRecord(Iteration(step, ())))
        print(step, flush=True)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_writer_ended_at_any_instant_loses_nothing_it_had_reported(tmp_path: Path, how: signal.Signals) -> None:
    path = tmp_path / "j"

    for appended in (1, 7, 23):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": "src"},
            text=True,
        )
        assert writer.stdout is not None
        reported = [int(writer.stdout.readline()) for _ in range(appended)]
        writer.send_signal(how)
        reported += [int(line) for line in writer.stdout]
        writer.wait()
        writer.stdout.close()

        steps = [i.step for i in read_journal(path).iterations]
        assert steps == list(range(1, len(steps) + 1))
        assert len(steps) >= reported[-1]
