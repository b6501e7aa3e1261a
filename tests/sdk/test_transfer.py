"""Recordings through riverrun.Client: whole or not at all, however often the connection is cut."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

import riverrun
from riverrun import transfer
from riverrun.media import CorruptMedia, UnsupportedMedia, read
from riverrun.models.contract import Port, Spec
from riverrun.streaming.access import digest
from tests.sdk.cutting import Cut, proxy
from tests.streaming.serving import RATE, noise, server
from tests.streaming.test_http import Volume, recording

pytestmark = pytest.mark.anyio
TOY: dict[str, Any] = {"model": "smooth"}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Twenty seconds of noise."""
    path = tmp_path / "in.wav"
    path.write_bytes(recording(noise(20 * RATE)))
    return path


def serving(**settings: Any) -> Any:
    """A server whose model takes few and long hops, so that it is quick."""
    model, port = Volume(), Port("audio", RATE, 2048)
    model.spec = Spec(port, (port,), 20, 16)
    return server({"smooth": model}, **settings)


async def posted(at: str, source: Path, form: str) -> bytes:
    """What the server makes of a file."""
    async with httpx.AsyncClient(base_url=f"http://{at}", timeout=30) as http:
        fields = {"model": "smooth", "response_format": form}
        reply = await http.post(
            transfer.RESTORATIONS, files={"file": (source.name, source.read_bytes())}, data=fields
        )
        assert reply.is_success
        return reply.content


async def test_a_file_becomes_what_the_server_makes_of_it(source: Path) -> None:
    told: list[tuple[int, int, int]] = []
    async with serving() as (at, hub), riverrun.AsyncClient(f"http://{at}") as client:
        made = await client.restore(
            source, source.parent / "new/out.flac", **TOY, progress=lambda *n: told.append(n)
        )
        assert made == source.parent / "new/out.flac"
        assert made.read_bytes() == await posted(at, source, "flac")
        assert told == sorted(told) and told[-1] == (*[source.stat().st_size] * 2, made.stat().st_size)
        assert len(hub.replies) == 1, "the server has forgotten the client's reply, if not the other"
    assert [path.name for path in made.parent.iterdir()] == ["out.flac"]


@pytest.mark.parametrize(
    ("name", "options", "made"),
    [
        ("a.wav", {}, "a.restored.wav"),
        ("a.FLAC", {}, "a.restored.FLAC"),
        ("a.mp4", {}, "a.restored.wav"),
        ("a.wav", {"format": "mp3"}, "a.restored.mp3"),
        ("a.wav", {"out": "b.ogg"}, "b.ogg"),
        ("a.wav", {"out": "b.bin", "format": "opus"}, "b.bin"),
    ],
)
async def test_a_result_has_the_name_and_form_that_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, options: dict[str, Any], made: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(recording(noise(RATE)))

    def restore(at: str) -> Path:
        with riverrun.Client(f"http://{at}") as client:
            return client.restore(name, **TOY, **options)

    async with serving() as (at, _):
        assert await asyncio.to_thread(restore, at) == Path(made)
    starts = {"wav": b"RIFF", "flac": b"fLaC", "mp3": b"ID3", "ogg": b"OggS", "bin": b"OggS"}
    assert Path(made).read_bytes().startswith(starts[made.split(".")[-1].lower()])


async def test_a_wav_on_a_disk_says_how_long_it_is(source: Path) -> None:
    async with serving() as (at, _), riverrun.AsyncClient(f"http://{at}") as client:
        made = (await client.restore(source, **TOY)).read_bytes()
        streamed = await posted(at, source, "wav")
    data = made.index(b"data")
    assert int.from_bytes(made[4:8], "little") == len(made) - 8
    assert int.from_bytes(made[data + 4 : data + 8], "little") == len(made) - data - 8 == 2 * 20 * RATE
    assert made[data + 8 :] == streamed[data + 8 :] and np.array_equal(read(made)[0], read(streamed)[0])


CUTS: list[list[Cut]] = [
    [("up", 100)],
    [("up", 300_000)],
    [("down", 100)],
    [("down", 5_000)],
    [("down", 150_000)],
    [("down", 30_000), ("down", 0), ("up", 50), ("down", 60_000), ("down", 50_000)],
]


@pytest.mark.parametrize("cuts", CUTS, ids=str)
async def test_a_cut_connection_costs_not_a_byte(source: Path, cuts: list[Cut]) -> None:
    async with serving() as (at, _), proxy(at, *cuts) as cutting:
        async with riverrun.AsyncClient(f"http://{cutting.at}") as client:
            made = await client.restore(source, source.parent / "out.flac", **TOY)
        assert made.read_bytes() == await posted(at, source, "flac") and cutting.connections > len(cuts)


async def test_a_server_that_stays_away_leaves_nothing_behind(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "PATIENCE", 0.3)
    async with serving() as (at, _), proxy(at, ("down", 100_000)) as cutting:

        def gone(sent: int, size: int, received: int) -> None:
            cutting.gone = received > 0

        async with riverrun.AsyncClient(f"http://{cutting.at}") as client:
            with pytest.raises(riverrun.Unreachable, match=r"did not come back in .* bytes of the result"):
                await client.restore(source, **TOY, progress=gone)
    assert [path.name for path in source.parent.iterdir()] == ["in.wav"]


