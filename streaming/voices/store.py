"""Store: consents and voices, with their recordings, in one database; each appears whole or not at all."""

import secrets
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from riverrun.models.errors import InvalidRequest
from riverrun.streaming.database import Database
from riverrun.streaming.jobs.lines import shown
from riverrun.streaming.problems import NotFound
from riverrun.streaming.settings import Voices

VERSION = 2
SCHEMA = """
CREATE TABLE consents (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL, name TEXT NOT NULL,
    language TEXT NOT NULL, created REAL NOT NULL, recording BLOB NOT NULL
);
CREATE TABLE voices (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL, name TEXT NOT NULL,
    consent TEXT NOT NULL REFERENCES consents (id) ON DELETE CASCADE, created REAL NOT NULL,
    seconds REAL NOT NULL, sent REAL NOT NULL, sample BLOB NOT NULL, transcript TEXT NOT NULL DEFAULT ''
);
CREATE INDEX consented ON consents (owner);
CREATE INDEX voiced ON voices (owner);
CREATE INDEX permitted ON voices (consent);
"""
CHANGES = {1: "ALTER TABLE voices ADD COLUMN transcript TEXT NOT NULL DEFAULT '';"}


@dataclass(frozen=True)
class Consent:
    """That somebody agreed. Units: `created` in seconds since 1970."""

    id: str
    name: str
    language: str
    created: float


@dataclass(frozen=True)
class Row:
    """A voice without its sound; `transcript` is what is said in that, where this was told.

    Units: `created` in seconds since 1970, `seconds` kept of those `sent`.
    """

    id: str
    name: str
    consent: str
    created: float
    seconds: float
    sent: float
    transcript: str = ""


class Store:
    """Every owner's consents and voices. Any number of processes may have it open."""

    def __init__(self, path: Path, limits: Voices) -> None:
        self.database, self.limits = Database(path, SCHEMA, VERSION, CHANGES), limits

    def add_consent(self, owner: str, name: str, language: str, recording: bytes, now: float) -> Consent:
        """Keep a consent. Raises InvalidRequest if the owner has as many, or as many bytes, as may be."""
        consent = Consent(f"cons_{secrets.token_hex(16)}", name, language, now)
        with self.database.transaction() as db:
            self._room(db, "consents", self.limits.consents, owner, len(recording))
            db.execute(
                "INSERT INTO consents (id, owner, name, language, created, recording) VALUES (?, ?, ?, ?, ?, ?)",
                (consent.id, owner, name, language, now, recording),
            )
        return consent

    def add_voice(
        self,
        owner: str,
        name: str,
        consent: str,
        sample: bytes,
        seconds: float,
        sent: float,
        now: float,
        transcript: str = "",
    ) -> Row:
        """Keep a voice. Raises NotFound if the consent is gone, InvalidRequest as for a consent."""
        row = Row(f"voice_{secrets.token_hex(16)}", name, consent, now, seconds, sent, transcript)
        with self.database.transaction() as db:
            self._room(db, "voices", self.limits.voices, owner, len(sample))
            done = db.execute(
                "INSERT INTO voices (id, owner, name, consent, created, seconds, sent, sample, transcript) "
                "SELECT ?, owner, ?, id, ?, ?, ?, ?, ? FROM consents WHERE id=? AND owner=?",
                (row.id, name, now, seconds, sent, sample, transcript, consent, owner),
            )
            if not done.rowcount:
                raise NotFound(f"there is no consent {shown(consent)}")
        return row

    def _room(self, db: sqlite3.Connection, table: str, most: int, owner: str, size: int) -> None:
        (count,) = db.execute(f"SELECT count(*) FROM {table} WHERE owner=?", (owner,)).fetchone()
        if count >= most:
            raise InvalidRequest(f"you have {count} of at most {most} {table}: delete one first")
        (held,) = db.execute(
            "SELECT (SELECT coalesce(sum(length(recording)), 0) FROM consents WHERE owner=?1) + "
            "(SELECT coalesce(sum(length(sample)), 0) FROM voices WHERE owner=?1)",
            (owner,),
        ).fetchone()
        if held + size > self.limits.kept:
            raise InvalidRequest(
                f"your recordings have {held} bytes, and with {size} more they would pass the limit of "
                f"{self.limits.kept}: delete one first"
            )

    def consents(self, owner: str) -> list[Consent]:
        """An owner's consents, the newest first."""
        with self.database.reading() as db:
            rows = db.execute(
                "SELECT id, name, language, created FROM consents WHERE owner=? ORDER BY seq DESC", (owner,)
            )
            return [Consent(*row) for row in rows]

    def voices(self, owner: str) -> list[Row]:
        """An owner's voices, the newest first."""
        with self.database.reading() as db:
            rows = db.execute(
                "SELECT id, name, consent, created, seconds, sent, transcript FROM voices WHERE owner=? "
                "ORDER BY seq DESC",
                (owner,),
            )
            return [Row(*row) for row in rows]

    def sample(self, owner: str, voice: str) -> bytes | None:
        """The sound of a voice as FLAC, if there is such a voice."""
        with self.database.reading() as db:
            row = db.execute("SELECT sample FROM voices WHERE id=? AND owner=?", (voice, owner)).fetchone()
            return bytes(row["sample"]) if row else None

    def rename(self, owner: str, consent: str, name: str) -> None:
        """Call a consent by another name."""
        with self.database.transaction() as db:
            db.execute("UPDATE consents SET name=? WHERE id=? AND owner=?", (name, consent, owner))

    def transcribe(self, owner: str, voice: str, transcript: str) -> None:
        """Have something else said in a voice's sample."""
        with self.database.transaction() as db:
            db.execute("UPDATE voices SET transcript=? WHERE id=? AND owner=?", (transcript, voice, owner))

    def remove_consent(self, owner: str, consent: str) -> None:
        """Erase a consent, and with it every voice made under it."""
        self._remove("consents", consent, owner)

    def remove_voice(self, owner: str, voice: str) -> None:
        """Erase a voice."""
        self._remove("voices", voice, owner)

    def _remove(self, table: str, name: str, owner: str) -> None:
        with self.database.transaction() as db:
            db.execute(f"DELETE FROM {table} WHERE id=? AND owner=?", (name, owner))
        self.database.fold()
