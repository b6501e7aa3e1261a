"""Recordings of people: decoded in a child, mixed to mono at one rate, and refused where nobody is heard."""

import asyncio
from io import BytesIO
from typing import BinaryIO

import numpy as np

from riverrun.media import Chunk, Resampler, read
from riverrun.media.chunk import Array
from riverrun.media.errors import CorruptMedia
from riverrun.models.errors import InvalidRequest
from riverrun.streaming.settings import Files
from riverrun.streaming.uploads import Decoding, copied, settled, writer

RATE = 24_000  # Hz
FRAME = RATE // 50  # samples, 20 ms
MARGIN = 5  # frames that stay before the first sound and after the last one
FLOOR = -50.0  # dBFS, above which a frame counts as sound
LEAST = 1.0  # seconds of sound that a recording has to hold
MOST = 15.0  # seconds that a voice is taken from


class Mixing:
    """Blocks of any rate and channels in, mono at RATE out; what it does takes time and belongs into a thread."""

    def __init__(self, rate: int) -> None:
        self.resampler, self.parts = Resampler(rate, RATE), list[Array]()

    def add(self, block: Array) -> None:
        """Take the next ticks.  # [t, c]"""
        self.parts.append(self.resampler.push(block.mean(1, keepdims=True)))

    def end(self) -> Array:
        """The whole sound.  # [n]"""
        return np.concatenate([*self.parts, self.resampler.flush()])[:, 0]


async def hear(file: BinaryIO, limits: Files) -> Array:
    """The sound of an upload, mono at RATE.  # [n]

    Raises MediaError.
    """
    try:
        with await settled(copied, file) as copy:
            decoding = await Decoding.start(copy, limits)  # has the file open by now
    except CorruptMedia as error:
        raise CorruptMedia(f"{error}; send a whole file, as wav, flac, mp3, ogg, m4a or webm") from error
    try:
        mixing = Mixing(decoding.head.rate)
        async for block in decoding.blocks():
            await settled(mixing.add, block)
        return await settled(mixing.end)
    finally:
        await asyncio.shield(decoding.close())


def cut(sound: Array, most: float = MOST) -> Array:
    """The first seconds from where there is sound, without the silence at either end.  # [n] -> [n']

    Speech is not told from other sounds. Raises InvalidRequest if there is too little of any.
    """
    seconds = len(sound) / RATE
    if seconds < LEAST:
        raise InvalidRequest(
            f"the input lasts {seconds:.1f} s, expected at least {LEAST:g} s, and 3 to 10 s are best: record more"
        )
    loud = np.flatnonzero(_levels(sound) > FLOOR)  # frames
    if len(loud):
        start = max(0, loud[0] - MARGIN) * FRAME
        sound = sound[start : min((loud[-1] + 1 + MARGIN) * FRAME, start + round(most * RATE))]
    heard = float((_levels(sound) > FLOOR).sum()) * FRAME / RATE
    if heard < LEAST:
        raise InvalidRequest(
            f"the input holds {heard:.1f} s of sound above {FLOOR:g} dBFS, expected at least {LEAST:g} s: speak louder "
            "or closer to the microphone, and record again"
        )
    return sound


def _levels(sound: Array) -> Array:
    """The level of each frame in dBFS.  # [n] -> [f]"""
    frames = sound[: len(sound) // FRAME * FRAME].reshape(-1, FRAME)
    levels: Array = 10 * np.log10(frames.var(1) + 1e-12)
    return levels


def packed(sound: Array) -> bytes:
    """Mono sound as a FLAC file.  # [n]"""
    file = BytesIO()
    with writer(file, "flac", RATE, 1) as writing:
        writing.put(Chunk(sound[:, None], 0, RATE))
    return file.getvalue()


def unpacked(data: bytes, rate: int = RATE) -> Array:
    """The sound of such a file, at a rate.  # [n]"""
    resampler = Resampler(RATE, rate)
    return np.concatenate([resampler.push(read(data)[0]), resampler.flush()])[:, 0]
