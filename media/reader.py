"""Read any file or pipe as chunks of sound, its other streams as packets, in bounded memory."""

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np
from numpy.typing import NDArray

from riverrun.media.chunk import Chunk
from riverrun.media.errors import CorruptMedia, MediaError, UnsupportedMedia
from riverrun.media.limits import DEFAULT, Limits

Source = str | Path | bytes | BinaryIO
LOUD = 1000  # times full scale, the loudest sample taken
GAP_S = 0.05  # seconds of missing timestamps from which on silence is put in
BLOCK = 1 << 16  # ticks of silence handed on at once
SHORT_S = 0.25  # seconds by which a file may end before its header says so
UNKNOWN = 0x7FFF_0000  # bytes and more, in the header of a WAV: what a pipe writes, not knowing its end
GUESSED = ("aac", "ac3", "eac3", "mp2", "amr", "amrnb", "amrwb", "dts")  # containers that are bare frames


@dataclass(frozen=True)
class AudioInfo:
    """The sound of a file as it is stored; `channels` are those handed on."""

    rate: int
    channels: int
    codec: str
    format: str  # FFmpeg's sample format
    bits: int  # a sample, where that is known, else 0
    bitrate: int | None
    seconds: float | None


@dataclass
class Packet:
    """One packet of a stream that is copied, not decoded."""

    stream: int
    packet: Any = field(repr=False)


