"""Files read and written in their own form; bad ones refused with a reason, and nothing half-written."""

import io
import math
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from riverrun.media import (
    Chunk,
    Limits,
    MediaError,
    UnsupportedMedia,
    Writer,
    open_media,
    read,
    write,
)

Sound = NDArray[np.float32]
LOSSLESS = ["wav", "flac", "aiff", "mka"]
LOSSY = ["mp3", "m4a", "ogg", "opus", "webm"]


def sound(ticks: int = 24_000, channels: int = 2) -> Sound:
    """Brownish noise."""
    steps = np.random.default_rng(0).normal(size=(ticks, channels))
    kernel = 0.95 ** np.arange(80)
    return np.stack([np.convolve(c, kernel)[:ticks] for c in steps.T], 1).astype(np.float32) * 0.03


def wav(
    path: Path, data: bytes, channels: int = 1, rate: int = 48_000, kind: int = 1, bits: int = 16
) -> Path:
    """A WAV file with a header of any values."""
    block = channels * bits // 8
    form = struct.pack("<HHIIHH", kind, channels, rate, rate * block % 2**32, block % 2**16, bits)
    body = b"WAVEfmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", len(data)) + data
    path.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    return path


def copy(source: Path, target: Path) -> Writer:
    with open_media(source) as reader, Writer(target, like=reader) as writer:
        for item in reader.items():
            writer.put(item)
    return writer


def film(path: Path, frames: int = 30, sounding: bool = True, start: int = 0) -> Path:
    """Moving pictures with a tone, made by PyAV alone."""
    import av

    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=15, options={"bf": "2"})
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        audio = out.add_stream("aac", rate=48_000, layout="mono") if sounding else None
        out.metadata["title"] = "A film"
        for i in range(frames):
            picture = np.full((48, 64, 3), i * 8 % 255, np.uint8)
            picture[:, i * 2 % 64] = 255
            out.mux(video.encode(av.VideoFrame.from_ndarray(picture)))
        if audio:
            tone = np.sin(np.arange(96_000) * 0.05, dtype=np.float32)[None] * np.float32(0.3)
            frame = av.AudioFrame.from_ndarray(tone, "flt", "mono")
            frame.sample_rate, frame.pts = 48_000, start
            out.mux([*audio.encode(frame), *audio.encode(None)])
        out.mux(video.encode(None))
    return path


def pictures(path: Path) -> list[bytes]:
    import av

    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(video=0) if packet.size]


@pytest.mark.parametrize("suffix", [*LOSSLESS, *LOSSY])
def test_a_copy_has_the_form_of_its_source(suffix: str, tmp_path: Path) -> None:
    source, target = tmp_path / f"a.{suffix}", tmp_path / f"b.{suffix}"
    write(source, sound(), 48_000)
    copy(source, target)
    with open_media(source) as one, open_media(target) as other:
        assert (one.format, one.audio.codec, one.audio.rate) == (
            other.format,
            other.audio.codec,
            other.audio.rate,
        )
        assert one.audio.channels == other.audio.channels == 2
    (x, _), (y, _) = read(source), read(target)
    assert len(x) == len(y) == 24_000
    if suffix in LOSSLESS:
        assert np.array_equal(x, y)
    centre = np.correlate(x[7_900:16_100, 0], y[8_000:16_000, 0], "valid")
    assert int(np.argmax(centre)) == 100


@pytest.mark.parametrize("codec", ["pcm_u8", "pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_f32le", "pcm_mulaw"])
def test_a_wav_keeps_its_sample_format(codec: str, tmp_path: Path) -> None:
    write(tmp_path / "a.wav", sound(), 44_100, codec=codec)
    copy(tmp_path / "a.wav", tmp_path / "b.wav")
    with open_media(tmp_path / "b.wav") as reader:
        assert reader.audio.codec == codec
    assert np.array_equal(read(tmp_path / "a.wav")[0], read(tmp_path / "b.wav")[0])


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov"])
def test_a_film_keeps_its_pictures_and_title(suffix: str, tmp_path: Path) -> None:
    source, target = film(tmp_path / f"a.{suffix}"), tmp_path / f"b.{suffix}"
    copy(source, target)
    assert pictures(source) == pictures(target) and len(pictures(target)) == 30
    with open_media(target) as reader:
        assert reader.metadata["title"] == "A film" and reader.has_video
        assert reader.audio.seconds == pytest.approx(2, abs=0.1)


