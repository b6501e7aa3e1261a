"""What a server's answer means to a caller: the project's own errors, out of bodies, statuses and close codes. Pure.

What a user of riverrun.Client catches, beside MediaError and ModelError with what is below them:

StreamError
├── Unreachable            the server does not answer, or did not come back in time
├── AtCapacity             no room now; try again after `retry_after` seconds
├── TooMany                too many requests in a short time; `retry_after` seconds, too
├── NotAllowed             this server is not for you: a Host or Origin it does not know
│   └── NoKey              the API key is missing or unknown
├── NotFound               there is no such thing any more
├── TooBig                 more bytes or seconds than one request may have
├── SessionEnded           the stream is over: failed, closed, cancelled, taken over
├── ProtocolError          the rules of a stream were broken
└── TooSlow                a live stream fell too far behind
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from riverrun.models.errors import InvalidRequest
from riverrun.streaming.errors import AtCapacity, ProtocolError, SessionEnded, StreamError
from riverrun.streaming.problems import KINDS, NoKey, NotAllowed, NotFound, Precondition, TooBig, TooMany

AGAIN = (0.25, 0.5, 1.0, 2.0, 4.0)  # seconds between attempts; the last one over and over
SHOWN = 200  # characters of an answer that is none of ours


class Unreachable(StreamError):
    """The server does not answer, or did not come back in time."""


Make = Callable[[str], Exception]
BY_CODE: dict[str, Make] = {kind.code: kind.error for kind in KINDS[:-1] if kind.error is not Precondition}
BY_STATUS: dict[int, Make] = {
    400: InvalidRequest,
    401: NoKey,
    403: NotAllowed,
    404: NotFound,
    413: TooBig,
    422: InvalidRequest,
    429: TooMany,
    503: AtCapacity,
}
BY_CLOSE: dict[int, Make] = {  # what is not here may be resumed
    1008: NotAllowed,
    1009: TooBig,
    4000: ProtocolError,
    4001: InvalidRequest,
    4004: NotFound,
    4009: SessionEnded,
    4010: SessionEnded,
    4029: TooMany,
}


def told(message: Mapping[str, Any]) -> Exception:
    """The error of a stream's message `error`."""
    error = message["error"]
    return _made(BY_CODE.get(error["code"], StreamError), str(error["message"]), message.get("retry_after"))


def refusal(status: int, headers: Mapping[str, str], body: bytes, url: str) -> Exception:
    """The error of an answer that is no success, whoever gave it."""
    kind = BY_STATUS.get(status, StreamError)
    try:
        error = json.loads(body)["error"]
        return _made(BY_CODE.get(error["code"], kind), str(error["message"]), retry_after(headers))
    except (ValueError, KeyError, TypeError):  # something between us and the server has answered
        text = body[:SHOWN].decode(errors="replace").strip()
        return _made(kind, f"{url} answered {status}: {text or 'nothing more'}", retry_after(headers))


def closed(code: int, reason: str) -> Exception | None:
    """The error of a close code; None if the stream may be resumed."""
    kind = BY_CLOSE.get(code)
    return None if kind is None else kind(reason or f"the server closed the connection with {code}")


def retry_after(headers: Mapping[str, str]) -> float | None:
    """After how many seconds it is worth to try again, as an answer says; None: it does not."""
    for name, scale in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        try:
            return max(0.0, scale * float(headers[name]))
        except (KeyError, ValueError):
            continue  # not there, or a date
    return None


def _made(kind: Make, message: str, wait: float | None) -> Exception:
    error = kind(message)
    if wait is not None:
        error.retry_after = wait  # type: ignore[attr-defined]
    return error
