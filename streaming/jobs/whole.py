"""Files that appear under their names when they are whole and safe on the disk, and else not at all."""

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from riverrun.media.errors import UnsupportedMedia


@dataclass(frozen=True)
class Digest:
    """What a file holds."""

    sha256: str
    bytes: int


def digest(file: BinaryIO) -> Digest:
    """Read a file from its start; it stands at its start again."""
    file.seek(0)
    told = hashlib.file_digest(cast(Any, file), "sha256").hexdigest()
    size = file.tell()
    file.seek(0)
    return Digest(told, size)


def inside(folder: Path, name: str) -> Path:
    """The path of a name below a folder. Raises UnsupportedMedia if a link leads out of it."""
    path = folder / name
    if not path.parent.resolve().is_relative_to(folder.resolve()):
        raise UnsupportedMedia(f"{name} leaves {folder} through a link: name another place")
    return path


def part(path: Path) -> Path:
    """What a file is called until it is whole: always the same, so that a crash leaves at most one behind."""
    return path.with_name(f".{path.name}.part")


@contextmanager
def source(path: Path) -> Iterator[BinaryIO]:
    """An ordinary file to read, with a descriptor. Raises UnsupportedMedia if it is none, OSError."""
    found = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe without a writer would block
    with open(found, "rb") as file:
        if not stat.S_ISREG(os.fstat(found).st_mode):
            raise UnsupportedMedia(f"{path.name} is no ordinary file: name one")
        yield file


class Whole:
    """A file being made: `commit` makes it appear, the end of a `with` takes back what was not committed."""

    def __init__(self, path: Path) -> None:
        """Make the folders above. Raises OSError."""
        self.path, self.part = path, part(path)
        self.folders = [path.parent, *(above.parent for above in path.parents if not above.exists())]
        path.parent.mkdir(parents=True, exist_ok=True)
        self.part.unlink(missing_ok=True)  # then made anew, so that no link is followed
        self.file: BinaryIO = open(self.part, "x+b")

    def __enter__(self) -> "Whole":
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.file.close()
        except OSError:  # of a disk that is full, which whoever wrote was told
            pass
        self.part.unlink(missing_ok=True)

    def commit(self) -> Digest:
        """Let it appear, on the disk for good, and say what it holds. Raises OSError."""
        self.file.flush()
        os.fsync(self.file.fileno())
        told = digest(self.file)
        os.replace(self.part, self.path)
        for folder in self.folders:
            sync(folder)
        return told


def sync(folder: Path) -> None:
    """Have the disk remember which names a folder holds."""
    found = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(found)
    finally:
        os.close(found)