def test_sound_that_starts_late_still_does(tmp_path: Path) -> None:
    copy(film(tmp_path / "a.mkv", start=24_000), tmp_path / "b.mkv")
    with open_media(tmp_path / "a.mkv") as one, open_media(tmp_path / "b.mkv") as other:
        assert one.start == pytest.approx(other.start, abs=0.03) and one.start > 0.4


def test_many_channels_at_a_high_rate_are_mixed_down(tmp_path: Path) -> None:
    data = np.zeros((19_200, 8), np.float32)
    data[:, 0] = 0.5 * np.sin(np.arange(19_200) * 0.02)
    write(tmp_path / "a.wav", data, 192_000)
    mixed, rate = read(tmp_path / "a.wav")
    assert (rate, mixed.shape) == (192_000, (19_200, 2)) and mixed[:, 0].std() > 0.05
    assert read(tmp_path / "a.wav", Limits(channels=1))[0].shape == (19_200, 1)


def test_a_pipe_in_and_a_pipe_out(tmp_path: Path) -> None:
    write(tmp_path / "a.wav", sound(), 48_000)

    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

    out = Pipe()
    with open_media(Pipe((tmp_path / "a.wav").read_bytes())) as reader, Writer(out, like=reader) as writer:
        for item in reader.items():
            writer.put(item)
    (tmp_path / "b.wav").write_bytes(out.getvalue())
    assert np.array_equal(read(tmp_path / "b.wav")[0], read(tmp_path / "a.wav")[0])


def bad(tmp_path: Path) -> dict[str, tuple[Path | bytes, str]]:
    """Every kind of bad file, and what its error must say."""
    silence = b"\0" * 4_000
    nan, inf = np.zeros(1_000, "<f4"), np.zeros(1_000, "<f4")
    nan[500], inf[500] = math.nan, math.inf
    text, cut, mute = tmp_path / "text.wav", tmp_path / "cut.wav", tmp_path / "mute.mp4"
    text.write_text("not a sound\n" * 99)
    write(cut, sound(), 48_000)
    cut.write_bytes(cut.read_bytes()[:20_000])
    film(mute, sounding=False)
    write(tmp_path / "whole.m4a", sound(), 48_000)
    (tmp_path / "cut.m4a").write_bytes((tmp_path / "whole.m4a").read_bytes()[:-300])
    write(tmp_path / "whole.mp3", sound(), 48_000)
    (tmp_path / "cut.mp3").write_bytes((tmp_path / "whole.mp3").read_bytes()[:3_000])
    (tmp_path / "list.m3u8").write_text(f"#EXTM3U\n#EXTINF:1,\nfile://{tmp_path}/whole.m4a\n")
    (tmp_path / "empty.wav").touch()
    return {
        "empty": (tmp_path / "empty.wav", "is empty"),
        "no bytes": (b"", "cannot be opened"),
        "text": (text, "Invalid data"),
        "truncated wav": (cut, "ends after 20000 of"),
        "truncated m4a": (tmp_path / "cut.m4a", "cut.m4a cannot be opened: Invalid data"),
        "truncated mp3": (tmp_path / "cut.mp3", "truncated"),
        "no sound": (mute, "holds no sound"),
        "zero channels": (wav(tmp_path / "c0.wav", silence, channels=0), "0 channels"),
        "65535 channels": (wav(tmp_path / "c9.wav", silence, channels=65_535), "channels"),
        "rate 0": (wav(tmp_path / "r0.wav", silence, rate=0), "r0.wav cannot be opened: Invalid data"),
        "4 GHz": (
            wav(tmp_path / "r9.wav", silence, rate=4_000_000_000),
            "r9.wav cannot be opened: Invalid data",
        ),
        "1 Hz": (wav(tmp_path / "r1.wav", silence, rate=1), "1 Hz, expected 4000 to"),
        "no samples": (wav(tmp_path / "none.wav", b""), "none.wav holds no samples"),
        "NaN": (wav(tmp_path / "nan.wav", nan.tobytes(), kind=3, bits=32), "NaN or infinite"),
        "infinite": (wav(tmp_path / "inf.wav", inf.tobytes(), kind=3, bits=32), "NaN or infinite"),
        "a folder": (tmp_path, "is a folder"),
        "a device": (Path("/dev/zero"), "is a device"),
        "no file": (tmp_path / "nothing.wav", "no such file"),
        "a list of other files": (tmp_path / "list.m3u8", "list.m3u8 cannot be opened"),
    }


