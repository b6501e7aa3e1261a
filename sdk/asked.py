"""What a server is asked for and what it tells, as a client's calls take and give it."""

from collections.abc import Callable
from os import PathLike
from typing import Literal, NotRequired, TypedDict

import numpy as np
from numpy.typing import NDArray

from riverrun.link import Event

Form = Literal["wav", "flac", "opus", "mp3"]
"""What a file of sound is in."""
Picture = str | PathLike[str] | NDArray[np.uint8]
"""A file of PNG, JPEG, WebP, GIF or BMP, or pixels `[y, x, 3]`."""


class Model(TypedDict):
    """A model of a server; `rate` in Hz, `latency` in seconds; `voices` are those that one that `speaks` knows.

    One that is `transcribed` speaks in those voices of yours that have a transcript.
    """

    id: str
    task: str
    tasks: list[str]
    summary: str
    rate: float
    latency: float
    speaks: bool
    voices: list[str]
    transcribed: bool


class Voice(TypedDict):
    """A voice of a server: one that a model knows by name, or one of yours.

    Units: `created_at` in seconds since 1970; `seconds` are kept of the `sample_seconds` that were sent. `transcript`
    is what is said in them, "" where this was not told. `warnings` say what seems wrong with the
    sample, to whoever adds it.
    """

    id: str
    name: str
    consent: NotRequired[str]  # this and what follows, of yours
    created_at: NotRequired[int]
    seconds: NotRequired[float]
    sample_seconds: NotRequired[float]
    transcript: NotRequired[str]
    warnings: NotRequired[list[str]]


class Found(TypedDict):
    """What was found in a recording: `marked` or not, how sure that is, from 0 to 1, and its length."""

    marked: bool
    confidence: float
    seconds: float


class Settings(TypedDict, total=False):
    """What a restoration may be told; the server knows the defaults."""

    model: str  # a name `models` lists
    strength: float  # 0 changes nothing
    seed: int  # equal seeds give equal results
    band: Literal["full", "8k"]  # "8k" drops what lies above the model's own band


class Converting(TypedDict, total=False):
    """What a conversion may be told; the server knows the defaults."""

    model: str  # a name `models` lists; the first that converts
    voice: str  # a name or an id that `voices` lists; the model's first
    pitch: float  # semitones above the voice's own, -12 to 12
    seed: int  # equal seeds give equal results


class Manner(TypedDict, total=False):
    """How a text is said; the server knows the defaults."""

    model: str  # a name `models` lists; the first that speaks
    voice: str  # a name or an id that `voices` lists; the model's first
    speed: float  # 1.1 takes a tenth less time
    seed: int  # equal seeds give equal results
    steps: int  # fewer are faster


class Talk(Manner, total=False):
    """How live speech comes, beside how it is said."""

    rate: int  # 24 kHz
    live: (
        float | None
    )  # seconds in which the first sound is due; then it is made at most 2 s ahead of being played
    format: Literal["pcm16", "f32"]  # f32; what samples travel in
    on_event: Callable[[Event], object] | None  # told what befalls the speech, must return soon


class Look(TypedDict, total=False):
    """How a prompt is shown; the server knows the defaults."""

    model: str  # a name `models` lists; the first that shows
    seed: int  # equal seeds give equal pictures
    steps: int  # evaluations; fewer are faster


class Watch(Look, total=False):
    """How live pictures come, beside how they are shown."""

    seconds: float  # how many there are in all; 0, as it is by default, for as long as they are read
    live: float | None  # seconds of pictures that are made ahead of being read; a chunk
    on_event: Callable[[Event], object] | None  # told what befalls the stream, must return soon
