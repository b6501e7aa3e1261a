"""Write sound into any container, in the form of another file, whole or not at all."""

import logging
import os
import secrets
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Self, cast

import numpy as np
from numpy.typing import NDArray

from riverrun.media.chunk import Chunk
from riverrun.media.errors import UnsupportedMedia
from riverrun.media.reader import Packet, Reader

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger(__name__)

ENCODERS = {"opus": "libopus", "vorbis": "libvorbis", "mp3": "libmp3lame", "mp3float": "libmp3lame"}
FORMATS = {"wav": "wav", "mp3": "mp3", "ogg": "ogg", "flac": "flac", "aac": "adts", "matroska": "matroska"}
SUFFIX_FORMATS = {
    ".m4a": "ipod",
    ".mka": "matroska",
    ".opus": "ogg",
    ".oga": "ogg",
    ".webm": "webm",
    ".mov": "mov",
}
DEFAULTS = {".opus": "libopus", ".ogg": "libopus", ".oga": "libopus", ".mka": "flac"}  # codecs, by suffix
PLAIN = ("wav", "w64", "aiff", "caf", "au")  # containers that other programs expect PCM in
PACKED = ("mp4", "ipod")  # and that they expect no PCM in
COVERLESS = ("ogg", "opus", "oga")  # whose covers are no streams
UNLISTED = ("mpegts", "mpeg", "vob", "svcd", "dvd")  # FFmpeg names no more than the usual codecs of these
FLOOR = 32_000  # bit/s a channel, the least a lossy result gets
STEM = 40  # characters of a name that its temporary one keeps; file systems take 255 bytes in all
OPUS_RATES = (8_000, 12_000, 16_000, 24_000, 48_000)  # Hz


