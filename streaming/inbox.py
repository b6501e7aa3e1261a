"""Inbox: what came for a stream, done in turn. Apart from reading, so that all else is heard while there is no room."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

from riverrun.models.errors import InvalidRequest
from riverrun.streaming import wire
from riverrun.streaming.controls import Say
from riverrun.streaming.errors import ProtocolError
from riverrun.streaming.problems import body
from riverrun.streaming.speech import Speech
from riverrun.streaming.stream import Stream

WAITING = 1024  # frames and controls that may wait to be fed
TYPED = 1 << 17  # characters that may wait to be said


class Inbox:
    """Work that waits, some of it text to say. Whoever makes one has to `run` it."""

    def __init__(self, stream: Stream, say: Say) -> None:
        self.stream, self.say = stream, say
        self.works: deque[Callable[[], Awaitable[None]]] = deque()
        self.typed = 0  # characters in it
        self.texts: deque[wire.Text] | None = None  # those that its last entry says, if it does
        self.taken = self.said = -1  # seq of the last text that came, and of the last that is said
        self.filled = asyncio.Event()

    async def run(self) -> None:
        """Do what came, in turn."""
        while True:
            self.filled.clear()
            while self.works:
                work = self.works.popleft()
                await work()
            await self.filled.wait()

    def add(self, work: Callable[[], Awaitable[None]]) -> None:
        """Have something done after all that came before it. Raises ProtocolError."""
        if len(self.works) >= WAITING:
            raise ProtocolError(
                f"{WAITING} frames and controls wait already: wait for acks, send longer frames"
            )
        self.texts = None
        self.works.append(work)
        self.filled.set()

    def text(self, control: wire.Text) -> None:
        """Take text; what comes while other text waits is said with it. Raises ProtocolError."""
        if -1 < control.seq <= self.taken:
            return
        if self.typed + len(control.text) > TYPED:
            raise ProtocolError(
                f"{self.typed} characters wait to be said, the limit is {TYPED}: wait for words"
            )
        self.typed += len(control.text)
        self.taken = max(self.taken, control.seq)
        if self.texts is None:
            texts = deque([control])
            self.add(partial(self._say, texts))
            self.texts = texts
        elif (last := self.texts[-1]).context == control.context and not last.flush:
            self.texts[-1] = replace(control, text=last.text + control.text)
        else:
            self.texts.append(control)

    @property
    def speech(self) -> Speech:
        """The stream, if it speaks. Raises ProtocolError."""
        if not isinstance(self.stream, Speech):
            raise ProtocolError(f"{self.stream.wanted.model} takes {self.stream.takes}, no text")
        return self.stream

    async def clear(self, control: wire.Clear, start: int) -> None:
        """Drop what waits to be said, and what was said from tick `start` on. Raises ProtocolError, SessionEnded."""
        speech = self.speech
        self.works = deque(work for work in self.works if getattr(work, "func", None) != self._say)
        self.texts, self.typed = None, 0
        played = start if control.played is None else min(control.played, start)
        heard = await speech.clear(start, played)
        self.say("cleared", start=start, context=speech.context, words=[word.told() for word in heard])

    async def _say(self, texts: deque[wire.Text]) -> None:
        """Say what came, until nothing more has."""
        speech = self.speech
        begun = speech.round
        while texts and speech.round == begun:
            control = texts.popleft()
            self.texts = None if self.texts is texts and not texts else self.texts
            self.typed -= len(control.text)
            try:
                await speech.say(control.text, control.context, control.flush)
            except InvalidRequest as error:
                self.say("error", **body(error), fatal=False, context=control.context)
            if control.seq >= 0:
                self.said = control.seq
                self.say("said", seq=self.said)
