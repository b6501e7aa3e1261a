"""Other systems that speak, each as its package runs it on a CPU; those under the GPL only as programs of their own."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from riverrun.models.errors import ModelError
from riverrun.models.evaluation.lines import Line
from riverrun.models.evaluation.recordings import Packages
from riverrun.models.training.corpus import decode

Sound = NDArray[np.float32]
HEART = "af_heart"


class Talker(Protocol):
    """Anything that speaks. `rate` in Hz; `made` is false for what is no system and takes no time."""

    name: str
    rate: int
    made: bool

    def voice(self, line: Line) -> str:
        """Whose voice a line is said in; empty if the corpus has nobody's."""
        ...

    def say(self, line: Line) -> Iterator[Sound]:
        """The sound of a line in pieces `[n]`, as they are made."""
        ...


class Recorded:
    """The corpus itself: what its voices, or the system that made it, sound like."""

    name, rate, made = "recordings", 24_000, False

    def voice(self, line: Line) -> str:
        return line.voice

    def say(self, line: Line) -> Iterator[Sound]:
        assert line.recording
        yield decode(line.recording, self.rate)


class Hibari:
    """hibari-tts, 6 M parameters, in its own voice."""

    name, rate, made = "Hibari", 24_000, True

    def __init__(self) -> None:
        """Raises ImportError if it is not installed."""
        from hibari import Hibari as System

        self.system = System(threads=1)

    def voice(self, line: Line) -> str:
        return HEART

    def say(self, line: Line) -> Iterator[Sound]:
        yield from self.system.stream(line.text, seed=0)


class Kokoro:
    """Kokoro-82M, int8, in the voice of the line if it has that."""

    name, rate, made = "Kokoro", 24_000, True

    def __init__(self, packages: Packages) -> None:
        """Raises ModelError if the package cannot be had."""
        from riverrun.models.training.teacher import Teacher

        self.teacher = Teacher(packages.kokoro())

    def voice(self, line: Line) -> str:
        return line.voice if line.voice in self.teacher.voices else HEART

    def say(self, line: Line) -> Iterator[Sound]:
        yield self.teacher.speak(line.text, {self.voice(line): 1.0})


class Piper:
    """Piper with the voice joe: one program for all lines, as many threads as it likes."""

    name, rate, made = "Piper", 22_050, True

    def __init__(self, packages: Packages) -> None:
        """Raises ModelError if there is no program of that name, or its voice cannot be had."""
        piper, folder = program("piper"), packages.folder / "said"
        model = next(packages.wheel("joe").rglob("*.onnx"))
        command = [piper, "-m", str(model), "--output-dir", str(folder)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
        )

    def voice(self, line: Line) -> str:
        return ""

    def say(self, line: Line) -> Iterator[Sound]:
        from scipy.io import wavfile

        assert self.process.stdin and self.process.stderr
        self.process.stdin.write(" ".join(line.text.split()) + "\n")
        self.process.stdin.flush()
        told = ""
        while "Wrote " not in told:
            told = self.process.stderr.readline()
            if not told:
                raise ModelError(f"piper ended at {line.text!r}")
        path = told.split("Wrote ", 1)[1].strip()
        yield wavfile.read(path)[1].astype(np.float32) / np.float32(32768)
        os.remove(path)

    def __del__(self) -> None:
        if hasattr(self, "process"):
            self.process.communicate()


class Espeak:
    """espeak-ng: a program for each line, which begins anew."""

    name, rate, made = "espeak-ng", 22_050, True

    def __init__(self) -> None:
        """Raises ModelError if there is no program of that name."""
        self.command = [program("espeak-ng"), "-v", "en-us", "--stdout"]

    def voice(self, line: Line) -> str:
        return ""

    def say(self, line: Line) -> Iterator[Sound]:
        done = subprocess.run(self.command, input=line.text.encode(), capture_output=True, check=True)
        yield np.frombuffer(done.stdout[44:], "<i2").astype(np.float32) / np.float32(32768)


def program(name: str) -> str:
    """Where a program is. Raises ModelError if it is not on the PATH."""
    found = shutil.which(name)
    if not found:
        raise ModelError(f"no program {name} on the PATH")
    return found


def peers(packages: Packages, tell: Callable[[str], object]) -> list[Talker]:
    """Every peer there is; why the others are not there is told."""
    makers: dict[str, Callable[[], Talker]] = {
        "Hibari": Hibari,
        "Kokoro": lambda: Kokoro(packages),
        "Piper": lambda: Piper(packages),
        "espeak-ng": Espeak,
    }
    found: list[Talker] = []
    for name, make in makers.items():
        try:
            found.append(make())
        except (ModelError, ImportError, OSError) as error:
            tell(f"{name} is not judged: {error}")
    return found
