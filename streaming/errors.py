"""Errors of streaming.

StreamError                anything a session or the engine refuses or suffers
├── AtCapacity             no room for another session; try again after `retry_after` seconds
├── SessionEnded           the session is over: failed (an id is in the log), closed, or unknown
│   └── Stuck              its step did not end, and took the engine with it: it is not taken up again
├── ProtocolError          the caller broke the session's rules: order, rate, shape, credit
└── TooSlow                a live session fell so far behind that waiting would only add delay
"""


class StreamError(Exception):
    """A session cannot go on as asked; the message names the value, the limit and the way out."""


class AtCapacity(StreamError):
    """There is no room for another session now."""

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after  # seconds


class SessionEnded(StreamError):
    """The session failed, was closed, or never was."""


class Stuck(SessionEnded):
    """A step of the session did not end in time."""


class ProtocolError(StreamError):
    """The caller fed what the session does not take: out of order, another rate or shape, beyond its credit."""


class TooSlow(StreamError):
    """A live session's input is full: the engine does not keep up."""
