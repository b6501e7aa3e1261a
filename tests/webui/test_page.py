"""The page in Chromium, against the real server: what a person sees, hears and is told."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from riverrun.media import Chunk, Writer, read

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
    "--disable-sync --no-first-run --disable-gpu --disable-quic"
).split()
RATE = 48_000
Audio = NDArray[np.float32]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of a server in a process of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-m", "riverrun.cli", "serve", "--port", str(port)])
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


@pytest.fixture(scope="module")
def voice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The noisy sample as the microphone's file."""
    sound, rate = read(ASSETS / "sample-noisy.flac")
    file = tmp_path_factory.mktemp("voice") / "voice.wav"
    with Writer(file, rate=rate, channels=1, codec="pcm_s16le") as writer:
        writer.put(Chunk(sound, 0, rate))
    return file


@pytest.fixture
def page(server: str, voice: Path, request: pytest.FixtureRequest) -> Iterator[Any]:
    """The page, open; nothing it says on the console may be an error."""
    wrong: list[str] = []
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=str(CHROMIUM), args=[*FLAGS, f"--use-file-for-fake-audio-capture={voice}"]
        )
        context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
        page = context.new_page()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(server)
        page.wait_for_selector('#server[data-state="ready"]')
        yield page
        browser.close()
    assert not wrong


def lagged(reference: Audio, heard: Audio) -> tuple[Audio, Audio]:
    """Both, cut to where they are the same moment, by cross-correlation."""
    size = 1 << (len(reference) + len(heard)).bit_length()
    product = np.fft.rfft(heard, size) * np.conj(np.fft.rfft(reference, size))
    shift = int(np.argmax(np.fft.irfft(product)))
    shift -= size if shift > size // 2 else 0
    reference, heard = reference[max(0, -shift) :], heard[max(0, shift) :]
    length = min(len(reference), len(heard))
    return reference[:length], heard[:length]


def si_sdr(reference: Audio, heard: Audio) -> float:
    """In dB, after alignment."""
    reference, heard = lagged(reference, heard)
    target = (heard @ reference) / (reference @ reference) * reference
    return float(10 * np.log10((target @ target) / ((heard - target) @ (heard - target))))


def test_the_microphone_comes_back_cleaner_and_the_delay_is_shown(page: Any, tmp_path: Path) -> None:
    page.click("#microphone")
    page.wait_for_selector("#server:has-text('live')")
    page.click("#record")
    page.wait_for_timeout(9000)
    total = float(page.inner_text("#total"))
    page.click("#record")
    sounds = {}
    for side in ("in", "out"):
        with page.expect_download() as download:
            page.click(f"#download-{side}")
        download.value.save_as(tmp_path / f"{side}.wav")
        sounds[side] = read(tmp_path / f"{side}.wav")[0][:, 0]
    page.click("#microphone")
    assert 20 < total < 1000
    clean = read(ASSETS / "sample-clean.flac")[0][:, 0]
    clean = np.interp(np.arange(0, len(clean), 0.5), np.arange(len(clean)), clean).astype(
        np.float32
    )  # 24 to 48 kHz
    clean = np.concatenate([clean, clean])  # the microphone's file is played again and again
    assert si_sdr(clean, sounds["out"]) > si_sdr(clean, sounds["in"]) + 3


def test_a_file_is_restored_drawn_played_and_saved(page: Any, tmp_path: Path) -> None:
    page.set_input_files("#file", str(ASSETS / "sample-noisy.flac"))
    page.wait_for_selector("#player:not([hidden])", timeout=60_000)
    assert page.evaluate("riverrun.spectrograms.after.drawn") > 100
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
    page.evaluate("riverrun.state.live.stream.socket.close(3000)")
    page.wait_for_selector("#server:has-text('reconnecting')")
    page.wait_for_selector("#server:has-text('live')")
    page.wait_for_timeout(1500)
    stream = page.evaluate("({...riverrun.state.live.stream, open: 0, socket: 0})")
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
        !e.labels?.length && !e.getAttribute('aria-label') && !e.textContent.trim()).map((e) => e.outerHTML)"""
    )
    assert not nameless
