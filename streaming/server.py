"""The server, composed in one place: `create` makes the application, `serve` runs it."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Any

from fastapi import FastAPI, Request, Response, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from riverrun.models import MODELS, load
from riverrun.models.contract import StreamModel
from riverrun.streaming import restorations, webrtc, whip
from riverrun.streaming.access import Access, digest
from riverrun.streaming.hub import Hub
from riverrun.streaming.jobs import routes
from riverrun.streaming.jobs.desk import Desk
from riverrun.streaming.problems import EXPECTED, body, headers, status
from riverrun.streaming.settings import Settings, read
from riverrun.streaming.ws import Connection

__all__ = ["create", "digest", "read", "serve"]

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
DRAIN = 5.0  # seconds that streams get to end when the server stops
CODES = {
    401: "not_allowed",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_big",
    422: "invalid_request",
}


def create(settings: Settings, models: Mapping[str, StreamModel] | None = None) -> FastAPI:
    """The application with its models, loaded by name unless given."""
    hub = Hub.of(settings, models or {name: load(name, settings.device) for name in settings.models})
    desk = Desk(hub)

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        warming = asyncio.create_task(_warm(hub))
        await desk.start()
        try:
            yield
        finally:
            warming.cancel()
            await _drain(app)

    app = FastAPI(title="Riverrun", lifespan=life, docs_url=None, redoc_url=None)
    app.state.hub, app.state.desk = hub, desk
    if settings.access.origins:
        app.add_middleware(CORSMiddleware, allow_origins=settings.access.origins, allow_methods=["*"],
                           allow_headers=["*"], expose_headers=EXPOSED)  # fmt: skip
    app.add_middleware(Access, settings=settings)
    _errors(app)
    _routes(app, hub)
    app.include_router(restorations.router)
    app.include_router(whip.router)
    app.include_router(routes.router)
    _page(app)
    return app


async def _warm(hub: Hub) -> None:
    """Step every model once, so that the first caller does not wait for it; then be ready."""
    from riverrun.streaming.wire import Open

    hub.ready = True
    for name, model in ((n, hub.engine.models[n]) for n in hub.requests):
        takes = model.spec.takes
        if takes is None or takes.kind != "audio":
            continue
        import numpy as np

        stream = await hub.open(Open(name, rate=int(takes.rate)), "warm-up")
        try:
            await stream.feed(np.zeros((4 * takes.hop, 1), np.float32))
            await stream.finish()
            while await stream.read():
                pass
        finally:
            await stream.close()
    hub.metrics.ready.set(1)
    hub.warm = True
    log.info("ready: %s", ", ".join(hub.requests))


async def _drain(app: FastAPI) -> None:
    hub: Hub = app.state.hub
    hub.draining = True
    await app.state.desk.stop()
    await webrtc.stop(hub.calls.values())
    for link in list(hub.links.values()):
        link.say("event", name="draining")
        link.over = link.over or "shutdown"
        link.changed.set()
    for _ in range(int(DRAIN / 0.05)):
        if all(link.stream.closed for link in hub.links.values()):
            break
        await asyncio.sleep(0.05)
    for link in list(hub.links.values()):
        await link.end("shutdown")
    for reply in list(hub.replies.values()):
        await reply.stop()
    await asyncio.to_thread(hub.engine.stop)


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
        return {"object": "list", "data": [_model(hub, name) for name in hub.requests]}

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
        state = "draining" if hub.draining else "ready" if hub.warm and hub.engine.alive else "starting"
        response.status_code = 200 if state == "ready" else 503
        return {"status": state}

    @app.get("/metrics", include_in_schema=hub.settings.metrics)
    async def metrics() -> Response:
        """Figures for Prometheus."""
        if not hub.settings.metrics:
            raise HTTPException(404, "figures are switched off: set metrics = true")
        return Response(hub.metrics.text(), media_type="text/plain; version=0.0.4")


def _model(hub: Hub, name: str) -> dict[str, Any]:
    spec = hub.engine.models[name].spec
    port = spec.takes or spec.gives[0]
    entry = MODELS.get(name)
    return {
        "id": name,
        "object": "model",
        "created": 0,
        "owned_by": "riverrun",
        "task": entry.tasks[0] if entry else "restore",
        "tasks": list(entry.tasks) if entry else ["restore"],
        "summary": entry.summary if entry else "",
        "rate": float(port.rate),
        "latency": float((port.hop + spec.latency) / port.rate),
        "present": True,
    }


def _errors(app: FastAPI) -> None:
    async def known(_: Request, error: Exception) -> Response:
        return JSONResponse(body(error), status(error), headers(error))

    async def http(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        code = CODES.get(error.status_code, "error")
        told = {"message": str(error.detail), "type": "invalid_request_error", "param": None, "code": code}
        return JSONResponse(
            {"error": told}, error.status_code, {"x-should-retry": "false", **(error.headers or {})}
        )

    async def invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
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


def serve(settings: Settings) -> None:
    """Run the server until it is told to stop. Raises ValueError if it may not listen where it is to."""
    import uvicorn

    if not settings.loopback and not settings.access.keys:
        raise ValueError(
            f"host is {settings.host}, and no API key is set: make one with `riverrun serve --new-key` and set "
            "access.keys, or listen on 127.0.0.1"
        )
    uvicorn.run(
        create(settings),
        host=settings.host,
        port=settings.port,
        ws="websockets-sansio",
        ws_max_size=1 << 19,
        ws_per_message_deflate=False,
        ws_ping_interval=20,
        ws_ping_timeout=20,
        timeout_graceful_shutdown=8,
        log_level="info",
        access_log=False,
        server_header=False,
    )
