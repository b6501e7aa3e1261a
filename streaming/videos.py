"""The routes of videos, as OpenAI's clients use them: each is a job with one line, which outlives the server."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Literal

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import UploadFile

from riverrun.media import picture, video
from riverrun.media.pictures import encoded
from riverrun.models.errors import InvalidRequest
from riverrun.streaming.access import owner
from riverrun.streaming.jobs.desk import DAY, Desk
from riverrun.streaming.jobs.states import State
from riverrun.streaming.jobs.store import Job, Row
from riverrun.streaming.problems import NotFound, TooBig
from riverrun.streaming.show import check
from riverrun.streaming.uploads import settled

if TYPE_CHECKING:
    from pathlib import Path

    from riverrun.streaming.hub import Hub

router = APIRouter(prefix="/v1/videos")
PREFIX, LINE, REFERENCE = "video_", "video", "reference"
POLL = "500"  # ms after which it is worth to look again
HEADERS = {"x-content-type-options": "nosniff", "cache-control": "private, no-cache"}
STATES = {
    State.queued: "queued",
    State.running: "in_progress",
    State.done: "completed",
    State.failed: "failed",
    State.cancelled: "failed",  # clients wait for one of the two
}


class Asked(BaseModel):
    """What is to be seen. `size` is the model's own; `seed`, `steps` and `mode` are ours."""

    model_config = ConfigDict(extra="forbid")

    prompt: str
    model: str = ""
    seconds: float = 4.0
    size: str = ""
    seed: int = Field(default=0, ge=-(2**63), lt=2**63)
    steps: int = 0
    mode: str = ""


BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": Asked.model_json_schema()},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["prompt"],
                    "properties": {
                        **Asked.model_json_schema()["properties"],
                        "input_reference": {
                            "type": "string",
                            "format": "binary",
                            "description": "The first picture.",
                        },
                    },
                }
            },
        },
    }
}


@router.post("", openapi_extra=BODY)
async def create(
    request: Request,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=255)] = None,
) -> Response:
    """Have a video made of a prompt, and of a first picture, if one is sent as `input_reference`."""
    hub: Hub = request.app.state.hub
    hub.willing()
    if request.headers.get("content-type", "").startswith("application/json"):
        made = await begin(hub, _read(await _json(request)), {}, owner(request), idempotency_key)
        return JSONResponse(made, headers={"openai-poll-after-ms": POLL})
    async with request.form(max_files=1, max_fields=16) as form:
        files, fields = dict[str, BinaryIO](), dict[str, Any]()
        for name, sent in form.items():
            if not isinstance(sent, UploadFile):
                fields[name] = sent
            elif name == "input_reference":
                files[REFERENCE] = sent.file
            else:
                raise InvalidRequest(f"file {name!r} was sent, expected input_reference")
        made = await begin(hub, _read(fields), files, owner(request), idempotency_key)
    return JSONResponse(made, headers={"openai-poll-after-ms": POLL})


@router.get("")
async def videos(
    request: Request,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Literal["asc", "desc"] = "desc",
) -> dict[str, Any]:
    """Your videos, the newest first; `after` one of them. `order` turns the page round."""
    desk = _desk(request)
    found = await desk.jobs(owner(request), after, limit + 1, PREFIX)
    data = [await _shown(desk, job) for job in found[:limit]]
    data = data[::-1] if order == "asc" else data
    ends = {"first_id": data[0]["id"] if data else None, "last_id": data[-1]["id"] if data else None}
    return {"object": "list", "data": data, "has_more": len(found) > limit, **ends}


@router.get("/{video}")
async def look(request: Request, video: str) -> Response:
    """How a video goes."""
    desk = _desk(request)
    told = await _shown(desk, await _job(desk, video, owner(request)))
    return JSONResponse(told, headers={"openai-poll-after-ms": POLL})


@router.get("/{video}/content", response_class=Response)
async def content(request: Request, video: str, variant: Literal["video", "thumbnail"] = "video") -> Response:
    """A video that is completed, or a Range of it; or its first picture."""
    desk = _desk(request)
    await _job(desk, video, owner(request))
    _, path = await desk.output(video, owner(request), LINE)
    if variant == "thumbnail":
        return Response(await settled(_first, path), headers=HEADERS, media_type="image/webp")
    return FileResponse(path, headers=HEADERS, media_type="video/mp4", filename=f"{video}.mp4")


