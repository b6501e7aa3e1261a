"""The tab that shows, in Chromium: a prompt in, its pictures on the screen, changed while they are watched, kept."""

import base64
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from anyio.from_thread import start_blocking_portal
from PIL import Image

from riverrun.media import join, settings_of, video
from riverrun.models.contract import StreamModel
from riverrun.streaming.hub import Hub
from tests.models.toys import Painter, Smooth
from tests.streaming.serving import server
from tests.streaming.test_show import colour
from tests.webui import test_page as browsing
from tests.webui.test_page import until

pytestmark = browsing.pytestmark
PIXEL = """() => {
    const video = document.getElementById("show-video"), canvas = document.createElement("canvas");
    if (!video.videoWidth) return null;
    canvas.width = canvas.height = 16;
    const ground = canvas.getContext("2d");
    ground.drawImage(video, 0, 0, 16, 16);
    return [...ground.getImageData(12, 2, 1, 1).data].slice(0, 3);
}"""


@contextmanager
def serving(models: dict[str, StreamModel]) -> Iterator[tuple[str, Hub]]:
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(server(models, webrtc={"hosts": ["127.0.0.1"]})) as (at, hub),
    ):
        yield f"http://{at}", hub


@pytest.fixture(scope="module")
def at() -> Iterator[tuple[str, Hub]]:
    with serving({"smooth": Smooth(), "painter": Painter((96, 96), hop=9)}) as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One for all tests, each of which has a profile of its own."""
    with browsing.playwright.sync_playwright() as play:
        running = play.chromium.launch(executable_path=str(browsing.CHROMIUM), args=browsing.FLAGS)
        yield running
        running.close()


@contextmanager
def opened(browser: Any, at: str) -> Iterator[Any]:
    """The tab, ready; it may throw nothing and complain of nothing."""
    wrong = list[str]()
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    page = context.new_page()
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda told: wrong.append(told.text) if told.type == "error" else None)
    page.goto(f"{at}/#show")
    page.wait_for_selector('#server[data-state="ready"]')
    yield page
    context.close()
    assert not wrong


@pytest.fixture
def page(at: tuple[str, Hub], browser: Any) -> Iterator[Any]:
    with opened(browser, at[0]) as page:
        page.wait_for_selector("#show-panel:not([hidden])")
        yield page


def sees(page: Any, name: str) -> None:
    """Wait until the picture has a colour."""
    for _ in range(100):
        pixel = page.evaluate(PIXEL)
        if pixel and colour(np.array([[pixel]], np.uint8)) == name:
            return
        page.wait_for_timeout(100)
    raise AssertionError(f"never {name}, but {page.evaluate(PIXEL)}")


def begin(page: Any, prompt: str, **settings: str) -> None:
    page.fill("#show-prompt", prompt)
    for name, value in settings.items():
        page.fill(f"#show-{name}", value)
    page.click("#show-start")


def over(page: Any) -> None:
    page.wait_for_selector("#show-start[aria-pressed=false]")


def prompts(page: Any) -> list[tuple[str, str]]:
    """When each was shown, and what it is."""
    items = page.locator("#show-prompts li").all()
    return [(item.locator("time").inner_text(), item.locator("span").inner_text()) for item in items]


@pytest.mark.parametrize("transport", ["ws", "webrtc"])
def test_pictures_follow_a_prompt_that_is_edited_while_they_are_watched(
    page: Any, at: tuple[str, Hub], tmp_path: Path, transport: str
) -> None:
    page.select_option("#show-transport", transport)
    begin(page, "a red ball", seed="7")
    sees(page, "red")
    until(page, "() => Number(document.getElementById('show-first').textContent) > 0")
    until(page, "() => Math.abs(Number(document.getElementById('show-pace').textContent) - 12) < 1.5")
    page.fill("#show-prompt", "a green ball")
    page.keyboard.press("Enter")
    sees(page, "green")
    (first, _), (second, text) = prompts(page)
    assert first == "0:00.00" and text == "a green ball" and second > first
    minutes, seconds = second.split(":")
    assert (60 * int(minutes) + float(seconds)) % 0.75 == 0, "the begin of a chunk"
    page.click("#show-start")
    over(page)
    assert not at[1].streams
    page.wait_for_selector(".clip video")
    with page.expect_download() as download:
        page.click(".clip a")
    assert download.value.suggested_filename == "a-red-ball.mp4"
    path = tmp_path / "clip.mp4"
    download.value.save_as(path)
    made = settings_of(path)
    assert made is not None and (made["prompt"], made["seed"], made["model"]) == ("a red ball", 7, "painter")
    assert [prompt["prompt"] for prompt in made["prompts"]] == ["a red ball", "a green ball"]
    whole = join(list(video(path)))
    assert [colour(whole.data[0]), colour(whole.data[-1])] == ["red", "green"]
    if transport == "ws":
        assert whole.rate == 12 and len(whole) % 9 == 0
        assert colour(whole.data[round(12 * made["prompts"][1]["at"]) - 1]) == "red", "to the picture"


def test_a_pause_holds_the_model_too(page: Any, at: tuple[str, Hub]) -> None:
    begin(page, "a red ball")
    sees(page, "red")
    page.click("#show-pause")
    page.wait_for_timeout(1000)
    (stream,) = at[1].streams.values()
    held, seen = stream.out, page.inner_text("#show-time")
    page.wait_for_timeout(1000)
    assert stream.out == held and page.inner_text("#show-time") == seen
    page.fill("#show-prompt", "a blue ball")
    page.click("#show-change")
    assert prompts(page)[1] == ("waits", "a blue ball")
    page.click("#show-pause")
    sees(page, "blue")
    page.click("#show-start")
    over(page)


def test_a_clip_that_is_dropped_fills_the_form_and_clips_outlive_the_page(page: Any, tmp_path: Path) -> None:
    begin(page, "a white ball", seconds="2", seed="11")
    over(page)
    with page.expect_download() as download:
        page.click(".clip a")
    download.value.save_as(tmp_path / "clip.mp4")
    assert len(join(list(video(tmp_path / "clip.mp4")))) == 24
    page.reload()
    page.wait_for_selector(".clip .title:has-text('a white ball')")
    assert "seed 11" in page.inner_text(".clip .hint") and "2.0 s" in page.inner_text(".clip .hint")
    until(page, "() => Math.abs(document.querySelector('.clip video').duration - 2) < 0.05")
    page.fill("#show-prompt", "something else")
    drop(page, (tmp_path / "clip.mp4").read_bytes(), "clip.mp4", "video/mp4")
    page.wait_for_selector("#live:has-text('settings are back')", state="attached")
    values = [page.input_value(f"#show-{name}") for name in ("prompt", "seconds", "seed")]
    assert values == ["a white ball", "2", "11"]
    page.click("[data-do=forget]")
    page.reload()
    page.wait_for_selector("#show-none:not([hidden])")


def drop(page: Any, data: bytes, name: str, kind: str) -> None:
    """Let a file fall onto the page."""
    page.evaluate(
        """([text, name, type]) => {
        const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0)), dataTransfer = new DataTransfer();
        dataTransfer.items.add(new File([bytes], name, { type }));
        document.dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true }));
        }""",
        [base64.b64encode(data).decode(), name, kind],
    )


def png(size: tuple[int, int], rgb: tuple[int, int, int]) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, rgb).save(file, "PNG")
    return file.getvalue()


def test_a_picture_that_is_dropped_is_the_first_one(page: Any, at: tuple[str, Hub]) -> None:
    drop(page, png((300, 200), (30, 200, 30)), "green.png", "image/png")
    page.wait_for_selector("#show-picture:not([hidden])")
    begin(page, "a red ball")
    sees(page, "red")
    (stream,) = at[1].streams.values()
    assert stream.values["picture"].startswith("96x96:")
    page.click("#show-start")
    over(page)
    page.click("#show-drop-picture")
    assert page.is_hidden("#show-picture")


def test_what_cannot_be_shown_is_told(page: Any) -> None:
    for data, name, kind, why in (
        (b"no picture", "bad.png", "image/png", "damaged, or no picture"),
        (png((5001, 4000), (0, 0, 0)), "big.png", "image/png", "limit is 20 million"),
        (b"no clip", "bad.mp4", "video/mp4", "does not say how it was made"),
    ):
        drop(page, data, name, kind)
        page.wait_for_selector(f"#message:has-text('{why}')")
    page.fill("#show-prompt", "  ")
    page.click("#show-start")
    page.wait_for_selector("#message:has-text('no prompt')")
    begin(page, "x" * 600)
    page.wait_for_selector("#message:has-text('expected up to 500')")
    over(page)
    begin(page, "a red ball")
    sees(page, "red")
    page.fill("#show-prompt", "y" * 600)
    page.click("#show-change")
    page.wait_for_selector("#message:has-text('expected up to 500')")
    assert len(prompts(page)) == 1
    page.click("#show-start")
    over(page)


def test_a_cut_connection_costs_no_picture(page: Any, tmp_path: Path) -> None:
    begin(page, "a red ball", seconds="4")
    sees(page, "red")
    page.evaluate("riverrun.show.watch.stream.socket.close(3000)")
    page.fill("#show-prompt", "a green ball")
    page.keyboard.press("Enter")
    sees(page, "green")
    over(page)
    with page.expect_download() as download:
        page.click(".clip a")
    download.value.save_as(tmp_path / "clip.mp4")
    whole = join(list(video(tmp_path / "clip.mp4")))
    assert len(whole) == 48
    assert [int(picture[8].sum(1).argmin()) for picture in whole.data] == pytest.approx(range(48), abs=1)


@pytest.mark.parametrize("width", [360, 1280])
def test_it_fits(page: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 780})
    page.click("#show-panel summary")
    for language in ("curl", "python"):
        page.click(f"#show-{language}")
        assert "/v1" in page.inner_text("#show-code") and "painter" in page.inner_text("#show-code")
    page.fill("#show-prompt", "W" * 400)
    page.click("#show-start")
    page.wait_for_selector("#show-prompts li")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    page.click("#show-start")
    over(page)
    page.wait_for_selector(".clip")
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_there_is_no_tab_without_a_model_that_shows(browser: Any) -> None:
    with serving({"smooth": Smooth()}) as (at, _), opened(browser, at) as page:
        assert page.is_hidden("#tab-show") and page.is_visible("#restore-panel")


def test_that_the_machine_is_too_slow_is_told_while_it_is(page: Any) -> None:
    degraded = """(less) => riverrun.show.watch.stream.dispatchEvent(
        new CustomEvent("event", { detail: { name: "degraded", less } }))"""
    begin(page, "a red ball")
    sees(page, "red")
    assert not page.is_visible("#show-slow")
    page.evaluate(degraded, ["steps"])
    assert "fewer steps" in page.inner_text("#show-slow")
    page.evaluate(degraded, [])
    assert not page.is_visible("#show-slow")
    page.evaluate(degraded, ["steps", "more steps"])
    page.click("#show-start")
    page.wait_for_selector("#show-slow", state="hidden")