class Writer:
    """One file being written. In a `with`, it appears under its name when all went well, and else not at all.

    `like` a Reader takes over its container, codec, sample format, bit rate, metadata and chapters, and copies its
    other streams; `rate`, `channels`, `codec` and `format` say so explicitly. `notes` tells what had to change.
    Raises UnsupportedMedia if the container or the codec cannot be written here.
    """

    def __init__(
        self,
        target: str | Path | BinaryIO,
        like: Reader | None = None,
        rate: int | None = None,
        channels: int | None = None,
        codec: str | None = None,
        format: str | None = None,
        bitrate: int | None = None,
    ) -> None:
        if like is None and (rate is None or channels is None):
            raise ValueError("name a rate and channels, or a reader to be like")
        self.like, self.notes = like, list[str]()
        self.rate = rate or (like.audio.rate if like else 0)
        self.channels = channels or (like.audio.channels if like else 0)
        self.path = Path(target) if isinstance(target, str | Path) else None
        self.name = self.path or "the output"
        self.part = None if self.path is None else part_of(self.path)
        self.copies: dict[int, Any] = {}
        try:
            with writing(self.name):
                self._begin(target if self.part is None else str(self.part), format, codec, bitrate)
        except BaseException:
            self.discard()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()

    def _begin(self, target: Any, format: str | None, codec: str | None, bitrate: int | None) -> None:
        import av

        name = format or self._format()
        options = {} if self.path else {"flush_packets": "1"}
        self.container = av.open(target, "w", format=name, container_options=options)
        self.encoder = self._encoder(codec)
        if self.like is None:
            self._sound(bitrate)
        else:
            self.container.metadata.update(self.like.metadata)
            for stream in self.like.container.streams:  # in their order, which players may go by
                if stream.index != self.like.stream.index:
                    self._copy(stream)
                    continue
                self._sound(bitrate)
                self.stream.metadata.update(stream.metadata)
                self.stream.disposition = stream.disposition
            if chapters := self.like.container.chapters():
                self.container.set_chapters(chapters)
        self.offset = round(self.like.start * self.rate) if self.like and self.like.has_video else 0

    def _sound(self, bitrate: int | None) -> None:
        """Make room for the sound."""
        rate, layout = self._encoder_rate(), self._layout()
        self.stream = cast(Any, self.container.add_stream(self.encoder, rate=rate, layout=layout))
        self._shape(bitrate)

    def _format(self) -> str | None:
        """FFmpeg's name of the container to write; None leaves it to the target's suffix."""
        suffix = self.path.suffix.lower() if self.path else ""
        if suffix == ".m4a" and self.like and self.like.has_video:
            return "mp4"  # FFmpeg's own form of .m4a takes no cover
        if suffix in SUFFIX_FORMATS:
            return SUFFIX_FORMATS[suffix]
        if suffix and _known(suffix):
            return None
        if self.like:
            first = self.like.format.split(",")[0]
            return FORMATS.get(
                first, "mp4" if first == "mov" and self.path else first if self.path else "wav"
            )
        return "wav"

    def _encoder(self, codec: str | None) -> str:
        """An encoder for the codec wanted, if the container takes it; else the container's own."""
        wanted = codec or (self.like.audio.codec if self.like else None)
        suffix = self.path.suffix.lower() if self.path else ""
        default = DEFAULTS.get(suffix, str(self.container.default_audio_codec))
        if wanted is None:
            return ENCODERS.get(default, default)
        wanted = ENCODERS.get(wanted, wanted)
        if _encodes(wanted) and _accepts(self.container, wanted) and (codec or self._usual(wanted)):
            return wanted
        chosen = ENCODERS.get(default, default)
        if default == "none" or not _encodes(chosen):
            raise UnsupportedMedia(
                f"{self.container.format.name} cannot hold sound here: name a .wav or .flac"
            )
        self._note(f"{wanted} cannot be written into {self.container.format.name} here: {chosen} instead")
        return chosen

    def _usual(self, wanted: str) -> bool:
        """Whether other programs expect a codec in the container; what the source does in its own is kept."""
        name = self.container.format.name
        if self.like and name in self.like.format.split(","):
            return True
        return (
            wanted.startswith("pcm") if name in PLAIN else not (wanted.startswith("pcm") and name in PACKED)
        )

    def _encoder_rate(self) -> int:
        """The rate, or the next one above that the codec takes; FFmpeg resamples on the way in."""
        import av

        rates = OPUS_RATES if self.encoder == "libopus" else av.Codec(self.encoder, "w").audio_rates
        if not rates or self.rate in rates:
            return self.rate
        rate = min((r for r in rates if r > self.rate), default=max(rates))
        if self.encoder != "libopus":  # which is always of 48 kHz inside
            self._note(f"{self.encoder} does not take {self.rate} Hz: {rate} instead")
        return rate

    def _layout(self) -> str:
        return {1: "mono", 2: "stereo"}.get(self.channels, f"{self.channels}c")

    def _shape(self, bitrate: int | None) -> None:
        """Sample format and bit rate as in the source, as near as the encoder comes."""
        import av

        context = self.stream.codec_context
        info = self.like.audio if self.like else None
        formats = [f.name for f in (av.Codec(self.encoder, "w").audio_formats or [])]
        wide = info is not None and info.bits > 16
        wanted = [info.format, info.format.removesuffix("p"), info.format + "p"] if info else []
        preferred = [*wanted, *(["s32", "s32p"] if wide else ["s16", "s16p"]), *formats]
        context.format = next(f for f in preferred if not formats or f in formats)
        if self.encoder == "flac" and wide:
            context.options = {"bits_per_raw_sample": "24"}
        lossless = self.encoder.startswith(("pcm", "flac", "alac", "wavpack"))
        wanted_rate = bitrate or (info.bitrate if info and info.codec not in ("flac", "alac") else None)
        if not lossless:
            least = FLOOR * self.channels
            most = 256_000 * self.channels if self.encoder == "libopus" else 320_000
            context.bit_rate = min(max(wanted_rate or 0, least) if wanted_rate else 2 * least, most)

    def _copy(self, stream: Any) -> None:
        """Make room for a stream that can be taken over as it is."""
        if stream.type not in ("video", "audio", "subtitle", "attachment"):
            return
        name, into = stream.codec_context.name if stream.codec_context else "", self.container.format.name
        try:
            free = stream.type == "attachment" or (_picture(stream) and into not in COVERLESS)
            if not free and not _accepts(self.container, name):
                raise ValueError(f"{into} does not take {name}")
            copy = self.container.add_stream_from_template(stream)
            copy.metadata.update(stream.metadata)
            copy.disposition = stream.disposition
            self.copies[stream.index] = copy
        except (ValueError, AttributeError, TypeError) as error:
            if stream.type == "video" and not _picture(stream):
                raise UnsupportedMedia(
                    f"the picture ({name}) cannot be copied: {error}; name a target of the source's own kind"
                ) from error
            self._note(f"a {stream.type} stream ({name}) is left out: {error}")

    def put(self, item: Chunk | Packet) -> None:
        """Write the next sound, or copy a packet. Raises UnsupportedMedia if that fails."""
        with writing(self.name):
            if isinstance(item, Chunk):
                if len(item):
                    self._encode(self._frame(item))
            elif item.stream in self.copies:
                item.packet.stream = self.copies[item.stream]
                self.container.mux(item.packet)

    def _frame(self, chunk: Chunk) -> Any:
        import av

        data = np.clip(chunk.data, -1, 1) if self.stream.codec_context.format.name[0] != "f" else chunk.data
        packed = np.ascontiguousarray(data, np.float32).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(packed, "flt", self._layout())
        frame.sample_rate, frame.time_base = self.rate, Fraction(1, self.rate)
        frame.pts = chunk.pts + self.offset
        return frame

    def _encode(self, frame: Any) -> None:
        for packet in self.stream.encode(frame):
            self.container.mux(packet)

    def close(self) -> None:
        """Finish; the file now appears under its name. Raises UnsupportedMedia if that fails."""
        try:
            with writing(self.name):
                self._encode(None)
                self.container.close()
                if self.path is not None and self.part is not None:
                    os.replace(self.part, self.path)
        except BaseException:
            self.discard()
            raise

    def discard(self) -> None:
        """Leave nothing behind. Twice is once."""
        abandon(getattr(self, "container", None), self.part)

    def _note(self, text: str) -> None:
        self.notes.append(text)
        log.warning("%s", text)


