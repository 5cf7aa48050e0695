"""The curriculum store: what a run's journal says, in SQLite, for questions in SQL. Never truth: it is made from the journal.

Its tables are in `store.sql`. Each record of the journal comes in with one transaction, which also moves a mark: how many
records are here, and the checksum of the last. So a crash at any instant leaves a store that is whole and at most behind,
and whether it belongs to a journal is seen without reading either. Every record comes in the same way, read back from the
journal, so a store that grew with its run holds what one made afterwards holds.
"""

import contextlib
import hashlib
import os
import sqlite3
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Self, TypeAlias

import msgspec

from gasp_rl.errors import RunError
from gasp_rl.rollout import Answer, Evaluation, Iteration, Kind, ProblemScore, Proposal
from gasp_rl.runs.journal import (
    Decided,
    EvaluationRecord,
    Finished,
    IterationRecord,
    JournalWriter,
    Record,
    Started,
    Stopped,
)

VERSION = 3
"""Of the tables. A store of another version is made again: that is its migration."""

OLDEST_SQLITE = (3, 37, 0)
"""Strict tables."""

PATIENCE = 2.0
"""Seconds to wait for someone else who writes to the store. Readers never keep us waiting, nor we them."""

CIRCUMSTANCES = frozenset({
    sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PERM, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_IOERR,
})  # fmt: skip
"""Errors that say nothing about what is in the file: it is left as it is, to be tried again."""

_Row: TypeAlias = Sequence[str | int | float | bytes | None]


def read_store(path: Path) -> sqlite3.Connection:
    """A connection that can only read, and knows the function that the views need. A run may be writing meanwhile."""
    if not path.is_file():
        raise RunError(f"{path} does not exist; make it with: gasp rebuild {path.parent}")
    connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=rw", uri=True)  # "ro" could not clear its log away
    connection.execute("PRAGMA query_only = ON")
    connection.create_function("sqlar_uncompress", 2, _unpacked, deterministic=True)
    return connection


@dataclass(frozen=True, slots=True)
class Condition:
    """Of a store, beside the journal that it should be of."""

    usable: bool
    """What it has can stay; what it lacks can be added."""
    exists: bool
    words: str


def condition_of(path: Path, journal: JournalWriter, patience: float = PATIENCE) -> Condition:
    """Looks at all of it, and changes nothing."""
    if not path.is_file():
        return Condition(usable=False, exists=False, words="there was none")
    try:
        with contextlib.closing(Store.open(path, patience)) as store:
            if store.version != VERSION:
                words = f"its tables were of version {store.version}, not {VERSION}"
                return Condition(usable=False, exists=True, words=words)
            if fault := store.fault:
                return Condition(usable=False, exists=True, words=f"it was damaged: {fault}")
            records, checksum = store.mark
    except sqlite3.Error as error:
        if not _damage(error):
            raise
        return Condition(usable=False, exists=True, words=f"it was damaged: {error}")
    if not journal.holds(records, checksum):
        return Condition(
            usable=False, exists=True, words="it was of another journal, or of one that has gone back since"
        )
    return Condition(usable=True, exists=True, words=f"it held {records} of {journal.records} records")


