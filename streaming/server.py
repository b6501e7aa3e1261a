"""The server, composed in one place: `create` makes the application, `serve` runs it."""

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from importlib.resources import files
from socket import socket
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from riverrun.models import MODELS, load
from riverrun.models.contract import Spec, StreamModel
from riverrun.streaming import detections, filters, images, logs, peer, speeches, videos, whip
from riverrun.streaming import status as operation
from riverrun.streaming.access import Access, digest
from riverrun.streaming.handle import Handle
from riverrun.streaming.hub import Hub
from riverrun.streaming.jobs import routes
from riverrun.streaming.jobs.desk import Desk
from riverrun.streaming.problems import EXPECTED, body, headers, kind_of, status
from riverrun.streaming.remote import Remote
from riverrun.streaming.settings import Settings, read
from riverrun.streaming.sockets import config
from riverrun.streaming.voices import routes as voices
from riverrun.streaming.voices.library import Library
from riverrun.streaming.ws import Connection

__all__ = ["Server", "create", "digest", "read", "serve"]

log = logging.getLogger(__name__)
HEADERS = {
    "content-security-policy": (
        "default-src 'self'; connect-src 'self' ws: wss:; media-src 'self' blob:; img-src 'self' data: blob:; "
        "worker-src 'self' blob:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "permissions-policy": "microphone=(self), camera=(self)",
    "cross-origin-opener-policy": "same-origin",
}
EXPOSED = [
    "location",
    "etag",
    "link",
    "accept-post",
    "accept-patch",
    "retry-after",
    "riverrun-session",
    "riverrun-token",
]
LOOK = 0.05  # seconds between looks at whether streams have ended
PARTING = 2.0  # seconds that clients get to hear that it is over
CODES = {
    401: "not_allowed",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_big",
    422: "invalid_request",
}


def create(settings: Settings, models: Mapping[str, StreamModel] | None = None) -> FastAPI:
    """The application. Its models are loaded by name, or given, and then run in this process."""
    compute, capacity = settings.compute, 2 * settings.streams.sessions

    async def start() -> Handle:
        if compute.process and not models:
            return await Remote.start(settings.models, settings.device, compute.threads, capacity,
                                      compute.lanes, compute.memory, compute.stuck,
                                      (settings.log, settings.log_level))  # fmt: skip
        from riverrun.streaming.engine import Engine  # torch comes with it

        engine = Engine(
            settings.device, compute.threads, capacity, lanes=compute.lanes, budget=compute.memory
        )
        for name in settings.models if not models else ():
            engine.offer(name, partial(load, name, settings.device))
        for name, model in (models or {}).items():
            engine.add(name, model)
        return engine

    hub = Hub(settings, start, models or settings.models)
    hub.desk = desk = Desk(hub)
    hub.voices = library = Library(hub)

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(work) for work in (_launch(hub), hub.beat(), hub.keep())]
        await desk.start()
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await drain(hub)
            await library.close()
            await hub.stop()

    app = FastAPI(title="Riverrun", version=hub.version, lifespan=life, docs_url=None, redoc_url=None)
    app.state.hub = hub
    if settings.access.origins:
        app.add_middleware(CORSMiddleware, allow_origins=settings.access.origins, allow_methods=["*"],
                           allow_headers=["*"], expose_headers=EXPOSED)  # fmt: skip
    app.add_middleware(Access, settings=settings, refused=hub.metrics.refused)
    _errors(app, hub.metrics.refused)
    _routes(app, hub)
    app.include_router(filters.router)
    app.include_router(speeches.router)
    app.include_router(videos.router)
    app.include_router(images.router)
    app.include_router(detections.router)
    app.include_router(whip.router)
    app.include_router(routes.router)
    app.include_router(voices.router)
    app.include_router(operation.router)
    _page(app)
    return app


async def _launch(hub: Hub) -> None:
    try:
        await hub.launch()
    except Exception as error:
        if not hub.draining:  # else it was stopped while it started
            log.error("the server cannot start: %s", error, exc_info=True)
            hub.failed()


async def drain(hub: Hub, now: Callable[[], bool] = lambda: True) -> None:
    """Take no more streams, let those that are open end for a while unless it is to be `now`, and end the rest.

    Twice is once.
    """
    hub.drain()
    if hub.desk:
        await hub.desk.stop()  # its lines are taken up when the server is back
    while hub.streams and hub.clock() < hub.until and not now():
        await asyncio.sleep(LOOK)
    calls = asyncio.create_task(peer.stop(hub.calls.values()))
    for link in list(hub.links.values()):
        if link.grace:
            await link.end("shutdown")  # nobody is there to be told
            continue
        link.over = link.over or "shutdown"
        link.changed.set()
    for _ in range(int(PARTING / LOOK)):
        if now() or (calls.done() and all(link.stream.closed for link in hub.links.values())):
            break
        await asyncio.sleep(LOOK)
    calls.cancel()
    for link in list(hub.links.values()):
        await link.end("shutdown")
    await asyncio.gather(*(reply.stop() for reply in list(hub.replies.values())))
    for cast in list(hub.casts.values()):  # what has ended may still be heard
        cast.close()


