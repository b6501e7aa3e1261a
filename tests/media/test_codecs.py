"""Codecs there and back: aligned, of equal length, and refusing what they cannot take."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from riverrun.media import Chunk, CorruptMedia, UnsupportedMedia
from riverrun.media.codecs import AUDIO, VIDEO, Coded, Decoder, Encoder

Sound = NDArray[np.float32]


def speechlike(ticks: int, channels: int) -> Sound:
    """Brownish noise, which every codec keeps the shape of."""
    steps = np.random.default_rng(0).normal(size=(ticks, channels))
    kernel = 0.95 ** np.arange(80)
    return np.stack([np.convolve(c, kernel)[:ticks] for c in steps.T], 1).astype(np.float32) * 0.03


def there_and_back(codec: str, x: Sound, cutting: Callable[[], int]) -> Sound:
    encoder = Encoder(codec, 48_000, x.shape[1])
    coded, at = list[Coded](), 0
    while at < len(x):
        piece = x[at : at + cutting()]
        coded += encoder.encode(Chunk(piece, at, 48_000))
        at += len(piece)
    coded += encoder.flush()
    decoder = Decoder(codec, 48_000, x.shape[1], encoder.header)
    chunks = [chunk for packet in coded for chunk in decoder.decode(packet)] + decoder.flush()
    assert [c.pts for c in chunks] == [0, *np.cumsum([len(c) for c in chunks])[:-1]]
    return np.concatenate([c.data for c in chunks])


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("codec", AUDIO)
def test_sound_comes_back_in_place_and_whole(codec: str, channels: int) -> None:
    x = speechlike(24_077, channels)
    rng = np.random.default_rng(1)
    y = there_and_back(codec, x, lambda: int(rng.integers(1, 3_000)))
    assert len(y) == len(x)
    ours, theirs = y[8_000:16_000, 0], x[7_900:16_100, 0]
    assert int(np.argmax(np.correlate(theirs, ours, "valid"))) == 100
    if codec in ("flac", "pcm16"):
        assert np.abs(y - x).max() < 1 / 32_000


def test_an_encoder_may_give_nothing_yet() -> None:
    encoder = Encoder("opus", 48_000)
    assert encoder.encode(Chunk(np.zeros((100, 1), np.float32), 0, 48_000)) == []
    assert len(encoder.flush()) == 1


@pytest.mark.parametrize("codec", VIDEO)
def test_pictures_come_back_at_their_time(codec: str) -> None:
    ramp = (np.indices((12, 48, 64)).sum(0) * 3 % 255).astype(np.uint8)[..., None].repeat(3, 3)
    encoder = Encoder(codec, 25, size=(48, 64), bitrate=400_000)
    coded = [p for i in range(12) for p in encoder.encode(Chunk(ramp[i : i + 1], i, 25))] + encoder.flush()
    decoder = Decoder(codec, 25, header=encoder.header)
    chunks = [chunk for packet in coded for chunk in decoder.decode(packet)] + decoder.flush()
    assert [c.pts for c in chunks] == list(range(12)) and coded[0].key
    assert np.abs(np.concatenate([c.data for c in chunks]).astype(int) - ramp).mean() < 4


def test_what_a_codec_does_not_take_is_refused() -> None:
    with pytest.raises(UnsupportedMedia, match="expected one of opus"):
        Encoder("speex", 16_000)
    with pytest.raises(UnsupportedMedia, match="11000 Hz"):
        Encoder("opus", 11_000)


def test_garbage_is_corrupt() -> None:
    decoder = Decoder("aac", 48_000)
    with pytest.raises(CorruptMedia, match="cannot be decoded"):
        for i in range(20):
            decoder.decode(Coded(bytes([255, 241, 80, 128, 1, 191, 252, i]) * 9, 1024 * i, 1024))