@router.delete("/{video}")
async def remove(request: Request, video: str) -> dict[str, Any]:
    """End the making of a video, and forget it."""
    desk = _desk(request)
    await _job(desk, video, owner(request))
    await desk.remove(video, owner(request))
    return {"id": video, "object": "video.deleted", "deleted": True}


async def begin(
    hub: "Hub", asked: Asked, files: Mapping[str, BinaryIO], who: str, key: str | None
) -> dict[str, Any]:
    """Check a request and hand it in. Raises InvalidRequest, MediaError, TooBig, Reused, AtCapacity."""
    values = checked(hub, asked)
    if file := files.get(REFERENCE):
        data, most = await settled(file.read, hub.settings.show.bytes + 1), hub.settings.show.bytes
        if len(data) > most:
            raise TooBig(f"input_reference has more than {most} bytes, which is the limit: make it smaller")
        await settled(picture, data)  # refused now rather than when its turn comes
        values["input"] = REFERENCE
    line = {"id": LINE, "task": "show", "output": "video.mp4", **values, "seconds": asked.seconds}
    assert hub.desk
    job, _ = await hub.desk.post(json.dumps(line).encode(), files, who, key, PREFIX)
    return await _shown(hub.desk, job)


def checked(hub: "Hub", asked: Any) -> dict[str, Any]:
    """What a line that shows has of a request. Raises InvalidRequest."""
    model, seconds = hub.painter(asked.model), getattr(asked, "seconds", 1.0)
    if seconds <= 0:
        raise InvalidRequest(
            f"seconds is {seconds:g}, expected more than 0 and up to {hub.settings.show.seconds:g}"
        )
    values = {"prompt": asked.prompt, "seed": asked.seed, "steps": asked.steps}
    if mode := getattr(asked, "mode", ""):
        if mode not in (modes := hub.specs[model].modes):
            known = f"expected one of {', '.join(modes)}" if modes else "and the model has none"
            raise InvalidRequest(f"mode is {mode[:40]!r}, {known}")
        values["mode"] = mode
    check({**values, "seconds": seconds}, hub.settings.show)
    rows, columns = hub.specs[model].gives[0].size
    if asked.size not in ("", "auto", f"{columns}x{rows}"):
        raise InvalidRequest(
            f"size is {asked.size[:40]!r}, expected '{columns}x{rows}', which is what {model} gives"
        )
    return {"model": model, **values}


async def _json(request: Request) -> Any:
    try:
        return json.loads(await request.body())
    except ValueError as error:
        raise InvalidRequest(f"the body is no JSON: {error}") from error


def _read(fields: Any) -> Asked:
    """A request of its fields, as text or as JSON values. Raises RequestValidationError."""
    try:
        return Asked.model_validate(fields)
    except ValidationError as error:
        wrong = [{**one, "loc": ("body", *one["loc"])} for one in error.errors(include_url=False)]
        raise RequestValidationError(wrong) from error


def _desk(request: Request) -> Desk:
    desk: Desk = request.app.state.hub.desk
    return desk


async def _job(desk: Desk, video: str, who: str) -> Job:
    """A video's job. Raises NotFound."""
    if not video.startswith(PREFIX):
        raise NotFound(f"there is no video {video[:80]!r}")
    return await desk.job(video, who)


async def _shown(desk: Desk, job: Job) -> dict[str, Any]:
    """A video as OpenAI's clients read it."""
    row: Row | None = await settled(desk.store.line, job.id, LINE)
    if row is None:
        raise NotFound(f"there is no video {job.id}")
    values, finished = row.line.values, None if job.finished is None else round(job.finished)
    done = 1.0 if row.state is State.done else desk.hub.progress.get(job.id, 0.0)
    rows, columns = (
        desk.hub.specs[values["model"]].gives[0].size if values["model"] in desk.hub.specs else (0, 0)
    )
    failure = {
        "code": "cancelled" if row.state is State.cancelled else "failed",
        "message": row.error or "cancelled",
    }
    return {
        "id": job.id,
        "object": "video",
        "status": STATES[row.state],
        "progress": int(100 * done),
        "created_at": round(job.created),
        "completed_at": finished if row.state is State.done else None,
        "expires_at": None if finished is None else round(finished + desk.settings.keep * DAY),
        "error": failure if STATES[row.state] == "failed" else None,
        "model": values["model"],
        "prompt": values["prompt"],
        "seconds": f"{values['seconds']:g}",
        "size": f"{columns}x{rows}",
        "seed": values["seed"],
        "remixed_from_video_id": None,
    }


def _first(path: "Path") -> bytes:
    return encoded(next(video(path)).data[0], "webp")