def _page(app: FastAPI) -> None:
    page = str(files("riverrun.webui"))
    app.mount("/static", StaticFiles(directory=page), name="static")

    @app.get("/", include_in_schema=False)
    async def index() -> FileResponse:
        return FileResponse(f"{page}/index.html", headers=HEADERS)


def _routes(app: FastAPI, hub: Hub) -> None:
    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        """The models of this server, as OpenAI's clients list them."""
        return {"object": "list", "data": [_model(name, spec, hub.fits) for name, spec in hub.specs.items()]}

    @app.websocket("/v1/stream")
    async def stream(socket: WebSocket) -> None:
        await Connection(hub, socket).serve()

    @app.get("/health/live")
    async def live() -> dict[str, str]:
        """Whether the server answers."""
        return {"status": "live"}

    @app.get("/health/ready")
    async def ready(response: Response) -> dict[str, str]:
        """Whether streams are taken: models are warm, and the server is not stopping."""
        response.status_code = 200 if hub.state == "ready" else 503
        return {"status": hub.state}


def _model(name: str, spec: Spec, fits: Mapping[str, Any]) -> dict[str, Any]:
    port = spec.takes or spec.gives[0]
    entry, speaks = MODELS.get(name), bool(spec.symbols)
    does = "speak" if speaks else "convert" if spec.converts else "show" if spec.shows else "restore"
    tasks = entry.tasks if entry else (does,)
    return {
        "id": name,
        "object": "model",
        "created": 0,
        "owned_by": "riverrun",
        "task": tasks[0],
        "tasks": list(tasks),
        "summary": entry.summary if entry else "",
        "rate": float(port.rate),
        "latency": float((port.hop + spec.latency) / port.rate),
        "speaks": speaks,
        "shows": spec.shows,
        "modes": list(spec.modes),
        "size": list(port.size),
        "voices": list(spec.voices),
        "transcribed": spec.transcribed,
        "fit": fits[name] or None,
        "present": True,
    }


def _errors(app: FastAPI, refused: Callable[[str], None]) -> None:
    async def known(_: Request, error: Exception) -> Response:
        refused(kind_of(error).code)
        return JSONResponse(body(error), status(error), headers(error))

    async def http(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        code = CODES.get(error.status_code, "error")
        refused(code)
        told = {"message": str(error.detail), "type": "invalid_request_error", "param": None, "code": code}
        return JSONResponse(
            {"error": told}, error.status_code, {"x-should-retry": "false", **(error.headers or {})}
        )

    async def invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        refused("invalid_request")
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:]) or None
        told = {
            "message": f"{where or 'the request'}: {first['msg']}",
            "type": "invalid_request_error",
            "param": where,
            "code": "invalid_request",
        }
        return JSONResponse({"error": told}, 422, {"x-should-retry": "false"})

    async def bug(_: Request, error: Exception) -> Response:
        log.error("a request failed", exc_info=error)
        return JSONResponse(body(error), 500, {"x-should-retry": "true"})

    handlers: dict[type[Exception], Callable[[Request, Exception], Awaitable[Response]]] = {
        **dict.fromkeys(EXPECTED, known),
        HTTPException: http,
        RequestValidationError: invalid,
        Exception: bug,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)


class Server(uvicorn.Server):
    """uvicorn's, but open streams end before their connections are closed; being told to stop is no failure."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        app: Any = config.app
        self.hub: Hub = app.state.hub
        self.hub.failed = self._fail
        self.failed = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal begins the end, a second one hastens it. None is raised anew, so the exit status is 0."""
        self.force_exit = self.should_exit
        self.should_exit = True

    async def shutdown(self, sockets: "list[socket] | None" = None) -> None:
        """End what is open, then the connections."""
        await drain(self.hub, lambda: self.force_exit)
        await super().shutdown(sockets)
        if self.force_exit:  # which leaves this out
            await self.lifespan.shutdown()

    def _fail(self) -> None:
        self.failed = self.should_exit = True


def serve(settings: Settings) -> None:
    """Run the server until it is told to stop. Raises ValueError if it may not listen where it is to."""
    if not settings.loopback and not settings.access.keys:
        raise ValueError(
            f"host is {settings.host}, and no API key is set: make one with `riverrun serve --new-key` and set "
            "access.keys, or listen on 127.0.0.1"
        )
    logs.begin(settings.log, settings.log_level)
    log.info("http://%s:%d/", settings.host, settings.port)
    app = create(settings)
    running = Server(config(app, settings, host=settings.host, port=settings.port, log_config=None))
    gc.collect()
    gc.freeze()  # as what libraries have made will stay, looking for rubbish is quick, and so is done often
    running.run()
    if running.failed or not running.started:
        raise SystemExit(3)
