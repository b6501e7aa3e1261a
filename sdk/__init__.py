"""Riverrun: generative media, live, chunk by chunk, on your own machine."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from riverrun.answers import Unreachable
    from riverrun.blocking import Client, Show, Speech, Stream
    from riverrun.client import AsyncClient
    from riverrun.link import Event
    from riverrun.live import AsyncSpeech, AsyncStream
    from riverrun.local import Converter, Restorer, Result, convert, restore
    from riverrun.media.chunk import Chunk
    from riverrun.media.errors import MediaError
    from riverrun.models.errors import InvalidRequest, ModelError
    from riverrun.projector import Projected, Projector
    from riverrun.shots import Cue, Shot
    from riverrun.shows import AsyncShow
    from riverrun.streaming.errors import AtCapacity, ProtocolError, SessionEnded, StreamError
    from riverrun.streaming.problems import NotAllowed
    from riverrun.streaming.wire import Word

HOMES = {
    "answers": ("Unreachable",),
    "blocking": ("Client", "Show", "Speech", "Stream"),
    "client": ("AsyncClient",),
    "link": ("Event",),
    "live": ("AsyncSpeech", "AsyncStream"),
    "local": ("Converter", "Restorer", "Result", "convert", "restore"),
    "media.chunk": ("Chunk",),
    "media.errors": ("MediaError",),
    "models.errors": ("InvalidRequest", "ModelError"),
    "projector": ("Projected", "Projector"),
    "shots": ("Cue", "Shot"),
    "shows": ("AsyncShow",),
    "streaming.errors": ("AtCapacity", "ProtocolError", "SessionEnded", "StreamError"),
    "streaming.problems": ("NotAllowed",),
    "streaming.wire": ("Word",),
}

__all__ = [
    "AsyncClient",
    "AsyncShow",
    "AsyncSpeech",
    "AsyncStream",
    "AtCapacity",
    "Chunk",
    "Client",
    "Converter",
    "Cue",
    "Event",
    "InvalidRequest",
    "MediaError",
    "ModelError",
    "NotAllowed",
    "Projected",
    "Projector",
    "ProtocolError",
    "Restorer",
    "Result",
    "SessionEnded",
    "Shot",
    "Show",
    "Speech",
    "Stream",
    "StreamError",
    "Unreachable",
    "Word",
    "convert",
    "restore",
]


def __getattr__(name: str) -> Any:
    """Import what a public name needs when it is first used, so that importing riverrun stays quick."""
    from importlib import import_module

    for home, names in HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
