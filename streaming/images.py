"""POST /v1/images/generations: pictures of a prompt, in OpenAI's form; each is a line of a job."""

import asyncio
import base64
import json
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Header, Request
from fastapi.responses import FileResponse
from pydantic import BaseModel, ConfigDict, Field

from riverrun.streaming.access import owner
from riverrun.streaming.errors import StreamError
from riverrun.streaming.jobs.states import State
from riverrun.streaming.problems import NotFound
from riverrun.streaming.uploads import settled
from riverrun.streaming.videos import HEADERS, checked

if TYPE_CHECKING:
    from riverrun.streaming.hub import Hub
    from riverrun.streaming.jobs.desk import Desk

router = APIRouter(prefix="/v1/images")
PREFIX = "image_"
MOST = 10  # of one request
WAIT = 30.0  # seconds between looks at a job that has not changed


class Asked(BaseModel):
    """What is to be seen, `n` times, with as many seeds from `seed` on. `user` and `quality` are taken and not used."""

    model_config = ConfigDict(extra="forbid")

    prompt: str
    model: str = ""
    n: int = Field(default=1, ge=1, le=MOST)
    size: str = ""
    response_format: Literal["b64_json", "url"] = "b64_json"
    output_format: Literal["png"] = "png"
    quality: str = "auto"
    user: str = ""
    seed: int = Field(default=0, ge=-(2**62), lt=2**62)
    steps: int = 0


@router.post("/generations")
async def generate(
    request: Request,
    asked: Asked,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=255)] = None,
) -> dict[str, Any]:
    """Have pictures made of a prompt. A `url` is there for as long as a job is kept, for whoever has the same key."""
    hub: Hub = request.app.state.hub
    hub.willing()
    values, who, desk = checked(hub, asked), owner(request), hub.desk
    assert desk
    lines = [
        {"id": str(i), "task": "show", "output": f"{i}.png", **values, "seed": asked.seed + i}
        for i in range(asked.n)
    ]
    told = "\n".join(map(json.dumps, lines)).encode()
    job, _ = await desk.post(told, {}, who, idempotency_key, PREFIX)
    try:
        while not job.counts.over:
            job = await desk.wait(job.id, who, WAIT)
        data = [await _made(desk, job.id, i, who, request, asked) for i in range(asked.n)]
    except asyncio.CancelledError:
        await asyncio.shield(desk.remove(job.id, who))
        raise
    if asked.response_format == "b64_json" and idempotency_key is None:
        await desk.remove(job.id, who)  # nobody can ask for them again
    return {"created": round(job.created), "data": data}


@router.get("/{image}/{number}", response_class=FileResponse)
async def content(request: Request, image: str, number: int) -> FileResponse:
    """A picture that was asked for by its `url`."""
    desk: Desk = request.app.state.hub.desk
    if not image.startswith(PREFIX):
        raise NotFound(f"there is no image {image[:80]!r}")
    _, path = await desk.output(image, owner(request), str(number))
    return FileResponse(path, headers=HEADERS, media_type="image/png")


async def _made(
    desk: "Desk", job: str, number: int, who: str, request: Request, asked: Asked
) -> dict[str, Any]:
    """A picture of a job that is over. Raises StreamError if it could not be made."""
    row = await settled(desk.store.line, job, str(number))
    if row is None or row.state is not State.done:
        raise StreamError(f"the picture could not be made: {row.error if row else 'it was deleted'}")
    if asked.response_format == "url":
        return {"url": str(request.url_for("content", image=job, number=number)), "seed": asked.seed + number}
    _, path = await desk.output(job, who, str(number))
    return {
        "b64_json": base64.b64encode(await settled(path.read_bytes)).decode(),
        "seed": asked.seed + number,
    }
