"""Pictures of prompts, live from a server: made as they are looked at, and of another prompt when it is changed."""

from collections.abc import Callable
from typing import Any, Self

from riverrun.link import Event
from riverrun.live import Running
from riverrun.shots import Cue
from riverrun.streaming import wire


class AsyncShow(Running):
    """Prompts in, chunks of pictures out. Use it in `async with`; leaving before the end cancels it at the server.

    What is not read is not made: the server goes on when what it has made was read, or all but `live` seconds of it.
    A lost connection is dialled again and goes on where it was, for as long as the server waits for it; not a picture
    is lost or comes twice.
    Entering raises Unreachable, AtCapacity, InvalidRequest, NotAllowed.
    """

    def __init__(
        self,
        url: str,
        headers: dict[str, str],
        wanted: wire.Open,
        on_event: Callable[[Event], object] | None = None,
        among: "set[Running] | None" = None,
    ) -> None:
        super().__init__(url, headers, wanted, on_event, among)
        self.link.skips = False
        self.prompts = {"": str(wanted.request["prompt"])}  # by the update that each came with

    async def __aenter__(self) -> Self:
        """Wait until the stream is open; `rate` is that of the pictures from then on."""
        await super().__aenter__()
        self.rate = self.link.rate
        return self

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of the pictures."""
        rows, columns = self._opened.size
        return rows, columns

    @property
    def cues(self) -> list[Cue]:
        """The prompts that took effect, in their order, each with the seconds from which on it is seen.

        One is told when its first chunk is begun. Of several that come while a chunk is made, only the last one counts.
        """
        return [Cue(float(tick / self.rate), self.prompts[name]) for name, tick in self.link.effects.items()]

    async def update(self, **values: Any) -> None:
        """Change the `prompt`, from the next chunk that is begun on, or how many `seconds` there are in all.

        Returns when the server has it; what the model then refuses is an event. Raises InvalidRequest if it is refused
        at once, and what ended the stream if it is over.
        """
        key = self._key("update")
        if "prompt" in values:
            self.prompts[key] = str(values["prompt"])
        await self.link.ask(key, wire.Update(values, key))

    async def finish(self) -> None:
        """End with the chunk that is made now. Twice is once."""
        async with self.turn:
            if not self.finished:
                self.finished = True
                self.link.hold(wire.Finish())
