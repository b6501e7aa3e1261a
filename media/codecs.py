"""Codecs as pairs: an Encoder turns chunks into packets, a Decoder packets into chunks; ticks stay what they were."""

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Literal, cast

import numpy as np

from riverrun.media.chunk import Array, Chunk
from riverrun.media.errors import CorruptMedia, UnsupportedMedia

AUDIO = {
    "opus": ("libopus", "opus"),
    "flac": ("flac", "flac"),
    "mp3": ("libmp3lame", "mp3float"),
    "aac": ("aac", "aac"),
    "pcm16": ("pcm_s16le", "pcm_s16le"),
}
VIDEO = {"h264": ("libx264", "h264"), "vp8": ("libvpx", "vp8")}
FORMATS = ("flt", "fltp", "s16", "s16p")  # of samples, as encoders like them, best first
BT709 = {**dict.fromkeys(("colorspace", "color_primaries", "color_trc"), "bt709"), "color_range": "tv"}
FAST = {
    "libx264": {
        "tune": "zerolatency",
        "preset": "veryfast",
        "profile": "baseline",
        "forced-idr": "1",  # a key frame that is asked for is one to begin at
        **BT709,
    },
    "libvpx": {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0"},
}


@dataclass(frozen=True)
class Coded:
    """One packet; it covers `ticks` ticks from `pts`, which for the first of a lossy codec may be negative."""

    data: bytes
    pts: int
    ticks: int
    key: bool = True


class Encoder:
    """Encode chunks of one stream that starts at tick 0.

    `header` is what a Decoder needs to know beside the packets; it is there once the encoder is.
    Raises UnsupportedMedia for a codec, rate or size that cannot be encoded.
    """

    def __init__(
        self,
        codec: str,
        rate: int | Fraction,
        channels: int = 1,
        size: tuple[int, int] = (0, 0),
        bitrate: int | None = None,
    ) -> None:
        """`size` is rows and columns of pictures; `bitrate` in bit/s, the codec's own without."""
        import av

        self.rate, self.ticks, self.video = rate, 0, codec in VIDEO
        self.matrix: Literal["bt601", "bt709"] = "bt709" if codec == "h264" else "bt601"
        self.layout = {1: "mono", 2: "stereo"}.get(channels, f"{channels}c")
        name = _known(codec)[0]
        try:
            self.context = cast(Any, av.CodecContext.create(name, "w"))
            if bitrate:
                self.context.bit_rate = bitrate
            self.context.time_base = 1 / Fraction(rate)
            if self.video:
                self.context.height, self.context.width = size
                self.context.pix_fmt, self.context.framerate = "yuv420p", Fraction(rate)
                self.context.flags |= int(av.codec.context.Flags.global_header) if codec == "h264" else 0
            else:
                offered = [f.name for f in self.context.codec.audio_formats or []]
                self.context.format = next((f for f in FORMATS if f in offered), "s16")
                self.context.sample_rate, self.context.layout = int(rate), self.layout
            self.context.options = FAST.get(name, {})
            self.context.open()
        except (av.FFmpegError, ValueError) as error:
            what = f"{size[1]} x {size[0]} at {rate} frames/s" if self.video else f"{rate} Hz"
            raise UnsupportedMedia(f"{codec} does not take {what}, {channels} channels: {error}") from error

    @property
    def header(self) -> bytes | None:
        """Codec-private data."""
        data = self.context.extradata
        return None if data is None else bytes(data)

    def encode(self, chunk: Chunk, key: bool = False) -> list[Coded]:
        """Take the next ticks; nothing may come out yet. `key` has the first picture be a key frame."""
        made = [p for frame in self._frames(chunk, key) for p in self.context.encode(frame) if p.size]
        self.ticks += len(chunk)
        return [self._coded(p) for p in made]

    def flush(self) -> list[Coded]:
        """End the stream; the last packet covers no tick beyond it."""
        return [self._coded(p) for p in self.context.encode(None) if p.size]

    def _frames(self, chunk: Chunk, key: bool) -> list[Any]:
        import av

        if self.video:
            made = frames(replace(chunk, pts=self.ticks), self.matrix)
            if key and made:
                made[0].pict_type = av.video.frame.PictureType.I
            return made
        if not len(chunk):
            return []
        packed = np.ascontiguousarray(np.clip(chunk.data, -1, 1), np.float32).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(packed, "flt", self.layout)
        frame.sample_rate, frame.pts, frame.time_base = int(self.rate), self.ticks, 1 / Fraction(self.rate)
        return [frame]

    def _coded(self, packet: Any) -> Coded:
        scale = Fraction(self.rate) * packet.time_base
        pts = round((packet.pts or 0) * scale)
        ticks = 1 if self.video else round((packet.duration or 0) * scale)
        return Coded(bytes(packet), pts, max(0, min(ticks, self.ticks - pts)), packet.is_keyframe)


class Decoder:
    """Decode packets of one stream into chunks that start at tick 0; what lies before it is dropped.

    Raises CorruptMedia if packets cannot be decoded.
    """

    def __init__(
        self, codec: str, rate: int | Fraction, channels: int = 1, header: bytes | None = None
    ) -> None:
        import av

        self.rate, self.channels, self.video = rate, channels, codec in VIDEO
        self.context = cast(Any, av.CodecContext.create(_known(codec)[1], "r"))
        if header:
            self.context.extradata = header
        if not self.video:
            self.context.sample_rate = int(rate)
            self.context.layout = {1: "mono", 2: "stereo"}.get(channels, f"{channels}c")
            self.convert = av.AudioResampler("flt", self.context.layout, int(rate))
        self.next = self.end = 0  # tick to give next, and the tick after the last packet's
        self.first: Coded | None = None

    def decode(self, coded: Coded) -> list[Chunk]:
        """Take the next packet; nothing may come out yet."""
        import av

        packet = av.Packet(coded.data)
        packet.pts = packet.dts = coded.pts
        packet.time_base = 1 / Fraction(self.rate)
        self.end = max(self.end, coded.pts + coded.ticks)
        self.first = self.first or coded
        return self._chunks(packet)

    def flush(self) -> list[Chunk]:
        """End the stream."""
        return self._chunks(None)

    def _chunks(self, packet: Any) -> list[Chunk]:
        import av

        try:
            frames = self.context.decode(packet)
        except (av.FFmpegError, ValueError) as error:
            raise CorruptMedia(f"a packet at tick {self.next} cannot be decoded: {error}") from error
        return [chunk for frame in frames if len(chunk := self._chunk(frame))]

    def _chunk(self, frame: Any) -> Chunk:
        """The ticks of a frame from the next one up to the end of the packets."""
        if self.video:
            data: Array = frame.to_ndarray(format="rgb24")[None]
        else:
            pts, frame.pts = frame.pts, None
            made = [f.to_ndarray().reshape(-1, self.channels) for f in self.convert.resample(frame)]
            data, frame.pts = np.concatenate(made), pts
        start = self.next if frame.pts is None else round(frame.pts * frame.time_base * Fraction(self.rate))
        if (
            self.first and start == self.first.pts
        ):  # Opus drops its delay by itself and leaves the time as it was
            start += max(0, self.first.ticks - len(data))
        data = data[max(0, self.next - start) : max(0, self.end - start)]
        chunk = Chunk(data, max(self.next, start), self.rate)
        self.next = max(self.next, chunk.end)
        return chunk


def even(size: tuple[int, int]) -> tuple[int, int]:
    """The rows and columns that 4:2:0 makes of a size: an odd number and its next."""
    return size[0] + size[0] % 2, size[1] + size[1] % 2


def frames(chunk: Chunk, matrix: Literal["bt601", "bt709"] = "bt601") -> list[Any]:
    """Pictures as PyAV's frames in 4:2:0; a row or column that lacks its pair is doubled.

    `matrix` is what their colours are coded by: BT.601 is what VP8 means, and calls that say nothing.
    """
    import av
    from av.video.reformatter import ColorRange, Colorspace

    _, rows, columns, _ = chunk.data.shape
    data = np.pad(chunk.data, ((0, 0), (0, rows % 2), (0, columns % 2), (0, 0)), "edge")
    space, made = Colorspace.ITU709 if matrix == "bt709" else Colorspace.ITU601, []
    for i, picture in enumerate(data):
        rgb = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), "rgb24")
        frame = rgb.reformat(format="yuv420p", dst_colorspace=space, dst_color_range=ColorRange.MPEG)
        frame.pts, frame.time_base = chunk.pts + i, 1 / Fraction(chunk.rate)
        made.append(frame)
    return made


def _known(codec: str) -> tuple[str, str]:
    """FFmpeg's names of a codec's encoder and decoder."""
    both = {**AUDIO, **VIDEO}
    if codec not in both:
        raise UnsupportedMedia(f"codec is {codec!r}, expected one of {', '.join(both)}")
    return both[codec]
