"""The page in Chromium, against the real server: what a person sees, hears and is told."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import SequenceMatcher
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from riverrun.media import read
from riverrun.models.evaluation.hearing import Whisper, tiny
from riverrun.streaming.access import digest
from tests.pace import kept_up

playwright = pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")
CHROMIUM = Path("/usr/bin/chromium")
pytestmark = [
    pytest.mark.skipif(
        not CHROMIUM.exists(), reason="Chromium is not installed; on Debian: apt install chromium"
    ),
    pytest.mark.filterwarnings("default"),
]
ASSETS = Path(__file__).resolve().parents[2] / "assets"
FLAGS = (
    "--no-sandbox --use-fake-ui-for-media-stream --use-fake-device-for-media-stream "
    "--autoplay-policy=no-user-gesture-required --disable-background-networking --disable-component-update "
    "--disable-sync --no-first-run --disable-gpu --disable-quic --allow-loopback-in-peer-connection"
).split()
RATE = 48_000
Audio = NDArray[np.float32]


@contextmanager
def serving(settings: dict[str, str]) -> Iterator[str]:
    """The address of a server in a process of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "riverrun.cli", "serve", "--port", str(port)],
        env={**os.environ, "RIVERRUN_WEBRTC__HOSTS": '["127.0.0.1"]', **settings},
    )
    at = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            time.sleep(0.1)
            try:
                if httpx.get(f"{at}/health/ready").status_code == 200:
                    break
            except httpx.TransportError:
                assert process.poll() is None, "the server ended"
        yield at
    finally:
        process.terminate()
        process.wait(20)