@pytest.mark.parametrize("kind", range(19))
def test_bad_input_is_refused_with_a_reason_and_leaves_no_file(kind: int, tmp_path: Path) -> None:
    source, words = list(bad(tmp_path).values())[kind]
    target = tmp_path / "out" / "result.wav"
    target.parent.mkdir()
    with pytest.raises(MediaError, match=words):
        with open_media(source) as reader, Writer(target, like=reader) as writer:
            for item in reader.items():
                writer.put(item)
    assert os.listdir(target.parent) == []


def test_limits_are_named(tmp_path: Path) -> None:
    write(tmp_path / "a.flac", np.zeros((80_000, 1), np.float32), 8_000)
    for limits, words in (
        (Limits(seconds=5), "lasts 10 s, the limit is 5"),
        (Limits(bytes=100), "the limit is 100"),
        (Limits(rate_min=16_000), "8000 Hz, expected 16000"),
    ):
        with pytest.raises(UnsupportedMedia, match=words):
            read(tmp_path / "a.flac", limits)
    film(tmp_path / "a.mp4")
    with pytest.raises(UnsupportedMedia, match="64 x 48, the limit is 1000"):
        read(tmp_path / "a.mp4", Limits(pixels=1_000))


def test_a_duration_bomb_is_stopped_while_decoding(tmp_path: Path) -> None:
    """A few kilobytes whose header says nothing and that would decode to minutes."""
    write(tmp_path / "a.mp3", np.zeros((400_000, 1), np.float32), 8_000)
    small = (tmp_path / "a.mp3").read_bytes()

    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

    with pytest.raises(UnsupportedMedia, match="more than the limit of 20 s"):
        read(Pipe(small), Limits(seconds=20))


def test_a_target_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedMedia, match="no folder"):
        write(tmp_path / "none" / "a.wav", sound(), 48_000)
    with pytest.raises(UnsupportedMedia, match="cannot be written"):
        write(tmp_path / "a.amr", sound(), 48_000)
    assert os.listdir(tmp_path) == []


def test_a_failure_keeps_what_was_there(tmp_path: Path) -> None:
    write(tmp_path / "a.wav", sound(), 48_000)
    before = (tmp_path / "a.wav").read_bytes()
    with pytest.raises(RuntimeError), Writer(tmp_path / "a.wav", rate=48_000, channels=2) as writer:
        writer.put(Chunk(sound(), 0, 48_000))
        raise RuntimeError
    assert (tmp_path / "a.wav").read_bytes() == before and os.listdir(tmp_path) == ["a.wav"]


def resident() -> int:
    """Bytes of memory this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc to see memory")
def test_three_hours_pass_through_in_bounded_memory(tmp_path: Path) -> None:
    rate, seconds = 8_000, 3 * 3_600
    source = tmp_path / "long.wav"
    wav(source, b"", rate=rate)
    with open(source, "r+b") as file:  # a sparse file: zeros that take no room
        size = rate * seconds * 2
        file.seek(4), file.write(struct.pack("<I", 36 + size))
        file.seek(40), file.write(struct.pack("<I", size))
        file.truncate(44 + size)
    grown, before, ticks = 0, 0, 0
    with open_media(source) as reader, Writer(tmp_path / "b.flac", like=reader) as writer:
        for i, item in enumerate(reader.items()):
            writer.put(item)
            ticks += len(item) if isinstance(item, Chunk) else 0
            if i == 500:
                before = resident()
            elif i % 5_000 == 0:
                grown = max(grown, resident() - before if before else 0)
    assert ticks == rate * seconds and grown < 20 * 2**20


@pytest.mark.parametrize("letter", ["n", "é"])
def test_a_name_as_long_as_file_systems_take_is_written(letter: str, tmp_path: Path) -> None:
    target = tmp_path / f"{letter * (250 // len(letter.encode()))}.wav"
    write(target, sound(), 48_000)
    assert os.listdir(tmp_path) == [target.name]


@pytest.mark.parametrize("source", [bytes, io.BytesIO, open], ids=["bytes", "memory", "file"])
def test_a_truncated_wav_is_told_however_it_is_handed_over(source: Any, tmp_path: Path) -> None:
    write(tmp_path / "whole.wav", sound(), 48_000)
    cut = (tmp_path / "whole.wav").read_bytes()[:20_000]
    (tmp_path / "cut.wav").write_bytes(cut)
    given = open(tmp_path / "cut.wav", "rb") if source is open else source(cut)
    with pytest.raises(MediaError, match="ends after 20000 of"):
        with open_media(given) as reader:
            list(reader.items())
    if source is open:
        given.close()
