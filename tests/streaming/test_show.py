"""Pictures of prompts over a WebSocket: as fast as they are seen, changed on the way, whole after a lost connection."""

import asyncio
import base64
import io
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from riverrun.models.contract import StreamModel
from riverrun.models.picture import pictured
from riverrun.models.shown import Shown
from riverrun.models.state import State
from riverrun.models.video.lite import ShowLite
from riverrun.models.video.live import LiveOpenSora
from riverrun.streaming import wire
from riverrun.streaming.engine import run
from riverrun.streaming.hub import Hub
from riverrun.streaming.show import Show
from tests.models.toys import COLOURS, Painter, Smooth
from tests.models.video.shows import net
from tests.models.video.test_live import USUAL, parts
from tests.pace import kept_up
from tests.streaming.serving import Peer, call, dial, server

pytestmark = pytest.mark.anyio
SIZE = (32, 48)
At = tuple[str, Hub]
Pixels = NDArray[np.uint8]


@pytest.fixture
async def at() -> AsyncIterator[At]:
    models: dict[str, StreamModel] = {"painter": Painter(SIZE), "smooth": Smooth()}
    async with server(models, streams={"resume": 5, "snapshot": 0.1}) as found:
        yield found


@asynccontextmanager
async def watching(at: str, form: str = "rgb", **request: Any) -> AsyncIterator[Peer]:
    asked = {"prompt": "a red ball", **request}
    live = asked.pop("live", None)
    async with call(at, model="painter", format=form, request=asked, live=live) as peer:
        yield peer


async def watch(peer: Peer, until: str = "ended") -> dict[str, Any]:
    """See each picture as it comes, until a message of a kind does."""
    while True:
        message = await peer.hear()
        if isinstance(message, wire.Frame):
            await peer.acknowledge(message.seq)
        elif message["type"] == until:
            return message


async def watch_until(peer: Peer, tick: int) -> None:
    """See each picture as it comes, until one of a tick has."""
    while not peer.frames or peer.frames[-1].pts < tick:
        message = await peer.hear()
        if isinstance(message, wire.Frame):
            await peer.acknowledge(message.seq)


async def still(peer: Peer, seconds: float = 0.3) -> None:
    """Take what comes until nothing does."""
    while True:
        try:
            await asyncio.wait_for(peer.hear(), seconds)
        except TimeoutError:
            return


def seen(peer: Peer, size: tuple[int, int] = SIZE) -> Pixels:
    """The pictures that came, each once, in their order.  # [t, y, x, 3]"""
    frames = {frame.seq: frame for frame in peer.frames}
    parts = [
        np.frombuffer(frame.payload, np.uint8).reshape(-1, *size, 3) for _, frame in sorted(frames.items())
    ]
    ends = np.cumsum([len(part) for part in parts])
    assert [frame.pts for _, frame in sorted(frames.items())] == [0, *ends[:-1]]
    return np.concatenate(parts)


def colour(picture: NDArray[Any]) -> str:
    """What a picture shows, beside the bar."""
    middle = np.median(picture.reshape(-1, 3), axis=0)
    return min(COLOURS, key=lambda name: float(np.abs(middle - np.array(COLOURS[name])).sum()))


async def test_fragments_play_as_they_come_at_their_times(at: At) -> None:
    async with watching(at[0], "mp4", seconds=2.0) as peer:
        opened = peer.opened
        assert opened["rate"] == 12 and opened["size"] == [*SIZE] and opened["frame"] == 3
        assert opened["mime"].startswith('video/mp4; codecs="avc1.42') and opened["lead"] == 0.25
        assert (await watch(peer))["reason"] == "finished"
    assert {frame.kind for frame in peer.frames} == {3} and peer.frames[-1].last
    with av.open(
        io.BytesIO(base64.b64decode(opened["head"]) + b"".join(f.payload for f in peer.frames)), "r"
    ) as file:
        assert "a red ball" in file.metadata["comment"], "how it was made is in it"
        frames = list(file.decode(video=0))
    assert [frame.time for frame in frames] == [i / 12 for i in range(24)]
    assert {colour(frame.to_ndarray(format="rgb24")) for frame in frames} == {"red"}