@contextmanager
def opened(at: str, voice: Path) -> Iterator[Any]:
    """The page, with a file for a microphone."""
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=str(CHROMIUM), args=[*FLAGS, f"--use-file-for-fake-audio-capture={voice}"]
        )
        page = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True).new_page()
        page.goto(at)
        yield page
        browser.close()


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of a server that all tests use."""
    with serving({}) as at:
        yield at


@pytest.fixture
def page(server: str, voice: Path) -> Iterator[Any]:
    """The page, ready; it may throw nothing."""
    wrong: list[str] = []
    with opened(server, voice) as page:
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.wait_for_selector('#server[data-state="ready"]')
        yield page
    assert not wrong


def until(page: Any, true: str) -> None:
    """Wait for a function to give true. (What Playwright has for it, the page's security policy forbids.)"""
    for _ in range(100):
        if page.evaluate(true):
            return
        page.wait_for_timeout(100)
    raise AssertionError(f"never: {true}")


def found(clip: Audio, recording: Audio) -> Audio:
    """Where a clip lies whole in a longer recording, by cross-correlation."""
    size = 1 << (len(clip) + len(recording)).bit_length()
    product = np.fft.rfft(recording, size) * np.conj(np.fft.rfft(clip, size))
    start = int(np.argmax(np.fft.irfft(product)[: len(recording) - len(clip)]))
    return recording[start : start + len(clip)]


def si_sdr(reference: Audio, heard: Audio) -> float:
    """In dB."""
    target = (heard @ reference) / (reference @ reference) * reference
    return float(10 * np.log10((target @ target) / ((heard - target) @ (heard - target))))


@cache
def recogniser() -> Whisper:
    return Whisper(tiny())


def words(sound: Audio) -> list[str]:
    """What is said, at 48 kHz."""
    text = recogniser()(sound[::3]).lower()
    return "".join(c if c.isalpha() or c == "'" else " " for c in text).split()


def kept(said: list[str], heard: list[str]) -> float:
    """The share of words that are still there, in their order."""
    same = SequenceMatcher(None, said, heard, autojunk=False).get_matching_blocks()
    return sum(block.size for block in same) / max(len(said), 1)


@pytest.mark.parametrize(("transport", "lost"), [("ws", 1), ("webrtc", 3)])
def test_the_microphone_comes_back_cleaner_with_every_word(
    page: Any, tmp_path: Path, transport: str, lost: int
) -> None:
    page.select_option("#transport", transport)
    page.click("#microphone")
    page.wait_for_selector("#server:has-text('live')")
    page.wait_for_timeout(1500)
    page.evaluate("document.getElementById('slow').textContent = ''")  # what was slow at the start
    page.click("#record")
    page.wait_for_timeout(19_000)  # the file is 8.5 s long and starts again and again
    total = float(page.inner_text("#total"))
    stages = [float(value.split()[0]) for value in page.locator("#stages dd").all_inner_texts()]
    page.click("#record")
    sounds = {}
    for side in ("in", "out"):
        with page.expect_download() as download:
            page.click(f"#download-{side}")
        download.value.save_as(tmp_path / f"{side}.wav")
        sounds[side] = read(tmp_path / f"{side}.wav")[0][:, 0]
    slow = page.text_content("#slow")  # stays when it is hidden again
    page.click("#microphone")
    assert abs(sum(stages) - total) < 0.5 * total, stages
    clean = read(ASSETS / "sample-clean.flac")[0][:, 0]
    clean = np.interp(np.arange(0, len(clean), 0.5), np.arange(len(clean)), clean)  # 24 to 48 kHz
    before, after = (found(clean.astype(np.float32), sounds[side]) for side in ("in", "out"))
    with kept_up(lambda: slow):
        assert 20 < total < 1500 and len(before) == len(after) == len(clean)
        assert si_sdr(clean, after) > si_sdr(clean, before) + 3
        assert kept(words(clean), words(after)) > kept(words(clean), words(before)) - (lost + 0.5) / 15


def test_a_file_is_restored_drawn_played_and_saved(page: Any, tmp_path: Path) -> None:
    page.set_input_files("#file", str(ASSETS / "sample-noisy.flac"))
    page.wait_for_selector("#player:not([hidden])", timeout=60_000)
    assert page.evaluate("riverrun.restore.microphone.after.drawn") > 100
    page.click("#play")
    page.check("input[value=original]", force=True)
    page.wait_for_timeout(300)
    assert page.get_attribute("#play", "aria-pressed") == "true"
    with page.expect_download() as download:
        page.click("#save")
    download.value.save_as(tmp_path / "saved")
    saved, rate = read(tmp_path / "saved")
    noisy, wanted = read(ASSETS / "sample-noisy.flac")
    assert (rate, len(saved)) == (wanted, len(noisy))


def test_what_is_no_recording_is_told(page: Any, tmp_path: Path) -> None:
    (tmp_path / "notes.wav").write_text("not a sound")
    page.set_input_files("#file", str(tmp_path / "notes.wav"))
    page.wait_for_selector("#message:not([hidden])")
    assert "cannot be opened" in page.inner_text("#message")


def test_a_cut_connection_is_told_and_comes_back_without_a_gap(page: Any) -> None:
    page.click("#microphone")
    page.wait_for_selector("#server:has-text('live')")
    page.wait_for_timeout(800)
    page.evaluate("riverrun.restore.microphone.live.stream.socket.close(3000)")
    page.wait_for_selector("#server:has-text('reconnecting')")
    page.wait_for_selector("#server:has-text('live')")
    page.wait_for_timeout(1500)
    stream = page.evaluate("({...riverrun.restore.microphone.live.stream, open: 0, socket: 0})")
    assert stream["received"] > 50 and len(stream["unsafe"]) < 30
    page.click("#microphone")


def test_a_blocked_microphone_is_explained(page: Any) -> None:
    page.evaluate(
        "() => { navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('', 'NotAllowedError') } }"
    )
    page.click("#microphone")
    page.wait_for_selector("#message:not([hidden])")
    assert "Allow it" in page.inner_text("#message")
    assert page.get_attribute("#microphone", "aria-pressed") == "false"


def test_everything_can_be_reached_and_has_a_name(page: Any) -> None:
    """By keyboard alone; every control says what it is."""
    reached = []
    for _ in range(30):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate("document.activeElement.id || document.activeElement.textContent.trim()")
        )
    for wanted in ("microphone", "strength", "input", "output", "file", "theme"):
        assert wanted in reached, reached
    nameless = page.evaluate(
        """[...document.querySelectorAll('button,input,select,meter,progress')].filter((e) =>
        !e.hidden && !e.labels?.length && !e.getAttribute('aria-label') && !e.textContent.trim())
        .map((e) => e.outerHTML)"""
    )
    assert not nameless


