"""What lets a stream outlive its connection: output kept until it is acknowledged, input counted as it comes. Pure."""

from collections import deque

from riverrun.streaming.errors import ProtocolError
from riverrun.streaming.session import Rate
from riverrun.streaming.wire import Frame


class Journal:
    """The frames sent to one client that it has not acknowledged, within bounds of seconds and bytes."""

    def __init__(self, rate: Rate, seconds: float, size: int) -> None:
        self.limit, self.size = round(seconds * rate), size  # ticks and bytes
        self.frames: deque[tuple[Frame, int]] = deque()  # with their ticks
        self.next = 0  # seq of the next frame
        self.ticks = self.bytes = 0
        self.safe = 0  # the tick after the last frame that was acknowledged

    @property
    def full(self) -> bool:
        """Whether a bound is exceeded."""
        return self.ticks > self.limit or self.bytes > self.size

    @property
    def oldest(self) -> int:
        """The first frame that is kept, or else the next."""
        return self.frames[0][0].seq if self.frames else self.next

    def frame(self, seq: int) -> Frame:
        """A frame that is kept."""
        return self.frames[seq - self.oldest][0]

    def add(self, pts: int, ticks: int, payload: bytes, at: int, last: bool, kind: int) -> Frame:
        """Number and keep a frame."""
        frame = Frame(self.next, pts, payload, at, last, kind)
        self.frames.append((frame, ticks))
        self.next, self.ticks, self.bytes = self.next + 1, self.ticks + ticks, self.bytes + len(payload)
        return frame

    def acknowledge(self, seq: int) -> None:
        """Forget all frames up to one. Raises ProtocolError if it was never sent."""
        if not -1 <= seq < self.next:
            raise ProtocolError(f"frame {seq} is acknowledged, but {self.next} is the next one")
        while self.frames and self.frames[0][0].seq <= seq:
            frame, ticks = self.frames[0]
            self.safe = frame.pts + ticks
            self._drop()

    def after(self, seq: int) -> list[Frame]:
        """All frames after one, for a client that received so far.

        Raises ProtocolError if some of them are no longer kept, or were never made.
        """
        kept = self.oldest
        if not kept - 1 <= seq < self.next:
            raise ProtocolError(
                f"frames after {seq} are wanted, those from {kept} to {self.next - 1} are kept: open a new stream"
            )
        return [frame for frame, _ in self.frames if frame.seq > seq]

    def trim(self) -> int:
        """Drop the oldest frames until the bounds hold, but never the newest; give how many ticks that were."""
        before = self.ticks
        while self.full and len(self.frames) > 1:
            self._drop()
        return before - self.ticks

    def cut(self, seq: int) -> int | None:
        """Drop the frames after one, as if they had never been made; give the first tick of those, if there are any."""
        start = None
        while self.frames and self.frames[-1][0].seq > seq:
            frame, ticks = self.frames.pop()
            self.next, self.ticks, self.bytes = frame.seq, self.ticks - ticks, self.bytes - len(frame.payload)
            start = frame.pts
        return start

    def _drop(self) -> None:
        frame, ticks = self.frames.popleft()
        self.ticks, self.bytes = self.ticks - ticks, self.bytes - len(frame.payload)


class Intake:
    """Which frame of a client's input comes next: each is taken once, whatever is sent again."""

    def __init__(self) -> None:
        self.next = self.ticks = 0  # seq, and tick, of the next frame

    def take(self, frame: Frame, ticks: int) -> bool:
        """Whether a frame is new. Raises ProtocolError if one before it is missing, or ticks do not follow on."""
        if frame.seq < self.next:
            return False
        if frame.seq > self.next:
            raise ProtocolError(
                f"frame {frame.seq} came, expected {self.next}: send what was not acknowledged again"
            )
        if frame.pts != self.ticks:
            raise ProtocolError(f"frame {frame.seq} starts at tick {frame.pts}, expected {self.ticks}")
        self.next, self.ticks = self.next + 1, self.ticks + ticks
        return True
