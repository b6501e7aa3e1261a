"""Lines of a job: JSON parsed at the edge, each error naming the line and the key. Pure."""

import hashlib
import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, NoReturn

from riverrun.models.errors import InvalidRequest

LONGEST = 1 << 16  # characters of a line
NAME = 200  # bytes of a file's or a folder's name
ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
Check = Callable[[Any], str | None]
"""What was expected instead of a value; None if it will do."""


@dataclass(frozen=True)
class Grammar:
    """How the lines of a task look.

    `source` is the key that says from what: "input" names a file, "text" and "prompt" are themselves. `keys` are
    the others it takes. `forms` are the suffixes an output may have, the first for an output that is not named
    and whose input has none of them.
    """

    source: str
    keys: Mapping[str, Check]
    forms: tuple[str, ...]


@dataclass(frozen=True)
class Line:
    """One thing to make. `output` is a path inside the folder of results, `values` are the keys beside these."""

    number: int  # in its file, from 1
    id: str
    task: str
    output: str
    values: Mapping[str, Any] = field(default_factory=dict)

    @property
    def input(self) -> str | None:
        """The file it is made from, as the line names it."""
        return self.values.get("input")

    @property
    def text(self) -> str | None:
        """The text it is made from."""
        return self.values.get("text")

    def digest(self, *more: str) -> str:
        """What a change of the line, or of `more`, changes; its number does not count."""
        told = json.dumps([self.id, self.task, self.output, dict(self.values), *more], sort_keys=True)
        return hashlib.sha256(told.encode()).hexdigest()


def text(most: int) -> Check:
    """Some text, not empty."""
    return lambda v: None if isinstance(v, str) and 0 < len(v) <= most else f"text of 1 to {most} characters"


def number(low: float, high: float) -> Check:
    """A number, both ends taken."""
    return lambda v: None if _is(v, int, float) and low <= v <= high else f"a number from {low:g} to {high:g}"


def whole(low: int, high: int) -> Check:
    """A whole number, both ends taken."""
    return lambda v: None if _is(v, int) and low <= v <= high else f"a whole number from {low} to {high}"


def one_of(*options: str) -> Check:
    """One of some words."""
    return lambda v: None if v in options else f"one of {', '.join(options)}"


SEED = whole(-(2**63), 2**63 - 1)


def parse(data: bytes | str, tasks: Mapping[str, Grammar], most: int | None = None) -> list[Line]:
    """The lines of a JSONL file, in their order; empty ones are passed over.

    Raises InvalidRequest that names the first line that is wrong, and its key: nothing is done by halves.
    """
    try:
        everything = data.decode("utf-8-sig") if isinstance(data, bytes) else data
    except UnicodeDecodeError as error:
        at = data[: error.start].count(b"\n") + 1 if isinstance(data, bytes) else 0
        raise InvalidRequest(f"line {at} is not UTF-8: save the file as UTF-8") from error
    lines = []
    for at, told in enumerate(everything.split("\n"), 1):  # other breaks may stand inside JSON text
        if told.strip():
            lines.append(_line(at, told, tasks))
            if most is not None and len(lines) > most:
                raise InvalidRequest(f"line {at} is one too many, the limit is {most}: post several jobs")
    if not lines:
        raise InvalidRequest('there are no lines, expected {"id": ..., "task": ..., ...} on each')
    _distinct(lines)
    return lines


