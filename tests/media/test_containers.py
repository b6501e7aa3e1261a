"""What single containers and codecs want: lengths that are guesses, pipes, covers, rates, odd neighbours."""

import io
import struct
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from riverrun.media import CorruptMedia, UnsupportedMedia, open_media, read, write
from riverrun.media.resampling import PHASES, Resampler, bank
from tests.media.test_files import copy, film, pictures, sound, wav


class Pipe(io.BytesIO):
    """Bytes that come one after the other."""

    def seekable(self) -> bool:
        return False


def frames(path: Path, codec: str, bitrate: int, **options: str) -> bytes:
    """10 s of noise as bare frames of a bit rate."""
    noise = np.random.default_rng(0).normal(size=(1, 160_000)).astype(np.float32) * 0.1
    with av.open(str(path), "w", container_options=options) as out:
        stream: Any = out.add_stream(codec, rate=16_000, layout="mono")
        stream.bit_rate = bitrate
        frame = av.AudioFrame.from_ndarray(noise, "flt", "mono")
        frame.sample_rate = 16_000
        out.mux([*stream.encode(frame), *stream.encode(None)])
    return path.read_bytes()


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [("a.aac", "aac", {}), ("a.mp3", "libmp3lame", {"write_xing": "0", "id3v2_version": "0"})],
)
def test_a_length_that_ffmpeg_guesses_is_not_believed(
    name: str, codec: str, options: dict[str, str], tmp_path: Path
) -> None:
    """It takes the bit rate of the beginning for that of the whole."""
    path = tmp_path / name
    path.write_bytes(b"".join(frames(path, codec, rate, **options) for rate in (16_000, 96_000)))
    with open_media(path) as reader:
        assert reader.audio.seconds is not None and reader.audio.seconds > 22, "else this tests nothing"
    assert len(read(path)[0]) == pytest.approx(320_000, abs=4_000)


@pytest.mark.parametrize("flags", ["frag_keyframe", "frag_keyframe+empty_moov", "faststart"])
def test_a_film_through_a_pipe_is_heard_to_its_end(flags: str, tmp_path: Path) -> None:
    film(tmp_path / "a.mp4")
    with av.open(str(tmp_path / "a.mp4")) as whole:
        with av.open(str(tmp_path / "b.mp4"), "w", options={"movflags": flags}) as cut:
            copies = {s.index: cut.add_stream_from_template(s) for s in whole.streams}
            for packet in whole.demux():
                if packet.size:
                    packet.stream = copies[packet.stream.index]
                    cut.mux(packet)
    heard = read(Pipe((tmp_path / "b.mp4").read_bytes()))[0]
    assert len(heard) >= 96_000
    assert np.abs(heard[90_000:95_000]).max() > 0.1


@pytest.mark.parametrize("said", [0x7FFF_F024, 0xFFFF_FFFF])
def test_a_wav_that_does_not_know_its_length_is_read(said: int, tmp_path: Path) -> None:
    path = wav(tmp_path / "a.wav", bytes(32_000))
    data = bytearray(path.read_bytes())
    data[4:8], data[40:44] = struct.pack("<I", said), struct.pack("<I", said - 36 & 0xFFFF_FFFF)
    path.write_bytes(data)
    assert len(read(path)[0]) == len(read(Pipe(bytes(data)))[0]) == 16_000


def test_a_truncated_wav_is_refused_through_a_pipe_too(tmp_path: Path) -> None:
    data = wav(tmp_path / "a.wav", bytes(32_000)).read_bytes()
    with pytest.raises(CorruptMedia, match="ends after 20000 of 32044 bytes"):
        read(Pipe(data[:20_000]))
    assert len(read(Pipe(data))[0]) == 16_000


@pytest.mark.parametrize("suffix", ["ts", "mpg"])
def test_a_broadcast_film_keeps_its_pictures(suffix: str, tmp_path: Path) -> None:
    source = tmp_path / f"a.{suffix}"
    if suffix == "ts":
        film(source)
    else:
        with av.open(str(source), "w") as out:
            video: Any = out.add_stream("mpeg2video", rate=25)
            video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
            audio: Any = out.add_stream("mp2", rate=48_000, layout="mono")
            tone = (0.3 * np.sin(np.arange(48_000) * 0.05) * 32767).astype(np.int16)[None]
            frame = av.AudioFrame.from_ndarray(tone, "s16", "mono")
            frame.sample_rate = 48_000
            for i in range(25):
                out.mux(video.encode(av.VideoFrame.from_ndarray(np.full((48, 64, 3), 9 * i, np.uint8))))
            out.mux([*video.encode(None), *audio.encode(frame), *audio.encode(None)])
    copy(source, tmp_path / f"b.{suffix}")
    assert len(pictures(tmp_path / f"b.{suffix}")) == len(pictures(source)) >= 25
    assert read(tmp_path / f"b.{suffix}")[0].std() > 0.1


