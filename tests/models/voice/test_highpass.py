"""The high-pass before X-VC: what it makes of hops is what its preparation makes of the whole."""

import numpy as np

from riverrun.models.checking import check_stream
from riverrun.models.contract import Port
from riverrun.models.voice.features import highpass
from riverrun.models.voice.highpass import Highpass, Request
from tests.models.toys import stream

MODEL = Highpass(Port("audio", 16_000, 960))


def test_it_is_a_stream_as_every_model_is() -> None:
    report = check_stream(MODEL, [Request()])
    assert report.max_difference == 0 and report.batch > 1


def test_hop_by_hop_it_is_the_preparation_of_a_whole_recording() -> None:
    t = np.arange(16_000) / 16_000
    voice, rumble = 0.4 * np.sin(2 * np.pi * 200 * t), 0.9 * np.sin(2 * np.pi * 8 * t)
    sound = (voice + rumble).astype(np.float32)
    made = stream(MODEL, sound, Request())  # whole hops
    assert np.abs(made - highpass(sound.astype(np.float64))[: len(made)]).max() < 1e-6
    kept = np.abs(np.fft.rfft(made[8_000:])) / np.abs(np.fft.rfft(sound[8_000:]))
    assert kept[4] < 0.1 and 0.95 < kept[100] < 1.05, "8 Hz and 200 Hz"