def _line(at: int, told: str, tasks: Mapping[str, Grammar]) -> Line:
    if len(told) > LONGEST:
        wrong(at, f"has {len(told)} characters, the limit is {LONGEST}")
    values = _object(at, told)
    name, task = values.pop("id", None), values.pop("task", None)
    if not isinstance(name, str) or not ID.fullmatch(name):
        wrong(
            at,
            f"id is {shown(name)}, expected 1 to 128 letters, digits, '.', '_' or '-', a letter or digit first",
        )
    if not isinstance(task, str) or task not in tasks:
        wrong(at, f"task is {shown(task)}, expected one of {', '.join(tasks)}")
    grammar, output = tasks[task], values.pop("output", None)
    checks = {grammar.source: text(LONGEST), **grammar.keys}
    if unknown := sorted(set(values) - set(checks)):
        known = ", ".join(["id", "task", *checks, "output"])
        wrong(at, f"{shown(unknown[0])} is no key of task {task}, which takes {known}")
    if grammar.source not in values:
        wrong(at, f"{grammar.source} is missing: say what to {task}")
    for key, value in values.items():
        if expected := checks[key](value):
            wrong(at, f"{key} is {shown(value)}, expected {expected}")
    return Line(at, name, task, _output(at, name, output, values.get("input"), grammar.forms), values)


def _object(at: int, told: str) -> dict[str, Any]:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in pairs]
        if twice := next((key for key in keys if keys.count(key) > 1), None):
            wrong(at, f"{shown(twice)} stands there twice")
        return dict(pairs)

    def finite(name: str) -> NoReturn:
        wrong(at, f"holds {name}, which is no JSON")

    try:
        values = json.loads(told, object_pairs_hook=once, parse_constant=finite)
        told.encode()
        json.dumps(values, ensure_ascii=False).encode()  # half a surrogate pair is text that nobody can store
    except (ValueError, RecursionError) as error:
        wrong(at, f"is no JSON: {str(error)[:200]}", error)
    if not isinstance(values, dict):
        wrong(at, f'is {shown(values)}, expected an object such as {{"id": "one", "task": "restore", ...}}')
    return values


def _output(at: int, name: str, output: Any, source: str | None, forms: tuple[str, ...]) -> str:
    """Where the result goes, as a path that stays inside a folder whatever is there."""
    if output is None:
        suffix = PurePosixPath(source).suffix.lower() if source else ""
        return name + (suffix if suffix in forms else forms[0])
    if expected := text(1024)(output):
        wrong(at, f"output is {shown(output)}, expected {expected}")
    for part in output.split("/"):
        odd = any(not c.isprintable() or c == "\\" for c in part)
        if not part or part.startswith(".") or odd or len(part.encode()) > NAME:
            wrong(
                at,
                f"output is {shown(output)}, expected a path below the folder of results, without '..', leading '.' or "
                f"'/', and names of at most {NAME} bytes",
            )
    if PurePosixPath(output).suffix.lower() not in forms:
        wrong(at, f"output is {shown(output)}, expected a name that ends in {', '.join(forms)}")
    return str(output)


def _distinct(lines: Iterable[Line]) -> None:
    """Raises InvalidRequest where two lines have one id, or results that cannot both be there."""
    ids: dict[str, int] = {}
    files: dict[str, int] = {}
    folders: dict[str, int] = {}
    for line in lines:
        path = alike(line.output)
        above = ["/".join(path.split("/")[:n]) for n in range(1, path.count("/") + 1)]
        if other := ids.setdefault(line.id, line.number):
            if other != line.number:
                wrong(line.number, f"id is {shown(line.id)}, which line {other} has, too")
        other = files.get(path) or folders.get(path) or next((files[f] for f in above if f in files), 0)
        if other:
            wrong(
                line.number, f"output is {shown(line.output)}, which the one of line {other} is in the way of"
            )
        files[path] = line.number
        folders.update(dict.fromkeys(above, line.number))


def alike(path: str) -> str:
    """Equal for paths that some file system takes for one."""
    return unicodedata.normalize("NFC", path).casefold()


def wrong(at: int, why: str, cause: Exception | None = None) -> NoReturn:
    """Refuse a line."""
    raise InvalidRequest(f"line {at}: {why}") from cause


def shown(value: Any) -> str:
    """A value as an error tells it."""
    told = repr(value)
    return told if len(told) <= 80 else told[:77] + "..."


def _is(value: Any, *kinds: type) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool)
