"""The routes of batch jobs: /v1/jobs."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse
from starlette.datastructures import FormData, UploadFile

from riverrun.models.errors import InvalidRequest
from riverrun.streaming.access import owner
from riverrun.streaming.jobs.desk import DAY, Desk
from riverrun.streaming.jobs.lines import shown
from riverrun.streaming.jobs.manifest import record, text
from riverrun.streaming.jobs.states import State
from riverrun.streaming.jobs.store import Job
from riverrun.streaming.jobs.tasks import kind
from riverrun.streaming.problems import TooBig
from riverrun.streaming.uploads import settled

router = APIRouter(prefix="/v1/jobs")
TEXT = 1 << 26  # bytes of all lines of a job
PAGE = 500  # lines read at once
FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["jobs"],
                    "properties": {
                        "jobs": {"type": "string", "format": "binary", "description": "Lines of JSON."},
                        "files": {
                            "type": "array",
                            "items": {"type": "string", "format": "binary"},
                            "description": "The inputs that the lines name, by these names.",
                        },
                    },
                }
            }
        },
    }
}
Limit = Annotated[int, Query(ge=1, le=1000)]


@router.post("", status_code=201, openapi_extra=FORM)
async def post(
    request: Request,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=255)] = None,
) -> Response:
    """Hand in a job: `jobs`, a line of JSON for each thing to make, and `files` that the lines name as input.

    Sent again with the same Idempotency-Key, it is the same job, and the status 200.
    """
    desk = _desk(request)
    async with request.form(max_files=desk.settings.lines + 1, max_fields=2, max_part_size=TEXT) as form:
        told = form.get("jobs")
        if told is None or set(form) - {"jobs", "files"}:
            raise InvalidRequest(f"the form has {sorted(set(form))[:9]}, expected jobs and files")
        size = told.size if isinstance(told, UploadFile) else len(told)
        if (size or 0) > TEXT:
            raise TooBig(f"the lines have {size} bytes, the limit is {TEXT}: post several jobs")
        lines = await told.read() if isinstance(told, UploadFile) else told.encode()
        job, new = await desk.post(lines, _files(form), owner(request), idempotency_key)
    return JSONResponse(_shown(desk, job), 201 if new else 200, {"location": f"/v1/jobs/{job.id}"})


def _files(form: FormData) -> dict[str, Any]:
    """The uploads by name."""
    files: dict[str, Any] = {}
    for sent in form.getlist("files"):
        if not isinstance(sent, UploadFile) or not sent.filename:
            raise InvalidRequest("a file came without its name, expected what the lines say as input")
        if sent.filename in files:
            raise InvalidRequest(f"two files are called {shown(sent.filename)}: give each its own name")
        files[sent.filename] = sent.file
    return files


@router.get("")
async def jobs(request: Request, after: str | None = None, limit: Limit = 20) -> dict[str, Any]:
    """Your jobs, the newest first; `after` one of them."""
    desk = _desk(request)
    found = await desk.jobs(owner(request), after, limit + 1)
    data = [_shown(desk, job) for job in found[:limit]]
    return {"object": "list", "data": data, "has_more": len(found) > limit}


@router.get("/{job}")
async def look(
    request: Request, job: str, wait: Annotated[float, Query(ge=0, le=60)] = 0.0
) -> dict[str, Any]:
    """How a job goes; with `wait`, when something of it has changed, or after so many seconds."""
    desk = _desk(request)
    return _shown(desk, await desk.wait(job, owner(request), wait))


@router.get("/{job}/lines")
async def lines(
    request: Request,
    job: str,
    after: Annotated[int, Query(ge=0, lt=2**31)] = 0,
    limit: Limit = 100,
    status: State | None = None,
) -> dict[str, Any]:
    """What became of each line, as in the manifest; `after` a line's number."""
    desk = _desk(request)
    await desk.job(job, owner(request))
    found = await settled(desk.store.lines, job, after, limit + 1, status)
    return {"object": "list", "data": [record(row) for row in found[:limit]], "has_more": len(found) > limit}


@router.get("/{job}/manifest", response_class=StreamingResponse)
async def manifest(request: Request, job: str) -> StreamingResponse:
    """A line of JSON for each line: inputs, outputs, hashes, seeds, versions, timings."""
    desk = _desk(request)
    await desk.job(job, owner(request))

    async def pages() -> AsyncIterator[str]:
        after = 0
        while rows := await settled(desk.store.lines, job, after, PAGE):
            yield "".join(text(rows))
            after = rows[-1].line.number

    return StreamingResponse(pages(), media_type="application/jsonl")


@router.get("/{job}/outputs/{line}", response_class=FileResponse)
async def output(request: Request, job: str, line: str) -> FileResponse:
    """What was made of a line, or a Range of it."""
    row, path = await _desk(request).output(job, owner(request), line)
    headers = {"x-content-type-options": "nosniff", "cache-control": "private, no-cache"}
    return FileResponse(path, headers=headers, media_type=kind(path), filename=Path(row.line.output).name)


@router.post("/{job}/cancel")
async def cancel(request: Request, job: str) -> dict[str, Any]:
    """End what has not ended of a job; what is done stays."""
    desk = _desk(request)
    return _shown(desk, await desk.cancel(job, owner(request)))


@router.post("/{job}/retry")
async def retry(request: Request, job: str) -> dict[str, Any]:
    """Make again what failed or was cancelled of a job."""
    desk = _desk(request)
    return _shown(desk, await desk.retry(job, owner(request)))


@router.delete("/{job}", status_code=204)
async def remove(request: Request, job: str) -> None:
    """End a job, and forget it with its files."""
    await _desk(request).remove(job, owner(request))


def _desk(request: Request) -> Desk:
    desk: Desk = request.app.state.hub.desk
    return desk


def _shown(desk: Desk, job: Job) -> dict[str, Any]:
    counts = job.counts
    return {
        "id": job.id,
        "object": "job",
        "status": counts.state,
        "total": counts.total,
        **{state.value: getattr(counts, state) for state in State},
        "position": job.position,
        "created_at": round(job.created),
        "finished_at": None if job.finished is None else round(job.finished),
        "expires_at": None if job.finished is None else round(job.finished + desk.settings.keep * DAY),
    }
