"""Which frames of a journal one connection sends: all in turn, or of a live stream too far behind the newest. Pure."""

from collections import deque
from dataclasses import replace

import numpy as np

from riverrun.media import Chunk, join
from riverrun.media.chunk import Array, ramp
from riverrun.streaming import wire
from riverrun.streaming.journal import Journal
from riverrun.streaming.wire import Frame

LAG = 1.0  # seconds of unsent sound from which on a live listener is too slow
FADE = 0.01  # seconds, of the joint where sound was left out


class Outgoing:
    """What was sent on a connection, and what comes next."""

    def __init__(self, wanted: wire.Open, received: int = -1, missed: int = 0) -> None:
        """`received` is the last frame the client has; those before `missed` it gets however late they are."""
        self.wanted, self.sent, self.missed = wanted, received, missed
        self.ramp = ramp(round(FADE * wanted.rate))[:, None]
        self.recent: deque[tuple[Array, int]] = (
            deque()
        )  # what was sent last, as long as a fade, and where it ends
        self.under: Array = np.zeros((0, wanted.channels), np.float32)  # what is still faded out of

    def next(self, journal: Journal) -> tuple[Frame, int] | None:
        """The frame to send now and how many ticks were left out before it; None if all were sent."""
        seq = max(self.sent + 1, journal.oldest)
        if seq == journal.next:
            return None
        frame, newest = journal.frame(seq), journal.frame(journal.next - 1)
        behind = LAG * self.wanted.rate
        if self.wanted.live is not None and seq >= self.missed and newest.pts - frame.pts > behind:
            while newest.pts - frame.pts > behind / 4:
                frame = journal.frame(frame.seq + 1)
        if frame.seq == self.sent + 1:
            return frame, 0
        return frame, frame.pts - (self.recent[-1][1] if self.recent else journal.frame(seq).pts)

    def passed(self, frame: Frame, skipped: int) -> Frame:
        """Note that a frame is being sent, and how many ticks were left out; give it as it is sent.

        After a gap it fades in over what was sent before, turned round so that nothing jumps.
        """
        self.sent = frame.seq
        if self.wanted.live is None:
            return frame
        data = wire.samples(frame.payload, self.wanted.format, self.wanted.channels)
        if skipped and self.recent:
            self.under = np.concatenate([part for part, _ in self.recent])[::-1][: len(self.ramp)]
        if count := min(len(self.under), len(data)):
            weight = self.ramp[len(self.ramp) - len(self.under) :][:count]
            faded = self.under[:count] * (1 - weight) + data[:count] * weight
            data, self.under = np.concatenate([faded, data[count:]]), self.under[count:]
            frame = replace(frame, payload=wire.payload(data, self.wanted.format))
        self.recent.append((data, frame.pts + len(data)))
        while sum(len(part) for part, _ in self.recent) - len(self.recent[0][0]) >= len(self.ramp):
            self.recent.popleft()
        return frame


def joined(chunks: list[Chunk]) -> list[Chunk]:
    """Chunks that follow on one another as one, so that small hops do not each become a frame."""
    whole: list[Chunk] = []
    for chunk in chunks:
        if whole and whole[-1].end == chunk.pts:
            whole[-1] = join([whole[-1], chunk])
        else:
            whole.append(chunk)
    return whole
