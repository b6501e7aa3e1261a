"""Fragments: pictures, and sound beside them, as an MP4 stream of which each chunk is whole by itself."""

from collections.abc import Mapping
from fractions import Fraction

from riverrun.media import boxes
from riverrun.media.boxes import Sample, Track
from riverrun.media.chunk import Chunk
from riverrun.media.codecs import Coded, Encoder, even

PRIMING = 1024  # ticks that FFmpeg's AAC begins early


class Fragments:
    """Encode chunks as they come: `head` first, then a moof and mdat for each, H.264 baseline without delay.

    Each fragment begins with a key frame, so that it can be decoded without those before it. Times are exact at any
    rational rate. 4:2:0 wants even sizes: a row or column that lacks its pair is doubled.
    Raises UnsupportedMedia for a rate or size that cannot be encoded.
    """

    def __init__(
        self,
        rate: int | Fraction,
        size: tuple[int, int],
        sound: tuple[int, int] | None = None,
        tags: Mapping[str, str] | None = None,
        bitrate: int | None = None,
    ) -> None:
        """`size` is rows and columns; `sound` its rate and channels; `tags` have title and comment; bit/s."""
        self.rate, size = Fraction(rate), even(size)
        self.pictures = Encoder("h264", rate, size=size, bitrate=bitrate)
        header = self.pictures.header or b""
        self.tracks = [Track(1, self.rate.numerator, boxes.avc(header, size), size)]
        self.codecs = [f"avc1.{boxes.units(header)[0][1:4].hex()}"]
        self.sound: Encoder | None = None
        if sound:
            self.sound = Encoder("aac", *sound)
            entry = boxes.aac(self.sound.header or b"", *sound)
            self.tracks.append(Track(2, sound[0], entry, early=PRIMING))
            self.codecs.append("mp4a.40.2")
        self.head = boxes.head(self.tracks, tags)
        self.count = 0

    @property
    def mime(self) -> str:
        """The media type, as a browser's MediaSource wants it."""
        return f'video/mp4; codecs="{",".join(self.codecs)}"'

    def add(self, chunk: Chunk, sound: Chunk | None = None) -> bytes:
        """The fragment of a chunk of pictures, and of what is whole of the sound so far."""
        runs = [self._run(chunk)] if len(chunk) else []
        heard = self.sound.encode(sound) if self.sound and sound else []
        return self._fragment(runs + ([self._heard(heard)] if heard else []))

    def end(self) -> bytes:
        """What is left of the sound; empty where nothing is."""
        heard = self.sound.flush() if self.sound else []
        return self._fragment([self._heard(heard)] if heard else [])

    def _run(self, chunk: Chunk) -> tuple[Track, int, list[Sample]]:
        ticks = self.rate.denominator
        coded = self.pictures.encode(chunk, key=True)
        assert len(coded) == len(chunk), "the encoder holds nothing back"
        return (
            self.tracks[0],
            chunk.pts * ticks,
            [Sample(boxes.prefixed(one.data), ticks, one.key) for one in coded],
        )

    def _heard(self, coded: list[Coded]) -> tuple[Track, int, list[Sample]]:
        return self.tracks[1], coded[0].pts + PRIMING, [Sample(one.data, one.ticks) for one in coded]

    def _fragment(self, runs: list[tuple[Track, int, list[Sample]]]) -> bytes:
        if not runs:
            return b""
        self.count += 1
        return boxes.fragment(self.count, runs)
