"""The store is made from the journal, is whole at every instant, and never keeps a run from going on."""

import hashlib
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gasp_rl.cli import main
from gasp_rl.config import GaspConfig, RunConfig
from gasp_rl.errors import RunError
from gasp_rl.report.numbers import funnel
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
from gasp_rl.runs.directory import RunDirectory, create_run
from gasp_rl.runs.journal import (
    Course,
    Decided,
    EvaluationRecord,
    Finished,
    GoalpostText,
    IterationRecord,
    JournalWriter,
    Record,
    Started,
    Stopped,
)
from gasp_rl.runs.store import VERSION, StoreKeeper, condition_of, make_store, read_store

CONFIG = RunConfig(recipe="demo", gasp=GaspConfig())
QUESTIONS = Path(__file__).parents[2] / "docs" / "store.md"

STATEMENT = "Return the sum of the squares of the even numbers of a list. " * 3
ODD = "a\0b ⟨é⟩ \ud800 " + "x" * 60
"""A text with all that a model may print."""


def start() -> Started:
    texts = tuple(GoalpostText(f"g{n}", STATEMENT + str(n), "microcode", "depth-5") for n in range(5))
    return Started(CONFIG, "0.1", goalposts=texts)


def wrote(identity: str, goalpost: str, **changes: object) -> Proposal:
    program = f"def f(x):\n    return [v + {len(identity)} for v in x]  # {identity}"
    made = Proposal(
        identity, "lemma", f"{STATEMENT}\n{program}", Axis.F, goalpost, goalpost, STATEMENT, program,
        (Pair("[1, 2]", "[2, 3]"), Pair("[]", "[]")), passes=3, tries=10, reward=0.42, prompt="ab" * 8, tokens=61,
    )  # fmt: skip
    return replace(made, **changes)  # type: ignore[arg-type]


def tried(proposal: Proposal, n: int) -> tuple[Answer, ...]:
    judged = [Judgement.CORRECT, Judgement.WRONG, Judgement.MALFORMED]
    return tuple(
        Answer(Kind.INDUCTION, proposal.id, f"{proposal.program} # try {t}", judged[t % 3], "gave 1, not 2", -0.5, 20)
        for t in range(n)
    )


def learnt(name: str, loss: float = 0.25) -> UpdateStats:
    return UpdateStats(name, 4, 90, -0.3, loss, 1.5, 0.7, 1e-6, skipped=False, advantages=((0.5, -0.5),))


def iteration(step: int) -> IterationRecord:
    """Two lemmas, one a copy of the other, and a lift of the first."""
    first = wrote(f"first{step}", f"g{step % 4}")
    second = wrote(
        f"second{step}", f"g{(step + 1) % 4}", rejection=Rejection.DUPLICATE, detail=f"similarity 0.990 to {first.id}",
        similarity=0.99, neighbour=first.id, passes=0, tries=0, reward=-0.5,
    )  # fmt: skip
    broken = wrote(f"broken{step}", "g1", text=ODD, rejection=Rejection.MALFORMED, message="", program="", pairs=())
    lift = wrote(f"lift{step}", first.goalpost, rung="lift", parent=first.id, similarity=0.7, neighbour=first.id)
    practised = Answer(Kind.DEDUCTION, f"first{max(1, step - 1)}", ODD, Judgement.WRONG, "", -0.5, 9)
    real = Answer(Kind.PROBLEM, "lcb/12", "print(input())", Judgement.CORRECT, "", 1.0, 9)
    phases = (
        Phase("lemma", (first, second, broken), (), learnt("lemma", float("nan")), 300, 0.8, tried(first, 10)),
        Phase("lift", (lift,), (), learnt("lift", float("inf")), 100, 0.6, tried(lift, 10)),
        Phase("practice", (), (practised, real), learnt("practice"), 40),
    )
    return IterationRecord(Iteration(step, phases, 2 * step), (Draws(7, "ab", ("a text",), (3,), (True,)),))


def evaluation(step: int, split: str = "goalposts", **confirmed: int) -> EvaluationRecord:
    scores = tuple(
        ProblemScore(f"g{n}", 20, confirmed.get(f"g{n}", 0), confirmed.get(f"g{n}", 0), "def f(x):\n    return x")
        for n in range(5)
    )
    return EvaluationRecord(Evaluation(step, split, 0.6, scores, 1000))


