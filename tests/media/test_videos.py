"""Pictures in and out: fragments and whole files keep frames, times and settings; stills are read or refused."""

import io
import zlib
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from riverrun.media import (
    Chunk,
    CorruptMedia,
    Fragments,
    Limits,
    MediaError,
    UnsupportedMedia,
    VideoWriter,
    cover,
    join,
    picture,
    read,
    settings_of,
    tagged,
    video,
    write,
)

RATES: list[int | Fraction] = [12, 24, Fraction(24_000, 1001), Fraction(25, 2)]
Pixels = NDArray[np.uint8]


def shades(count: int, size: tuple[int, int] = (32, 48), first: int = 0) -> Pixels:
    """Pictures whose brightness tells their number.  # [t, y, x, 3]"""
    level = (first + np.arange(count)) * 7 % 200 + 30
    return np.broadcast_to(level[:, None, None, None], (count, *size, 3)).astype(np.uint8)


def levels(data: Pixels) -> NDArray[np.float64]:
    return np.asarray(data.reshape(len(data), -1).mean(1))


def decoded(data: bytes) -> list[Any]:
    """The frames of a file in memory."""
    with av.open(io.BytesIO(data), "r") as file:
        return list(file.decode(video=0))


def parts(data: bytes) -> list[bytes]:
    """The boxes of a file, outermost."""
    found = []
    while data:
        size = int.from_bytes(data[:4], "big")
        found.append(data[:size])
        data = data[size:]
    return found


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=5),
    st.sampled_from(RATES),
    st.tuples(st.integers(16, 41), st.integers(16, 41)),
    st.integers(0, 1000),
)
def test_frames_and_times_survive_fragments(
    counts: list[int], rate: int | Fraction, size: tuple[int, int], begin: int
) -> None:
    fragments, at, made = Fragments(rate, size), begin, list[bytes]()
    for count in counts:
        made.append(fragments.add(Chunk(shades(count, size, at), at, rate)))
        at += count
    assert fragments.end() == b""
    for one in made:
        assert [box[4:8] for box in parts(one)] == [b"moof", b"mdat"]
    frames = decoded(fragments.head + b"".join(made))
    assert (frames[0].height, frames[0].width) == tuple(n + n % 2 for n in size), "made even"
    assert [frame.pts * frame.time_base * rate for frame in frames] == list(range(begin, at)), "exact"
    got = levels(np.stack([frame.to_ndarray(format="rgb24") for frame in frames]))
    assert np.abs(got - levels(shades(at - begin, size, begin))).max() < 4


def test_each_fragment_can_be_decoded_without_those_before_it() -> None:
    fragments = Fragments(12, (32, 48))
    made = [fragments.add(Chunk(shades(9, first=9 * i), 9 * i, 12)) for i in range(3)]
    assert [frame.time for frame in decoded(fragments.head + made[2])] == [i / 12 for i in range(18, 27)]
    assert fragments.mime == 'video/mp4; codecs="avc1.42c00a"'


def test_sound_lies_beside_the_pictures() -> None:
    fragments = Fragments(12, (32, 48), sound=(24_000, 1))
    tone = np.sin(np.arange(2 * 24_000) * 0.1)[:, None].astype(np.float32) / 2
    made, per = b"", 24_000 // 12
    for at in range(0, 24, 6):
        heard = Chunk(tone[at * per : (at + 6) * per], at * per, 24_000)
        made += fragments.add(Chunk(shades(6, first=at), at, 12), heard)
    data = fragments.head + made + fragments.end()
    assert len(decoded(data)) == 24
    sound, rate = read(data)
    assert rate == 24_000 and abs(len(sound) - len(tone)) < 1024
    assert np.corrcoef(sound[4_000:40_000, 0], tone[4_000:40_000, 0])[0, 1] > 0.99, "in place"
    assert "mp4a.40.2" in fragments.mime


def test_colours_survive() -> None:
    red = np.broadcast_to(np.array([200, 30, 30], np.uint8), (2, 32, 48, 3))
    fragments = Fragments(12, (32, 48))
    (chunk,) = video(fragments.head + fragments.add(Chunk(red, 0, 12)))
    assert np.abs(chunk.data.astype(int) - red).max() < 6


@given(st.lists(st.integers(1, 20), min_size=1, max_size=3), st.sampled_from(RATES))
def test_frames_times_and_settings_survive_a_file(
    tmp_path_factory: Any, counts: list[int], rate: int | Fraction
) -> None:
    path, at = tmp_path_factory.mktemp("videos") / "clip.mp4", 0
    settings = {"prompt": "ein „roter“ Ball 🎈", "seed": 7, "seconds": 1.5}
    with VideoWriter(path, rate, (32, 48), "Ball", settings) as writer:
        for count in counts:
            writer.put(Chunk(shades(count, first=at), at, rate))
            at += count
    whole = join(list(video(path)))
    assert (whole.pts, len(whole), whole.rate, whole.last) == (0, at, rate, True)
    assert np.abs(levels(whole.data) - levels(shades(at))).max() < 4
    assert settings_of(path) == settings
    with av.open(str(path)) as file:
        assert file.metadata["title"] == "Ball"


