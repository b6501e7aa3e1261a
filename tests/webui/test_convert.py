"""The tab that converts, in Chromium: another voice that says the same, bypass, voices, what is recorded and told."""

import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from anyio.from_thread import start_blocking_portal
from numpy.typing import NDArray

from riverrun.media import read
from riverrun.models import ModelError
from riverrun.models import load as load_model
from riverrun.models.evaluation.likeness import Resemblyzer
from riverrun.models.evaluation.recordings import Packages, cache
from riverrun.models.training.corpus import decode, resample
from riverrun.models.voice.lite import ConvertLite, load
from riverrun.models.voice.live import LiveConverter
from riverrun.streaming.hub import Hub
from riverrun.streaming.stream import Stream
from tests.models.toys import Smooth
from tests.models.voice.small import imported, small
from tests.streaming.serving import server
from tests.webui import test_page as browsing
from tests.webui.test_page import ASSETS, RATE, kept, until, words
from tests.webui.test_speak import opened, serving

pytestmark = browsing.pytestmark
WEIGHTS = ASSETS / "convert-lite.safetensors"
CLEAN = ASSETS / "sample-clean.flac"
TARGET = Path(__file__).parent / "am_onyx.opus"  # of a voice that the model knows, by Kokoro-82M (Apache-2.0)
Audio = NDArray[np.float32]


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Hub]]:
    with serving(tmp_path_factory.mktemp("voices"), small) as found:
        yield found


@pytest.fixture
def page(at: tuple[str, Hub], clean: Path) -> Iterator[Any]:
    with opened(at[0], clean, "convert") as page:
        yield page


def begin(page: Any) -> None:
    page.click("#convert-microphone")
    page.wait_for_selector("#server:has-text('live')")
    until(page, "() => document.getElementById('convert-total').textContent !== '–'")


def end(page: Any) -> None:
    page.click("#convert-microphone")
    page.wait_for_selector("#server:has-text('ready')")


def sides(page: Any, folder: Path) -> list[Audio]:
    """What was recorded of both sides."""
    sounds = []
    for side in ("in", "out"):
        with page.expect_download() as download:
            page.click(f"#convert-download-{side}")
        download.value.save_as(folder / f"{side}.wav")
        sound, rate = read(folder / f"{side}.wav")
        assert rate == RATE
        sounds.append(sound[:, 0])
    return sounds


def recorded(page: Any, folder: Path, ms: int) -> list[Audio]:
    page.click("#convert-record")
    page.wait_for_timeout(ms)
    page.click("#convert-record")
    return sides(page, folder)


def alike(before: Audio, after: Audio) -> float:
    """The correlation of what went in with what came out, but for what a busy machine left out."""
    there = after != 0
    return float(np.corrcoef(before[there], after[there])[0, 1])


def live(hub: Hub) -> Stream:
    (stream,) = hub.streams.values()
    return stream


def wait(page: Any, true: Any) -> None:
    """Until something is true of the server."""
    for _ in range(100):
        if true():
            return
        page.wait_for_timeout(100)
    raise AssertionError("never")


