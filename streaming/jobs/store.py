"""Store: jobs and their lines in one database."""

import fcntl
import json
import sqlite3
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from riverrun.streaming.database import Database
from riverrun.streaming.errors import StreamError
from riverrun.streaming.jobs.lines import Line
from riverrun.streaming.jobs.states import MOVES, TRIES, Changes, Counts, Known, State, compare
from riverrun.streaming.problems import Conflict, Reused

VERSION = 1
SCHEMA = """
CREATE TABLE jobs (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL,
    key TEXT, body TEXT NOT NULL, created REAL NOT NULL, UNIQUE (owner, key)
);
CREATE TABLE lines (
    job TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE, seq INTEGER NOT NULL, id TEXT NOT NULL,
    number INTEGER NOT NULL, task TEXT NOT NULL, output TEXT NOT NULL, line TEXT NOT NULL, digest TEXT NOT NULL,
    state TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, queued REAL NOT NULL, started REAL, finished REAL,
    error TEXT, again INTEGER NOT NULL DEFAULT 0, made TEXT, PRIMARY KEY (job, id)
);
CREATE INDEX turn ON lines (state, seq, number);
CREATE INDEX place ON lines (job, number);
CREATE INDEX counted ON lines (job, state);
"""
AFRESH = "attempts=0, started=NULL, finished=NULL, error=NULL, again=0, made=NULL"
OPEN = f"('{State.queued}', '{State.running}')"


@dataclass(frozen=True)
class Job:
    """One job. Units: times in seconds since 1970; `position` is how many unfinished jobs are before it."""

    id: str
    owner: str
    created: float
    counts: Counts
    position: int
    finished: float | None
    body: str = ""


@dataclass(frozen=True)
class Row:
    """A line and what became of it. Units: times in seconds since 1970."""

    job: str
    line: Line
    digest: str
    state: State
    attempts: int
    queued: float
    started: float | None = None
    finished: float | None = None
    error: str | None = None
    made: Mapping[str, Any] | None = None