def records() -> list[Record]:
    """A run with everything in it."""
    made: list[Record] = [start(), evaluation(0, g4=1)]
    for step in range(1, 5):
        made.append(iteration(step))
        if step % 2 == 0:
            made.append(evaluation(step, g0=1, g1=3 * (step == 4)))
        if step == 3:
            made.append(Decided(step, Course.MAPPING, "80 % were duplicates"))
    return [*made, evaluation(0, "matched_base", g2=9), Finished()]


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return create_run(tmp_path / "run", CONFIG)


@pytest.fixture
def journal(run: RunDirectory) -> Iterator[JournalWriter]:
    with JournalWriter(run.journal) as writer:
        yield writer


@pytest.fixture
def whole(run: RunDirectory, journal: JournalWriter) -> JournalWriter:
    """A journal of a whole run; there is no store yet."""
    for record in records():
        journal.append(record)
    return journal


def write(run: RunDirectory, made: list[Record]) -> None:
    with JournalWriter(run.journal) as writer:
        for record in made:
            writer.append(record)


def kept(run: RunDirectory, journal: JournalWriter, note: Callable[[str], None] = lambda _: None) -> StoreKeeper:
    return StoreKeeper(run.store, journal, note, patience=0.01)


def brought_up(run: RunDirectory, journal: JournalWriter) -> list[str]:
    """Open the store as a run does; what it notes."""
    notes: list[str] = []
    with kept(run, journal, notes.append) as keeper:
        keeper.update()
    return notes


