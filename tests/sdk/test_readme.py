"""The Python in the README runs as it stands there, against a real server."""

import asyncio
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from riverrun.media import join, read, video
from riverrun.models import load
from riverrun.models.registry import for_task
from riverrun.models.speech.lite import SpeakLite
from riverrun.models.video import lite
from tests.models.speech.small import small
from tests.models.video.shows import net
from tests.models.voice.small import small as converter
from tests.sdk.mutants import tone, write
from tests.streaming.serving import server

pytestmark = pytest.mark.anyio
README = (Path(__file__).resolve().parents[2] / "README.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
ADDRESS = "127.0.0.1:8000"


@pytest.fixture
def names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the blocks take for granted: a recording, samples, a microphone, tokens, a loudspeaker and a screen."""
    monkeypatch.chdir(tmp_path)
    lite.save(tmp_path / "show.safetensors", net())
    write(tmp_path / "in.wav", tone(48_000, 1, 1.0), 48_000, "pcm_s16le")
    samples, played, seen = tone(48_000, 1, 0.5)[:, 0], list[Any](), list[Any]()
    microphone = [samples[at : at + 960] for at in range(0, len(samples), 960)]
    tokens = ["Hel", "lo ", "the", "re."]
    return {
        "samples": samples,
        "microphone": microphone,
        "tokens": tokens,
        "play": played.append,
        "played": played,
        "look": seen.append,
        "seen": seen,
    }


def test_the_readme_shows_python() -> None:
    assert len(BLOCKS) == 9 and sum(ADDRESS in block for block in BLOCKS) == 7


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.strip().splitlines()[0])
async def test_a_block_runs(block: str, names: dict[str, Any]) -> None:
    if ADDRESS not in block:
        exec(block, names)
    else:
        name = for_task("restore")
        speaker = small()
        voices = {"af_heart": speaker.voices["anna"]}
        models = {
            name: load(name),
            for_task("speak"): SpeakLite(speaker.net, voices, speaker.symbols.symbols),
            "convert-lite": converter(voices=("af_heart",)),
            "show-lite": lite.ShowLite(net()),
        }
        async with server(models, jobs={"folder": Path("jobs")}) as (at, _):
            await asyncio.to_thread(exec, block.replace(ADDRESS, at), names)
    if "convert-lite" in block:
        assert len(np.concatenate(names["played"])) == 24_000
        assert read(Path("converted.flac"))[0].shape == (48_000, 1)
    if "duck" in names:
        assert names["duck"].shape == (16, 24, 3) and len(np.concatenate(names["seen"])) == 36
        assert len(join(list(video("clip.mp4")))) == 24
        assert [cue.prompt[-5:] for cue in names["show"].cues] == [" fall", "night"]
    if "clean" in names:
        assert names["clean"].shape == names["samples"].shape
        made = Path("clean.flac" if names["played"] else "in.restored.wav")
        assert read(made)[0].shape == (48_000, 1)
    if "openai" in names:
        assert len(b"".join(names["played"])) > 2 * 1000
    elif names["played"] and "speech" not in names:
        assert len(np.concatenate(names["played"])) <= 24_000
    if "parts" in names:
        assert len(np.concatenate(names["parts"])) == 48_000
    if "speech" in names:
        assert np.concatenate(names["played"]).any() and read(Path("morning.flac"))[0].any()
    if "spoken" in names:
        assert names["words"] == ["Yes"] and np.concatenate(names["spoken"]).any()
