"""Who may talk to the server: Host and Origin lists, API keys, a rate an address. An ASGI layer around all else."""

import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from riverrun.streaming.errors import StreamError
from riverrun.streaming.problems import NoKey, NotAllowed, TooMany, body, headers, kind_of, status
from riverrun.streaming.settings import LOOPBACK, Settings

KEY_PROTOCOL = "riverrun.key."
OPEN = ("/health/", "/static/")  # paths that need no key; so does the page itself
OWNER = "riverrun.owner"  # in a scope: the digest of the key that was given, if any is needed
SLACK = 1 << 18  # bytes of a body beside an upload's
ADDRESSES = 10_000  # whose rates are remembered


class Bucket:
    """So many a second, and so many at once after a pause."""

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self.rate, self.burst, self.left, self.at = rate, burst, float(burst), now

    def take(self, now: float) -> float:
        """0 if there is room for one more now, which is then taken; else the seconds until there is."""
        self.left = min(self.burst, self.left + (now - self.at) * self.rate)
        self.at = now
        if self.left < 1:
            return (1 - self.left) / self.rate
        self.left -= 1
        return 0.0

    def give(self) -> None:
        """What was taken last does not count."""
        self.left += 1


class Access:
    """Refuses what may not pass, before anything of it is read."""

    def __init__(
        self,
        app: ASGIApp,
        settings: Settings,
        clock: Callable[[], float] = time.monotonic,
        refused: Callable[[str], None] = lambda reason: None,
    ) -> None:
        """`refused` is told the code of every refusal."""
        self.app, self.settings, self.clock, self.refused = app, settings, clock, refused
        self.hosts = {*LOOPBACK, settings.host, *settings.access.hosts}
        self.buckets: dict[str, Bucket] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            try:
                self.check(scope)
            except StreamError as error:
                self.refused(kind_of(error).code)
                await refuse(error, scope, receive, send)
                return
        if scope["type"] == "http":
            receive = self._bounded(scope, receive)
        await self.app(scope, receive, send)

    def _bounded(self, scope: Scope, receive: Receive) -> Receive:
        """Stop reading a body that is too big, whatever its header says."""
        uploads = {
            "/v1/audio/voice": self.settings.voices.bytes,
            "/v1/audio/": self.settings.files.bytes,
            "/v1/jobs": self.settings.jobs.bytes,
            "/v1/videos": self.settings.show.bytes,
        }
        path, read = scope["path"], 0
        limit = SLACK + next((size for start, size in uploads.items() if path.startswith(start)), 0)

        async def bounded() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > limit:
                raise HTTPException(413, f"the body has more than {limit} bytes, which is the limit")
            return message

        return bounded

    def check(self, scope: Scope) -> None:
        """Raises NotAllowed, NoKey, TooMany."""
        given = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        host = given.get("host", "")
        if not any(_same(host, allowed) for allowed in self.hosts):
            raise NotAllowed(f"the Host is {host!r}, which is none of this server's: add it to access.hosts")
        origin = given.get("origin")
        if (
            origin is not None
            and urlsplit(origin).netloc != host
            and origin not in self.settings.access.origins
        ):
            raise NotAllowed(f"pages of {origin!r} may not use this server: add it to access.origins")
        if self.settings.access.keys and _guarded(scope):
            scope[OWNER] = self._key(given)
        self._rate(scope)

    def _key(self, given: dict[str, str]) -> str:
        """The digest of a key, which comes as a Bearer token or, from a browser's WebSocket, as a subprotocol."""
        scheme, _, key = given.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            offered = [p.strip() for p in given.get("sec-websocket-protocol", "").split(",")]
            key = next((p.removeprefix(KEY_PROTOCOL) for p in offered if p.startswith(KEY_PROTOCOL)), "")
        found = digest(key)
        if not any([hmac.compare_digest(found, known) for known in self.settings.access.keys]):
            raise NoKey("the API key is missing or unknown: send Authorization: Bearer KEY")
        return found

    def _rate(self, scope: Scope) -> None:
        host, now = (scope.get("client") or ("", 0))[0], self.clock()
        bucket = self.buckets.pop(host, None)
        limits = self.settings.access
        bucket = bucket or Bucket(limits.requests, limits.burst, now)
        self.buckets[host] = bucket  # the one used last is last
        while len(self.buckets) > ADDRESSES:
            del self.buckets[next(iter(self.buckets))]
        if wait := bucket.take(now):
            error = TooMany(f"more than {limits.requests:g} requests a second from {host}: wait {wait:.1f} s")
            error.retry_after = wait  # type: ignore[attr-defined]
            raise error


def address(connection: HTTPConnection) -> str:
    """Where a client is."""
    return connection.client.host if connection.client else ""


def owner(connection: HTTPConnection) -> str:
    """Whose a request is: the digest of its API key, or nobody's where none is needed."""
    return str(connection.scope.get(OWNER, ""))


def digest(key: str) -> str:
    """What of an API key is stored."""
    return hashlib.sha256(key.encode()).hexdigest()


def _guarded(scope: Scope) -> bool:
    """Whether a key is needed; browsers ask what they may do without one."""
    path = scope["path"]
    return path != "/" and not path.startswith(OPEN) and scope.get("method") != "OPTIONS"


def _same(host: str, allowed: str) -> bool:
    """Whether a Host header, with or without a port, names an allowed host."""
    try:
        parts = urlsplit(f"//{host}")
        return parts.hostname == allowed.strip("[]").lower() and (parts.port or 1) > 0
    except ValueError:
        return False


async def refuse(error: Exception, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with an error before anything else was sent."""
    prefix = ""
    if scope["type"] == "websocket":
        await receive()
        prefix = "websocket."
    if prefix and "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": kind_of(error).close, "reason": str(error)[:120]})
        return
    content = json.dumps(body(error)).encode()
    head: list[Any] = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(content)).encode()),
    ]
    head += [(name.encode(), value.encode()) for name, value in headers(error).items()]
    await send({"type": f"{prefix}http.response.start", "status": status(error), "headers": head})
    await send({"type": f"{prefix}http.response.body", "body": content})
