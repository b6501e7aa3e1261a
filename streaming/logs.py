"""Logs: every line of the server and its engine in one form, text or JSON, to stderr.

A line about a stream has its session's id. No line has what a client sent: no key, no token, no value of a request.
Tracebacks say where and what kind of error, but not in the error's own words, which may quote a client.
"""

import json
import logging
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Literal

from riverrun.streaming.problems import EXPECTED

Form = Literal["text", "json"]
Level = Literal["debug", "info", "warning", "error"]
OURS = "riverrun"  # whose lines a level is for; those of libraries begin at "info", or at "warning" where they chatter
QUIET = ("aioice", "aiortc", "asyncio", "multipart", "python_multipart", "websockets")


def begin(form: Form, level: Level = "info") -> None:
    """Write the process's lines in a form, from now on and whatever wrote them before."""
    handler = logging.StreamHandler()
    handler.setFormatter(Json() if form == "json" else Text())
    handler.addFilter(wanted)
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger(OURS).setLevel(level.upper())
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(True)


def wanted(record: logging.LogRecord) -> bool:
    """Whether a line is told: not uvicorn's of a WebSocket, which have its query, nor of a client's errors."""
    if not record.name.startswith("uvicorn"):
        return True
    error = record.exc_info[1] if record.exc_info else None
    return '"WebSocket %s"' not in str(record.msg) and not isinstance(error, EXPECTED)


class Text(logging.Formatter):
    """One line for people, and a traceback below it."""

    def format(self, record: logging.LogRecord) -> str:
        message = record.getMessage().strip().replace("\n", "\\n")
        line = f"{_time(record)} {record.levelname.lower()} {record.name}: {message}"
        return "\n".join([line, *_trace(record)])


class Json(logging.Formatter):
    """One object a line: `time` in UTC, `level`, `logger`, `message`, and if there is one `session`, `traceback`."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage().strip(),
        }
        if session := getattr(record, "session", None):
            line["session"] = session
        if trace := _trace(record):
            line["traceback"] = trace
        return json.dumps(line)


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


def _trace(record: logging.LogRecord) -> list[str]:
    error = record.exc_info[1] if record.exc_info else None
    return list(_parts(error, set())) if error else []


def _parts(error: BaseException, seen: set[int]) -> Iterator[str]:
    """Where an error was raised and what it is, after what caused it."""
    seen.add(id(error))
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause and id(cause) not in seen:
        yield from _parts(cause, seen)
        yield "which led to"
    for frame in traceback.extract_tb(error.__traceback__):
        yield f"  {frame.filename}:{frame.lineno} in {frame.name}: {frame.line}"
    yield type(error).__qualname__
    for part in error.exceptions if isinstance(error, BaseExceptionGroup) else ():
        yield from _parts(part, seen)