@contextmanager
def writing(name: object) -> "Iterator[None]":
    """Turn what goes wrong while something of a name is written into UnsupportedMedia."""
    import av

    try:
        yield
    except BrokenPipeError:
        raise
    except (av.FFmpegError, OSError, ValueError) as error:
        text = getattr(error, "strerror", None) or str(error)
        raise UnsupportedMedia(f"{name} cannot be written: {text}") from error


def abandon(container: Any, part: Path | None) -> None:
    """Close a container that will not be finished, if there is one, and remove its file. Twice is once."""
    import av

    if container:
        try:
            container.close()
        except (av.FFmpegError, OSError) as error:
            log.info("closing an abandoned file: %s", error)
    if part is not None:
        part.unlink(missing_ok=True)


def part_of(path: Path) -> Path:
    """A temporary name in the folder of a path, with its suffix. Raises UnsupportedMedia without the folder."""
    if not path.parent.is_dir():
        raise UnsupportedMedia(f"{path} cannot be written: there is no folder {path.parent}")
    stem = path.stem[:STEM]
    return path.with_name(f".{stem}.{secrets.token_hex(4)}.part{path.suffix}")


def _known(suffix: str) -> bool:
    import av

    return any(suffix.removeprefix(".") in av.ContainerFormat(f, "w").extensions for f in _writable())


def _writable() -> list[str]:
    import av

    return sorted(f for f in av.formats_available if _has_muxer(f))


def _has_muxer(name: str) -> bool:
    import av

    try:
        return bool(av.ContainerFormat(name, "w").is_output)
    except ValueError:
        return False


def _encodes(codec: str) -> bool:
    import av

    try:
        return bool(av.Codec(codec, "w").is_encoder)
    except ValueError:
        return False


def _accepts(container: Any, codec: str) -> bool:
    """Whether a container takes a codec, by the codec's plain name."""
    import av

    names = {codec, *(plain for plain, encoder in ENCODERS.items() if encoder == codec)}
    try:
        names.add(av.Codec(codec, "w").canonical_name)
    except ValueError:
        pass
    known = container.supported_codecs
    return bool(names & set(known)) or not known or container.format.name in UNLISTED


def _picture(stream: Any) -> bool:
    """Whether a video stream is a still, such as the cover of an album."""
    return bool(stream.disposition & stream.disposition.attached_pic)


def write(path: str | Path, data: NDArray[np.float32], rate: int, codec: str | None = None) -> None:
    """Write samples `[t, c]` to a file whose suffix names the container."""
    with Writer(path, rate=rate, channels=data.shape[1], codec=codec) as writer:
        writer.put(Chunk(data, 0, rate, last=True))
