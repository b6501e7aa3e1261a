"""Player: speech, which is made faster than it is heard, is sent at its pace to all who listen to a cast."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from riverrun.media import Chunk
from riverrun.media.resampling import Resampler
from riverrun.models.errors import InvalidRequest
from riverrun.streaming.cast import Cast, free
from riverrun.streaming.opus import RATE, Mouth
from riverrun.streaming.playout import Playout
from riverrun.streaming.projector import Projector
from riverrun.streaming.show import Show
from riverrun.streaming.stream import Stream
from riverrun.streaming.wire import Open

if TYPE_CHECKING:
    from riverrun.streaming.hub import Hub

FRAME = 960  # ticks of a packet: 20 ms; speech is not in such a hurry as to need more packets
LEAD = 2.0  # seconds of speech that may wait to be heard
CUSHION = 0.1  # seconds that sound waits for more of it after silence, so that it is not made of snippets
LATE = 0.1  # seconds that a busy loop makes up for at once; after more, all that follows is later
PARTING = 0.5  # seconds of silence at the end, in which the last words get through what listeners buffer


class Player:
    """Takes the chunks of a stream and plays them; where there are none, silence keeps the listeners' time.

    It ends with its cast, and the cast with it: soon after `finish`, or at once by `cast.close`.
    """

    def __init__(self, stream: Stream, name: str | None, began: Callable[[int], None] | None = None) -> None:
        """`began` is told at which tick sound goes on after silence. Raises Conflict, InvalidRequest."""
        self.rate, self.clock = stream.rate, stream.hub.clock
        self.cast = Cast(stream.hub, name, Mouth(1, frame=FRAME), stream.log)
        self.began = began
        self.playout, self.up = Playout(RATE), Resampler(stream.rate, RATE)
        self.room = asyncio.Event()
        self.finished, self.quiet = False, 1  # frames of silence up to now
        self.held = 0  # frames that sound has waited for more
        self.task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin. Twice is once."""
        self.task = self.task or asyncio.create_task(self._run())

    async def put(self, chunk: Chunk) -> None:
        """Play a chunk after all else; wait while that is much."""
        data = self.up.push(chunk.data)
        if chunk.last:
            data = np.concatenate([data, self.up.flush()])
        self.playout.put(Chunk(data, chunk.pts * RATE // self.rate, RATE))
        while self.playout.waiting > LEAD * RATE and not self.cast.over:
            self.room.clear()
            await self.room.wait()

    def clear(self) -> int:
        """Play nothing of what waits; give the tick at which what follows begins."""
        self.up = Resampler(self.rate, RATE)
        end = self.playout.clear()
        self.room.set()
        return end

    def finish(self) -> None:
        """End once all was heard."""
        self.finished = True

    async def end(self) -> None:
        """Wait until it has ended."""
        if self.task:
            await asyncio.wait([self.task])

    async def _run(self) -> None:
        due, pts = self.clock(), 0
        try:
            while not self.cast.over and not self._done():
                self._play(pts)
                pts += FRAME
                due = max(due + FRAME / RATE, self.clock() - LATE)
                await asyncio.sleep(max(0.0, due - self.clock()))
        finally:
            self.cast.close()
            self.room.set()

    def _done(self) -> bool:
        """Whether all was heard, and the silence after it."""
        return self.finished and not self.playout.waiting and self.quiet * FRAME > PARTING * RATE

    def _early(self) -> bool:
        """Whether sound that is there waits for more."""
        few = 0 < self.playout.waiting < CUSHION * RATE and self.held * FRAME < CUSHION * RATE
        early = self.quiet > 0 and few and not self.finished
        self.held = self.held + 1 if early else 0
        return early

    def _play(self, pts: int) -> None:
        """Send a frame."""
        tick, data = self.playout.tick, self.playout.take(0 if self._early() else FRAME)
        if len(data) and self.quiet and self.began:
            self.began(tick)
        self.quiet = 0 if len(data) else self.quiet + 1
        if self.playout.waiting <= LEAD * RATE:
            self.room.set()
        if self.cast.tracks:
            self.cast.send(Chunk(np.pad(data, ((0, FRAME - len(data)), (0, 0))), pts, RATE))


async def opened(
    hub: "Hub", wanted: Open, transport: str, address: str = "", owner: str = ""
) -> tuple[Stream, Player | Projector | None]:
    """As hub.open; a stream that has a name is heard, or seen, under it, too. Raises Conflict as well."""
    if wanted.stream is None:
        return await hub.open(wanted, transport, address, owner), None
    hub.willing()
    free(hub, wanted.stream)
    wanted = hub.named(wanted)
    if not (hub.speaks(wanted.model) or hub.shows(wanted.model)):
        raise InvalidRequest(
            f"only speech and pictures have a name here: send sound for {wanted.model} by WebRTC"
        )
    stream = await hub.open(wanted, transport, address, owner)
    try:
        player: Player | Projector
        if isinstance(stream, Show):
            player = Projector(stream, wanted.stream)
        else:
            player = Player(stream, wanted.stream)
    except BaseException:
        await stream.close()
        raise
    player.start()
    return stream, player