class Reader:
    """One open file. Iterate `items` once; close it, or use it in a `with`."""

    def __init__(self, source: Source, limits: Limits = DEFAULT, format: str | None = None) -> None:
        """`format` names the container of a headerless file (g722, ...), which nothing in it tells.

        Raises UnsupportedMedia or CorruptMedia.
        """
        self.limits = limits
        self.file = _counted(source, limits)
        self.name = self.file.name
        self.heard, self.until = 0, sys.maxsize  # ticks so far, and at most
        self.stated = False  # whether the header says how long the sound is, rather than FFmpeg guessing
        try:
            with _told(self.file, "cannot be opened"):
                self.container = _demux(self.file, format)
            self._check()
        except MediaError:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the file. Twice is once."""
        if container := getattr(self, "container", None):
            container.close()
        self.file.close()

    @property
    def format(self) -> str:
        """FFmpeg's name of the container."""
        return str(self.container.format.name)

    @property
    def metadata(self) -> dict[str, str]:
        return dict(self.container.metadata)

    @property
    def has_video(self) -> bool:
        return bool(self.container.streams.video)

    @property
    def others(self) -> list[Any]:
        """The streams that are not the sound, PyAV's objects, to be copied."""
        return [s for s in self.container.streams if s.index != self.stream.index]

    def _check(self) -> None:
        """Find the sound and hold its header against the limits."""
        if not self.container.streams.audio:
            raise UnsupportedMedia(
                f"{self.name} holds no sound (format {self.format}): name a file that does"
            )
        self.stream = self.container.streams.best("audio") or self.container.streams.audio[0]
        context, limits = self.stream.codec_context, self.limits
        if context is None:
            raise UnsupportedMedia(f"{self.name}: no decoder for its sound")
        rate, channels = context.sample_rate or 0, context.channels or 0
        if not limits.rate_min <= rate <= limits.rate_max:
            raise UnsupportedMedia(
                f"{self.name} says {rate} Hz, expected {limits.rate_min} to {limits.rate_max}: convert it first"
            )
        if not 1 <= channels <= limits.declared:
            raise UnsupportedMedia(f"{self.name} says {channels} channels, expected 1 to {limits.declared}")
        seconds = self._declared()
        self.stated = seconds is not None and self._states_length()
        if seconds is not None and self.stated and seconds > limits.seconds:
            raise UnsupportedMedia(
                f"{self.name} lasts {seconds:.0f} s, the limit is {limits.seconds:.0f}: cut it first"
            )
        for video in self.container.streams.video:
            if (video.width or 0) * (video.height or 0) > limits.pixels:
                raise UnsupportedMedia(
                    f"{self.name} has pictures of {video.width} x {video.height}, the limit is {limits.pixels}"
                )
        bits = 0 if context.format is None else int(context.format.bits)
        raw = int(getattr(context, "bits_per_raw_sample", 0) or 0)
        if seconds is not None and "mp4" in self.format and self.file.rewinds:
            self.until = round(seconds * rate)  # its header cuts the padding of the last frame off
        self.audio = AudioInfo(
            rate, min(channels, limits.channels), context.name, context.format.name if context.format else "",
            raw or bits, context.bit_rate or self.container.bit_rate or None, seconds,
        )  # fmt: skip

    def _declared(self) -> float | None:
        """How long the header says the sound lasts, in seconds."""
        if self.stream.duration is not None and self.stream.time_base is not None:
            return float(self.stream.duration * self.stream.time_base)
        if self.container.duration is None:
            return None
        return float(self.container.duration / 1_000_000 - self.start)

    def _states_length(self) -> bool:
        """Whether a file's length is written in it; that of bare frames is a guess from their bit rate."""
        if self.format == "mp3":
            return self.file.says(b"Xing", b"Info", b"VBRI")
        return self.format not in GUESSED

    @property
    def start(self) -> float:
        """When the sound begins relative to the file, in seconds."""
        if self.stream.start_time is None or self.stream.time_base is None:
            return 0.0
        return float(self.stream.start_time * self.stream.time_base)

    def chunks(self) -> Iterator[Chunk]:
        """The sound alone, from tick 0; the final chunk is `last` (and may be empty)."""
        for item in self.items():
            if isinstance(item, Chunk):
                yield item

    def items(self) -> Iterator[Chunk | Packet]:
        """Chunks of sound `[t, c]`, and packets of the other streams between them.

        Raises CorruptMedia or UnsupportedMedia as soon as something is wrong or a limit is passed.
        """
        convert, ticks, rate = self._converter(), 0, self.audio.rate
        with _told(self.file, "is damaged"):
            for packet in self.container.demux():
                if packet.stream.index != self.stream.index:
                    if packet.size:
                        yield Packet(packet.stream.index, packet)
                    continue
                for frame in packet.decode():
                    for silence in self._gap(frame, ticks):
                        ticks += len(silence)
                        yield Chunk(silence, ticks - len(silence), rate)
                    for data in self._samples(convert, frame):
                        ticks += len(data)
                        yield Chunk(data, ticks - len(data), rate)
            for data in self._samples(convert, None):
                ticks += len(data)
                yield Chunk(data, ticks - len(data), rate)
        self._whole(ticks)
        yield Chunk(np.empty((0, self.audio.channels), np.float32), ticks, rate, last=True)

    def _converter(self) -> Any:
        import av

        context = self.stream.codec_context
        layout = context.layout.name if context.channels <= self.limits.channels else "stereo"
        if self.limits.channels == 1:
            layout = "mono"
        return av.AudioResampler("flt", layout, context.sample_rate)

    def _samples(self, convert: Any, frame: Any) -> Iterator[NDArray[np.float32]]:
        """Samples of one frame, mixed down and checked.  # [t, c]"""
        for made in convert.resample(frame):
            data = made.to_ndarray().reshape(-1, self.audio.channels)[: self.until - self.heard]
            if not np.abs(data).max(initial=0) <= LOUD:  # NaN is not, either
                raise CorruptMedia(
                    f"{self.name} holds NaN or infinite samples, or some beyond {LOUD} times full scale:"
                    " export it again"
                )
            self.heard += len(data)
            if self.heard > self.limits.seconds * self.audio.rate:
                raise UnsupportedMedia(
                    f"{self.name} lasts more than the limit of {self.limits.seconds:.0f} s"
                )
            yield data

    def _gap(self, frame: Any, ticks: int) -> Iterator[NDArray[np.float32]]:
        """Silence where timestamps jump ahead, so that sound stays with the picture.  # [t, c]"""
        if frame.pts is None or frame.time_base is None:
            return
        missing = round((float(frame.pts * frame.time_base) - self.start) * self.audio.rate) - ticks
        if missing < GAP_S * self.audio.rate:
            return
        if ticks + missing > self.limits.seconds * self.audio.rate:
            raise CorruptMedia(
                f"{self.name} jumps {missing / self.audio.rate:.0f} s ahead: its times are damaged"
            )
        while missing > 0:
            yield np.zeros((min(missing, BLOCK), self.audio.channels), np.float32)
            missing -= BLOCK

    def _whole(self, ticks: int) -> None:
        """Refuse what holds nothing, or ends before its header says."""
        if not ticks:
            raise CorruptMedia(f"{self.name} holds no samples")
        self.file.whole()
        declared, seconds = self.audio.seconds if self.stated else None, ticks / self.audio.rate
        if self.stream.duration is None and self.others:  # what is known is how long the longest stream lasts
            return
        if declared is not None and seconds < declared - max(SHORT_S, 0.02 * declared):
            raise CorruptMedia(f"{self.name} ends after {seconds:.2f} of {declared:.2f} s: it is truncated")


