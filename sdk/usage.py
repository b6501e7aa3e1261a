"""What a process and all below it use, as Linux tells in /proc; elsewhere nothing is known of it."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
LISTENS = "0A"  # the state of a socket


@dataclass(frozen=True)
class Usage:
    """Seconds of processor time so far, bytes resident (what processes share counts for each), open files."""

    cpu: float
    memory: int
    files: int


def known() -> bool:
    """Whether there is a /proc to read."""
    return (PROC / "self/stat").exists()


def usage(pid: int) -> Usage | None:
    """Of a process and all below it; None if it is gone or there is no /proc."""
    stats = {int(entry): stat for entry in _numbers(PROC) if (stat := _stat(entry))}
    if pid not in stats:
        return None
    tree, grown = {pid}, True
    while grown:
        below = {p for p, stat in stats.items() if int(stat[1]) in tree} - tree
        tree |= below
        grown = bool(below)
    found = [stats[p] for p in tree]
    return Usage(
        # its own, and that of children that have ended
        sum(sum(map(int, stat[11:15])) for stat in found) / os.sysconf("SC_CLK_TCK"),
        sum(int(stat[21]) for stat in found) * os.sysconf("SC_PAGE_SIZE"),
        sum(len(_numbers(PROC / str(p) / "fd")) for p in tree),
    )


def listener(port: int) -> int | None:
    """The process that listens on a TCP port of this machine; None if none is found."""
    wanted = set()
    for table in ("net/tcp", "net/tcp6"):
        for line in _lines(PROC / table)[1:]:
            values = line.split()
            if values[3] == LISTENS and int(values[1].rpartition(":")[2], 16) == port:
                wanted.add(f"socket:[{values[9]}]")
    for pid in _numbers(PROC):
        for fd in _numbers(PROC / pid / "fd"):
            try:
                if os.readlink(PROC / pid / "fd" / fd) in wanted:
                    return int(pid)
            except OSError:
                continue  # closed meanwhile
    return None


def slope(times: Sequence[float], values: Sequence[float]) -> float:
    """By how much values grow per unit of time, by least squares; 0 where they say nothing."""
    if len(times) < 2:
        return 0.0
    middle, mean = sum(times) / len(times), sum(values) / len(values)
    spread = sum((t - middle) ** 2 for t in times)
    return (
        sum((t - middle) * (v - mean) for t, v in zip(times, values, strict=True)) / spread if spread else 0.0
    )


def _stat(pid: str) -> list[str]:
    """The fields of /proc/PID/stat from the third on: a name may hold blanks."""
    text = "".join(_lines(PROC / pid / "stat"))
    return text.rpartition(")")[2].split()


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def _numbers(path: Path) -> list[str]:
    try:
        return [name for name in os.listdir(path) if name.isdecimal()]
    except OSError:
        return []
