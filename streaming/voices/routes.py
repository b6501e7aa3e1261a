"""The routes of custom voices, as OpenAI's clients use them: /v1/audio/voice_consents and /v1/audio/voices."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, BinaryIO, Literal

from fastapi import APIRouter, File, Form, Query, Request, UploadFile
from pydantic import BaseModel, StringConstraints

from riverrun.models.errors import InvalidRequest
from riverrun.streaming.access import owner
from riverrun.streaming.jobs.lines import shown
from riverrun.streaming.problems import EXPECTED, TooBig
from riverrun.streaming.voices.library import Library
from riverrun.streaming.voices.store import Consent, Row

router = APIRouter(prefix="/v1/audio")
Name = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]*$"),
]
Language = Annotated[
    str, StringConstraints(max_length=35, pattern=r"^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$")
]  # Source: RFC 5646, its shape alone
TRANSCRIPT = 500  # characters, more than anybody says in the seconds that are kept
Transcript = Annotated[
    str,
    StringConstraints(strip_whitespace=True, max_length=TRANSCRIPT, pattern=r"^[^\x00-\x08\x0e-\x1f\x7f]*$"),
]


class Renamed(BaseModel):
    """What is to change of a consent."""

    name: Name


class Transcribed(BaseModel):
    """What is said in a voice's sample; an empty text takes it back."""

    transcript: Transcript


@router.post("/voice_consents")
async def add_consent(
    request: Request,
    name: Annotated[Name, Form()],
    language: Annotated[Language, Form(description="A BCP 47 tag, such as en-US.")],
    recording: Annotated[UploadFile, File(description="Somebody who agrees that their voice is used.")],
) -> dict[str, Any]:
    """Keep that somebody agreed to be imitated, with the recording in which they say so."""
    library = _library(request)
    with _named("recording"):
        return _consent(
            await library.add_consent(owner(request), name, language, _bounded(library, recording))
        )


@router.get("/voice_consents")
async def consents(
    request: Request, after: str | None = None, limit: Annotated[int, Query(ge=1, le=100)] = 20
) -> dict[str, Any]:
    """Your consents, the newest first; `after` one of them."""
    return _page(
        [_consent(found) for found in await _library(request).consents(owner(request))], after, limit
    )


@router.get("/voice_consents/{consent}")
async def consent(request: Request, consent: str) -> dict[str, Any]:
    """One consent."""
    return _consent(await _library(request).consent(owner(request), consent))


@router.post("/voice_consents/{consent}")
async def rename(request: Request, consent: str, wanted: Renamed) -> dict[str, Any]:
    """Call a consent by another name."""
    return _consent(await _library(request).rename(owner(request), consent, wanted.name))


@router.delete("/voice_consents/{consent}")
async def remove_consent(request: Request, consent: str) -> dict[str, Any]:
    """Withdraw a consent: it is erased, and so is every voice made under it."""
    await _library(request).remove_consent(owner(request), consent)
    return {"id": consent, "object": "audio.voice_consent", "deleted": True}


@router.post("/voices")
async def add_voice(
    request: Request,
    name: Annotated[Name, Form()],
    consent: Annotated[str, Form(description="The id of a consent of yours.")],
    audio_sample: Annotated[UploadFile, File(description="The voice; 3 to 10 s are best, 15 s are kept.")],
    type: Annotated[Literal["audio_sample"], Form()] = "audio_sample",
    transcript: Annotated[
        Transcript, Form(description="What is said in what is kept of it; some models need this.")
    ] = "",
    ref_text: Annotated[Transcript, Form(description="The same, as other servers call it.")] = "",
) -> dict[str, Any]:
    """Make a voice of a recording; `seconds` are kept of its `sample_seconds`, and `warnings` say what seems wrong."""
    library = _library(request)
    with _named("consent"):
        await library.consent(owner(request), consent)
    with _named("audio_sample"):
        sample, said = _bounded(library, audio_sample), transcript or ref_text
        made = await library.add_voice(owner(request), name, consent, sample, said)
    return {**_voice(made), "warnings": await library.warnings(owner(request), made.id)}


@router.get("/voices")
async def voices(
    request: Request, after: str | None = None, limit: Annotated[int, Query(ge=1, le=1000)] = 1000
) -> dict[str, Any]:
    """The voices that the models know by name, then your own, the newest first."""
    library = _library(request)
    own = [_voice(row) for row in await library.voices(owner(request))]
    return _page([*_builtin(library).values(), *own], after, limit)


@router.get("/voices/{voice}")
async def voice(request: Request, voice: str) -> dict[str, Any]:
    """One voice."""
    library = _library(request)
    return _builtin(library).get(voice) or _voice(await library.voice(owner(request), voice))


@router.post("/voices/{voice}")
async def transcribe(request: Request, voice: str, wanted: Transcribed) -> dict[str, Any]:
    """Say, or correct, what is said in the sample of a voice of yours."""
    library = _library(request)
    if voice in _builtin(library):
        raise InvalidRequest(f"voice {shown(voice)} is a model's own, and cannot be changed")
    return _voice(await library.transcribe(owner(request), voice, wanted.transcript))


@router.delete("/voices/{voice}")
async def remove_voice(request: Request, voice: str) -> dict[str, Any]:
    """Erase a voice of yours; its consent stays."""
    library = _library(request)
    if voice in _builtin(library):
        raise InvalidRequest(f"voice {shown(voice)} is a model's own, and cannot be deleted")
    await library.remove_voice(owner(request), voice)
    return {"id": voice, "object": "audio.voice.deleted", "deleted": True}


def _library(request: Request) -> Library:
    library: Library = request.app.state.hub.voices
    return library


def _builtin(library: Library) -> dict[str, dict[str, Any]]:
    """The voices that the served models know, each once, by name."""
    names = (name for known in library.hub.builtin.values() for name in known)
    return {name: {"id": name, "name": name} for name in names}


def _bounded(library: Library, file: UploadFile) -> BinaryIO:
    """An upload that is not too big. Raises TooBig."""
    most = library.settings.bytes
    if (file.size or 0) > most:
        raise TooBig(
            f"the input has {file.size} bytes, the limit is {most}: cut it, or send it as FLAC or MP3"
        )
    return file.file


@contextmanager
def _named(param: str) -> Iterator[None]:
    """Say of which field an error is."""
    try:
        yield
    except EXPECTED as error:
        error.args = (str(error).replace("the input", param, 1),)
        error.param = param  # type: ignore[attr-defined]
        raise


def _page(items: Sequence[Mapping[str, Any]], after: str | None, limit: int) -> dict[str, Any]:
    """A part of a list, as OpenAI's clients page through it. Raises InvalidRequest if `after` is none of it."""
    ids = [item["id"] for item in items]
    if after is not None and after not in ids:
        raise InvalidRequest(f"after is {shown(after)}, which is not in the list: begin anew without it")
    start = 0 if after is None else ids.index(after) + 1
    page = items[start : start + limit]
    return {
        "object": "list",
        "data": page,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
        "has_more": start + limit < len(items),
    }


def _consent(consent: Consent) -> dict[str, Any]:
    return {
        "id": consent.id,
        "object": "audio.voice_consent",
        "created_at": round(consent.created),
        "name": consent.name,
        "language": consent.language,
    }


def _voice(row: Row) -> dict[str, Any]:
    return {
        "id": row.id,
        "object": "audio.voice",
        "created_at": round(row.created),
        "name": row.name,
        "type": "audio_sample",
        "consent": row.consent,
        "seconds": round(row.seconds, 2),
        "sample_seconds": round(row.sent, 2),
        "transcript": row.transcript,
    }
