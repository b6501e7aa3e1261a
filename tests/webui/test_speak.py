"""The tab that speaks, in Chromium: text in, sound and marked words out, voices of one's own, and what is told."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from anyio.from_thread import start_blocking_portal

from riverrun.media import read
from riverrun.models.contract import StreamModel
from riverrun.streaming.access import digest
from riverrun.streaming.hub import Hub
from tests.models.speech.small import small
from tests.models.toys import Smooth
from tests.streaming.serving import server
from tests.webui import test_page as browsing
from tests.webui.test_page import until

pytestmark = browsing.pytestmark
TEXT = "Hello there. It is five, Dr. Smith! And so we go."
LONG = "This is one of many sentences that are all alike. " * 40
RATE = 24_000


@contextmanager
def serving(
    folder: Path, make: Callable[[], StreamModel] | None = small, **settings: Any
) -> Iterator[tuple[str, Hub]]:
    """A server in a thread of this process, with one model that speaks, or does something else."""
    models = {"smooth": Smooth(), **({"small": make()} if make else {})}
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(server(models, voices={"folder": folder}, **settings)) as (at, hub),
    ):
        yield f"http://{at}", hub


@contextmanager
def opened(at: str, voice: Path, tab: str = "speak") -> Iterator[Any]:
    """The tab, ready; it may throw nothing and complain of nothing."""
    wrong, refused = list[str](), list[str]()
    with browsing.opened(f"{at}/#{tab}", voice) as page:
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda told: wrong.append(told.text) if told.type == "error" else None)
        page.on("response", lambda reply: refused.append(reply.url) if reply.status in (400, 404) else None)
        page.wait_for_selector('#server[data-state="ready"]')
        page.wait_for_selector(f"#{tab}-panel:not([hidden])")
        yield page
    noted = [told for told in wrong if told.startswith("Failed to load resource")]
    assert len(wrong) == len(noted) == len(refused), wrong  # Chromium notes by itself what a server refuses


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Hub]]:
    with serving(tmp_path_factory.mktemp("voices")) as found:
        yield found


@pytest.fixture
def page(at: tuple[str, Hub], voice: Path) -> Iterator[Any]:
    with opened(at[0], voice) as page:
        yield page


def say(page: Any, text: str) -> None:
    page.fill("#text", text)
    page.click("#say")


def begun(page: Any) -> None:
    """Wait until some words were heard."""
    until(page, "() => document.querySelector('#mirror span').textContent.length > 3")


def over(page: Any) -> None:
    page.wait_for_selector("#say[aria-pressed=false]")


def watch(page: Any) -> None:
    """Note which words are marked, one after the other."""
    page.evaluate(
        """() => {
        const mark = document.querySelector("#mirror mark");
        window.marked = [];
        const note = () => mark.textContent && marked.push(mark.textContent);
        new MutationObserver(note).observe(mark, { childList: true });
        }"""
    )


def consents(at: str) -> list[str]:
    return [told["id"] for told in httpx.get(f"{at}/v1/audio/voice_consents").json()["data"]]


def test_it_speaks_marks_each_word_and_tells_how_soon_it_began(page: Any, tmp_path: Path) -> None:
    watch(page)
    page.fill("#speed", "0.8")
    say(page, TEXT)
    until(page, "() => document.getElementById('first').textContent !== '–'")
    over(page)
    words = "Hello there It is five Dr. Smith And so we go".split()
    marked = page.evaluate("marked")
    assert marked == [word for word in words if word in marked] and {"we", "go"} & set(marked)
    assert len(marked) >= 7, "a busy machine may pass a short one over"
    total, server = (
        float(re.findall(r"[\d.]+", page.inner_text(name))[0]) for name in ("#first", "#first-server")
    )
    assert 0 < server < total < 10_000
    assert page.evaluate("riverrun.speak.spectrogram.drawn") > 50
    with page.expect_download() as download:
        page.click("[data-form=wav]")
    download.value.save_as(tmp_path / "speech.wav")
    sound, rate = read(tmp_path / "speech.wav")
    asked = {"input": TEXT, "response_format": "wav", "speed": 0.8}
    reply = httpx.post(f"{page.url.split('#')[0]}v1/audio/speech", json=asked, timeout=30)
    (tmp_path / "wanted.wav").write_bytes(reply.content)
    wanted, _ = read(tmp_path / "wanted.wav")
    assert rate == RATE and abs(len(sound) - len(wanted)) < 0.05 * len(wanted)
    assert np.allclose(sound[: RATE // 4], wanted[: RATE // 4], atol=2e-3), "what came is what is held"


def test_files_of_other_forms_are_made(page: Any, tmp_path: Path) -> None:
    page.fill("#text", TEXT)
    for form in ("mp3", "opus"):
        with page.expect_download() as download:
            page.click(f"[data-form={form}]")
        assert download.value.suggested_filename == f"speech.{form}"
        download.value.save_as(tmp_path / form)
        assert len(read(tmp_path / form)[0]) > RATE // 2


def test_what_is_typed_meanwhile_is_said_too(page: Any) -> None:
    watch(page)
    page.fill("#speed", "0.8")
    say(page, "One two three four five six 𝄞 seven.")
    begun(page)
    page.focus("#text")
    page.keyboard.press("Control+End")
    page.keyboard.type(" Eight nine. And ten", delay=20)
    over(page)
    marked = page.evaluate("marked")
    words = "One two three four five six seven Eight nine And ten".split()
    assert marked == [word for word in words if word in marked], "whole words, whatever is before them"
    assert len({"Eight", "nine", "And", "ten"} & set(marked)) >= 2
    assert page.text_content("#mirror span").endswith("seven. Eight nine. And ten"), "all of it was heard"


def test_stop_is_heard_at_once_and_tells_what_was_heard(page: Any, at: tuple[str, Hub]) -> None:
    say(page, LONG)
    begun(page)
    page.focus("#text")
    page.keyboard.press("Control+Enter")
    over(page)
    page.wait_for_selector("#said:not([hidden])")
    heard = page.inner_text("#said").removeprefix("Heard: “").removesuffix("”")
    assert LONG.startswith(heard) and heard and len(heard) < len(LONG) / 2
    assert page.inner_text("#live").endswith(f"“{heard}”"), "a screen reader is told"
    assert page.input_value("#text") == LONG
    for _ in range(50):
        if not at[1].streams:
            break
        page.wait_for_timeout(100)
    assert not at[1].streams
    held = page.evaluate("riverrun.speak.held")
    assert 0 < held < 20 * RATE
    page.wait_for_timeout(300)
    assert page.evaluate("riverrun.speak.held") == held


def test_speed_changes_while_it_speaks(page: Any) -> None:
    say(page, LONG)
    begun(page)
    page.fill("#speed", "2")
    assert page.inner_text("#speed-value") == "2.00 ×"
    page.wait_for_timeout(700)
    assert page.get_attribute("#say", "aria-pressed") == "true" and not page.is_visible("#message")
    page.click("#say")
    over(page)


def test_a_voice_is_recorded_used_and_erased(page: Any, at: tuple[str, Hub]) -> None:
    page.click("#own summary")
    assert "I agree" in page.inner_text("#consent-text") and page.is_disabled("#own-add")
    for take in ("consent", "sample"):
        page.click(f"#{take}")
        page.wait_for_timeout(3500)
        page.click(f"#{take}")
        page.wait_for_selector(f"#{take}-heard:not([hidden])")
    page.fill("#own-name", "Mine")
    page.fill("#own-transcript", "What I say in it.")
    page.click("#own-add")
    page.wait_for_selector("#forget:not([hidden])")
    own = page.input_value("#voice")
    told = httpx.get(f"{at[0]}/v1/audio/voices/{own}").json()
    assert told["transcript"] == "What I say in it." and page.input_value("#own-transcript") == ""
    assert told["name"] == "Mine" and 1 < told["sample_seconds"] < 15
    assert page.evaluate("document.querySelector('#voice').selectedOptions[0].text") == "Mine"
    say(page, LONG)
    begun(page)
    assert [stream.wanted.request["recording"] != "" for stream in at[1].streams.values()] == [True]
    page.click("#say")
    over(page)
    assert own in page.text_content("#speech-code")
    page.once("dialog", lambda dialog: dialog.accept())
    page.click("#forget")
    page.wait_for_selector("#forget", state="hidden")
    assert own not in [voice["id"] for voice in httpx.get(f"{at[0]}/v1/audio/voices").json()["data"]]
    assert told["consent"] not in consents(at[0])


def test_of_a_model_without_names_no_voice_need_be_chosen(voice: Path, tmp_path: Path) -> None:
    def nameless() -> StreamModel:
        made = small()
        made.spec = replace(made.spec, voices=())
        return made

    with serving(tmp_path, nameless) as (at, hub):
        agreed = {"name": "me", "language": "en-US"}
        recording = {"recording": voice.read_bytes()}
        consent = httpx.post(f"{at}/v1/audio/voice_consents", data=agreed, files=recording).json()["id"]
        told, sample = {"name": "me", "consent": consent}, {"audio_sample": voice.read_bytes()}
        own = httpx.post(f"{at}/v1/audio/voices", data=told, files=sample).json()["id"]
        with opened(at, voice) as page:
            page.wait_for_selector(f"#voice option[value='{own}']", state="attached")
            offered = page.eval_on_selector_all("#voice option", "all => all.map(({ value }) => value)")
            assert offered == ["", own] and page.input_value("#voice") == ""
            for chosen in ("", own):
                page.select_option("#voice", chosen)
                say(page, LONG)
                begun(page)
                (stream,) = hub.streams.values()
                assert (stream.recording != "") == (chosen != "")
                page.click("#say")
                over(page)


def test_one_recording_will_do_and_silence_is_refused(page: Any, at: tuple[str, Hub]) -> None:
    before = consents(at[0])
    page.click("#own summary")
    page.click("#consent")
    page.wait_for_timeout(600)
    page.click("#consent")
    page.wait_for_selector("#consent-heard:not([hidden])")
    page.click("#own-add")
    page.wait_for_selector("#message:has-text('record more')")
    assert page.input_value("#own-name") == "My voice" and page.is_enabled("#own-add")
    page.click("#consent")
    page.wait_for_timeout(3500)
    page.click("#consent")
    page.wait_for_selector("#own-add:enabled")
    page.click("#own-add")
    page.wait_for_selector("#forget:not([hidden])")
    assert len(consents(at[0])) == len(before) + 1, "the refused one is none"


def test_what_the_server_refuses_is_told_and_nothing_typed_is_lost(page: Any) -> None:
    say(page, "日本語のテキスト")
    page.wait_for_selector("#message:has-text('CJK')")
    over(page)
    assert page.input_value("#text") == "日本語のテキスト"
    page.evaluate("document.getElementById('voice').append(new Option('gone', 'voice_gone'))")
    page.select_option("#voice", "voice_gone")
    say(page, TEXT)
    page.wait_for_selector("#message:has-text('voice_gone')")
    over(page)
    page.reload()
    page.wait_for_selector('#server[data-state="ready"]')
    assert page.input_value("#text") == TEXT
    page.click("[data-form=mp3]")
    page.fill("#text", "")
    page.click("#say")
    page.wait_for_selector("#message:has-text('no text')")


def test_a_cut_connection_is_taken_up_again(page: Any) -> None:
    page.fill("#speed", "0.8")
    say(page, TEXT)
    begun(page)
    page.evaluate("riverrun.speak.speech.stream.socket.close(3000)")
    page.wait_for_selector("#message:has-text('Reconnecting')")
    over(page)
    assert page.text_content("#mirror span") == TEXT, "all of it was heard"
    assert not page.is_visible("#message")


def test_without_a_model_that_speaks_it_says_how_to_have_one(tmp_path: Path, voice: Path) -> None:
    with serving(tmp_path, None) as (at, _), opened(at, voice) as page:
        assert page.is_visible("#mute") and "RIVERRUN_MODELS" in page.inner_text("#mute")
        assert page.is_disabled("#say") and page.is_enabled("#text")


def test_tabs_are_chosen_by_keys_and_by_the_address(page: Any) -> None:
    assert page.get_attribute("#tab-speak", "aria-selected") == "true"
    page.focus("#tab-speak")
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("#restore-panel:not([hidden])")
    assert page.url.endswith("#restore") and page.is_hidden("#speak-panel")
    assert page.evaluate("document.activeElement.id") == "tab-restore"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('role')") != "tab", "one stop for all tabs"
    page.go_back()
    page.wait_for_selector("#speak-panel:not([hidden])")
    reached = []
    for _ in range(30):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id"))
    assert {"text", "say", "voice", "speed", "seed"} <= set(reached), reached


@pytest.mark.parametrize("width", [360, 1280])
def test_it_fits(page: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 780})
    for details in page.locator("#speak-panel summary").all():
        details.click()
    for language in ("curl", "python"):
        page.click(f"#speech-{language}")
        assert "/v1" in page.inner_text("#speech-code")
    page.fill("#text", "W" * 400)
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_a_long_text_is_given_in_parts(page: Any) -> None:
    """More than the server lets wait at once."""
    say(page, LONG * 80)
    begun(page)
    page.wait_for_timeout(1500)
    assert not page.is_visible("#message") and page.get_attribute("#say", "aria-pressed") == "true"
    page.click("#say")
    over(page)


def test_a_key_opens_it(tmp_path: Path, voice: Path) -> None:
    keys = {"keys": [digest("secret")]}
    with serving(tmp_path, access=keys) as (at, _), browsing.opened(f"{at}/#speak", voice) as page:
        page.fill("#secret", "secret")
        page.keyboard.press("Enter")
        page.wait_for_selector('#server[data-state="ready"]')
        say(page, "Hello.")
        over(page)
        assert page.evaluate("riverrun.speak.held") > 0


def test_the_ring_of_speech_plays_all_of_it_once(page: Any) -> None:
    run = """async () => {
        const { Ahead } = await import("/static/ring.js");
        const ring = new Ahead(24000), out = new Float32Array(128), heard = [];
        const sound = Float32Array.from({ length: 240000 }, (_, i) => 0.1 + (i % 1000) / 2000);
        ring.push(sound.subarray(0, 239000), 500);
        const play = (blocks) => { for (let i = 0; i < blocks; i++) { ring.pull(out); heard.push(...out); } };
        play(1870);
        ring.push(sound.subarray(239000), 239500); // little, and nothing more
        play(200);
        const end = ring.tick, missing = [];
        for (let i = 96; i < 239000; i++) if (heard[i] !== sound[i]) missing.push(i);
        ring.push(sound, 1_000_000);
        play(10);
        ring.clear();
        const rest = ring.held, at = ring.tick;
        let jump = 0, last = out.at(-1);
        ring.pull(out);
        for (const value of out) { jump = Math.max(jump, Math.abs(value - last)); last = value; }
        return { end, missing: missing.length, skipped: ring.skipped, rest, at, jump };
    }"""
    told = page.evaluate(run)
    assert told == {**told, "end": 240_500, "missing": 0, "skipped": 0, "at": 1_001_280}
    assert told["rest"] < 100 and told["jump"] < 0.05, "what is cleared fades out"