def pitch(sound: Audio) -> float:
    """The median pitch of what is voiced, in Hz, by autocorrelation of 50 ms at a time."""
    sound = sound[::4]  # at 12 kHz; what folds over counts for nothing beside the voice
    lags, size, found = np.arange(12_000 // 350, 12_000 // 65), 600, list[float]()
    for start in range(0, len(sound) - size, size // 2):
        part = sound[start : start + size] - sound[start : start + size].mean()
        power = np.fft.irfft(np.abs(np.fft.rfft(part, 2 * size)) ** 2)[:size]
        if power[0] < 0.05 * size * float(np.mean(sound**2)):
            continue
        peak = lags[np.argmax(power[lags] / (size - lags))]
        if power[peak] / (size - peak) > 0.5 * power[0] / size:
            found.append(12_000 / peak)
    return float(np.median(found))


@dataclass(frozen=True)
class Heard:
    """What the page recorded of both sides while it converted, and what it told of the delay, in ms."""

    before: Audio
    after: Audio
    total: float
    stages: list[float]


@pytest.fixture(scope="module", params=["ws", "webrtc"])
def heard(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, clean: Path) -> Heard:
    """The microphone through the weights that come along, into TARGET, over either transport."""
    if not WEIGHTS.exists():
        pytest.skip("the weights of convert-lite are not in this installation")
    folder = tmp_path_factory.mktemp("heard")
    models = {"RIVERRUN_MODELS": json.dumps([str(WEIGHTS)]), "RIVERRUN_VOICES__FOLDER": str(folder / "own")}
    with browsing.serving(models) as at, opened(at, clean, "convert") as page:
        page.select_option("#convert-voice", TARGET.stem)
        page.select_option("#convert-transport", request.param)
        begin(page)
        before, after = recorded(page, folder, 19_000)  # the file is 8.5 s long and starts again and again
        total = float(page.inner_text("#convert-total"))
        stages = [float(value.split()[0]) for value in page.locator("#convert-stages dd").all_inner_texts()]
        slow = page.is_visible("#convert-slow")
        end(page)
    if slow:
        pytest.skip("this machine is too slow to convert live, as the page says itself")
    return Heard(before, after, total, stages)


def test_the_microphone_comes_back_in_another_voice_with_its_words(heard: Heard) -> None:
    before, after, converter = heard.before, heard.after, load(WEIGHTS)
    assert 100 < heard.total < 1500 and abs(sum(heard.stages) - heard.total) < 0.2 * heard.total, heard.stages
    assert len(before) == len(after) > 15 * RATE
    wanted = converter.config.listener.lowest * 2 ** converter.voices[TARGET.stem].pitch
    assert abs(math.log2(pitch(after) / wanted)) < abs(math.log2(pitch(before) / wanted)) / 2
    assert kept(words(before), words(after)) > 0.7


def test_who_comes_back_is_nearer_to_whom_was_asked_for_than_to_who_spoke(heard: Heard) -> None:
    try:
        judge = Resemblyzer(Packages(cache()))
    except ModelError as error:
        pytest.skip(f"nobody judges whose voice it is: {error}")
    source, made = (judge.embed(resample(sound, RATE, 16_000)) for sound in (heard.before, heard.after))
    target = judge.embed(decode(TARGET))
    assert made @ target > made @ source and made @ target > source @ target + 0.1


def test_both_sides_are_recorded_in_step_and_bypass_gives_the_input_back(page: Any, tmp_path: Path) -> None:
    begin(page)
    before, after = recorded(page, tmp_path, 3000)
    assert len(before) == len(after) > RATE
    assert np.abs(before).max() > 0.05 and abs(alike(before, after)) < 0.5
    page.click("#convert-bypass")
    assert page.get_attribute("#convert-bypass", "aria-checked") == "true"
    page.wait_for_timeout(1000)
    before, after = recorded(page, tmp_path, 3000)
    assert len(before) == len(after) > RATE and np.abs(before).max() > 0.05
    assert alike(before, after) > 0.98, "the same, tick by tick"
    end(page)


def test_a_recording_that_runs_when_the_microphone_is_stopped_is_kept(page: Any, tmp_path: Path) -> None:
    begin(page)
    page.click("#convert-record")
    page.wait_for_timeout(1500)
    end(page)
    before, after = sides(page, tmp_path)
    assert len(before) == len(after) > RATE / 2 and page.is_disabled("#convert-record")


def test_voice_pitch_and_bypass_change_while_it_is_live(page: Any, at: tuple[str, Hub]) -> None:
    options = "[...document.querySelectorAll('#convert-voice option')].map((option) => option.value)"
    assert page.evaluate(options)[:2] == ["anna", "ben"]
    page.fill("#convert-pitch", "-3.5")
    assert page.inner_text("#convert-pitch-value") == "−3.5 semitones"
    begin(page)
    stream = live(at[1])
    asked = {"voice": "anna", "pitch": -3.5, "bypass": False}
    assert asked.items() <= stream.values.items()
    page.select_option("#convert-voice", "ben")
    page.fill("#convert-pitch", "12")
    page.click("#convert-bypass")
    wait(page, lambda: {"voice": "ben", "pitch": 12, "bypass": True}.items() <= stream.values.items())
    assert live(at[1]) is stream, "it is the same stream still"
    for language in ("curl", "python"):
        page.evaluate(f"document.getElementById('convert-{language}').click()")
        code = page.text_content("#convert-code")
        assert "ben" in code and "pitch=12" in code
    end(page)


def test_the_monitor_is_apart_from_what_is_recorded(page: Any, tmp_path: Path) -> None:
    assert page.get_attribute("#convert-monitor-gain", "step") == "0.01"
    begin(page)
    gain = "riverrun.convert.microphone.live.monitor.gain.value"
    page.fill("#convert-monitor-gain", "0.37")
    assert page.inner_text("#convert-monitor-value") == "0.37"
    until(page, f"() => Math.abs({gain} - 0.37) < 0.001")
    page.click("#convert-monitor")
    until(page, f"() => {gain} < 0.001")
    _, after = recorded(page, tmp_path, 2000)
    assert np.abs(after).max() > 0.001, "it is recorded unheard"
    page.click("#convert-monitor")
    until(page, f"() => Math.abs({gain} - 0.37) < 0.001")
    until(
        page,
        "() => ['in', 'out'].every((side) => document.getElementById(`convert-level-${side}`).value > 0)",
    )
    end(page)


def test_a_voice_that_is_handed_in_is_used_doubted_and_erased(
    page: Any, at: tuple[str, Hub], monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(page)
    stream = live(at[1])
    page.click("#own summary")
    assert "what I write or say" in page.inner_text("#consent-text") and page.is_disabled("#own-add")
    for take in ("consent", "sample"):
        page.set_input_files(f"#{take}-file", str(CLEAN))
        page.wait_for_selector(f"#{take}-heard:not([hidden])")
    monkeypatch.setattr(ConvertLite, "several", lambda _, sound: iter([True]))
    page.fill("#own-name", "Mine")
    page.click("#own-add")
    page.wait_for_selector("#convert-forget:not([hidden])", timeout=60_000)
    assert "the sample seems to be of more than one person" in page.inner_text("#message")
    own = page.input_value("#convert-voice")
    assert page.evaluate("document.querySelector('#convert-voice').selectedOptions[0].text") == "Mine"
    wait(page, lambda: stream.recording)
    page.once("dialog", lambda dialog: dialog.accept())
    page.click("#convert-forget")
    page.wait_for_selector("#convert-forget", state="hidden")
    assert own not in [voice["id"] for voice in httpx.get(f"{at[0]}/v1/audio/voices").json()["data"]]
    wait(page, lambda: stream.values["voice"] == "anna")
    end(page)


def test_x_vc_is_served_to_the_tab_as_any_other_and_passed_by(tmp_path: Path, clean: Path) -> None:
    path = imported(tmp_path)
    with serving(tmp_path / "voices", lambda: load_model(path)) as (at, hub):
        data = {"name": "Mine", "language": "en-US"}
        with httpx.Client(base_url=at, timeout=60) as http, CLEAN.open("rb") as me:
            consent = http.post("/v1/audio/voice_consents", data=data, files={"recording": me}).json()["id"]
            me.seek(0)
            made = http.post("/v1/audio/voices", data={"name": "Mine", "consent": consent},
                             files={"audio_sample": me})  # fmt: skip
            assert made.status_code == 200, made.text
        with opened(at, clean, "convert") as page:
            until(page, "() => document.querySelector('#convert-voice').selectedOptions[0]?.text === 'Mine'")
            begin(page)
            before, after = recorded(page, tmp_path, 3000)
            assert len(before) == len(after) > RATE and abs(alike(before, after)) < 0.5
            page.click("#convert-bypass")
            wait(page, lambda: live(hub).values["bypass"])
            page.wait_for_timeout(1000)
            assert alike(*recorded(page, tmp_path, 3000)) > 0.98
            end(page)


def test_a_file_that_is_dropped_is_converted_drawn_played_and_saved(page: Any, tmp_path: Path) -> None:
    page.fill("#convert-pitch", "2")
    page.evaluate(
        """async (data) => {
        const transfer = new DataTransfer();
        transfer.items.add(new File([Uint8Array.from(data)], "talk.flac"));
        document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true }));
        }""",
        list(CLEAN.read_bytes()),
    )
    page.wait_for_selector("#convert-player:not([hidden])", timeout=60_000)
    assert page.evaluate("riverrun.convert.microphone.after.drawn") > 100
    assert page.evaluate("riverrun.restore.microphone.after.drawn") == 0, "only the tab that is seen takes it"
    page.click("#convert-play")
    gains = "riverrun.convert.files.gains.map((one) => Math.round(one.gain.value))"
    until(page, f"() => {gains}.join() === '0,1'")
    page.click("#convert-bypass")
    until(page, f"() => {gains}.join() === '1,0'")
    with page.expect_download() as download:
        page.click("#convert-save")
    assert download.value.suggested_filename == "talk.converted.wav"
    download.value.save_as(tmp_path / "saved.wav")
    (saved, rate), (clean, wanted) = read(tmp_path / "saved.wav"), read(CLEAN)
    assert (rate, len(saved)) == (wanted, len(clean))


def test_what_cannot_be_converted_is_told(page: Any, tmp_path: Path) -> None:
    (tmp_path / "notes.wav").write_text("not a sound")
    page.set_input_files("#convert-file", str(tmp_path / "notes.wav"))
    page.wait_for_selector("#message:has-text('cannot be opened')")
    begin(page)
    page.evaluate("document.getElementById('convert-voice').append(new Option('gone', 'voice_gone'))")
    page.select_option("#convert-voice", "voice_gone")
    page.wait_for_selector("#message:has-text('voice_gone')")
    assert page.get_attribute("#convert-microphone", "aria-pressed") == "true", "it goes on as it was"
    end(page)


def test_a_machine_that_is_too_slow_is_told_of(
    tmp_path: Path, clean: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, step = small(), ConvertLite.step

    def slowly(*given: Any) -> Any:
        time.sleep(0.04)  # for 20 ms of sound
        return step(model, *given)

    with serving(tmp_path, lambda: model) as (at, _), opened(at, clean, "convert") as page:
        begin(page)
        with monkeypatch.context() as patch:
            patch.setattr(model, "step", slowly)
            page.wait_for_selector("#convert-slow:has-text('too slow')")
        end(page)
        page.wait_for_selector("#convert-slow", state="hidden")


def test_how_the_model_does_on_this_machine_is_told_and_the_preset_that_comes_nearest(
    at: tuple[str, Hub], clean: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = {**at[1].fits["small"], "preset": "cpu", "hop": 0.24, "latency": 0.36, "p95": 0.1, "fits": True}
    for changes, shown in (
        (
            {},
            "Preset cpu. 360 ms of delay before computing; the server's machine takes 100 ms for a window of 240",
        ),
        (
            {"p95": 0.93, "fits": False},
            "too slow to convert live: the preset cpu comes nearest and takes 930 ms",
        ),
    ):
        monkeypatch.setitem(at[1].fits, "small", {**fit, **changes})
        with opened(at[0], clean, "convert") as page:
            assert shown in page.inner_text("#convert-fit")
            assert page.get_attribute("#convert-fit", "class") == ("slow" if changes else "hint")


def test_the_model_is_chosen_among_those_that_convert(tmp_path: Path, clean: Path) -> None:
    models: dict[str, Any] = {"small": small(), "smooth": Smooth(), "other": LiveConverter(small(("carl",)))}
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(server(models, voices={"folder": tmp_path})) as (address, hub),
        opened(f"http://{address}", clean, "convert") as page,
    ):
        options = "[...document.querySelectorAll('#convert-%s option')].map((option) => option.text)"
        assert page.evaluate(options % "model") == ["small, 120 ms", "other, 125 ms"]
        assert page.input_value("#convert-model") == "small", "the first"
        begin(page)
        assert live(hub).wanted.model == "small"
        page.select_option("#convert-model", "other")
        wait(page, lambda: [stream.wanted.model for stream in hub.streams.values()] == ["other"])
        assert page.evaluate(options % "voice") == ["carl"] and live(hub).values["voice"] == "carl"
        end(page)
        page.set_input_files("#convert-file", str(CLEAN))
        page.wait_for_selector("#convert-player:not([hidden])", timeout=60_000)
        made = 'riverrun_streams_opened_total{model="other",transport="http"} 1.0'
        assert made in httpx.get(f"http://{address}/metrics").text
        assert "other" in page.text_content("#convert-code")


def test_one_microphone_is_on_at_a_time(page: Any, at: tuple[str, Hub]) -> None:
    begin(page)
    page.click("#tab-restore")
    page.evaluate("riverrun.restore.microphone.wanted = () => ({ model: 'smooth', request: {} })")
    page.click("#microphone")
    wait(page, lambda: [stream.wanted.model for stream in at[1].streams.values()] == ["smooth"])
    assert page.get_attribute("#convert-microphone", "aria-pressed") == "false"
    page.click("#microphone")
    page.wait_for_selector("#server:has-text('ready')")


def test_without_a_model_that_converts_there_is_no_such_tab(tmp_path: Path, clean: Path) -> None:
    with serving(tmp_path, None) as (at, _), browsing.opened(f"{at}/#convert", clean) as page:
        page.wait_for_selector('#server[data-state="ready"]')
        assert page.is_hidden("#tab-convert") and page.is_hidden("#convert-panel")
        assert page.is_visible("#restore-panel")
        page.focus("#tab-restore")
        page.keyboard.press("End")
        page.wait_for_selector("#speak-panel:not([hidden])")


def test_everything_can_be_reached_and_has_a_name(page: Any) -> None:
    reached = []
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id"))
    names = "microphone bypass model voice pitch input output transport monitor monitor-gain file".split()
    assert {f"convert-{name}" for name in names} <= set(reached), reached
    nameless = page.evaluate(
        """[...document.querySelectorAll('button,input,select,meter,progress')].filter((e) =>
        !e.hidden && !e.labels?.length && !e.getAttribute('aria-label') && !e.textContent.trim())
        .map((e) => e.outerHTML)"""
    )
    assert not nameless
    twice = "[...document.querySelectorAll('[id]')].map((e) => e.id).filter((id, i, all) => all.indexOf(id) !== i)"
    assert not page.evaluate(twice)


@pytest.mark.parametrize("width", [360, 390, 1280])
def test_it_fits(page: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 780})
    for summary in page.locator("#convert-panel summary").all():
        summary.click()
    for language in ("curl", "python"):
        page.click(f"#convert-{language}")
        assert "convert" in page.inner_text("#convert-code")
    assert page.evaluate("document.documentElement.scrollWidth") == width
