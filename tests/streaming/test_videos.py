"""Videos and images over HTTP, by OpenAI's client: made, looked at, fetched, forgotten; and what is refused."""

import base64
import errno
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from anyio.from_thread import start_blocking_portal

from riverrun.media import join, picture, settings_of, video
from riverrun.models.contract import StreamModel
from riverrun.models.video.live import LiveOpenSora
from riverrun.streaming.hub import Hub
from riverrun.streaming.jobs import whole
from tests.models.toys import Painter, Smooth
from tests.models.video.test_live import USUAL, parts
from tests.streaming.serving import server
from tests.streaming.test_show import colour, png

pytestmark = pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")
SIZE = (32, 48)


@contextmanager
def serving(folder: Path, models: dict[str, StreamModel] | None = None) -> Iterator[tuple[str, Hub]]:
    models = models or {"smooth": Smooth(), "painter": Painter(SIZE)}
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(server(models, jobs={"folder": folder})) as (at, hub),
    ):
        yield f"http://{at}", hub


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("jobs")) as (found, _):
        yield found


@pytest.fixture
def client(at: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{at}/v1", api_key="none", max_retries=0) as made:
        yield made


def test_a_published_network_makes_videos_in_either_mode(tmp_path: Path) -> None:
    with (
        serving(tmp_path, {"published": LiveOpenSora(parts(), USUAL)}) as (at, _),
        openai.OpenAI(base_url=f"{at}/v1", api_key="none", max_retries=0) as client,
    ):
        clips = []
        for mode in ("loop", "fifo"):
            asked = client.videos.create(prompt="a calm sea", seconds="1", extra_body={"mode": mode})  # type: ignore[arg-type]
            made = client.videos.poll(asked.id)
            assert (made.status, made.size) == ("completed", "24x16")
            client.videos.download_content(made.id).write_to_file(path := tmp_path / f"{mode}.mp4")
            clips.append(join(list(video(path))).data)
    assert {clip.shape for clip in clips} == {(24, 16, 24, 3)} and (clips[0] != clips[1]).any()


def still(size: tuple[int, int] = (50, 50), rgb: tuple[int, int, int] = (10, 250, 250)) -> bytes:
    return base64.b64decode(png(size, rgb))


def test_a_video_is_made_looked_at_fetched_and_forgotten(client: openai.OpenAI, tmp_path: Path) -> None:
    made = client.videos.create(
        prompt="a red ball", seconds="4", model="painter", extra_body={"seed": 7, "size": "48x32"}
    )
    assert made.id.startswith("video_") and made.status in ("queued", "in_progress")
    done = client.videos.poll(made.id)
    assert (done.status, done.progress, done.error, done.size) == ("completed", 100, None, "48x32")
    assert (done.prompt, done.seconds, done.model) == ("a red ball", "4", "painter")
    assert done.completed_at and done.expires_at and done.expires_at > done.completed_at >= done.created_at
    assert made.id in [one.id for one in client.videos.list()]
    client.videos.download_content(made.id).write_to_file(path := tmp_path / "video.mp4")
    clip = join(list(video(path)))
    assert (len(clip), clip.rate, clip.data.shape[1:3]) == (48, 12, SIZE) and colour(clip.data[5]) == "red"
    assert settings_of(path) == {
        "model": "painter",
        "prompt": "a red ball",
        "seconds": 4.0,
        "seed": 7,
        "steps": 0,
        "mode": "",
    }
    small = picture(client.videos.download_content(made.id, variant="thumbnail").read())
    assert small.shape[:2] == SIZE and colour(small) == "red"
    assert client.videos.delete(made.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.videos.retrieve(made.id)


def test_parts_of_a_video_can_be_fetched(client: openai.OpenAI, at: str) -> None:
    made = client.videos.create_and_poll(prompt="a blue ball", extra_body={"seconds": "0.5"})
    path = f"{at}/v1/videos/{made.id}/content"
    whole_one = httpx.get(path)
    assert whole_one.headers["content-type"] == "video/mp4"
    part = httpx.get(path, headers={"range": "bytes=100-199"})
    assert part.status_code == 206 and part.content == whole_one.content[100:200]
    assert httpx.get(f"{at}/v1/videos/{made.id}").headers["openai-poll-after-ms"]
    asked = {"prompt": "a blue ball", "seconds": 0.5}
    twice = [
        httpx.post(f"{at}/v1/videos", json=asked, headers={"idempotency-key": "one"}).json()["id"]
        for _ in range(2)
    ]
    assert twice[0] == twice[1]


def test_a_reference_is_the_first_picture(client: openai.OpenAI, tmp_path: Path) -> None:
    made = client.videos.create_and_poll(
        prompt="a red ball", input_reference=("a.png", still()), extra_body={"seconds": "1"}
    )
    client.videos.download_content(made.id).write_to_file(path := tmp_path / "video.mp4")
    clip = join(list(video(path)))
    assert np.abs(clip.data[0].astype(int) - (10, 250, 250)).mean() < 12 and colour(clip.data[1]) == "red"


def test_images_are_given_as_data_and_by_their_address(client: openai.OpenAI) -> None:
    given = client.images.generate(prompt="a green ball", model="painter", n=2)
    assert given.data and len(given.data) == 2
    for one in given.data:
        pixels = picture(base64.b64decode(one.b64_json or ""))
        assert pixels.shape == (*SIZE, 3) and colour(pixels) == "green"
    given = client.images.generate(prompt="a blue ball", response_format="url")
    assert given.data and given.data[0].url
    reply = httpx.get(given.data[0].url)
    assert reply.headers["content-type"] == "image/png" and colour(picture(reply.content)) == "blue"


@pytest.mark.parametrize(
    ("fields", "file", "status", "why"),
    [
        ({"prompt": ""}, None, 400, "prompt is empty"),
        ({"prompt": "x" * 10_000}, None, 400, "the limit is 2000"),
        ({"seconds": "0"}, None, 400, "seconds is 0, expected more than 0"),
        ({"seconds": "10000"}, None, 400, "seconds is 10000, expected up to 600"),
        ({"seconds": "soon"}, None, 422, "seconds"),
        ({"size": "33x47"}, None, 400, "size is '33x47', expected '48x32'"),
        ({"mode": "fifo"}, None, 400, "mode is 'fifo', and the model has none"),
        ({"model": "smooth"}, None, 400, "gives no pictures"),
        ({"frames": "10000"}, None, 422, "frames"),
        ({}, b"no picture", 415, "expected one of PNG"),
        ({}, still()[:60], 400, "damaged"),
        ({}, still((5000, 4001)), 415, "4001 x 5000 pixels, the limit is 20000000"),
    ],
)
def test_what_cannot_be_made_is_refused_at_once(
    at: str, fields: dict[str, str], file: bytes | None, status: int, why: str
) -> None:
    files = {"input_reference": ("a.png", file)} if file else None
    before = httpx.get(f"{at}/v1/videos").json()["data"]
    reply = httpx.post(f"{at}/v1/videos", data={"prompt": "a red ball", **fields}, files=files)
    error = reply.json()["error"]
    assert reply.status_code == status and why in error["message"], error
    assert reply.headers["x-should-retry"] == "false"
    assert httpx.get(f"{at}/v1/videos").json()["data"] == before


def test_images_of_no_prompt_or_too_many_are_refused(client: openai.OpenAI, at: str) -> None:
    with pytest.raises(openai.BadRequestError, match="prompt is empty"):
        client.images.generate(prompt=" ")
    with pytest.raises(openai.UnprocessableEntityError, match="n"):
        client.images.generate(prompt="a ball", n=1000)
    assert httpx.get(f"{at}/v1/images/video_1/0").status_code == 404


class Full(io.FileIO):
    """A file on a disk that is full after some bytes."""

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > 1000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data) or 0


def test_a_full_disk_fails_the_video_and_leaves_nothing_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(tmp_path) as (at, hub), openai.OpenAI(base_url=f"{at}/v1", api_key="none") as client:
        monkeypatch.setattr(
            whole, "open", lambda path, mode: io.BufferedRandom(Full(path, mode)), raising=False
        )
        made = client.videos.create_and_poll(prompt="a red ball", extra_body={"seconds": "2"})
        assert made.status == "failed" and made.error and "No space left" in made.error.message
        assert not [path for path in tmp_path.rglob("*") if "mp4" in path.name] and not hub.streams
        assert httpx.get(f"{at}/v1/videos/{made.id}/content").status_code == 404


def test_a_video_that_is_cancelled_has_failed_and_tells_how_far_it_is_until_then(tmp_path: Path) -> None:
    with serving(tmp_path) as (at, hub):
        made = httpx.post(f"{at}/v1/videos", json={"prompt": "a red ball", "seconds": 600}).json()
        for _ in range(500):
            told = httpx.get(f"{at}/v1/videos/{made['id']}").json()
            if told["progress"]:
                break
        assert told["status"] == "in_progress" and 0 < told["progress"] < 100
        httpx.post(f"{at}/v1/jobs/{made['id']}/cancel")
        told = httpx.get(f"{at}/v1/videos/{made['id']}").json()
        assert (told["status"], told["error"]["code"]) == ("failed", "cancelled")
        assert not hub.streams and not hub.progress


def test_without_a_model_that_shows_it_says_how_to_have_one(tmp_path: Path) -> None:
    with serving(tmp_path, {"smooth": Smooth()}) as (at, _):
        for path in ("videos", "images/generations"):
            reply = httpx.post(f"{at}/v1/{path}", json={"prompt": "a ball"})
            assert reply.status_code == 400 and "RIVERRUN_MODELS" in reply.json()["error"]["message"]
