"""The manifest: for each line what it was made from, with what, when, and what came out."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from riverrun.streaming.jobs.lines import Line
from riverrun.streaming.jobs.states import State
from riverrun.streaming.jobs.store import Row
from riverrun.streaming.jobs.whole import Whole

NAME = "manifest.jsonl"


def record(row: Row) -> dict[str, Any]:
    """A line and what became of it as JSON. Units: times in seconds since 1970, lengths in seconds."""
    line, made = row.line, row.made or {}
    values = {key: value for key, value in line.values.items() if key not in ("input", "text")}
    asked = {**values, **made.get("request", {})}
    return {
        "id": line.id,
        "line": line.number,
        "task": line.task,
        "status": row.state,
        "attempts": row.attempts,
        "input": _source(line, made.get("input")),
        "output": {"path": line.output, **made.get("output", {})},
        "model": made.get("model"),
        "weights_sha256": made.get("weights"),
        "seed": asked.pop("seed", 0),
        "request": asked,
        "versions": made.get("versions"),
        "timings": _timings(row, made.get("seconds")),
        "error": {"message": row.error} if row.error else None,
    }


def _source(line: Line, heard: dict[str, Any] | None) -> dict[str, Any] | None:
    if line.text is not None:
        told = line.text.encode()
        return {"sha256": hashlib.sha256(told).hexdigest(), "bytes": len(told)}
    return {"path": line.input, **(heard or {})} if line.input else None


def _timings(row: Row, seconds: float | None) -> dict[str, float | None]:
    over = row.started is not None and row.finished is not None and row.state is not State.cancelled
    elapsed = row.finished - row.started if over and row.finished and row.started else None
    return {
        "queued_at": _rounded(row.queued),
        "started_at": _rounded(row.started),
        "finished_at": _rounded(row.finished),
        "elapsed": _rounded(elapsed),
        "media": seconds,
        "real_time_factor": _rounded(elapsed / seconds) if elapsed is not None and seconds else None,
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def text(rows: Iterable[Row]) -> Iterator[str]:
    """The manifest as lines of JSON."""
    for row in rows:
        yield json.dumps(record(row), ensure_ascii=False) + "\n"


def write(folder: Path, rows: Iterable[Row]) -> None:
    """Write the manifest of a folder, whole or not at all. Raises OSError."""
    with Whole(folder / NAME) as whole:
        for told in text(rows):
            whole.file.write(told.encode())
        whole.commit()
