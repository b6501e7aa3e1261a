"""Which files a command line names, and where the result of each goes."""

import glob
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

PIPE = "-"
RESTORED, CONVERTED = ".restored", ".converted"  # between name and suffix of a result beside its source
SOUND = frozenset(
    ".aac .ac3 .aif .aiff .amr .au .caf .flac .m4a .mka .mp2 .mp3 .oga .ogg .opus .w64 .wav .wma .wv".split()
)
PICTURES = frozenset(".3gp .avi .flv .m4v .mkv .mov .mp4 .mpg .mpeg .ogv .ts .webm .wmv".split())


@dataclass(frozen=True)
class Job:
    """One thing to do: a path or PIPE to read, a path or PIPE to write."""

    source: str
    target: str


def plan(inputs: Sequence[str], out: str | None, mark: str = RESTORED) -> list[Job]:
    """Turn files, folders, globs and `-` into jobs, in the order named.

    Without `out` a result stands beside its source as `<name><mark>.<suffix>`; that of a pipe is a pipe.
    With one single input file, `out` is the file to write, or a folder if there is one or it ends in a slash;
    else it is a folder, and below an input folder the tree is kept.
    Raises ValueError if a name stands for nothing, or several results would go to one place.
    """
    found: list[tuple[str, Path]] = []
    for name in inputs:
        pairs = list(expand(name, out))
        if not pairs:
            raise ValueError(f"{name}: no media file there")
        found += pairs
    if len(found) > 1 and out is not None and (out == PIPE or Path(out).is_file()):
        raise ValueError(f"{len(found)} results cannot go to {out}: name a folder with --out")
    single = len(found) == 1 and not Path(inputs[0]).is_dir()
    into = out not in (None, PIPE) and (not single or Path(str(out)).is_dir() or str(out).endswith("/"))
    jobs = [Job(source, _target(source, inner, out, into, mark)) for source, inner in found]
    sources: dict[str, str] = {}
    for job in jobs:
        if sources.setdefault(job.target, job.source) != job.source:
            raise ValueError(f"{sources[job.target]} and {job.source} would both go to {job.target}")
    return list(dict.fromkeys(jobs))


def expand(name: str, out: str | None) -> Iterator[tuple[str, Path]]:
    """Each file a name stands for, and its path inside an output folder; what lies in that folder is no source.

    A name that is neither folder nor glob is given as it is, so that opening it tells what is wrong.
    """
    path = Path(name)
    if name == PIPE:
        yield name, Path("stdin.wav")
    elif path.is_dir():
        for file in sorted(path.rglob("*")):
            if is_media(file) and not _inside(file, out, path):
                yield str(file), file.relative_to(path)
    elif glob.has_magic(name) and not path.exists():
        base = Path(*takewhile(lambda part: not glob.has_magic(part), path.parts))
        for file in map(Path, sorted(glob.glob(name, recursive=True))):
            if is_media(file) and not _inside(file, out, base):
                yield str(file), Path(file.name)
    else:
        yield name, Path(path.name)


def is_media(path: Path) -> bool:
    """Whether something found in a folder or by a glob is taken: by suffix, unless it is a result or hidden."""
    return (
        path.is_file()
        and path.suffix.lower() in SOUND | PICTURES
        and not path.stem.endswith((RESTORED, CONVERTED))
        and not path.name.startswith(".")
    )


def _inside(file: Path, out: str | None, base: Path) -> bool:
    """Whether a file lies in the output folder, and that somewhere below the folder that is searched."""
    if out is None or out == PIPE:
        return False
    folder, searched = Path(out).resolve(), base.resolve()
    below = folder != searched and folder.is_relative_to(searched)
    return below and file.resolve().is_relative_to(folder)


def _target(source: str, inner: Path, out: str | None, into: bool, mark: str) -> str:
    if into and out is not None:
        return str(Path(out) / inner)
    if out is not None:
        return out
    return beside(source, mark)


def beside(source: str, mark: str = RESTORED) -> str:
    """The default place of a result: `<name><mark>.<suffix>` beside its source, a pipe for a pipe."""
    path = Path(source)
    return PIPE if source == PIPE else str(path.with_name(f"{path.stem}{mark}{path.suffix}"))
