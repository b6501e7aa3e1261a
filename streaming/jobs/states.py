"""What becomes of a line, and so of a job. Pure.

    queued -> running -> done
       ^         |-----> failed
       |         |-----> cancelled <- queued
       +---------+ the process ended, or was told to stop: nothing of it counts
       +-- failed, cancelled: tried again

A line that has changed, or whose output is gone, is a new one.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

TRIES = 5  # times a line may be running when its process ends, before it is what ends it


class State(StrEnum):
    """Of a line; and of a job, which is what its lines make it."""

    queued = "queued"
    running = "running"
    done = "done"
    failed = "failed"
    cancelled = "cancelled"


MOVES: dict[State, tuple[State, ...]] = {  # to a state, from which
    State.queued: (State.running, State.failed, State.cancelled),
    State.running: (State.queued,),
    State.done: (State.running,),
    State.failed: (State.running,),
    State.cancelled: (State.queued, State.running),
}
OVER = (State.done, State.failed, State.cancelled)


@dataclass(frozen=True)
class Counts:
    """How many lines of a job are in which state."""

    queued: int = 0
    running: int = 0
    done: int = 0
    failed: int = 0
    cancelled: int = 0

    @property
    def total(self) -> int:
        return self.queued + self.running + self.done + self.failed + self.cancelled

    @property
    def over(self) -> bool:
        """Whether nothing more will become of it by itself."""
        return not self.queued and not self.running

    @property
    def state(self) -> State:
        """Of the job: it has failed if a line has, and is over when all are."""
        if not self.over:
            return State.running if self.running or self.total > self.queued else State.queued
        return State.failed if self.failed else State.cancelled if self.cancelled else State.done


@dataclass(frozen=True)
class Known:
    """What is known of a line from before."""

    digest: str
    state: State
    again: bool = False  # it failed for a reason that may have gone


@dataclass(frozen=True)
class Changes:
    """What another look at a file of lines finds, by id."""

    new: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)  # and to be made another time
    again: list[str] = field(default_factory=list)  # failed or cancelled, and tried once more
    kept: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)  # no longer wanted; what was made of them stays

    def __str__(self) -> str:
        words = {
            "new": self.new,
            "changed": self.changed,
            "tried again": self.again,
            "as before": self.kept,
            "no longer there": self.gone,
        }
        return ", ".join(f"{len(ids)} {word}" for word, ids in words.items() if ids)


def compare(
    known: Mapping[str, Known], wanted: Mapping[str, str], lost: Collection[str] = (), retry: bool = False
) -> Changes:
    """Hold the digests of wanted lines against what is known; `lost` are done ones whose output is gone.

    What failed is tried again if its reason may have gone, or if `retry` says so.
    """
    changes = Changes(gone=[name for name in known if name not in wanted])
    for name, digest in wanted.items():
        before = known.get(name)
        if before is None:
            changes.new.append(name)
        elif before.digest != digest or name in lost:
            changes.changed.append(name)
        elif before.state is State.cancelled or (before.state is State.failed and (retry or before.again)):
            changes.again.append(name)
        else:
            changes.kept.append(name)
    return changes
