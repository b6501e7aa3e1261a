"""Media files made on the spot, and damaged copies of them."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

FORMS = {
    "wav": "pcm_s16le",
    "flac": "flac",
    "mp3": "mp3",
    "m4a": "aac",
    "ogg": "libopus",
    "mka": "pcm_f32le",
    "aiff": "pcm_s24be",
}


def tone(rate: int, channels: int, seconds: float) -> NDArray[np.float32]:
    """A different quiet tone in each channel.  # [t, c]"""
    t = np.arange(round(rate * seconds)) / rate
    hertz = 220.0 * (1 + np.arange(channels))
    return (0.3 * np.sin(2 * np.pi * t[:, None] * hertz)).astype(np.float32)


def write(path: Path, data: NDArray[np.float32], rate: int, codec: str, picture: bool = False) -> Path:
    """Encode sound `[t, c]`, and a small moving picture of the same length if asked."""
    layout = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}[data.shape[1]]
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "a test tone"
        sound: Any = container.add_stream(codec, rate=rate)
        sound.layout = layout
        if picture:
            film(container, round(25 * len(data) / rate))
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(data.T), format="fltp", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        convert = av.AudioResampler(sound.format, layout, sound.rate, frame_size=sound.frame_size or None)
        for piece in [*convert.resample(frame), *convert.resample(None)]:
            container.mux(sound.encode(piece))
        container.mux(sound.encode(None))
    return path


def film(container: Any, frames: int) -> None:
    """Add a picture of 64 x 48 that changes 25 times a second."""
    video = container.add_stream("mpeg4", rate=25)
    video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
    for i in range(frames):
        frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 9 * i % 256, np.uint8))
        frame.pts, frame.time_base = i, Fraction(1, 25)
        container.mux(video.encode(frame))
    container.mux(video.encode(None))


def originals(folder: Path, seconds: float = 0.5) -> list[Path]:
    """One sound file of each form, and a video."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [
        write(folder / f"sound.{suffix}", tone(48_000, 1 + i % 2, seconds), 48_000, codec)
        for i, (suffix, codec) in enumerate(FORMS.items())
    ]
    return [*files, write(folder / "film.mp4", tone(44_100, 2, seconds), 44_100, "aac", picture=True)]


def mutants(folder: Path, count: int, seed: int = 0) -> list[Path]:
    """Damaged copies: bytes changed, most of them in headers, and some files cut short."""
    rng = np.random.default_rng(seed)
    whole = originals(folder.parent / "originals")
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for i in range(count):
        source = whole[i % len(whole)]
        data = np.frombuffer(source.read_bytes(), np.uint8).copy()
        reach = min(len(data), 256) if rng.random() < 0.6 else len(data)
        places = rng.integers(0, reach, rng.integers(1, 33))
        data[places] = rng.integers(0, 256, len(places))
        if rng.random() < 0.2:
            data = data[: rng.integers(0, len(data))]
        path = folder / f"{i:03d}-{source.stem}{source.suffix}"
        path.write_bytes(data.tobytes())
        made.append(path)
    return made
