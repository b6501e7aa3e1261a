"""Live pictures through riverrun.Client: as the model makes them, no sooner than read, whatever the connection does."""

import asyncio
from collections.abc import AsyncIterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import riverrun
from riverrun.media import Chunk, join
from riverrun.media.pictures import save
from riverrun.models.shown import Shown
from riverrun.models.video.lite import ShowLite
from riverrun.streaming.engine import run
from riverrun.streaming.hub import Hub
from tests.models.toys import Painter, Smooth
from tests.models.video.shows import net
from tests.sdk.cutting import Cut, proxy
from tests.streaming.serving import server
from tests.streaming.test_show import colour

pytestmark = pytest.mark.anyio
SIZE = (32, 48)
At = tuple[str, Hub]


@pytest.fixture
async def at() -> AsyncIterator[At]:
    async with server({"smooth": Smooth(), "painter": Painter(SIZE)}) as found:
        yield found


def pictures(chunks: list[Chunk]) -> NDArray[np.uint8]:
    """Chunks as one clip, which must follow on one another.  # [t, y, x, 3]"""
    assert {chunk.data.dtype for chunk in chunks} == {np.dtype(np.uint8)} and chunks[-1].last
    return join(chunks).data


async def test_a_network_is_seen_as_it_shows_alone() -> None:
    model = ShowLite(net())
    asked: dict[str, Any] = {"prompt": "a red ball", "seconds": 1.5, "seed": 3}
    async with server({"lite": model}) as (at, _), riverrun.AsyncClient(f"http://{at}") as client:
        async with client.show(**asked) as show:
            chunks = [chunk async for chunk in show]
            assert show.size == (16, 24) and show.rate == 12
            assert show.cues == [riverrun.Cue(0.0, "a red ball")]
    alone = join(list(run(model, Shown(**asked)))).data
    assert chunks[0].pts == 0 and chunks[0].rate == Fraction(12)
    assert np.abs(pictures(chunks).astype(int) - alone).max() <= 1


async def test_a_changed_prompt_is_seen_from_the_time_that_is_told(at: At) -> None:
    async with riverrun.AsyncClient(f"http://{at[0]}") as client:
        async with client.show("a red ball") as show:
            chunks = [await anext(show)]
            await asyncio.gather(show.update(prompt="a green ball"), show.update(prompt="a blue ball"))
            while len(show.cues) < 2:
                chunks.append(await anext(show))
            await show.update(seconds=float(show.cues[1].seconds) + 1)
            chunks += [chunk async for chunk in show]
            red, blue = show.cues
            with pytest.raises(riverrun.SessionEnded, match="finished"):
                await show.update(prompt="a green ball")
    seen, start = [colour(picture) for picture in pictures(chunks)], round(12 * blue.seconds)
    assert (red, blue.prompt) == (riverrun.Cue(0.0, "a red ball"), "a blue ball")
    assert seen == ["red"] * start + ["blue"] * 12 and start > 0


