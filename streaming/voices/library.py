"""Library: the custom voices of a server, each its owner's, and each made under a consent."""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

from riverrun.media.chunk import Array
from riverrun.models.errors import InvalidRequest
from riverrun.models.recording import SEVERAL
from riverrun.streaming.errors import StreamError
from riverrun.streaming.hub import Hub
from riverrun.streaming.jobs.lines import shown
from riverrun.streaming.problems import NotFound
from riverrun.streaming.uploads import settled
from riverrun.streaming.voices.recordings import RATE, cut, hear, packed, unpacked
from riverrun.streaming.voices.store import Consent, Row, Store

log = logging.getLogger(__name__)
FILE = "voices.sqlite"
PATIENCE = 10.0  # seconds that a sample may take to be judged


@dataclass(frozen=True)
class Voice:
    """A voice to speak in, and what is said in its sound, where this was told.

    Shapes: sound `[n]` float32, 1 to 15 s at the rate that was asked for.
    """

    id: str
    name: str
    sound: Array
    transcript: str = ""


class Library:
    """Consents and voices. Owners are as the API keys; where none is needed, all are one's."""

    def __init__(self, hub: Hub, clock: Callable[[], float] = time.time) -> None:
        self.hub, self.settings, self.clock = hub, hub.settings.voices, clock
        self.home = self.settings.home
        self.store = Store(self.home / FILE, self.settings)
        self.opened, self.opening = False, asyncio.Lock()

    async def find(self, owner: str, voice: str, rate: int = RATE) -> Voice:
        """A voice of an owner by its id, or by its name, heard at a rate.

        Raises NotFound, and InvalidRequest if several voices have the name.
        """
        rows = await self.voices(owner)
        found = [row for row in rows if row.id == voice] or [row for row in rows if row.name == voice]
        if len(found) > 1:
            raise InvalidRequest(f"{len(found)} of your voices are called {shown(voice)}: give the id of one")
        sample = await settled(self.store.sample, owner, found[0].id) if found else None
        if sample is None:
            raise NotFound(f"there is no voice {shown(voice)}")
        row = found[0]
        return Voice(row.id, row.name, await settled(unpacked, sample, rate), row.transcript)

    async def voices(self, owner: str) -> list[Row]:
        """The voices of an owner, the newest first."""
        return await settled(self.store.voices, owner) if await self._open() else []

    async def voice(self, owner: str, voice: str) -> Row:
        """A voice of an owner by its id. Raises NotFound; whether another has it is not told."""
        for row in await self.voices(owner):
            if row.id == voice:
                return row
        raise NotFound(f"there is no voice {shown(voice)}")

    async def consents(self, owner: str) -> list[Consent]:
        """The consents of an owner, the newest first."""
        return await settled(self.store.consents, owner) if await self._open() else []

    async def consent(self, owner: str, consent: str) -> Consent:
        """A consent of an owner by its id. Raises NotFound; whether another has it is not told."""
        for found in await self.consents(owner):
            if found.id == consent:
                return found
        raise NotFound(f"there is no consent {shown(consent)}")

    async def add_consent(self, owner: str, name: str, language: str, recording: BinaryIO) -> Consent:
        """Keep that somebody agreed, with the whole recording of it.

        Raises MediaError and InvalidRequest if it is not usable, InvalidRequest if the owner has too many, AtCapacity.
        """
        sound = await self._hear(recording)
        await settled(cut, sound)
        await self._open(make=True)
        return await settled(
            self.store.add_consent, owner, name, language, await settled(packed, sound), self.clock()
        )

    async def add_voice(
        self, owner: str, name: str, consent: str, sample: BinaryIO, transcript: str = ""
    ) -> Row:
        """Make a voice of the first 15 s of sound; `transcript` is what is said in them.

        Raises as for a consent, and NotFound if that is not there.
        """
        await self._open(make=True)
        whole = await self._hear(sample)
        sound = await settled(cut, whole)
        data = await settled(packed, sound)
        return await settled(
            self.store.add_voice,
            owner,
            name,
            consent,
            data,
            len(sound) / RATE,
            len(whole) / RATE,
            self.clock(),
            transcript,
        )

    async def warnings(self, owner: str, voice: str) -> list[str]:
        """What seems wrong with the sample of a voice, by its id, as far as a served model can tell, and soon."""
        model = next((name for name, spec in self.hub.specs.items() if spec.discerns), "")
        if not model:
            return []
        try:
            async with asyncio.timeout(PATIENCE):
                made = await self.find(owner, voice, int(self.hub.specs[model].gives[0].rate))
                several = await self.hub.willing().several(model, made.sound)
        except Exception:  # the voice is there already, and stays whatever this was
            log.warning("voice %s could not be judged", voice, exc_info=True)
            return []
        return [SEVERAL.format("the sample")] if several else []

    async def rename(self, owner: str, consent: str, name: str) -> Consent:
        """Call a consent by another name. Raises NotFound."""
        await self.consent(owner, consent)
        await settled(self.store.rename, owner, consent, name)
        return await self.consent(owner, consent)

    async def transcribe(self, owner: str, voice: str, transcript: str) -> Row:
        """Note what is said in a voice's sample. Raises NotFound."""
        await self.voice(owner, voice)
        await settled(self.store.transcribe, owner, voice, transcript)
        return await self.voice(owner, voice)

    async def remove_consent(self, owner: str, consent: str) -> None:
        """Erase a consent, and with it every voice made under it. Raises NotFound."""
        await self.consent(owner, consent)
        await settled(self.store.remove_consent, owner, consent)

    async def remove_voice(self, owner: str, voice: str) -> None:
        """Erase a voice. Raises NotFound."""
        await self.voice(owner, voice)
        await settled(self.store.remove_voice, owner, voice)

    async def close(self) -> None:
        """Let the file go. Twice is once."""
        await settled(self.store.database.close)
        self.opened = False

    async def _hear(self, file: BinaryIO) -> Array:
        self.hub.decoder()
        self.hub.decoding += 1
        try:
            limits = self.hub.settings.files.model_copy(update={"seconds": self.settings.seconds})
            return await hear(file, limits)
        finally:
            self.hub.decoding -= 1

    async def _open(self, make: bool = False) -> bool:
        """Whether there is anything to be read; with `make`, there is. Raises StreamError."""
        async with self.opening:
            if not self.opened and (make or self.store.database.path.exists()):
                await settled(self._made)
                self.opened = True
            return self.opened

    def _made(self) -> None:
        try:
            self.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise StreamError(f"{self.home} cannot be made: {error.strerror}; set voices.folder") from error
        self.store.database.open()
