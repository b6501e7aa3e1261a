"""Our own models as the bench sees them: the whole clip at once, as served, or speaking in voices of two kinds."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from riverrun.media import Chunk

if TYPE_CHECKING:
    from riverrun.models.evaluation.lines import Line
    from riverrun.models.evaluation.peers import Timing
    from riverrun.models.restoration.stream import Restoration
    from riverrun.speaker import Speaker

Sound = NDArray[np.float32]
PACKET_MS = 10  # of a live stream


class Clip:
    """A model's whole-clip forward; it hears the future of nothing, but answers only at the end."""

    def __init__(self, name: str, model: "Restoration") -> None:
        self.name, self.model = f"{name}, offline", model

    def run(self, x: Sound) -> Sound:
        from riverrun.models.restoration.stream import Request

        return self.model.whole(x[:, None], Request())[:, 0]

    def timing(self) -> "Timing":
        from riverrun.models.evaluation.peers import Timing

        hop = self.model.config.spectrum.hop / self.model.config.spectrum.rate * 1e3
        clip = np.random.default_rng(0).normal(size=32_000).astype(np.float32) * 0.1
        begun = time.perf_counter()
        self.run(clip)
        cost = (time.perf_counter() - begun) * 1e3 / (2_000 / hop)
        return Timing(float("inf"), hop, cost, cost)


class Streamed:
    """A model behind Session and Engine, as a caller has it."""

    def __init__(self, name: str, model: "Restoration") -> None:
        self.name, self.model = f"{name}, streamed", model

    def run(self, x: Sound) -> Sound:
        from riverrun.models.restoration.stream import Request
        from riverrun.streaming.engine import run

        packets = [
            Chunk(x[at : at + 160, None], at, 16_000, at + 160 >= len(x)) for at in range(0, len(x), 160)
        ]
        return np.concatenate([chunk.data[:, 0] for chunk in run(self.model, Request(), packets)])

    def timing(self) -> "Timing":
        """Work a hop from stepping alone; the slowest sample in a hundred from a live stream at its own pace."""
        from riverrun.models.evaluation.peers import Timing, timed
        from riverrun.models.restoration.stream import Request
        from riverrun.streaming.errors import TooSlow

        spectrum, state = self.model.config.spectrum, self.model.open(Request())
        hop, algorithmic = spectrum.hop / spectrum.rate * 1e3, spectrum.size / spectrum.rate * 1e3
        chunk = Chunk(
            np.random.default_rng(0).normal(size=(spectrum.hop, 1)).astype(np.float32) * 0.1, 0, 16_000
        )
        cost = timed(lambda: self.model.step([chunk], state), hop, algorithmic)
        try:
            delays = asyncio.run(live(self.model))
            slowest = delays[int(len(delays) * 0.99)] - algorithmic
        except TooSlow:
            slowest = float("inf")
        return Timing(algorithmic, hop, cost.p50, slowest)


class Named:
    """What speaks, in the voices it knows by name, in turn."""

    made = True

    def __init__(self, name: str, speaker: "Speaker") -> None:
        self.name, self.rate, self.speaker = f"{name}, named voices", speaker.rate, speaker

    def voice(self, line: "Line") -> str:
        names = self.speaker.model.names or ("",)
        return names[line.number % len(names)]

    def say(self, line: "Line") -> Iterator[Sound]:
        from riverrun.speaker import Voice

        self.speaker.voice = Voice(self.voice(line))
        yield from (chunk.data[:, 0] for chunk in self.speaker.say(line.text))


class Cloned:
    """What speaks, in the voice of a few seconds of a recording, which it hears anew for each line."""

    made = True

    def __init__(self, name: str, speaker: "Speaker") -> None:
        from riverrun.models.evaluation.lines import PROMPT

        self.name, self.rate, self.speaker = f"{name}, cloned from {PROMPT:g} s", speaker.rate, speaker
        self.samples, self.heard = round(PROMPT * speaker.rate), dict[Path, Sound]()

    def voice(self, line: "Line") -> str:
        return line.voice

    def say(self, line: "Line") -> Iterator[Sound]:
        from riverrun.models.training.corpus import decode
        from riverrun.speaker import Voice

        assert line.prompt
        path = line.prompt.path
        if path not in self.heard:
            self.heard[path] = decode(path, self.rate)[: self.samples]
        self.speaker.voice = Voice("", self.heard[path], line.prompt.text)
        yield from (chunk.data[:, 0] for chunk in self.speaker.say(line.text))


async def live(
    model: "Restoration", seconds: float = 12, rate: int = 16_000, warm_up: float = 2
) -> list[float]:
    """Milliseconds from each packet's first sample being captured to its coming out, smallest first.

    Packets are fed when the microphone would have filled them. The first `warm_up` seconds do not count.
    Raises TooSlow if the model does not keep up.
    """
    from riverrun.models.restoration.stream import Request
    from riverrun.streaming.engine import Engine
    from riverrun.streaming.session import Live

    size = rate * PACKET_MS // 1000
    sound = np.random.default_rng(0).normal(size=(size, 1)).astype(np.float32) * 0.05
    delays: list[float] = []
    with Engine() as engine:
        engine.add("it", model)
        session = await engine.open("it", Request(), rate=rate, channels=1, live=Live())
        begun = time.monotonic()

        async def speak() -> None:
            for i in range(int(seconds * 1000 / PACKET_MS)):
                await asyncio.sleep(max(0.0, begun + (i + 1) * size / rate - time.monotonic()))
                await engine.feed(session, Chunk(sound, i * size, rate))
            await engine.finish(session)

        async def listen() -> None:
            while chunks := await engine.poll(session):
                now = time.monotonic()
                delays.extend((now - begun - c.pts / rate) * 1e3 for c in chunks if c.pts > warm_up * rate)

        await asyncio.gather(speak(), listen())  # a stream that falls behind ends both
    return sorted(delays)