@pytest.mark.parametrize(("source", "target", "codec"), [("mp3", "wav", "pcm_s16le"), ("wav", "mp4", "aac")])
def test_another_container_gets_what_others_expect_in_it(
    source: str, target: str, codec: str, tmp_path: Path
) -> None:
    write(tmp_path / f"a.{source}", sound(), 48_000)
    copy(tmp_path / f"a.{source}", tmp_path / f"b.{target}")
    with open_media(tmp_path / f"b.{target}") as reader:
        assert reader.audio.codec == codec


def covered(path: Path, codec: str, format: str | None = None) -> Path:
    """Sound with the picture of an album."""
    with av.open(str(path), "w", format=format) as out:
        stream: Any = out.add_stream(codec, rate=48_000, layout="mono")
        cover: Any = out.add_stream("mjpeg")
        cover.width, cover.height, cover.pix_fmt = 32, 32, "yuvj420p"
        cover.disposition = cover.disposition.attached_pic
        out.mux(cover.encode(av.VideoFrame.from_ndarray(np.full((32, 32, 3), 99, np.uint8))))
        frame = av.AudioFrame.from_ndarray(np.full((1, 24_000), 0.1, np.float32), "flt", "mono")
        frame.sample_rate = 48_000
        out.mux([*cover.encode(None), *stream.encode(frame), *stream.encode(None)])
    return path


@pytest.mark.parametrize(
    ("source", "target", "kept"), [("mp3", "mp3", True), ("m4a", "m4a", True), ("mp3", "opus", False)]
)
def test_a_cover_is_kept_or_left_out_with_a_note(
    source: str, target: str, kept: bool, tmp_path: Path
) -> None:
    made = covered(tmp_path / f"a.{source}", *{"mp3": ("libmp3lame",), "m4a": ("aac", "mp4")}[source])
    writer = copy(made, tmp_path / f"b.{target}")
    with open_media(tmp_path / f"b.{target}") as reader:
        assert reader.has_video is kept
    assert bool(writer.notes) is not kept or any("libopus" in note for note in writer.notes)


def test_a_rate_the_codec_does_not_take_becomes_the_nearest(tmp_path: Path) -> None:
    write(tmp_path / "a.wav", sound(19_200, 1), 192_000)
    writer = copy(tmp_path / "a.wav", tmp_path / "b.mp3")
    with open_media(tmp_path / "b.mp3") as reader:
        assert reader.audio.rate == 48_000
    assert any("192000 Hz: 48000 instead" in note for note in writer.notes)


def test_streams_keep_their_order_and_the_default_track(tmp_path: Path) -> None:
    film(tmp_path / "a.mkv")
    copy(tmp_path / "a.mkv", tmp_path / "b.mkv")
    with av.open(str(tmp_path / "a.mkv")) as one, av.open(str(tmp_path / "b.mkv")) as other:
        assert [s.type for s in one.streams] == [s.type for s in other.streams] == ["video", "audio"]
        assert [s.disposition for s in one.streams] == [s.disposition for s in other.streams]


def test_a_rate_nobody_uses_costs_no_more_and_sounds_the_same() -> None:
    resampler = Resampler(44_099, 16_000)
    assert bank(16_000, 44_099).shape[0] == PHASES + 1
    t = np.arange(44_099) / 44_099
    out = np.concatenate([resampler.push(np.sin(2 * np.pi * 1_000 * t)[:, None]), resampler.flush()])[:, 0]
    wanted = np.sin(2 * np.pi * 1_000 * np.arange(16_000) / 16_000)
    assert len(out) == 16_000 and np.abs(out - wanted)[100:-100].max() < 2e-4


def test_a_picture_that_does_not_fit_says_what_to_do(tmp_path: Path) -> None:
    film(tmp_path / "a.mp4")
    with pytest.raises(UnsupportedMedia, match="of the source's own kind"):
        copy(tmp_path / "a.mp4", tmp_path / "b.wav")
