"""Streams through models: session, overlap, bands, engine."""

from riverrun.streaming.errors import AtCapacity, ProtocolError, SessionEnded, StreamError, TooSlow

__all__ = ["AtCapacity", "ProtocolError", "SessionEnded", "StreamError", "TooSlow"]