async def test_pictures_that_come_too_late_are_made_in_fewer_steps_and_that_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, wait = ShowLite(net()), 0.12  # seconds of an evaluation: eight take longer than a chunk plays
    evaluate = model.net.velocity

    def slowly(*args: Any, **kwargs: Any) -> Any:
        time.sleep(wait)
        return evaluate(*args, **kwargs)

    monkeypatch.setattr(model.net, "velocity", slowly)
    asked = {"prompt": "a red ball", "steps": 8}
    async with (
        server({"lite": model}) as (at, _),
        call(at, model="lite", format="rgb", request=asked) as peer,
    ):
        while (told := await watch(peer, "event"))["name"] != "degraded":
            pass
    assert told["less"] == ["steps"]


@pytest.mark.parametrize("wait", [0.0, 0.7], ids=["at once", "chunk by chunk as they play"])
async def test_who_has_pictures_in_time_is_shown_all_steps(
    wait: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, asked = ShowLite(net()), {"prompt": "a red ball", "steps": 8}
    less = list[int]()

    def lighten(state: State, rung: int) -> State:
        less.append(rung)
        return state

    monkeypatch.setattr(model, "lighten", lighten)
    async with (
        server({"lite": model}) as (at, _),
        call(at, model="lite", format="rgb", request=asked) as peer,
    ):
        with suppress(TimeoutError):
            async with asyncio.timeout(5.5):
                while True:
                    await watch_until(peer, peer.frames[-1].pts + 1 if peer.frames else 0)
                    await asyncio.sleep(wait)
    with kept_up(lambda: peer.frames[-1].pts < 5 * 12 and "it makes pictures more slowly than they play"):
        assert not less


async def test_raw_pictures_are_those_of_the_model(at: At) -> None:
    async with watching(at[0], seconds=1.0) as peer:
        await watch(peer)
    pictures = seen(peer)
    assert len(pictures) == 12 and {frame.kind for frame in peer.frames} == {4}
    assert all((pictures[i, :, i] == 0).all() and colour(pictures[i]) == "red" for i in range(12))
    (shown,) = [told for told in peer.told if told["type"] == "shown"]
    assert shown == {"type": "shown", "id": "", "prompt": 0, "tick": 0}


async def test_the_first_that_shows_is_taken_where_none_is_named(at: At) -> None:
    for name in (None, "one"):
        asked = {"prompt": "a red ball", "seconds": 0.25}
        async with call(at[0], model="", format="rgb", request=asked, stream=name) as peer:
            assert peer.opened["model"] == "painter"


async def test_a_network_is_watched_as_it_shows_alone() -> None:
    model, size = ShowLite(net()), (16, 24)
    asked = Shown("a red ball", seconds=1.5, seed=3)
    async with (
        server({"lite": model}) as (at, _),
        call(at, model="lite", format="rgb", request=asdict(asked)) as peer,
    ):
        await watch(peer)
    alone = np.concatenate([chunk.data for chunk in run(model, asked)])
    assert seen(peer, size).shape == alone.shape == (18, *size, 3)
    assert np.abs(seen(peer, size).astype(int) - alone).max() <= 1, "a pixel may round the other way"


async def test_a_published_network_is_watched_in_either_mode_as_it_shows_alone() -> None:
    model, size = LiveOpenSora(parts(), USUAL), (16, 24)
    async with server({"published": model}) as (at, hub):
        for mode in ("loop", "fifo"):
            asked = Shown("a calm sea", seconds=1.5, seed=3, mode=mode)
            async with call(at, model="published", format="rgb", request=asdict(asked)) as peer:
                await watch(peer)
            alone = np.concatenate([chunk.data for chunk in run(model, asked)])
            assert seen(peer, size).shape == alone.shape == (36, *size, 3)
            assert np.abs(seen(peer, size).astype(int) - alone).max() <= 1, "a pixel may round the other way"
        assert hub.specs["published"].modes == ("loop", "fifo")
        async with dial(at) as peer:
            asked_otherwise = {"prompt": "a calm sea", "mode": "causal"}
            await peer.say(wire.Open("published", request=asked_otherwise, format="rgb"))
            assert "expected one of loop, fifo" in (await peer.until("error"))["error"]["message"]


async def test_another_prompt_for_a_published_network_is_acknowledged_by_where_it_counts() -> None:
    async with (
        server({"published": LiveOpenSora(parts(), USUAL)}) as (at, _),
        call(at, model="published", format="rgb", request={"prompt": "a calm sea"}) as peer,
    ):
        await peer.until("shown")
        await peer.say(wire.Update({"prompt": "a storm"}, "later"))
        told = await watch(peer, "shown")
        assert (told["id"], told["prompt"], told["tick"]) == ("later", 1, 18), "where the next clip begins"
        await peer.say(wire.Finish())
        await watch(peer)


async def test_a_published_network_is_served_at_the_resolution_of_a_preset() -> None:
    settings = {"compute": {"presets": {"published": "144p"}}}
    async with server({"published": LiveOpenSora(parts(), USUAL)}, **settings) as (_, hub):
        assert hub.specs["published"].gives[0].size == (144, 256)
        assert hub.fits["published"] == {"preset": "144p"}


async def test_a_published_network_is_served_with_the_caching_of_a_preset() -> None:
    settings = {"compute": {"presets": {"published": "144p-teacache-slow"}}}
    async with server({"published": LiveOpenSora(parts(), USUAL)}, **settings) as (at, hub):
        assert hub.specs["published"].modes == ("loop",)
        asked: dict[str, Any] = {"prompt": "a calm sea", "seconds": 0.5, "steps": 3}
        async with call(at, model="published", format="rgb", request=asked) as peer:
            await watch(peer)
        assert seen(peer, (144, 256)).shape == (12, 144, 256, 3)
        async with dial(at) as peer:
            await peer.say(wire.Open("published", request={**asked, "mode": "fifo"}, format="rgb"))
            assert "fifo with caching, expected loop" in (await peer.until("error"))["error"]["message"]


@pytest.mark.parametrize(("live", "ahead"), [(None, 3), (1.0, 12)])
async def test_no_more_is_made_than_a_lead_ahead_of_what_was_seen(
    at: At, live: float | None, ahead: int
) -> None:
    async with watching(at[0], live=live) as peer:
        await still(peer)
        assert len(seen(peer)) == ahead
        await peer.say(wire.Ack(peer.frames[-1].seq, buffered=ahead / 12))
        await still(peer)
        assert len(seen(peer)) == ahead, "all of it is still to be seen"
        await peer.say(wire.Ack(peer.frames[-1].seq, buffered=(ahead - 1) / 12))
        await still(peer)
        assert len(seen(peer)) == ahead + 3, "one was, so there is room for a chunk"
        await peer.say(wire.Stats())
        assert (await peer.until("stats"))["queue"] == round((ahead + 2) / 12, 4)


async def test_a_prompt_counts_from_the_next_chunk_on_which_is_told(at: At) -> None:
    async with watching(at[0]) as peer:
        await still(peer)
        await peer.say(wire.Update({"prompt": "a green ball"}, "first"))
        assert (await peer.until("updated"))["id"] == "first"
        await still(peer, 0.1)
        await peer.acknowledge(peer.frames[-1].seq)
        shown = await watch(peer, "shown")
        assert shown == {"type": "shown", "id": "first", "prompt": 1, "tick": 3}
        await watch_until(peer, 9)
        await peer.say(wire.Update({"prompt": "a blue ball"}, "second"))
        assert (await watch(peer, "updated"))["id"] == "second"
        later = await watch(peer, "shown")
        assert (later["id"], later["prompt"], later["tick"] % 3) == ("second", 2, 0)
        await watch_until(peer, later["tick"] + 3)
        colours = [colour(picture) for picture in seen(peer)]
        assert colours[:3] == ["red"] * 3 and set(colours[3 : later["tick"]]) == {"green"}
        assert set(colours[later["tick"] :]) == {"blue"}


async def test_a_flood_of_prompts_is_one_prompt_at_a_time(at: At) -> None:
    count, most = 3000, 0
    async with watching(at[0]) as peer:
        await still(peer)
        (stream,) = at[1].streams.values()
        assert isinstance(stream, Show)
        for i in range(count):
            await peer.say(wire.Update({"prompt": f"a green ball, no. {i}"}, str(i)))
            most = max(most, len(stream.waiting), len(stream.asked))
        while (await peer.until("updated"))["id"] != str(count - 1):
            pass  # the answer to one is an answer to those before
        await still(peer, 0.1)
        await peer.acknowledge(peer.frames[-1].seq)
        shown = await watch(peer, "shown")
        assert (shown["id"], shown["tick"]) == (str(count - 1), 3)
        assert len(stream.waiting) == 0 and len(stream.asked) == 0
    assert not [told for told in peer.told if told["type"] == "error"]


async def test_who_pauses_has_nothing_made(at: At) -> None:
    async with watching(at[0], live=5.0) as peer:
        await peer.say(wire.Pause())
        await still(peer)
        held = len(peer.frames)
        await peer.acknowledge(peer.frames[-1].seq)
        await still(peer)
        assert len(peer.frames) == held
        await peer.say(wire.Pause(False))
        await still(peer)
        assert len(seen(peer)) >= 60


async def test_finish_ends_with_the_next_chunk_even_if_nobody_watches(at: At) -> None:
    async with watching(at[0]) as peer:
        await still(peer)
        await peer.say(wire.Finish())
        assert (await peer.until("ended"))["reason"] == "finished"
        assert len(seen(peer)) == 6 and peer.frames[-1].last


async def test_a_lost_connection_costs_no_picture_and_no_word_of_a_prompt(at: At) -> None:
    async with watching(at[0]) as peer:
        await still(peer)
        await peer.say(wire.Update({"prompt": "a green ball"}, "mine"))
        await still(peer, 0.1)
        await peer.acknowledge(peer.frames[-1].seq)
        await peer.until("shown")
        session, token, received = peer.opened["session"], peer.opened["token"], peer.frames[-1].seq
        peer.socket.transport.abort()
    async with dial(at[0]) as again:
        await again.say(wire.Resume(session, token, received))
        opened = await again.until("opened")
        assert opened["output"] >= received + 1
        told = [(await again.until("shown"))["id"] for _ in range(2)]
        assert told == ["", "mine"], "which may not have come"
        again.frames[:0] = [frame for frame in peer.frames if frame.seq <= received]
        await watch_until(again, 12)
        await again.say(wire.Finish())
        await watch(again)
    pictures = seen(again)
    assert all((picture[:, i % SIZE[1]] == 0).all() for i, picture in enumerate(pictures)), (
        "none is lost or doubled"
    )
    assert [colour(picture) for picture in pictures][:4] == ["red"] * 3 + ["green"]


async def test_an_engine_that_fails_costs_none_either(at: At) -> None:
    async with watching(at[0]) as peer:
        await watch_until(peer, 9)
        await peer.say(wire.Update({"prompt": "a green ball"}, "mine"))
        await watch(peer, "shown")
        await at[1].engine.shut()
        tick = peer.frames[-1].pts
        await watch_until(peer, tick + 12)
        await peer.say(wire.Finish())
        await watch(peer)
    pictures = seen(peer)
    assert all((picture[:, i % SIZE[1]] == 0).all() for i, picture in enumerate(pictures))
    assert colour(pictures[-1]) == "green" and at[1].restarts == 1


# First pictures, and what is refused


def png(size: tuple[int, int], rgb: tuple[int, int, int] = (10, 250, 250)) -> str:
    file = io.BytesIO()
    Image.new("RGB", (size[1], size[0]), rgb).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


@pytest.mark.parametrize("own", [True, False])
async def test_the_first_picture_is_the_one_that_is_given(at: At, own: bool) -> None:
    given = np.full((*SIZE, 3), (10, 250, 250), np.uint8)
    picture = pictured(given) if own else f"data:image/png;base64,{png((200, 100))}"
    async with watching(at[0], seconds=1.0, picture=picture) as peer:
        await watch(peer)
    assert (seen(peer)[0] == given).all() and colour(seen(peer)[1]) == "red"


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"prompt": ""}, "prompt is empty"),
        ({"prompt": " \n"}, "prompt is empty"),
        ({"prompt": "x" * 10_000}, "10000 characters, the limit is 2000: say it in fewer"),
        ({"prompt": "x" * 600}, "prompt has 600 characters, expected up to 500"),
        ({"prompt": 3}, "prompt is 3"),
        ({"seconds": -1.0}, "seconds is -1, expected up to 600"),
        ({"seconds": 10_000.0}, "seconds is 10000"),
        ({"steps": 1000}, "steps is 1000, expected 1 to 64"),
        ({"size": 3}, "request has no size"),
        ({"picture": "red"}, "picture begins with 'red'"),
        ({"picture": "data:text/html;base64,AAAA"}, "expected data:image/png;base64"),
        ({"picture": "data:image/png;base64,AA*A"}, "no base64"),
        ({"picture": "data:image/png;base64,AAAA"}, "expected one of PNG"),
        ({"picture": f"data:image/png;base64,{png((50, 50))[:80]}"}, "damaged"),
        (
            {"picture": f"data:image/png;base64,{png((5000, 4001))}"},
            "4001 x 5000 pixels, the limit is 20000000",
        ),
        ({"picture": pictured(np.zeros((8, 8, 3), np.uint8))}, "expected (32, 48)"),
    ],
)
async def test_what_cannot_be_shown_is_refused_with_the_reason(
    at: At, values: dict[str, Any], why: str
) -> None:
    async with dial(at[0]) as peer:
        await peer.say(wire.Open("painter", {"prompt": "a red ball", **values}))
        error = await peer.until("error")
    assert error["fatal"] and why in error["error"]["message"]
    assert error["error"]["type"] == "invalid_request_error"
    assert not at[1].streams


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"prompt": ""}, "prompt is empty"),
        ({"prompt": "x" * 10_000}, "the limit is 2000"),
        ({"prompt": "x" * 600}, "expected up to 500"),
        ({"picture": pictured(np.zeros((*SIZE, 3), np.uint8))}, "picture cannot change now"),
        ({"seed": 3}, "seed cannot change now, only prompt and seconds"),
        ({"seconds": "3"}, "seconds is '3'"),
    ],
)
async def test_a_wrong_update_is_told_of_and_changes_nothing(
    at: At, values: dict[str, Any], why: str
) -> None:
    async with watching(at[0]) as peer:
        await still(peer)
        await peer.say(wire.Update(values, "wrong"))
        error = await peer.until("error")
        assert (error["fatal"], error["id"]) == (False, "wrong") and why in error["error"]["message"]
        await peer.say(wire.Update({"prompt": "a blue ball"}, "right"))
        await still(peer, 0.1)
        await peer.acknowledge(peer.frames[-1].seq)
        shown = await watch(peer, "shown")
        assert shown == {"type": "shown", "id": "right", "prompt": 1, "tick": 3}


@pytest.mark.parametrize(
    ("opening", "then", "why"),
    [
        ({"model": "painter", "format": "f32"}, None, "expected 'mp4' or 'rgb'"),
        ({"model": "smooth", "format": "mp4", "request": {}}, None, "expected 'pcm16' or 'f32'"),
        ({"model": "painter", "live": 61.0}, None, "live is 61"),
        ({"model": "painter"}, wire.Text("Hello."), "takes prompts by update, no text"),
        ({"model": "smooth", "request": {}, "format": "f32"}, wire.Pause(), "only pictures can"),
        ({"model": "painter"}, wire.Frame(0, 0, b"", kind=4), "takes prompts by update"),
    ],
)
async def test_sound_and_pictures_are_not_confused(
    at: At, opening: dict[str, Any], then: Any, why: str
) -> None:
    async with dial(at[0]) as peer:
        await peer.say(wire.Open(**{"request": {"prompt": "a red ball"}, **opening}))
        if isinstance(then, wire.Frame):
            await peer.socket.send(then.pack())
        elif then:
            await peer.say(then)
        error = await peer.until("error")
    assert error["fatal"] and why in error["error"]["message"]