def make_store(path: Path, journal: JournalWriter) -> None:
    """Make a store from the journal alone, beside the old one, which it then replaces."""
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        needed = ".".join(map(str, OLDEST_SQLITE))
        raise sqlite3.NotSupportedError(f"it needs SQLite {needed}, this Python has {sqlite3.sqlite_version}")
    fresh = path.with_name(f"{path.name}.new")
    _remove(fresh)
    try:
        with contextlib.closing(Store(sqlite3.connect(fresh))) as store:
            store.fill(journal)
        _sync(fresh)
        _remove(path)
        fresh.rename(path)
        _sync(path.parent)
    finally:
        _remove(fresh)


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What came of making a store again."""

    found: str
    """How the old one was, in words."""
    records: int
    goalposts: int
    proposals: int
    accepted: int
    tries: int
    answers: int
    evaluations: int


def rebuild_store(path: Path, journal: JournalWriter) -> Rebuilt:
    """Make the store again whatever it was."""
    try:
        found = condition_of(path, journal).words
        make_store(path, journal)
        with contextlib.closing(Store.open(path, PATIENCE)) as store:
            return Rebuilt(
                found,
                store.mark[0],
                store.count("goalposts"),
                store.count("proposals"),
                store.count("proposals WHERE rejection IS NULL"),
                store.count("answers WHERE purpose = 'try'"),
                store.count("answers WHERE purpose = 'practice'"),
                store.count("evaluations"),
            )
    except (sqlite3.Error, OSError) as error:
        raise RunError(f"{path} cannot be made: {error}; the journal is as it was") from error


class StoreKeeper:
    """Keeps a store up with a journal that is being written, and never lets a fault of it reach the run.

    What the store lacks, or cannot take now, comes in with a later `update`, at the latest when the run goes on or
    `gasp rebuild` is asked. One that is damaged or of another journal or version is made again, once.
    """

    def __init__(
        self, path: Path, journal: JournalWriter, note: Callable[[str], None], patience: float = PATIENCE
    ) -> None:
        self._path = path
        self._journal = journal
        self._note = note
        self._patience = patience
        self._store: Store | None = None
        self._behind = ""
        """Why, as it was last noted; empty while the store keeps up."""
        self._made_again = False
        self._given_up = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def update(self) -> None:
        """Bring in what the journal has more."""
        if self._given_up:
            return
        try:
            self._catch_up()
        except (sqlite3.Error, OSError, RunError) as error:
            if str(error) != self._behind:
                self._note(
                    f"{self._path} is behind the journal, which holds everything ({error}). "
                    f"To bring it up once the run has ended: gasp rebuild {self._path.parent}"
                )
            self._behind = str(error)
            self._given_up = isinstance(error, sqlite3.Error) and _damage(error)
        else:
            self._behind = ""

    def close(self) -> None:
        if self._store:
            self._store.close()
            self._store = None

    def _catch_up(self) -> None:
        if self._store is None:
            condition = condition_of(self._path, self._journal, self._patience)
            if not condition.usable:
                self._make(condition)
            self._store = Store.open(self._path, self._patience)
        try:
            self._store.catch_up(self._journal)
        except sqlite3.Error as error:
            if self._made_again or not _damage(error):
                raise
            self.close()
            self._make(Condition(usable=False, exists=True, words=f"it was damaged: {error}"))
            self._store = Store.open(self._path, self._patience)

    def _make(self, found: Condition) -> None:
        make_store(self._path, self._journal)
        if found.exists:
            self._made_again = True
            self._note(f"{self._path} was made again from the journal: {found.words}")


class Store:
    """An open store, to be written."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._connection.isolation_level = None  # transactions begin where it says so
        self._texts: dict[str, int] = {}
        """Numbers of those of the record that is coming in; likewise of the proposals it names."""
        self._proposals: dict[str, int | None] = {}

    @classmethod
    def open(cls, path: Path, patience: float) -> Self:
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=rw", uri=True, timeout=patience)
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = NORMAL")  # whole after a power cut, if then a little behind
        return cls(connection)

    def close(self) -> None:
        self._connection.close()

    @property
    def version(self) -> int:
        return int(self._one("PRAGMA user_version"))

    @property
    def fault(self) -> str:
        """What is wrong with the file's structure; empty if nothing is."""
        found = str(self._one("PRAGMA quick_check(1)"))
        return "" if found == "ok" else found

    @property
    def mark(self) -> tuple[int, str]:
        """How many records are here, and the checksum of the last."""
        row = self._connection.execute("SELECT records, checksum FROM mark").fetchone()
        if row is None:
            raise sqlite3.DatabaseError("it has lost its mark")
        return row[0], row[1]

    def fill(self, journal: JournalWriter) -> None:
        """Make the tables and bring in all there is."""
        self._connection.execute("PRAGMA journal_mode = OFF")  # a file that is half made is thrown away
        self._connection.execute("PRAGMA synchronous = OFF")
        self._connection.execute("PRAGMA foreign_keys = ON")
        self._connection.executescript(files("gasp_rl.runs").joinpath("store.sql").read_text("utf-8"))
        self._connection.execute(f"PRAGMA user_version = {VERSION}")
        self.catch_up(journal)
        self._connection.execute("PRAGMA journal_mode = WAL")  # readers and the one writer do not wait for each other

    def catch_up(self, journal: JournalWriter) -> None:
        """Bring in what the journal has more, record by record."""
        records, checksum = self.mark
        if not journal.holds(records, checksum):
            raise sqlite3.DatabaseError("it is of another journal, or of one that has gone back since")
        for place, (record, checksum) in enumerate(journal.since(records), start=records + 1):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                self._add(record)
                self._connection.execute("UPDATE mark SET records = ?, checksum = ?", (place, checksum))
                self._connection.execute("COMMIT")
            finally:
                self._texts.clear()
                self._proposals.clear()
                if self._connection.in_transaction:  # it did not come to the end; some errors have ended it already
                    self._connection.execute("ROLLBACK")

    def count(self, what: str) -> int:
        """Rows of a table, or of what else can stand behind FROM."""
        return int(self._one(f"SELECT count(*) FROM {what}"))  # noqa: S608

    def _one(self, question: str) -> str | int:
        answer: str | int = self._connection.execute(question).fetchone()[0]
        return answer

    def _insert(self, table: str, rows: Iterable[_Row]) -> None:
        """Rows of all columns of a table, in order."""
        rows = list(rows)
        if rows:
            places = ", ".join("?" * len(rows[0]))
            self._connection.executemany(f"INSERT INTO {table} VALUES ({places})", rows)  # noqa: S608

    def _next(self, table: str) -> int:
        return int(self._one(f"SELECT coalesce(max(number), 0) + 1 FROM {table}"))  # noqa: S608

    def _add(self, record: Record) -> None:
        match record:
            case Started():
                self._add_start(record)
            case IterationRecord(iteration):
                self._add_iteration(iteration)
            case EvaluationRecord(evaluation):
                self._add_evaluation(evaluation)
            case Decided(step, course, reason):
                self._insert("decisions", [(self._next("decisions"), step, course.value, reason)])
            case Finished(reason):
                self._end("finished", reason)
            case Stopped(reason):
                self._end("stopped", reason)

    def _add_start(self, started: Started) -> None:
        config = self._text(msgspec.json.encode(started.config).decode())
        digests = msgspec.json.encode(started.digests).decode()
        step = self._one("SELECT coalesce(max(step), 0) FROM iterations")
        wanted = started.config
        self._insert(
            "starts", [(None, step, wanted.recipe, wanted.steps, started.package, config, digests, None, None)]
        )
        self._connection.executemany(
            "INSERT OR IGNORE INTO goalposts VALUES (NULL, ?, ?, ?, ?)",
            [(text.id, self._text(text.statement), text.source, text.difficulty) for text in started.goalposts],
        )

    def _end(self, how: str, reason: str) -> None:
        latest = "(SELECT max(number) FROM starts)"
        self._connection.execute(f"UPDATE starts SET ending = ?, reason = ? WHERE number = {latest}", (how, reason))  # noqa: S608

    def _add_iteration(self, iteration: Iteration) -> None:
        step = iteration.step
        self._insert("iterations", [(step, iteration.goalposts_drawn)])
        self._insert(
            "phases",
            (
                (step, place, phase.name, phase.sampled_tokens, phase.dissimilarity)
                for place, phase in enumerate(iteration.phases)
            ),
        )
        for place, phase in enumerate(iteration.phases):
            self._add_proposals(step, place, phase.proposals)
            answers = [*(("try", one) for one in phase.tries), *(("practice", one) for one in phase.answers)]
            self._insert("answers", (self._answer_row(step, place, purpose, one) for purpose, one in answers))
            if update := phase.update:
                self._insert("updates", [(
                    step, place, update.rollouts, update.tokens, update.mean_reward, update.loss, update.grad_norm,
                    update.entropy, update.ratio_max, update.skipped,
                )])  # fmt: skip

    def _add_proposals(self, step: int, phase: int, proposals: Sequence[Proposal]) -> None:
        named = dict.fromkeys(p.goalpost for p in proposals if p.goalpost)
        self._connection.executemany("INSERT OR IGNORE INTO goalposts (id) VALUES (?)", [(name,) for name in named])
        rows = []
        for number, proposal in enumerate(proposals, start=self._next("proposals")):
            rows.append(self._proposal_row(number, step, phase, proposal))
            self._proposals[proposal.id] = number
        self._insert("proposals", rows)

    def _proposal_row(self, number: int, step: int, phase: int, proposal: Proposal) -> _Row:
        pairs = [(pair.input, pair.output) for pair in proposal.pairs]
        parent = None if proposal.parent == proposal.goalpost else self._proposal(proposal.parent)
        return (
            number, proposal.id, step, phase, proposal.rung, proposal.axis, proposal.goalpost or None, parent,
            proposal.prompt, self._text(proposal.text), self._text(proposal.message), self._text(proposal.program),
            self._text(msgspec.json.encode(pairs).decode() if pairs else ""), proposal.rejection, proposal.detail,
            proposal.similarity, self._proposal(proposal.neighbour), proposal.passes, proposal.tries, proposal.reward,
            proposal.tokens,
        )  # fmt: skip

    def _answer_row(self, step: int, phase: int, purpose: str, answer: Answer) -> _Row:
        problem = answer.source if answer.kind is Kind.PROBLEM else None
        proposal = None if problem else self._proposal(answer.source)
        return (
            None, step, phase, purpose, answer.kind, proposal, problem, self._text(answer.text), answer.judgement,
            answer.detail, answer.reward, answer.tokens,
        )  # fmt: skip

    def _add_evaluation(self, evaluation: Evaluation) -> None:
        number = self._next("evaluations")
        row = number, evaluation.step, evaluation.split, evaluation.temperature, evaluation.sampled_tokens
        self._insert("evaluations", [row])
        self._insert("scores", (self._score_row(number, score) for score in evaluation.scores))

    def _score_row(self, evaluation: int, score: ProblemScore) -> _Row:
        return (
            None, evaluation, score.problem, score.samples, score.passes, score.confirmed, self._text(score.program),
            score.truncated, score.empty, score.unreadable, score.tokens,
        )  # fmt: skip

    def _proposal(self, identity: str) -> int | None:
        """Its number; None for one that is not here: nothing, or the program that free play begins with."""
        if identity not in self._proposals:
            found = self._connection.execute("SELECT max(number) FROM proposals WHERE id = ?", (identity,))
            self._proposals[identity] = found.fetchone()[0]
        return self._proposals[identity]

    def _text(self, text: str) -> int | None:
        """The number under which it lies here, now at the latest; None for an empty one."""
        if not text:
            return None
        if text not in self._texts:
            data = text.encode()
            digest = hashlib.sha256(data).digest()
            row = self._connection.execute("SELECT number FROM texts WHERE sha256 = ?", (digest,)).fetchone()
            if row is None:
                packed = min(data, zlib.compress(data), key=len)  # as it is, if that is no longer
                row = self._connection.execute(
                    "INSERT INTO texts VALUES (NULL, ?, ?, ?) RETURNING number", (digest, len(data), packed)
                ).fetchone()
            self._texts[text] = row[0]
        return self._texts[text]


def _unpacked(data: bytes, size: int) -> bytes:
    """What `sqlar_uncompress` of SQLite's shell does."""
    return data if len(data) == size else zlib.decompress(data)


def _damage(error: sqlite3.Error) -> bool:
    """Whether the error says that the file is not what it should be, and not only that it cannot be used now."""
    code: int = getattr(
        error, "sqlite_errorcode", sqlite3.SQLITE_ERROR
    )  # missing where it was not SQLite that complained
    return code == sqlite3.SQLITE_IOERR_SHORT_READ or code & 0xFF not in CIRCUMSTANCES


def _remove(path: Path) -> None:
    """A store, then what SQLite keeps beside it: a log without its store is thrown away, one of another store is not."""
    for suffix in ("", "-wal", "-shm", "-journal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
