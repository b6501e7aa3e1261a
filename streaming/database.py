"""Database: one SQLite file, which a crash at any point leaves whole.

WAL, so that who reads does not wait for who writes; synchronous FULL, so that what was accepted is still there when the
power comes back; what is deleted is written over. Each call is a transaction on a connection of its own, so that any
thread may make it.
"""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from riverrun.streaming.errors import StreamError

PRAGMAS = ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "secure_delete = ON")


class Database:
    """A file with the tables of a schema. `open` it, and close it.

    `changes` are what makes a file of a version one of the next, by that version.
    """

    def __init__(
        self, path: Path, schema: str, version: int, changes: Mapping[int, str] | None = None
    ) -> None:
        self.path, self.schema, self.version, self.changes = path, schema, version, changes or {}
        self._kept: sqlite3.Connection | None = None

    def open(self) -> None:
        """Make the file if there is none. Raises StreamError if it is no database of this version."""
        # Kept open, for the last one to leave would fold the log into the file each time.
        self._kept = self._connect()
        try:
            self._prepare()
        except BaseException:
            self.close()
            raise

    def _prepare(self) -> None:
        with self.transaction() as db:
            (version,) = db.execute("PRAGMA user_version").fetchone()
            found, wanted = version, self.schema if version == 0 else ""
            while found and found in self.changes:
                wanted, found = wanted + self.changes[found], found + 1
            if found not in (0, self.version):
                raise StreamError(
                    f"{self.path} is of form {version}, expected {self.version}: it was made by another version of "
                    "riverrun"
                )
            if wanted:
                for statement in wanted.split(";"):
                    db.execute(statement)
                db.execute(f"PRAGMA user_version = {self.version}")

    def close(self) -> None:
        """Let it go. Twice is once."""
        if self._kept is not None:
            self._kept.close()
        self._kept = None

    def fold(self) -> None:
        """Fold the log into the file, so that what was deleted is in neither."""
        with self.reading() as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """What is done in it is done as one, or not at all. Raises StreamError."""
        with self.reading() as db:
            db.execute("BEGIN IMMEDIATE")
            yield db
            db.execute("COMMIT")  # without it, closing the connection takes all back

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection, whose rows are found by name. Raises StreamError."""
        db = self._connect()
        try:
            yield db
        except sqlite3.Error as error:
            raise StreamError(
                f"{self.path} cannot be used: {error}; what it holds is whole, so mend that and start again"
            ) from error
        finally:
            db.close()

    def _connect(self) -> sqlite3.Connection:
        db: sqlite3.Connection | None = None
        try:
            db = sqlite3.connect(self.path, timeout=30, isolation_level=None, check_same_thread=False)
            for pragma in PRAGMAS:
                db.execute(f"PRAGMA {pragma}")
        except sqlite3.Error as error:
            if db:
                db.close()
            raise StreamError(f"{self.path} cannot be opened: {error}") from error
        db.row_factory = sqlite3.Row
        return db