def test_a_broadcast_is_heard_and_its_absence_told(page: Any) -> None:
    page.click("#broadcast summary")
    page.click("#listen")
    page.wait_for_selector("#message:has-text('nobody sends')")
    page.evaluate(
        """async () => {
        const media = await navigator.mediaDevices.getUserMedia({ audio: true });
        const peer = (window.publisher = new RTCPeerConnection());
        peer.addTransceiver(media.getAudioTracks()[0], { direction: "sendonly" });
        await peer.setLocalDescription();
        await new Promise((done) => setTimeout(done, 500));
        const head = { "content-type": "application/sdp" };
        const reply = await fetch(document.getElementById("whip").textContent,
            { method: "POST", headers: head, body: peer.localDescription.sdp });
        await peer.setRemoteDescription({ type: "answer", sdp: await reply.text() });
        }"""
    )
    until(page, "() => publisher.connectionState === 'connected'")
    page.click("#listen")
    page.wait_for_selector("#listen:has-text('Stop listening')")
    heard = """async () => {
        for (const report of (await riverrun.restore.cast.peer.getStats()).values())
            if (report.type === "inbound-rtp" && report.totalAudioEnergy > 0.001) return true;
        }"""
    until(page, heard)
    page.click("#listen")
    page.wait_for_selector("#listen:text-is('Listen')")


def test_the_ring_follows_a_clock_that_is_not_its_own(page: Any) -> None:
    """A loudspeaker 0.03 % slow or fast for ten minutes: what is held stays the same, and nothing is skipped."""
    run = """async (drift) => {
        const { Ring } = await import("/static/ring.js");
        const ring = new Ring(48000), out = new Float32Array(128), held = [];
        let sent = 0;
        for (let played = 0; played < 600 * 48000; played += 128) {
            for (; sent < played * drift; sent += 480)
                ring.push(Float32Array.from({ length: 480 }, (_, i) => Math.sin((sent + i) / 30)));
            ring.pull(out);
            if (played % 48000 < 128) held.push(ring.buffered);
        }
        return { held, underruns: ring.underruns, skipped: ring.skipped };
    }"""
    for drift in (1.0003, 0.9997):
        told = page.evaluate(run, drift)
        assert told["skipped"] < 4800 and told["underruns"] <= 2
        assert max(told["held"][20:]) < 0.06, "no more than is needed waits"


def test_the_ring_plays_smoothly_while_it_catches_up(page: Any) -> None:
    run = """async () => {
        const { Ring } = await import("/static/ring.js");
        const ring = new Ring(48000), out = new Float32Array(128);
        let sent = 0, last = 0, jump = 0;
        const push = (n) => {
            ring.push(Float32Array.from({ length: n }, (_, i) => Math.sin((sent + i) / 30)));
            sent += n;
        };
        push(4800);
        for (let i = 0; i < 8000; i++) {
            push(i === 2000 ? 24000 : 128);
            ring.pull(out);
            for (const value of out) { jump = Math.max(jump, Math.abs(value - last)); last = value; }
        }
        return { jump, held: ring.buffered, skipped: ring.skipped };
    }"""
    told = page.evaluate(run)
    assert told["skipped"] > 20_000 and told["held"] < 0.06, "half a second too much is not kept"
    assert told["jump"] < 0.1, "a skip is a fade: no sample is far from the one before"


def test_it_fits_a_telephone(page: Any) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    for details in page.locator("#restore-panel summary").all():
        details.click()
    assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_a_key_is_asked_for_where_one_is_needed(voice: Path) -> None:
    keys = json.dumps([digest("secret")])
    with serving({"RIVERRUN_ACCESS__KEYS": keys}) as at, opened(at, voice) as page:
        page.wait_for_selector("#key:not([hidden])")
        page.fill("#secret", "secret")
        page.keyboard.press("Enter")
        page.wait_for_selector('#server[data-state="ready"]')
        for transport in ("ws", "webrtc"):
            page.select_option("#transport", transport)
            page.click("#microphone")
            page.wait_for_selector("#server:has-text('live')")
            page.click("#microphone")
            page.wait_for_selector("#server:has-text('ready')")
