"""Forms: what output is on a WebSocket, as frames of sound or of pictures."""

import asyncio
import base64
from collections.abc import Iterable
from typing import Any, Protocol

from riverrun.media import Chunk, Fragments, tagged
from riverrun.streaming import wire
from riverrun.streaming.outgoing import joined
from riverrun.streaming.session import Rate
from riverrun.streaming.show import Show

FRAME = 0.25  # seconds, the longest frame of sound that either side sends
Part = tuple[int, int, bytes, bool]  # the tick it starts at, its ticks, its payload, whether it is the last


class Form(Protocol):
    """How chunks become frames of one kind, of at most `longest` ticks."""

    kind: int
    longest: int

    def about(self) -> dict[str, Any]:
        """What `opened` tells of it."""
        ...

    def gathered(self, chunks: list[Chunk]) -> Iterable[Chunk]:
        """The chunks that become frames."""
        ...

    async def parts(self, chunk: Chunk) -> list[Part]:
        """What the frames of a chunk hold."""
        ...


class Sound:
    """Interleaved samples."""

    def __init__(self, wanted: wire.Open) -> None:
        self.format = wanted.format
        self.kind, _, size = wire.FORMATS[wanted.format]
        self.longest = min(round(FRAME * wanted.rate), wire.LONGEST // (size * wanted.channels))

    def about(self) -> dict[str, Any]:
        """Nothing more."""
        return {}

    def gathered(self, chunks: list[Chunk]) -> Iterable[Chunk]:
        """Those that follow on one another are one."""
        return joined(chunks)

    async def parts(self, chunk: Chunk) -> list[Part]:
        """Pieces of at most the longest."""
        return [
            (piece.pts, len(piece), wire.payload(piece.data, self.format), piece.last)
            for piece in pieces(chunk, self.longest)
        ]


class Pictures:
    """Fragments of MP4, one a chunk; or red, green and blue of every pixel, row by row."""

    def __init__(self, wanted: wire.Open, stream: Show) -> None:
        """Raises UnsupportedMedia for pictures that cannot be encoded."""
        rows, columns = self.size = stream.size
        self.kind, self.rate = wire.PICTURES[wanted.format], stream.rate
        self.longest, self.lead = stream.hop, stream.lead
        self.fragments: Fragments | None = None
        if wanted.format == "mp4":
            settings = {"model": wanted.model, **{k: v for k, v in stream.request.items() if k != "picture"}}
            tags = tagged(str(settings["prompt"]), settings)
            self.fragments = Fragments(stream.rate, stream.size, tags=tags)
        else:
            self.longest = max(1, min(self.longest, wire.LONGEST // (3 * rows * columns)))

    def about(self) -> dict[str, Any]:
        """Their size, how many may be left unseen when more are begun, and of MP4 what stands before all fragments."""
        told: dict[str, Any] = {"size": self.size, "lead": float(self.lead / self.rate)}
        if self.fragments:
            told |= {"mime": self.fragments.mime, "head": base64.b64encode(self.fragments.head).decode()}
        return told

    def gathered(self, chunks: list[Chunk]) -> Iterable[Chunk]:
        """Each for itself, as soon as it is there."""
        return chunks

    async def parts(self, chunk: Chunk) -> list[Part]:
        """One fragment, encoded apart from the loop; or pieces of at most the longest."""
        if self.fragments:
            data = await asyncio.to_thread(self.fragments.add, chunk)
            return [(chunk.pts, len(chunk), data, chunk.last)]
        return [(p.pts, len(p), p.data.tobytes(), p.last) for p in pieces(chunk, self.longest)]


def pieces(chunk: Chunk, longest: int) -> list[Chunk]:
    """A chunk in pieces of so many ticks; an empty one is one."""
    starts = range(0, max(len(chunk), 1), longest)
    return [
        Chunk(chunk.data[at : at + longest], chunk.pts + at, chunk.rate, chunk.last and at == starts[-1])
        for at in starts
    ]


def number(rate: Rate) -> float | int:
    """A rate as JSON."""
    return int(rate) if rate == int(rate) else float(rate)
