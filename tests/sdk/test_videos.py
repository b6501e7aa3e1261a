"""Videos and pictures through riverrun.Client: files, whole or not at all, that the server forgets in the end."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import riverrun
from riverrun.media import UnsupportedMedia, join, picture, settings_of, video
from riverrun.media.pictures import save
from riverrun.models.contract import StreamModel
from riverrun.streaming.errors import StreamError
from riverrun.streaming.hub import Hub
from tests.models.toys import Painter, Smooth
from tests.sdk.cutting import Cut, proxy
from tests.streaming.serving import server
from tests.streaming.test_show import colour

pytestmark = pytest.mark.anyio
SIZE = (32, 48)
At = tuple[str, Hub]


@pytest.fixture
async def at(tmp_path: Path) -> AsyncIterator[At]:
    models: dict[str, StreamModel] = {"smooth": Smooth(), "painter": Painter(SIZE)}
    async with server(models, jobs={"folder": tmp_path / "jobs"}) as found:
        yield found


async def kept(hub: Hub) -> int:
    """How many jobs the server has."""
    assert hub.desk
    return len(await hub.desk.jobs("", None, 100))


async def test_a_video_is_made_and_forgotten_at_the_server(at: At, tmp_path: Path) -> None:
    told = list[float]()
    async with riverrun.AsyncClient(f"http://{at[0]}") as client:
        out = tmp_path / "new" / "clip.mp4"
        assert await client.video("a red ball", out, seconds=2, seed=7, progress=told.append) == out
        clip = join(list(video(out)))
        assert (len(clip), clip.data.shape[1:3], colour(clip.data[5])) == (24, SIZE, "red")
        assert (settings_of(out) or {})["seed"] == 7
        assert told == sorted(told) and told[-1] == 1.0
        with pytest.raises(UnsupportedMedia, match="force=True"):
            await client.video("a red ball", out, seconds=1)
        data = await client.video(
            "a blue ball", seconds=1, image=np.full((50, 50, 3), (10, 250, 250), np.uint8)
        )
        (tmp_path / "bytes.mp4").write_bytes(data)
    first, second = join(list(video(tmp_path / "bytes.mp4"))).data[:2].astype(int)
    assert np.abs(first - (10, 250, 250)).mean() < 12 and colour(second) == "blue"
    assert not await kept(at[1]) and [path.name for path in out.parent.iterdir()] == ["clip.mp4"]


async def test_pictures_are_pixels_or_files(at: At, tmp_path: Path) -> None:
    def drawn() -> tuple[Any, Path]:
        with riverrun.Client(f"http://{at[0]}") as client:
            return client.image("a green ball", seed=2), client.image("a blue ball", tmp_path / "b.webp")

    pixels, path = await asyncio.to_thread(drawn)
    assert pixels.shape == (*SIZE, 3) and colour(pixels) == "green"
    assert path == tmp_path / "b.webp" and colour(picture(path)) == "blue"
    assert not await kept(at[1])


CUTS: list[list[Cut]] = [
    [("up", 100)],
    [("down", 100)],
    [("down", 3_000)],
    [("down", 2_500), ("down", 0), ("up", 50), ("down", 200)],
]


@pytest.mark.parametrize("cuts", CUTS, ids=str)
async def test_a_cut_connection_costs_no_video(at: At, tmp_path: Path, cuts: list[Cut]) -> None:
    async with proxy(at[0], *cuts) as cutting, riverrun.AsyncClient(f"http://{cutting.at}") as client:
        out = await client.video(
            "a red ball", tmp_path / "a.mp4", seconds=2, image=await still(client, tmp_path)
        )
        assert len(join(list(video(out)))) == 24 and cutting.connections > len(cuts)
    assert not await kept(at[1])


async def still(client: riverrun.AsyncClient, folder: Path) -> Path:
    """A file of a first picture."""
    save(folder / "first.png", np.full((40, 60, 3), (10, 250, 250), np.uint8))
    return folder / "first.png"


async def test_who_gives_up_has_the_making_ended(at: At, tmp_path: Path) -> None:
    async with riverrun.AsyncClient(f"http://{at[0]}") as client:
        going = asyncio.Event()
        work = asyncio.create_task(
            client.video("a red ball", tmp_path / "a.mp4", seconds=100, progress=lambda share: going.set())
        )
        await going.wait()
        assert await kept(at[1]) == 1
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
    assert not await kept(at[1]) and not (tmp_path / "a.mp4").exists()


async def test_what_cannot_be_shown_is_told(at: At, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    refused: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"prompt": ""}, riverrun.InvalidRequest, "prompt is empty"),
        ({"prompt": "a ball", "seconds": 1e6}, riverrun.InvalidRequest, "seconds is 1e"),
        ({"prompt": "a ball", "model": "smooth"}, riverrun.InvalidRequest, "gives no pictures"),
        ({"prompt": "a ball", "image": tmp_path / "gone.png"}, UnsupportedMedia, "cannot be read"),
        ({"prompt": "a ball", "image": tmp_path / "broken.png"}, riverrun.MediaError, "no picture"),
    ]
    async with riverrun.AsyncClient(f"http://{at[0]}") as client:
        for asked, kind, why in refused:
            with pytest.raises(kind, match=why):
                await client.video(**asked)
        with pytest.raises(riverrun.InvalidRequest, match="prompt is empty"):
            await client.image("")
    assert not await kept(at[1])


async def test_a_video_that_fails_at_the_server_is_told(at: At, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Painter, *_: Any) -> Any:
        raise RuntimeError("out of paint")

    monkeypatch.setattr(Painter, "step", broken)
    async with riverrun.AsyncClient(f"http://{at[0]}") as client:
        with pytest.raises(StreamError, match="the video could not be made"):
            await client.video("a red ball", seconds=1)
    assert not await kept(at[1])