def dump(store: Path) -> list[str]:
    with closing(read_store(store)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        return [*connection.iterdump(), *map(str, connection.execute("PRAGMA user_version"))]


def made_afresh(journal: JournalWriter, folder: Path) -> list[str]:
    make_store(folder / "afresh.sqlite", journal)
    return dump(folder / "afresh.sqlite")


def ask(run: RunDirectory, question: str) -> list[tuple[object, ...]]:
    with closing(read_store(run.store)) as connection:
        return connection.execute(question).fetchall()


# What is in it


def test_a_store_that_grew_with_its_run_is_the_one_made_afterwards(
    run: RunDirectory, journal: JournalWriter, tmp_path: Path
) -> None:
    with kept(run, journal) as keeper:
        keeper.update()
        journal.follow(keeper.update)
        for record in records():
            journal.append(record)
            assert ask(run, "SELECT records, checksum FROM mark") == [(journal.records, journal.checksum)]

    assert dump(run.store) == made_afresh(journal, tmp_path)


def test_proposals_are_there_with_all_that_was_found_out(run: RunDirectory, whole: JournalWriter) -> None:
    brought_up(run, whole)

    lift = ask(run, "SELECT * FROM plain_proposals WHERE id = 'lift3'")
    second = ask(
        run, "SELECT rejection, detail, similarity, neighbour, parent FROM plain_proposals WHERE id = 'second2'"
    )
    odd = ask(run, "SELECT completion, message FROM plain_proposals WHERE id = 'broken1'")

    one = wrote("lift3", "g3")
    assert lift[0][1:] == (
        "lift3", 3, "lift", "f", "g3", "first3", one.message, one.program, one.text, None, "", 0.7, "first3", 3, 10, 0.42,
        "ab" * 8, 61,
    )  # fmt: skip
    assert second == [("duplicate", "similarity 0.990 to first2", 0.99, "first2", None)]
    assert odd == [(ODD.replace("\ud800", "?"), None)]
    assert ask(run, "SELECT place, input, output FROM pairs WHERE proposal = (SELECT min(number) FROM proposals)") == [
        (0, "[1, 2]", "[2, 3]"), (1, "[]", "[]"),
    ]  # fmt: skip


def test_answers_name_what_they_answer(run: RunDirectory, whole: JournalWriter) -> None:
    brought_up(run, whole)

    tries = ask(
        run, "SELECT count(*), sum(judgement = 'correct') FROM plain_answers WHERE purpose = 'try' AND source = 'lift2'"
    )
    practice = ask(run, "SELECT step, kind, source FROM plain_answers WHERE purpose = 'practice' AND step = 3")

    assert tries == [(10, 4)]
    assert practice == [(3, "deduction", "first2"), (3, "problem", "lcb/12")]


def test_goalposts_pass_through_their_states(run: RunDirectory, whole: JournalWriter) -> None:
    brought_up(run, whole)

    states = ask(run, "SELECT id, state, drawn, climbed, solved, solid FROM goalpost_states")

    assert states == [
        ("g0", "solid", 3, 4, 2, 4),  # one confirmed solve at 2 and one more at 4
        ("g1", "solid", 1, 1, 4, 4),
        ("g2", "climbed", 1, 2, None, None),  # what the base model solves does not count
        ("g3", "climbed", 2, 3, None, None),
        ("g4", "untouched", None, None, None, None),
    ]


def test_ladders_follow_what_they_were_made_from(run: RunDirectory, whole: JournalWriter) -> None:
    brought_up(run, whole)

    assert ask(run, "SELECT goalpost, depth, id FROM ladders ORDER BY path") == [
        (f"g{step % 4}", depth, f"{name}{step}") for step in range(1, 5) for depth, name in ((1, "first"), (2, "lift"))
    ]


def test_the_funnel_counts_as_the_report_does(run: RunDirectory, journal: JournalWriter) -> None:
    rejections = [*Rejection, None, None]
    written = tuple(wrote(f"p{n}", "g0", rejection=why) for n, why in enumerate(rejections))
    journal.append(IterationRecord(Iteration(1, (Phase("lemma", written),))))
    brought_up(run, journal)

    (counted,) = ask(run, "SELECT * FROM funnels")

    assert counted == (1, "lemma", len(written), *(stage.survivors for stage in funnel(written)))


def test_numbers_that_are_not_finite_are_kept_as_far_as_sql_can(run: RunDirectory, whole: JournalWriter) -> None:
    brought_up(run, whole)

    assert ask(run, "SELECT loss FROM updates WHERE step = 2") == [(None,), (float("inf"),), (0.25,)]


def test_free_proposals_have_no_goalpost_and_may_come_from_outside(run: RunDirectory, journal: JournalWriter) -> None:
    free = wrote("free", "", rung="propose deduction", parent="identity", axis=None)
    journal.append(
        IterationRecord(Iteration(1, (Phase("deduction", (free, replace(free, id="next", parent="free"))),)))
    )

    brought_up(run, journal)

    assert ask(run, "SELECT id, goalpost, parent, axis FROM plain_proposals") == [
        ("free", None, None, None), ("next", None, "free", None),
    ]  # fmt: skip


def test_a_run_that_went_on_with_other_settings_has_two_starts(run: RunDirectory, journal: JournalWriter) -> None:
    again = Started(replace(CONFIG, steps=99), "0.2", goalposts=(*start().goalposts, GoalpostText("new", "Sort.")))
    for record in (start(), iteration(1), again, iteration(2), Finished("enough")):
        journal.append(record)

    assert brought_up(run, journal) == []

    assert ask(run, "SELECT step, package, steps, ending, reason FROM starts") == [
        (0, "0.1", CONFIG.steps, None, None), (1, "0.2", 99, "finished", "enough"),
    ]  # fmt: skip
    assert ask(run, "SELECT id FROM goalposts ORDER BY number DESC LIMIT 1") == [("new",)]


@settings(max_examples=25)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=200), min_size=1, max_size=20))
def test_any_text_comes_back_and_lies_there_once(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    run = create_run(tmp_path_factory.mktemp("run"), CONFIG)
    with JournalWriter(run.journal) as journal:
        written = tuple(
            wrote(str(n), "g0", text=text, message="", program="", pairs=()) for n, text in enumerate(texts)
        )
        journal.append(IterationRecord(Iteration(1, (Phase("lemma", written),))))
        brought_up(run, journal)

    completions = ask(run, "SELECT completion FROM plain_proposals ORDER BY number")

    assert completions == [(text or None,) for text in texts]
    assert ask(run, "SELECT count(*) FROM texts") == [(len(set(texts) - {""}),)]


def test_every_question_of_the_documentation_has_an_answer(run: RunDirectory, whole: JournalWriter) -> None:
    brought_up(run, whole)
    questions = re.findall(r"```sql\n(.*?)```", QUESTIONS.read_text("utf-8"), re.DOTALL)

    assert len(questions) > 8
    for question in questions:
        assert ask(run, question), question


def test_what_belongs_to_one_goalpost_or_proposal_is_found_by_an_index(run: RunDirectory, whole: JournalWriter) -> None:
    brought_up(run, whole)

    for question in (
        "SELECT * FROM plain_proposals WHERE id = 'first1'",
        "SELECT * FROM plain_proposals WHERE goalpost = 'g1'",
        "SELECT * FROM plain_proposals WHERE step = 3",
        "SELECT * FROM plain_answers WHERE proposal = 3",
        "SELECT * FROM plain_answers WHERE step = 3",
        "SELECT * FROM plain_scores WHERE problem = 'g1'",
    ):
        plan = [str(row[3]) for row in ask(run, f"EXPLAIN QUERY PLAN {question}")]
        assert not [step for step in plan if step.startswith("SCAN")], plan


# It fits the journal, or is made again


def test_a_store_that_is_behind_is_caught_up(run: RunDirectory, journal: JournalWriter, tmp_path: Path) -> None:
    made = records()
    for record in made[:4]:
        journal.append(record)
    brought_up(run, journal)
    file = run.store.stat().st_ino
    for record in made[4:]:
        journal.append(record)

    notes = brought_up(run, journal)

    assert notes == []
    assert run.store.stat().st_ino == file  # the same one
    assert dump(run.store) == made_afresh(journal, tmp_path)


def test_after_a_rewind_the_store_is_made_again(run: RunDirectory, whole: JournalWriter, tmp_path: Path) -> None:
    brought_up(run, whole)

    whole.rewind(3)
    whole.append(Stopped("KeyboardInterrupt"))
    (note,) = brought_up(run, whole)

    assert "made again from the journal" in note
    assert "gone back" in note
    assert dump(run.store) == made_afresh(whole, tmp_path)
    assert ask(run, "SELECT ending, reason FROM starts") == [("stopped", "KeyboardInterrupt")]


def test_a_rewind_under_an_open_store_is_noticed_too(run: RunDirectory, journal: JournalWriter, tmp_path: Path) -> None:
    notes: list[str] = []
    made = records()
    with kept(run, journal, notes.append) as keeper:
        keeper.update()
        journal.follow(keeper.update)
        for record in made:
            journal.append(record)
        journal.rewind(4)
        for record in made[4:8]:
            journal.append(record)

    assert len(notes) == 1
    assert dump(run.store) == made_afresh(journal, tmp_path)


def test_a_journal_of_the_first_schema_has_a_store_without_tries(run: RunDirectory) -> None:
    first = wrote("first", "g0")
    old = IterationRecord(Iteration(1, (Phase("lemma", (first,)), Phase("practice", (), tried(first, 2)))))
    body = msgspec.json.encode(msgspec.to_builtins(old))
    checksum = hashlib.sha256(body).hexdigest()[:16].encode()
    run.journal.write_bytes(b'{"schema":1,"sum":"%s","record":%s}\n' % (checksum, body))

    with JournalWriter(run.journal) as journal:
        assert brought_up(run, journal) == []

    assert ask(run, "SELECT id, message FROM plain_proposals") == [("first", STATEMENT)]
    assert ask(run, "SELECT purpose, source FROM plain_answers") == [("practice", "first")] * 2


def overwrite(path: Path, start: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(start)
        file.write(data)


def change(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(statement)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "nothing left": lambda path: os.truncate(path, 0),
    "a piece of the header": lambda path: os.truncate(path, 50),
    "one page": lambda path: os.truncate(path, 4096),
    "half": lambda path: os.truncate(path, path.stat().st_size // 2),
    "all but the last page": lambda path: os.truncate(path, path.stat().st_size - 4096),
    "another magic word": lambda path: overwrite(path, 0, b"not a database"),
    "a page of zeros": lambda path: overwrite(path, 2 * 4096, bytes(4096)),
    "noise all over": lambda path: path.write_bytes(os.urandom(20_000)),
    "a text file": lambda path: path.write_text("hello"),
    "a table gone": lambda path: change(path, "DROP TABLE scores"),
    "the mark gone": lambda path: change(path, "DELETE FROM mark"),
    "an older version": lambda path: change(path, f"PRAGMA user_version = {VERSION - 1}"),
    "a newer version": lambda path: change(path, f"PRAGMA user_version = {VERSION + 1}"),
    "a log that is not its own": lambda path: path.with_name(f"{path.name}-wal").write_bytes(os.urandom(9000)),
    "an unfinished one beside it": lambda path: path.with_name(f"{path.name}.new").write_bytes(os.urandom(9000)),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_whatever_lies_there_ends_as_the_store_of_the_journal(
    run: RunDirectory, journal: JournalWriter, tmp_path: Path, damage: str
) -> None:
    made = records()
    for record in made[:6]:
        journal.append(record)
    brought_up(run, journal)
    for record in made[6:]:
        journal.append(record)

    DAMAGES[damage](run.store)
    notes = brought_up(run, journal)

    harmless = {"a log that is not its own", "an unfinished one beside it"}
    assert [("made again" in note) for note in notes] == [True] * (damage not in harmless)
    assert dump(run.store) == made_afresh(journal, tmp_path)


def test_damage_that_comes_while_a_run_goes_on_is_mended_once(
    run: RunDirectory, journal: JournalWriter, tmp_path: Path
) -> None:
    notes: list[str] = []
    made = records()
    with kept(run, journal, notes.append) as keeper:
        keeper.update()
        journal.follow(keeper.update)
        for record in made[:4]:
            journal.append(record)
        change(run.store, "DROP TABLE answers")
        for record in made[4:]:
            journal.append(record)

    (note,) = notes
    assert "no such table: answers" in note
    assert dump(run.store) == made_afresh(journal, tmp_path)


# It never keeps a run from going on


def test_somebody_elses_transaction_is_waited_for_only_shortly(
    run: RunDirectory, journal: JournalWriter, tmp_path: Path
) -> None:
    notes: list[str] = []
    made = records()
    with kept(run, journal, notes.append) as keeper:
        keeper.update()
        journal.follow(keeper.update)
        journal.append(made[0])
        with closing(sqlite3.connect(run.store, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            for record in made[1:5]:
                journal.append(record)
            behind = ask(run, "SELECT records FROM mark")
        for record in made[5:]:
            journal.append(record)

    (note,) = notes  # said once, not with every record
    assert "is behind the journal, which holds everything (database is locked)" in note
    assert behind == [(1,)]
    assert dump(run.store) == made_afresh(journal, tmp_path)


def test_a_full_disk_costs_the_store_only(run: RunDirectory, journal: JournalWriter, tmp_path: Path) -> None:
    notes: list[str] = []
    made = records()
    with kept(run, journal, notes.append) as keeper:
        keeper.update()
        journal.follow(keeper.update)
        journal.append(made[0])
        assert keeper._store
        connection = keeper._store._connection
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")
        for record in made[1:6]:
            journal.append(record)
        connection.execute("PRAGMA max_page_count = 100000")
        for record in made[6:]:
            journal.append(record)

    (note,) = notes
    assert "database or disk is full" in note
    assert dump(run.store) == made_afresh(journal, tmp_path)


def test_where_no_store_can_be_the_run_goes_on(run: RunDirectory, journal: JournalWriter) -> None:
    (run.store / "in the way").mkdir(parents=True)
    notes: list[str] = []
    with kept(run, journal, notes.append) as keeper:
        journal.follow(keeper.update)
        for record in records():
            journal.append(record)

    (note,) = notes
    assert "is behind the journal" in note
    assert journal.records == len(records())


def test_a_record_that_the_tables_cannot_hold_is_said_once_and_not_tried_again(
    run: RunDirectory, journal: JournalWriter
) -> None:
    notes: list[str] = []
    with kept(run, journal, notes.append) as keeper:
        keeper.update()
        journal.follow(keeper.update)
        for record in [iteration(1), iteration(1), iteration(2)]:  # no run does the same iteration twice
            journal.append(record)

    (note,) = notes
    assert "UNIQUE constraint failed" in note
    assert journal.records == 3
    assert ask(run, "SELECT records FROM mark") == [(1,)]


def test_readers_see_whole_records_and_hinder_nobody(run: RunDirectory, journal: JournalWriter, tmp_path: Path) -> None:
    made = records()
    notes: list[str] = []
    with kept(run, journal, notes.append) as keeper:
        keeper.update()
        journal.follow(keeper.update)
        journal.append(made[0])
        with closing(read_store(run.store)) as reader:
            reader.execute("BEGIN")
            before = reader.execute("SELECT records FROM mark").fetchall()
            for record in made[1:]:
                journal.append(record)
            still = reader.execute("SELECT records FROM mark").fetchall()
            reader.execute("COMMIT")
            after = reader.execute("SELECT records FROM mark").fetchall()

    assert [path.name for path in run.root.glob("curriculum*")] == [run.store.name]
    assert notes == []
    assert (before, still, after) == ([(1,)], [(1,)], [(len(made),)])
    assert dump(run.store) == made_afresh(journal, tmp_path)


def test_a_reader_cannot_write(run: RunDirectory, whole: JournalWriter) -> None:
    brought_up(run, whole)

    with closing(read_store(run.store)) as reader, pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader.execute("DELETE FROM proposals")


def test_a_store_that_is_not_there_cannot_be_read(run: RunDirectory) -> None:
    with pytest.raises(RunError, match="does not exist; make it with: gasp rebuild"):
        read_store(run.store)


# Killed


def killed(run: RunDirectory, script: str) -> None:
    """Run this in a process that ends by SIGKILL, somewhere in the middle."""
    done = subprocess.run(
        [sys.executable, "-c", KILLER + script, str(run.root)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


KILLER = """
import os, signal, sys
from pathlib import Path
from gasp_rl.runs.directory import RunDirectory
from gasp_rl.runs.journal import JournalWriter
from gasp_rl.runs.store import Store, StoreKeeper, make_store

run = RunDirectory(Path(sys.argv[1]))

def die_after(n):
    left = [n]
    def count(*_):
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
    return count
"""


def mostly_slow(quick: int, *others: int) -> list[object]:
    return [quick, *(pytest.param(one, marks=pytest.mark.slow) for one in others)]


@pytest.mark.parametrize("statements", mostly_slow(9, 0, 1, 2, 40, 90, 91, 92, 93, 150, 250))
def test_killed_in_a_transaction_the_store_is_whole_and_caught_up(
    run: RunDirectory, tmp_path: Path, statements: int
) -> None:
    made = records()
    write(run, made[:3])
    with JournalWriter(run.journal) as journal:
        brought_up(run, journal)
    write(run, made[3:])

    killed(
        run,
        f"""
journal = JournalWriter(run.journal)
store = Store.open(run.store, 0)
store._connection.set_trace_callback(die_after({statements}))
store.catch_up(journal)
""",
    )

    with JournalWriter(run.journal) as again:
        assert condition_of(run.store, again).usable
        assert brought_up(run, again) == []
        assert dump(run.store) == made_afresh(again, tmp_path)


@pytest.mark.parametrize("event", mostly_slow(5, 0, 4, 6, 7, 8, 9))
def test_killed_while_one_store_replaces_another_either_is_whole(run: RunDirectory, tmp_path: Path, event: int) -> None:
    write(run, records())
    with JournalWriter(run.journal) as journal:
        brought_up(run, journal)
        expected = made_afresh(journal, tmp_path)

    script = f"""
journal = JournalWriter(run.journal)
die = die_after({event})
sys.addaudithook(lambda event, _: die() if event in ("os.remove", "os.rename") else None)
make_store(run.store, journal)
die_after(0)()
"""
    killed(run, script)

    with JournalWriter(run.journal) as again:
        brought_up(run, again)
        assert dump(run.store) == expected


# gasp rebuild


def test_rebuild_says_what_was_there_and_what_there_is(
    run: RunDirectory, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    write(run, records())
    with JournalWriter(run.journal) as journal:
        expected = made_afresh(journal, tmp_path)

    assert main(["rebuild", str(run.root)]) == 0
    first = capsys.readouterr().out
    run.report.unlink()
    overwrite(run.store, 0, b"!")
    assert main(["rebuild", str(run.root)]) == 0
    second = capsys.readouterr().out

    assert first == (
        f"Store:  {run.store}, from 11 records of the journal; before, there was none\n"
        "        5 goalposts, 16 proposals, 8 of them accepted\n"
        "        tried 80 times by the student; 8 answers in practice\n"
        "        4 evaluations\n"
        f"Report: {run.report}\n"
    )
    assert "before, it was damaged: file is not a database" in second
    assert run.report.exists()
    assert dump(run.store) == expected


def test_rebuild_leaves_a_run_alone_that_is_being_written(
    run: RunDirectory, whole: JournalWriter, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["rebuild", str(run.root)]) == 2
    assert "is being written by another process" in capsys.readouterr().err


def test_rebuild_needs_a_journal(run: RunDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rebuild", str(run.root)]) == 2
    assert "has no journal yet, so there is nothing to make again" in capsys.readouterr().err
    assert not run.store.exists()


def test_a_journal_that_is_corrupt_is_said_and_the_store_stays(
    run: RunDirectory, whole: JournalWriter, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    brought_up(run, whole)
    before = dump(run.store)
    copy = tmp_path / "copy"
    shutil.copytree(run.root, copy)
    lines = run.journal.read_bytes().splitlines(keepends=True)
    (copy / "journal.jsonl").write_bytes(b"".join([*lines[:4], lines[4].replace(b"1", b"2", 3), *lines[5:]]))

    assert main(["rebuild", str(copy)]) == 2

    assert "line 5 is corrupt" in capsys.readouterr().err
    assert dump(RunDirectory(copy).store) == before
