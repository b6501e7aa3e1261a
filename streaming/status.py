"""GET /v1/status and /metrics: what the server does now, for its operator. Nothing in it is secret but who is there."""

import asyncio
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from riverrun.streaming.errors import StreamError

if TYPE_CHECKING:
    from riverrun.streaming.hub import Hub
    from riverrun.streaming.stream import Stream

router = APIRouter()
PATIENCE = 1.0  # seconds that the engine has for an answer
State = Literal["starting", "ready", "draining"]


class Session(BaseModel):
    """An open stream."""

    id: str
    model: str
    transport: Literal["ws", "http", "webrtc", "job"]
    live: Annotated[
        float | None, Field(description="Seconds of delay wanted; null: nothing is ever dropped.")
    ]
    seconds: Annotated[float, Field(description="Since it was opened.")]
    taken: Annotated[float, Field(description="Seconds of input.")]
    given: Annotated[float, Field(description="Seconds of output.")]
    queue: Annotated[float, Field(description="Seconds of input that did not come out yet.")]
    dropped: Annotated[float, Field(description="Seconds of live input dropped.")]
    degraded: Annotated[list[str], Field(description="What it is given less of, the machine being too slow.")]
    delay: Annotated[
        dict[Literal["p50", "p99"], dict[str, float]], Field(description="In ms, by stage, and `total`.")
    ]


class Lane(BaseModel):
    """A thread that steps sessions; times in seconds, by class (live, interactive, batch) where there are several."""

    name: str
    load: Annotated[float, Field(description="The share of its time that somebody waits for.")]
    steps: int
    rows: Annotated[int, Field(description="Sessions and channels in all steps.")]
    busy: dict[str, float]
    waiting: Annotated[dict[str, int], Field(description="Pieces of work.")]
    sessions: dict[str, int]
    late: Annotated[
        list[float], Field(description="p50 and p99 after it was due, empty before the first step.")
    ]
    stepping: Annotated[float, Field(description="Age of the step in progress.")]


class Engine(BaseModel):
    """What steps the models."""

    process: Annotated[int | None, Field(description="Its id; null if it is the server's own.")] = None
    lanes: list[Lane]
    models: Annotated[dict[str, int], Field(description="Bytes of those in memory, by name and lane.")]


class Fit(BaseModel):
    """How a model that converts does on this machine, one stream alone; times in seconds."""

    preset: Annotated[str, Field(description="That is served; empty if it has none.")]
    hop: Annotated[float, Field(description="How long a window's sound lasts, and so may take.")]
    latency: Annotated[float, Field(description="Without computing.")]
    p50: Annotated[float, Field(description="What a window takes.")]
    p95: float
    windows: Annotated[int, Field(description="How many were timed.")]
    fits: Annotated[bool, Field(description="Whether the p95 is within the hop.")]
    sessions: Annotated[int, Field(description="How many streams keep pace if none shares a step.")]


class Status(BaseModel):
    """The server, now."""

    state: State
    version: str
    uptime: Annotated[float, Field(description="Seconds.")]
    loop_late: Annotated[float, Field(description="The event loop's worst lateness of late, in seconds.")]
    limit: Annotated[int, Field(description="How many streams may be open.")]
    sessions: list[Session]
    engine: Annotated[Engine | None, Field(description="null: it does not answer.")]
    fits: Annotated[dict[str, Fit], Field(description="By model, as timed at the start.")]
    restarts: Annotated[int, Field(description="Engines that failed.")]
    refused: Annotated[dict[str, int], Field(description="Requests, by the code of the error.")]


@router.get("/v1/status")
async def status(request: Request) -> Status:
    """What the server does now: streams, engine, refusals."""
    hub: Hub = request.app.state.hub
    figures = await _asked(hub)
    sessions = []
    for stream in list(hub.streams.values()):
        sessions.append(_session(stream, hub.clock()))
        await asyncio.sleep(0)  # percentiles take a while, of many
    return Status(
        state=hub.state,
        version=hub.version,
        uptime=round(hub.clock() - hub.since, 1),
        loop_late=round(max(hub.late), 5),
        limit=hub.settings.streams.sessions,
        sessions=sessions,
        engine=None if figures is None else Engine(**figures),
        fits={name: Fit(**fit) for name, fit in hub.fits.items() if fit},
        restarts=hub.restarts,
        refused=hub.metrics.refusals(),
    )


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(request: Request) -> Response:
    """Figures for Prometheus."""
    hub: Hub = request.app.state.hub
    if not hub.settings.metrics:
        raise HTTPException(404, "figures are switched off: set metrics = true")
    hub.metrics.engine.told = await _asked(hub)
    hub.metrics.ready.set(hub.state == "ready")
    hub.metrics.degraded.set(sum(bool(stream.less) for stream in hub.streams.values()))
    return Response(await asyncio.to_thread(hub.metrics.text), media_type="text/plain; version=0.0.4")


async def _asked(hub: "Hub") -> dict[str, Any] | None:
    """The engine's figures; None if there is none that answers in time."""
    try:
        async with asyncio.timeout(PATIENCE):
            return await hub.engine.figures()
    except (TimeoutError, StreamError):
        return None


def _session(stream: "Stream", now: float) -> Session:
    stats = stream.stats()
    delay: dict[str, Any] = stats["delay"]
    shares: Any = (
        {"p50": {k: v for k, v in delay.items() if k != "p99"}, "p99": delay["p99"]} if delay else {}
    )
    return Session(
        id=stream.name,
        model=stream.wanted.model,
        transport=stream.transport,  # type: ignore[arg-type]
        live=stream.live,
        seconds=round(now - stream.begun, 1),
        taken=round(stream.fed / stream.rate, 2),
        given=round(stream.out / stream.rate, 2),
        queue=stats["queue"],
        dropped=round(stream.dropped / stream.rate, 3),
        degraded=list(stream.less),
        delay=shares,
    )