async def test_what_is_there_is_kept_unless_forced(source: Path) -> None:
    target = source.parent / "out.wav"
    target.write_bytes(b"old")
    async with serving() as (at, hub), riverrun.AsyncClient(f"http://{at}") as client:
        with pytest.raises(UnsupportedMedia, match="force=True"):
            await client.restore(source, target, **TOY)
        with pytest.raises(UnsupportedMedia, match="the source itself"):
            await client.restore(source, source, **TOY, force=True)
        assert target.read_bytes() == b"old" and not hub.replies
        await client.restore(source, target, **TOY, force=True)
        assert len(read(target)[0]) == 20 * RATE


@pytest.mark.parametrize(
    ("content", "options", "kind", "words"),
    [
        (b"no sound" * 99, {}, riverrun.MediaError, "Invalid data"),
        (recording(noise(RATE))[:9000], {}, CorruptMedia, "truncated"),
        (None, {}, UnsupportedMedia, "cannot be read: No such file"),
        (b"", {"strength": 7.0}, riverrun.InvalidRequest, "strength"),
        (b"", {"model": "none"}, riverrun.InvalidRequest, "'none'"),
        (b"", {"format": "exe"}, riverrun.InvalidRequest, "'exe'"),
        (b"", {"out": "a.m4a"}, riverrun.InvalidRequest, "a.m4a"),
    ],
)
async def test_what_cannot_be_restored_is_told_and_leaves_nothing(
    tmp_path: Path, content: bytes | None, options: dict[str, Any], kind: type[Exception], words: str
) -> None:
    if content is not None:
        (tmp_path / "a.wav").write_bytes(content)
    before = list(tmp_path.iterdir())
    async with serving() as (at, hub), riverrun.AsyncClient(f"http://{at}") as client:
        with pytest.raises(kind, match=words):
            await client.restore(tmp_path / "a.wav", **{**TOY, **options})
        assert not hub.replies
    assert list(tmp_path.iterdir()) == before


async def test_who_is_refused_for_now_comes_back_as_told_and_gives_up_in_the_end(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(access={"requests": 4, "burst": 1}) as (at, _):
        async with riverrun.AsyncClient(f"http://{at}") as client:
            for _ in range(4):
                assert await client.models()
    async with serving(streams={"sessions": 1}) as (at, hub), riverrun.AsyncClient(f"http://{at}") as client:
        monkeypatch.setattr(transfer, "PATIENCE", 1.0)  # and the server says 5 s
        async with client.stream(**TOY, rate=RATE):
            with pytest.raises(riverrun.AtCapacity) as refused:
                await client.restore(source, **TOY)
        assert refused.value.retry_after == 5


async def test_a_wrong_key_restores_nothing(source: Path) -> None:
    async with serving(access={"keys": [digest("right")]}) as (at, _):
        async with riverrun.AsyncClient(f"http://{at}", key="wrong") as client:
            with pytest.raises(riverrun.NotAllowed, match="API key"):
                await client.restore(source, **TOY)
        async with riverrun.AsyncClient(f"http://{at}", key="right") as client:
            await client.restore(source, **TOY)


async def test_a_restoration_that_is_cancelled_is_freed_at_the_server(source: Path) -> None:
    source.write_bytes(recording(noise(300 * RATE)))
    async with serving(files={"journal_bytes": 1 << 16}) as (at, hub):
        async with riverrun.AsyncClient(f"http://{at}") as client:
            going = asyncio.Event()
            work = asyncio.create_task(
                client.restore(source, **TOY, progress=lambda *n: going.set() if n[2] else None)
            )
            await going.wait()
            work.cancel()
            with pytest.raises(asyncio.CancelledError):
                await work
            while hub.streams or hub.replies:
                await asyncio.sleep(0.01)
    assert [path.name for path in source.parent.iterdir()] == ["in.wav"]


@pytest.mark.parametrize(
    ("shape", "dtype"), [((8000,), "float64"), ((8000, 2), "int16"), ((8000, 1), "float32")]
)
async def test_an_array_keeps_its_shape_and_dtype(shape: tuple[int, ...], dtype: str) -> None:
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, shape)
    given = (sound * (1 if dtype.startswith("f") else 32768)).astype(dtype)
    async with serving() as (at, _), riverrun.AsyncClient(f"http://{at}") as client:
        made = await client.restore(given, rate=RATE, **TOY)
        silent = await client.restore(given, rate=RATE, **TOY, strength=0.0)
    assert (made.shape, made.dtype) == (shape, given.dtype)
    assert made.any() and not silent.any()


async def test_a_path_with_a_rate_and_an_array_without_are_refused() -> None:
    async with riverrun.AsyncClient("http://127.0.0.1:1") as client:
        with pytest.raises(ValueError, match="rate"):
            await client.restore("x.wav", rate=16_000)  # type: ignore[call-overload]
        with pytest.raises(ValueError, match="rate"):
            await client.restore(np.zeros(10))  # type: ignore[call-overload]