class _Counted:
    """A file that refuses to be read beyond a number of bytes.

    FFmpeg would lose an exception raised while it reads, Ctrl-C too: so it is kept, and the input ends.
    """

    def __init__(self, file: BinaryIO, name: str, limit: int, own: bool) -> None:
        self.file, self.name, self.limit, self.own = file, name, limit, own
        self.count = 0
        self.head = b""
        self.refused: BaseException | None = None
        self.rewinds = file.seekable()
        if self.rewinds:
            self.seek, self.tell = file.seek, file.tell

    def read(self, size: int) -> bytes:
        if self.refused is not None:
            return b""
        try:
            data = self.file.read(size)
        except BaseException as error:  # raised again as soon as FFmpeg is done
            self.refused = error
            return b""
        if len(self.head) < 8 and self.count < 8:
            self.head += data[:8]
        self.count += len(data)
        if self.count > 4 * self.limit or (not self.rewinds and self.count > self.limit):
            self.refused = UnsupportedMedia(f"{self.name} is larger than the limit of {self.limit} bytes")
            return b""
        return data

    def whole(self) -> None:
        """Refuse a pipe that ended before its header said."""
        if not self.rewinds:
            _check_riff(self.head, self.name, self.count)

    def says(self, *marks: bytes) -> bool:
        """Whether one of some marks stands in the first frame, after the tag with title and cover."""
        if not self.rewinds:
            return False
        at = self.file.tell()
        self.file.seek(0)
        tag = self.file.read(10)
        size = 0
        if tag[:3] == b"ID3" and len(tag) == 10:
            size = 10 + sum(
                (byte & 127) << shift for byte, shift in zip(tag[6:], (21, 14, 7, 0), strict=True)
            )
        self.file.seek(size)
        frame = self.file.read(4096)
        self.file.seek(at)
        return any(mark in frame for mark in marks)

    def close(self) -> None:
        if self.own:
            self.file.close()


def _counted(source: Source, limits: Limits) -> _Counted:
    name = str(source) if isinstance(source, str | Path) else "the input"
    own = isinstance(source, str | Path | bytes)
    return _Counted(_open(source, name, limits), name, limits.bytes, own)


@contextmanager
def _told(file: _Counted, what: str) -> Iterator[None]:
    """Turn what FFmpeg says into ours."""
    import av

    try:
        yield
    except (av.FFmpegError, ValueError, EOFError, MemoryError, OverflowError) as error:
        if file.refused is None:
            text = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise CorruptMedia(f"{file.name} {what}: {text}") from error
    if file.refused is not None:
        raise file.refused


@contextmanager
def opened(source: Source, limits: Limits = DEFAULT) -> Iterator[tuple[Any, str]]:
    """The container of any file as PyAV has it, and a name for it, closed at the end.

    Raises UnsupportedMedia or CorruptMedia for whatever FFmpeg finds wrong until then.
    """
    file = _counted(source, limits)
    try:
        with _told(file, "is damaged"), _demux(file, None) as container:
            yield container, file.name
    finally:
        file.close()


def _open(source: Source, name: str, limits: Limits) -> BinaryIO:
    """A binary file over whatever was named."""
    if isinstance(source, bytes):
        source = BytesIO(source)
    if not isinstance(source, str | Path):
        if source.seekable():
            start = source.tell()
            size = source.seek(0, os.SEEK_END) - start
            source.seek(start)
            _check_riff(source.read(8), name, size)
            source.seek(start)
        return source
    try:
        info = os.stat(source)
        if stat.S_ISDIR(info.st_mode):
            raise UnsupportedMedia(f"{name} is a folder: name a file")
        if stat.S_ISCHR(info.st_mode) or stat.S_ISBLK(info.st_mode):
            raise UnsupportedMedia(f"{name} is a device: name a file or a pipe")
        if stat.S_ISREG(info.st_mode) and not info.st_size:
            raise CorruptMedia(f"{name} is empty")
        if info.st_size > limits.bytes:
            raise UnsupportedMedia(f"{name} has {info.st_size} bytes, the limit is {limits.bytes}")
        file = open(source, "rb")
    except FileNotFoundError as error:
        raise UnsupportedMedia(f"{name}: no such file") from error
    except (OSError, ValueError) as error:
        raise UnsupportedMedia(f"{name} cannot be read: {getattr(error, 'strerror', error)}") from error
    if stat.S_ISREG(info.st_mode):
        try:
            _check_riff(file.read(8), name, info.st_size)
        except CorruptMedia:
            file.close()
            raise
        file.seek(0)
    return file


def _check_riff(head: bytes, name: str, size: int) -> None:
    """Refuse a WAV that ends before its header says, which FFmpeg would let pass; but for a byte of padding."""
    said = int.from_bytes(head[4:8], "little") + 8
    if head[:4] == b"RIFF" and size + 1 < said < UNKNOWN:
        raise CorruptMedia(f"{name} ends after {size} of {said} bytes: it is truncated")


def _demux(file: _Counted, format: str | None) -> Any:
    """Open a container that may look at no other file or address."""
    import av
    import av.logging

    with av.logging.Capture():
        return av.open(file, "r", format, metadata_errors="replace", options={"protocol_whitelist": "pipe"})


def open_media(source: Source, limits: Limits = DEFAULT, format: str | None = None) -> Reader:
    """Open a path, bytes, or a binary file (a pipe will do) for reading.

    `format` names the container of a headerless file. Raises MediaError.
    """
    return Reader(source, limits, format)


def read(source: Source, limits: Limits = DEFAULT) -> tuple[NDArray[np.float32], int]:
    """All the sound of a file, and its rate, for files that fit into memory.  # [t, c], Hz"""
    with open_media(source, limits) as reader:
        return np.concatenate([chunk.data for chunk in reader.chunks()]), reader.audio.rate
