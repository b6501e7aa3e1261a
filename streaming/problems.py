"""What an error is on the wire: an HTTP status, a WebSocket close code, and a body as OpenAI's clients read it."""

from dataclasses import dataclass
from typing import Any

from riverrun.media.errors import CorruptMedia, MediaError, UnsupportedMedia
from riverrun.models.errors import CheckpointError, InvalidRequest, ModelError
from riverrun.streaming.errors import (
    AtCapacity,
    ProtocolError,
    SessionEnded,
    StreamError,
    TooSlow,
)

LONGEST = 120  # seconds, that clients sleep on Retry-After


class NotAllowed(StreamError):
    """The Host or Origin is not one that may use this server."""


class NoKey(NotAllowed):
    """The API key is missing or unknown."""


class NotFound(StreamError):
    """There is no such thing, or it is over, or its token is another."""


class TooMany(StreamError):
    """Too many requests or messages in a short time."""


class TooBig(StreamError):
    """More bytes or seconds than one request may have."""


class WrongType(StreamError):
    """The body is of a media type that is not taken here."""


class Conflict(StreamError):
    """Somebody else has the name, or nobody yet; after `retry_after` seconds that may be different."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        if retry_after is not None:
            self.retry_after = retry_after


class Reused(StreamError):
    """An Idempotency-Key came before with another body."""


class Precondition(StreamError):
    """An If-Match is missing (428), is of an earlier session (412), or asks for what is not done here (422)."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Kind:
    """How errors of one type are told."""

    error: type[Exception]
    status: int
    close: int
    code: str
    kind: str = "invalid_request_error"
    retry: float | None = None  # seconds


KINDS = (
    Kind(AtCapacity, 503, 1013, "at_capacity", "server_error", 1.0),
    Kind(TooMany, 429, 4029, "too_many", "rate_limit_error", 1.0),
    Kind(TooBig, 413, 1009, "too_big"),
    Kind(NoKey, 401, 1008, "invalid_api_key", "authentication_error"),
    Kind(NotAllowed, 403, 1008, "not_allowed", "authentication_error"),
    Kind(NotFound, 404, 4004, "not_found"),
    Kind(WrongType, 415, 4001, "unsupported_media"),
    Kind(Conflict, 409, 4001, "conflict"),
    Kind(Reused, 422, 4001, "idempotency_key_reused"),
    Kind(Precondition, 412, 4001, "precondition"),
    Kind(TooSlow, 503, 4008, "too_slow", "server_error"),
    Kind(ProtocolError, 400, 4000, "protocol_error"),
    Kind(SessionEnded, 410, 4010, "session_ended", "server_error"),
    Kind(InvalidRequest, 400, 4001, "invalid_request"),
    Kind(CheckpointError, 404, 4001, "no_weights"),
    Kind(UnsupportedMedia, 415, 4001, "unsupported_media"),
    Kind(CorruptMedia, 400, 4001, "corrupt_media"),
    Kind(MediaError, 400, 4001, "media_error"),
    Kind(ModelError, 400, 4001, "model_error"),
    Kind(StreamError, 500, 4010, "stream_error", "server_error"),
    Kind(Exception, 500, 1011, "internal", "server_error"),
)
EXPECTED = tuple(kind.error for kind in KINDS[:-1])


def kind_of(error: BaseException) -> Kind:
    """The first kind an error is of."""
    return next((kind for kind in KINDS if isinstance(error, kind.error)), KINDS[-1])


def body(error: BaseException, param: str | None = None) -> dict[str, Any]:
    """An error as JSON, with the field it is of; what is a bug is not told, only that the log has it."""
    kind, param = kind_of(error), param or getattr(error, "param", None)
    message = "something failed; the log tells what" if kind is KINDS[-1] else str(error)
    return {"error": {"message": message, "type": kind.kind, "param": param, "code": kind.code}}


def status(error: BaseException) -> int:
    """Its HTTP status."""
    return int(getattr(error, "status", 0)) or kind_of(error).status


def retry_after(error: BaseException) -> float | None:
    """After how many seconds it is worth to try again; None: not at all."""
    wait = getattr(error, "retry_after", kind_of(error).retry)
    return None if wait is None else min(LONGEST, max(0.1, wait))


def headers(error: BaseException) -> dict[str, str]:
    """What tells a client whether and when to try again."""
    if isinstance(error, NoKey):
        return {"x-should-retry": "false", "www-authenticate": "Bearer"}
    seconds = retry_after(error)
    if seconds is None:
        return {"x-should-retry": "false"}
    return {
        "retry-after": str(max(1, round(seconds))),
        "retry-after-ms": str(round(1e3 * seconds)),
        "x-should-retry": "true",
    }