def test_fragments_hold_settings_too_and_others_hold_none(tmp_path: Path) -> None:
    settings = {"prompt": "a blue box"}
    fragments = Fragments(12, (32, 48), tags=tagged("Box", settings))
    assert settings_of(fragments.head + fragments.add(Chunk(shades(3), 0, 12))) == settings
    plain = Fragments(12, (32, 48))
    assert settings_of(plain.head + plain.add(Chunk(shades(3), 0, 12))) is None


def test_a_file_that_fails_never_appears(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), VideoWriter(tmp_path / "clip.mp4", 12, (32, 48)) as writer:
        writer.put(Chunk(shades(3), 0, 12))
        raise RuntimeError
    with pytest.raises(UnsupportedMedia, match="no folder"):
        VideoWriter(tmp_path / "gone" / "clip.mp4", 12, (32, 48))
    assert not list(tmp_path.iterdir())


def test_uneven_times_are_made_even(tmp_path: Path) -> None:
    path = tmp_path / "uneven.mp4"
    with av.open(str(path), "w") as file:
        stream: Any = file.add_stream("libx264", rate=10)
        stream.height, stream.width, stream.pix_fmt = 32, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 100)
        for i, at in enumerate([0, 10, 20, 60, 70, 80, 90]):
            frame = av.VideoFrame.from_ndarray(shades(1, first=i)[0], "rgb24")
            frame.pts, frame.time_base = at, Fraction(1, 100)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    whole = join(list(video(path)))
    seconds = float(len(whole) / whole.rate)
    assert abs(seconds - 1) < 0.15, "the pause stays"


def test_what_is_no_video_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "sound.wav", np.zeros((4_000, 1), np.float32), 8_000)
    with VideoWriter(tmp_path / "clip.mp4", 12, (32, 48)) as writer:
        writer.put(Chunk(shades(30), 0, 12))
    refused: list[tuple[Any, Limits, str]] = [
        (tmp_path / "sound.wav", Limits(), "no pictures"),
        (b"nothing at all", Limits(), "damaged"),
        ((tmp_path / "clip.mp4").read_bytes()[:500], Limits(), "damaged|no picture"),
        (tmp_path / "clip.mp4", Limits(seconds=1), "limit of 1 s"),
        (tmp_path / "clip.mp4", Limits(pixels=100), "48 x 32"),
    ]
    for source, limits, why in refused:
        with pytest.raises(MediaError, match=why):
            list(video(source, limits))


# Stills


def stored(image: Image.Image, form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_a_picture_of_any_form_is_read(form: str) -> None:
    data = np.full((20, 30, 3), (200, 40, 40), np.uint8)
    found = picture(stored(Image.fromarray(data), form))
    assert found.shape == (20, 30, 3) and np.abs(found.astype(int) - data).max() < 12


def test_what_is_clear_is_white_and_cameras_are_held_upright() -> None:
    assert (picture(stored(Image.new("RGBA", (8, 6), (0, 0, 0, 0)), "PNG")) == 255).all()
    exif = Image.Exif()
    exif[0x112] = 6  # a camera that was turned
    assert picture(stored(Image.new("RGB", (40, 20)), "JPEG", exif=exif)).shape == (40, 20, 3)


@given(st.tuples(st.integers(1, 60), st.integers(1, 60)), st.tuples(st.integers(1, 40), st.integers(1, 40)))
def test_cover_gives_the_size_and_keeps_the_middle(size: tuple[int, int], wanted: tuple[int, int]) -> None:
    assert cover(np.full((*size, 3), 77, np.uint8), wanted).shape == (*wanted, 3)
    assert (cover(np.full((*size, 3), 77, np.uint8), wanted) == 77).all()


def test_cover_cuts_the_sides_of_what_is_too_wide() -> None:
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, 20:40] = 255
    assert (cover(wide, (20, 20))[:, 2:-2] == 255).all()


def test_pictures_that_are_too_large_damaged_or_none_are_refused(tmp_path: Path) -> None:
    large = stored(Image.new("1", (5000, 4001)), "PNG")
    whole = stored(Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)), "PNG")
    bomb = bytearray(stored(Image.new("1", (1, 1)), "PNG"))
    bomb[16:24] = (60_000).to_bytes(4, "big") * 2
    bomb[29:33] = zlib.crc32(bomb[12:29]).to_bytes(4, "big")
    refused: list[tuple[str | Path | bytes, type[MediaError], str]] = [
        (large, UnsupportedMedia, "5000 x 4001 pixels, the limit is 20000000: make it smaller"),
        (bytes(bomb), UnsupportedMedia, "limit"),
        (whole[: len(whole) // 2], CorruptMedia, "damaged"),
        (whole[:200] + b"\xff" * 100 + whole[300:], CorruptMedia, "damaged"),
        (b"GIF89a", MediaError, "damaged|known"),
        (b"", UnsupportedMedia, "expected one of PNG"),
        (tmp_path / "gone.png", UnsupportedMedia, "no such file"),
    ]
    for source, kind, why in refused:
        with pytest.raises(kind, match=why):
            picture(source)