class Store:
    """The jobs of one folder. `open` it, and close it; while it is open, no other process can open it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: BinaryIO | None = None
        self.database = Database(path, SCHEMA, VERSION)

    def open(self) -> None:
        """Make the file if there is none. Raises Conflict if another process has it, StreamError if it is no store."""
        try:
            self._lock = open(f"{self.path}.lock", "ab")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # let go by the kernel, however we end
        except BlockingIOError as error:
            self.close()
            raise Conflict(
                f"another riverrun is at work on {self.path.parent}: wait for it or stop it"
            ) from error
        except OSError as error:
            raise StreamError(f"{self.path.parent} cannot be written: {error.strerror}") from error
        try:
            self.database.open()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let others have it. Twice is once."""
        self.database.close()
        if self._lock is not None:
            self._lock.close()
        self._lock = None

    # Jobs

    def add(
        self,
        job: str,
        lines: Iterable[Line],
        now: float,
        owner: str = "",
        key: str | None = None,
        body: str = "",
    ) -> str:
        """Enter a job with its lines, and give its id: that of an earlier one if `key` and `body` are its.

        Raises Reused if an earlier job has the key and another body.
        """
        with self.database.transaction() as db:
            if before := self._keyed(db, owner, key, body):
                return before
            seq = db.execute(
                "INSERT INTO jobs (id, owner, key, body, created) VALUES (?, ?, ?, ?, ?)",
                (job, owner, key, body, now),
            ).lastrowid
            for line in lines:
                self._insert(db, job, int(seq or 0), line, line.digest(), now)
            return job

    def keyed(self, owner: str, key: str | None, body: str) -> str | None:
        """The job that was posted under a key with the same body. Raises Reused if with another one."""
        with self.database.reading() as db:
            return self._keyed(db, owner, key, body)

    def _keyed(self, db: sqlite3.Connection, owner: str, key: str | None, body: str) -> str | None:
        found = db.execute("SELECT id, body FROM jobs WHERE owner=? AND key=?", (owner, key)).fetchone()
        if found is None:
            return None
        if found["body"] != body:
            raise Reused(f"Idempotency-Key {key!r} was used for another job, {found['id']}: take a new one")
        return str(found["id"])

    def sync(
        self,
        job: str,
        wanted: Mapping[str, tuple[Line, str]],
        now: float,
        lost: Collection[str] = (),
        retry: bool = False,
    ) -> Changes:
        """Bring a job up to date with its lines, given with their digests by id; see `compare`."""
        with self.database.transaction() as db:
            seq = db.execute("SELECT seq FROM jobs WHERE id=?", (job,)).fetchone()["seq"]
            rows = db.execute("SELECT id, digest, state, again FROM lines WHERE job=?", (job,))
            known = {r["id"]: Known(r["digest"], State(r["state"]), bool(r["again"])) for r in rows}
            changes = compare(known, {name: digest for name, (_, digest) in wanted.items()}, lost, retry)
            for name in (*changes.gone, *changes.changed):
                db.execute("DELETE FROM lines WHERE job=? AND id=?", (job, name))
            for name in (*changes.new, *changes.changed):
                self._insert(db, job, seq, *wanted[name], now)
            for name in changes.again:
                self._requeue(db, "job=? AND id=?", job, name)
            db.executemany(
                "UPDATE lines SET number=? WHERE job=? AND id=?",
                [(line.number, job, name) for name, (line, _) in wanted.items()],
            )
            return changes

    def job(self, job: str, owner: str | None = None) -> Job | None:
        """One job, or none if there is none or it is not that owner's."""
        with self.database.reading() as db:
            row = db.execute("SELECT * FROM jobs WHERE id=?", (job,)).fetchone()
            return self._job(db, row) if row and owner in (None, row["owner"]) else None

    def jobs(
        self, owner: str | None = None, after: str | None = None, limit: int = 100, prefix: str = ""
    ) -> list[Job]:
        """The newest jobs of an owner, or of all, whose ids begin with the prefix; `after` one of them."""
        with self.database.reading() as db:
            rows = db.execute(
                "SELECT * FROM jobs WHERE (?1 IS NULL OR owner=?1) AND "
                "(?2 IS NULL OR seq < (SELECT seq FROM jobs WHERE id=?2)) AND substr(id, 1, ?4)=?5 "
                "ORDER BY seq DESC LIMIT ?3",
                (owner, after, limit, len(prefix), prefix),
            ).fetchall()
            return [self._job(db, row) for row in rows]

    def _job(self, db: sqlite3.Connection, row: sqlite3.Row) -> Job:
        found = db.execute("SELECT state, count(*) AS n FROM lines WHERE job=? GROUP BY state", (row["id"],))
        counts = Counts(**{r["state"]: r["n"] for r in found})
        (position,) = db.execute(
            f"SELECT count(*) FROM jobs WHERE seq < ? AND EXISTS "
            f"(SELECT 1 FROM lines WHERE job=jobs.id AND state IN {OPEN})",
            (row["seq"],),
        ).fetchone()
        (last,) = db.execute("SELECT max(finished) FROM lines WHERE job=?", (row["id"],)).fetchone()
        return Job(row["id"], row["owner"], row["created"], counts, 0 if counts.over else position,
                   last if counts.over else None, row["body"])  # fmt: skip

    def cancel(self, job: str, now: float) -> None:
        """End what has not ended of a job."""
        with self.database.transaction() as db:
            self._move(db, State.cancelled, "finished=?", "job=?", (now, job))

    def retry(self, job: str) -> int:
        """Queue again what failed or was cancelled of a job; give how many lines that are."""
        with self.database.transaction() as db:
            return self._requeue(db, f"job=? AND state IN ('{State.failed}', '{State.cancelled}')", job)

    def remove(self, job: str) -> None:
        """Forget a job."""
        with self.database.transaction() as db:
            db.execute("DELETE FROM jobs WHERE id=?", (job,))

    def old(self, before: float) -> list[str]:
        """Jobs of which nothing has happened since a time, and nothing will."""
        with self.database.reading() as db:
            rows = db.execute(
                f"SELECT id FROM jobs WHERE NOT EXISTS (SELECT 1 FROM lines WHERE job=jobs.id AND state IN {OPEN}) "
                "AND coalesce((SELECT max(finished) FROM lines WHERE job=jobs.id), created) < ?",
                (before,),
            )
            return [row["id"] for row in rows]

    def waiting(self) -> int:
        """How many lines are queued, of all jobs."""
        with self.database.reading() as db:
            (n,) = db.execute("SELECT count(*) FROM lines WHERE state=?", (State.queued,)).fetchone()
            return int(n)

    # Lines

    def lines(self, job: str, after: int = 0, limit: int = -1, state: State | None = None) -> list[Row]:
        """The lines of a job in their order, `after` one's number."""
        with self.database.reading() as db:
            rows = db.execute(
                "SELECT * FROM lines WHERE job=?1 AND number>?2 AND (?3 IS NULL OR state=?3) ORDER BY number LIMIT ?4",
                (job, after, state, limit),
            )
            return [_row(row) for row in rows]

    def line(self, job: str, name: str) -> Row | None:
        """One line of a job."""
        with self.database.reading() as db:
            row = db.execute("SELECT * FROM lines WHERE job=? AND id=?", (job, name)).fetchone()
            return _row(row) if row else None

    def take(self, now: float) -> Row | None:
        """The next line to make, of the oldest job, which now counts as running; None if none is queued."""
        with self.database.transaction() as db:
            row = db.execute(
                "SELECT job, id FROM lines WHERE state=? ORDER BY seq, number LIMIT 1", (State.queued,)
            ).fetchone()
            if row is None:
                return None
            where, name = "job=? AND id=?", (row["job"], row["id"])
            self._move(db, State.running, "started=?, attempts=attempts+1", where, (now, *name))
            return _row(db.execute(f"SELECT * FROM lines WHERE {where}", name).fetchone())

    def done(self, row: Row, now: float, made: Mapping[str, Any]) -> bool:
        """Note what was made of a line that was taken; False if it was cancelled or removed meanwhile."""
        return self._ended(row, State.done, "finished=?, made=?, error=NULL", (now, json.dumps(made)))

    def fail(self, row: Row, now: float, error: str, again: bool) -> bool:
        """Note why a line that was taken could not be made, and whether the reason may go; False as for `done`."""
        return self._ended(row, State.failed, "finished=?, error=?, again=?", (now, error, again))

    def _ended(self, row: Row, state: State, change: str, values: tuple[Any, ...]) -> bool:
        with self.database.transaction() as db:
            where = "job=? AND id=? AND started=? AND digest=?"  # this very attempt
            return bool(
                self._move(db, state, change, where, (*values, row.job, row.line.id, row.started, row.digest))
            )

    def release(self) -> None:
        """Put back what is running, as if it had never been taken: for who stops in order."""
        with self.database.transaction() as db:
            self._move(
                db, State.queued, "started=NULL, attempts=max(attempts-1, 0)", f"state='{State.running}'"
            )

    def recover(self, now: float) -> list[Row]:
        """Put back what was running when a process ended, and give it; what ended it `TRIES` times has failed."""
        with self.database.transaction() as db:
            rows = db.execute("SELECT * FROM lines WHERE state=?", (State.running,)).fetchall()
            why = f"the process ended {TRIES} times while it made this line; the line may be why"
            self._move(db, State.failed, "finished=?, error=?", "attempts>=?", (now, why, TRIES))
            self._move(db, State.queued, "started=NULL", f"state='{State.running}'")
            return [_row(row) for row in rows]

    # Rows

    def _insert(
        self, db: sqlite3.Connection, job: str, seq: int, line: Line, digest: str, now: float
    ) -> None:
        told = json.dumps(dict(line.values))
        db.execute(
            "INSERT INTO lines (job, seq, id, number, task, output, line, digest, state, queued) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (job, seq, line.id, line.number, line.task, line.output, told, digest, State.queued, now),
        )

    def _requeue(self, db: sqlite3.Connection, where: str, *values: Any) -> int:
        return self._move(db, State.queued, AFRESH, where, values)

    def _move(
        self, db: sqlite3.Connection, to: State, change: str, where: str, values: tuple[Any, ...] = ()
    ) -> int:
        """Move the lines of a condition to a state, those that may; give how many did."""
        allowed = ", ".join(f"'{state}'" for state in MOVES[to])
        done = db.execute(
            f"UPDATE lines SET state='{to}', {change} WHERE {where} AND state IN ({allowed})", values
        )
        return done.rowcount


def _row(row: sqlite3.Row) -> Row:
    line = Line(row["number"], row["id"], row["task"], row["output"], json.loads(row["line"]))
    made = json.loads(row["made"]) if row["made"] else None
    return Row(row["job"], line, row["digest"], State(row["state"]), row["attempts"], row["queued"],
               row["started"], row["finished"], row["error"], made)  # fmt: skip