@pytest.mark.parametrize(("live", "ahead"), [(None, 3), (1.0, 12)])
async def test_what_is_not_read_is_not_made_and_finishing_ends_it(
    at: At, live: float | None, ahead: int
) -> None:
    async with riverrun.AsyncClient(f"http://{at[0]}") as client:
        async with client.show("a red ball", live=live) as show:
            (stream,) = at[1].streams.values()
            while stream.out < ahead:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.3)
            assert stream.out == ahead and (await show.stats())["ticks_out"] == ahead
            chunks = [await anext(show) for _ in range(ahead // 3 + 2)]
            await show.finish()
            await show.finish()
            chunks += [chunk async for chunk in show]
            assert len(pictures(chunks)) >= ahead + 6, "and it ended, though it was for as long as it is read"


async def test_a_first_picture_may_be_pixels_or_a_file_however_large(at: At, tmp_path: Path) -> None:
    large = np.random.default_rng(0).integers(0, 90, (600, 900, 3), np.uint8)
    save(tmp_path / "first.png", large)
    assert (tmp_path / "first.png").stat().st_size > 500_000
    async with riverrun.AsyncClient(f"http://{at[0]}") as client:
        for image, mean in (
            (large, 45),
            (tmp_path / "first.png", 45),
            (np.full((8, 12, 3), 99, np.uint8), 99),
        ):
            async with client.show("a red ball", seconds=0.5, image=image) as show:
                first, second = pictures([chunk async for chunk in show])[:2]
            assert abs(first.mean() - mean) < 8 and colour(second) == "red"
        with pytest.raises(riverrun.MediaError, match="gone.png cannot be read"):
            client.show("a red ball", image=tmp_path / "gone.png")
        with pytest.raises(riverrun.InvalidRequest, match="make it smaller"):
            client.show(
                "a red ball", image=np.random.default_rng(0).integers(0, 255, (2000, 3000, 3), np.uint8)
            )


async def test_the_same_without_async(at: At) -> None:
    def watched() -> tuple[list[Chunk], list[riverrun.Cue], tuple[int, int], float]:
        with riverrun.Client(f"http://{at[0]}") as client:
            with client.show("a green ball", model="painter", seconds=2, seed=3) as show:
                chunks = [next(show)]
                show.update(prompt="a red ball")
                return [*chunks, *show], show.cues, show.size, show.rate

    chunks, cues, size, rate = await asyncio.to_thread(watched)
    assert len(pictures(chunks)) == 24 and (size, rate) == (SIZE, 12.0)
    assert [cue.prompt for cue in cues] == ["a green ball", "a red ball"]
    assert not at[1].streams


CUTS: list[list[Cut]] = [
    [("down", 700)],
    [("down", 40_000)],
    [("up", 700)],
    [("down", 20_000), ("down", 0), ("up", 500), ("down", 30_000)],
]


@pytest.mark.parametrize("cuts", CUTS, ids=str)
async def test_a_cut_connection_costs_neither_a_picture_nor_a_prompt(at: At, cuts: list[Cut]) -> None:
    events = list[str]()
    async with proxy(at[0], *cuts) as cutting:
        async with riverrun.AsyncClient(f"http://{cutting.at}") as client:
            watch: Any = {"seconds": 3.0, "on_event": lambda event: events.append(event.name)}
            async with client.show("a red ball", **watch) as show:
                chunks = [await anext(show), await anext(show)]
                await show.update(prompt="a blue ball")
                chunks += [chunk async for chunk in show]
                red, blue = show.cues
    seen, start = [colour(picture) for picture in pictures(chunks)], round(12 * blue.seconds)
    assert seen == ["red"] * start + ["blue"] * (36 - start) and 6 <= start < 36
    assert (red.prompt, blue.prompt) == ("a red ball", "a blue ball")
    assert events.count("lost") == events.count("resumed") >= 1


async def test_what_cannot_be_shown_is_refused(at: At) -> None:
    events = list[riverrun.Event]()
    async with riverrun.AsyncClient(f"http://{at[0]}") as client:
        for asked, why in (
            ({"prompt": ""}, "prompt is empty"),
            ({"prompt": "a ball", "seconds": -1.0}, "seconds is -1"),
            ({"prompt": "a ball", "model": "none"}, "'none'"),
            ({"prompt": "a ball", "model": "smooth"}, "this model gives sound"),
        ):
            with pytest.raises(riverrun.InvalidRequest, match=why):
                async with client.show(**asked):
                    raise AssertionError("it was taken")
        async with client.show("a red ball", on_event=events.append) as show:
            with pytest.raises(riverrun.InvalidRequest, match="seed cannot change now"):
                await show.update(seed=3)
            with pytest.raises(riverrun.InvalidRequest, match="prompt is empty"):
                await show.update(prompt=" ")
            await show.update(prompt="a ball " * 80)  # which the model alone finds too long
            while not events:
                await anext(show)
    assert [event.name for event in events] == ["refused"] and "500" in events[0].why
    async with server({"smooth": Smooth()}) as (deaf, _), riverrun.AsyncClient(f"http://{deaf}") as client:
        with pytest.raises(riverrun.InvalidRequest, match="no model here shows"):
            async with client.show("a red ball"):
                raise AssertionError("it was taken")
