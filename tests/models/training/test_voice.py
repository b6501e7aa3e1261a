"""From a folder of timed speech to weights that convert, in the parts that a stopped run goes on with."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from riverrun.cli import main
from riverrun.models.errors import ModelError
from riverrun.models.training import converting, listening, voice
from riverrun.models.training.loop import Alone
from riverrun.models.voice.listener import ListenerConfig
from riverrun.models.voice.lite import Request, convert, load
from riverrun.models.voice.network import ConverterConfig
from tests.models.training.test_speaking import lay, logged
from tests.sdk.mutants import write

pytest.importorskip("pyworld")

CPU = Alone(torch.device("cpu"))
HEARS = ListenerConfig(16, 1, 20, 4, pitch_width=16, pitch_layers=1)
PLAN = voice.Plan(
    ("corpus",),
    ("timings",),
    "out",
    ConverterConfig(HEARS, 16, 2, 1, (1,), 2, 16, 1, vector=8),
    listening.Recipe(minutes=9, steps=3, batch=2, frames=64, save_minutes=9),
    converting.Recipe(minutes=9, steps=3, batch=2, frames=40, heard=64, save_minutes=9),
)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A folder with four utterances of a second, one of them held out."""
    return lay(tmp_path)


def test_a_corpus_becomes_weights_that_convert_and_a_second_call_goes_on(base: Path) -> None:
    path = voice.run(PLAN, base, CPU)
    model = load(path)
    assert sorted(model.voices) == ["anna", "ben"], "those of one name that are for training"
    said = convert(model, np.zeros(24_000, np.float32), Request("anna"))
    assert len(said) == 24_000 and np.isfinite(said).all()
    assert [file.name for file in samples(base)] == ["four-anna.flac"], "the voice that is held out"
    first, again = load_file(path), load_file(voice.run(PLAN, base, CPU))
    assert equal(first, again), "it was done"
    further = load_file(voice.run(longer(PLAN, listening=3, converting=5), base, CPU))
    assert not equal(first, further) and equal(first, further, "net.listener.")
    assert [row["step"] for row in logged(base / "out" / "converting")] == [3, 5]
    rows = logged(base / "out" / "listening")
    assert [row["step"] for row in rows] == [3] and rows[0]["heldout_phones"] > 0 < rows[0]["phones"]


def samples(base: Path) -> list[Path]:
    return list((base / "out" / "converting" / "samples").iterdir())


def equal(a: dict[str, Tensor], b: dict[str, Tensor], prefix: str = "net.") -> bool:
    return all(torch.equal(value, b[name]) for name, value in a.items() if name.startswith(prefix))


def apart(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    """The mean difference of all weights."""
    return float(
        torch.cat([(value.float() - b[name].float()).abs().flatten() for name, value in a.items()]).mean()
    )


def longer(plan: voice.Plan, listening: int, converting: int) -> voice.Plan:
    return replace(
        plan,
        listening=replace(plan.listening, steps=listening),
        converting=replace(plan.converting, steps=converting),
    )


def test_what_listens_may_learn_more_and_the_converter_goes_on_with_it(base: Path) -> None:
    first = load_file(voice.run(PLAN, base, CPU))
    further = load_file(voice.run(longer(PLAN, listening=5, converting=5), base, CPU))
    listener = base / "out" / "listening" / "listener.safetensors"
    assert not equal(first, further, "net.listener.")
    assert all(torch.equal(value, further[f"net.listener.{k}"]) for k, value in load_file(listener).items())


def test_what_is_held_out_is_never_learned_from(base: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = lay(tmp_path_factory.mktemp("other"))
    loud = np.random.default_rng(99).uniform(-1, 1, (24_000, 1)).astype(np.float32)
    write(other / "corpus" / "four.flac", loud, 24_000, "flac")
    a, b = (load_file(voice.run(PLAN, folder, CPU)) for folder in (base, other))
    assert apart(a, b) < 1e-6, "but for what is rounded to 16 bits the other way"


def test_a_run_begins_with_weights_of_either_kind(base: Path) -> None:
    old = load_file(voice.run(PLAN, base, CPU))
    still = replace(PLAN, listening=replace(PLAN.listening, minutes=0))
    whole = replace(still, out="whole", weights="out/convert.safetensors")
    begun = voice.begun(whole, base).state_dict()
    assert all(torch.equal(value.half(), old[f"net.{name}"].half()) for name, value in begun.items())
    ears = replace(still, out="ears", weights="out/listening/listener.safetensors")
    wide = replace(ears, converter=replace(PLAN.converter, width=32))
    for plan in (whole, wide):
        new = load_file(voice.run(plan, base, CPU))
        assert equal(old, new, "net.listener.") and not (base / plan.out / "listening").exists()
    assert new["net.last.weight"].shape[1] == 32


def test_weights_that_do_not_fit_are_refused(base: Path) -> None:
    voice.run(PLAN, base, CPU)
    plan = replace(PLAN, weights="out/convert.safetensors")
    with pytest.raises(ModelError, match=r"not fit: first\.weight has shape \(16, .*expected \(32, "):
        voice.run(replace(plan, converter=replace(PLAN.converter, width=32)), base, CPU)
    with pytest.raises(ModelError, match="no such file"):
        voice.run(replace(plan, weights="lost.safetensors"), base, CPU)
    with pytest.raises(ModelError, match="0 minutes and nothing to begin with"):
        voice.run(voice.shorten(PLAN, 0), base, CPU)


def test_too_little_speech_is_told(base: Path) -> None:
    long = replace(PLAN, listening=replace(PLAN.listening, frames=300))
    with pytest.raises(ModelError, match="72000 samples of speech are for training, and a crop has 72000"):
        voice.run(long, base, CPU)
    manifest = base / "corpus" / "manifest.jsonl"
    manifest.write_text(manifest.read_text().replace('"train"', '"heldout"'))
    with pytest.raises(ModelError, match="no utterance that is timed and for training"):
        voice.run(PLAN, base, CPU)


def test_a_voice_is_heard_by_its_first_seconds() -> None:
    from riverrun.models.training.alignments import Timing
    from riverrun.models.training.utterances import Line

    def line(voices: object) -> Line:
        return Line(Path("a.wav"), json.dumps(voices), "train", Timing("a.wav", (), 1.0, 0.01))

    names = [{"anna": 1.0}, ["anna"], {"anna": 0.5, "ben": 0.5}, "corpus", {"carl": 1.0}]
    parts = [np.full(8_000, 100 * i, np.int16) for i in range(4)] + [np.zeros(300, np.int16)]
    known = voice.recorded([line(name) for name in names], parts, 1_000)
    assert list(known) == ["anna"], "mixes, nobody's, and what is too short are left out"
    assert len(known["anna"]) == 16_000 and known["anna"][-1] == np.float32(100 / 32767)
    with pytest.raises(ModelError, match="a voice is named 'dr. anna', expected no dot"):
        voice.recorded([line({"dr. anna": 1.0})], parts, 1_000)


TINY = (
    'speech = ["corpus"]\ntimings = ["timings"]\nout = "made"\n'
    "[converter]\nwidth = 16\nslow = 2\nfast = 1\nattends = [1]\nheads = 2\nhearing = 16\nears = 1\nvector = 8\n"
    "[converter.listener]\nwidth = 16\nlayers = 1\nbands = 20\ncontent = 4\npitch_width = 16\npitch_layers = 1\n"
    "[listening]\nsteps = 1\nbatch = 1\nframes = 64\n[converting]\nsteps = 1\nbatch = 1\nframes = 40\nheard = 64\n"
)


def test_a_recipe_is_run_by_a_command(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (base / "tiny.toml").write_text(TINY)
    with pytest.raises(SystemExit) as ended:
        main(["train", "voice", str(base / "tiny.toml"), "--minutes", "9", "--device", "cpu"])
    assert not ended.value.code
    path = capsys.readouterr().out.strip()
    assert path == str(base / "made" / "convert.safetensors") and load(Path(path)).voices


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('speech = ["a"]\ntimings = []\nout = "o"', "1 folders of speech and 0 of timings"),
        ('speech = ["a"]\ntimings = ["b"]\nout = "o"\n[converter.listener]\nlate = 4', "late is 4, late_pitch 7"),
        (
            'speech = ["a"]\ntimings = ["b"]\nout = "o"\n[converter.listener]\nlate = 7\nlate_pitch = 6',
            "late is 7, .* even",
        ),
        ('speech = ["a"]\ntimings = ["b"]\nout = "o"\n[listener]\nlate = 8', "holds .'listener'."),
        ("speech", "is not a training config"),
    ],
)  # fmt: skip
def test_a_config_that_is_wrong_is_told(tmp_path: Path, text: str, why: str) -> None:
    config = tmp_path / "config.toml"
    config.write_text(text)
    with pytest.raises(ModelError, match=why):
        voice.read(config)


def test_the_recipe_in_the_package_is_read_and_shortened() -> None:
    plan = voice.read(Path(voice.__file__).parent / "recipes" / "convert-lite.toml")
    assert plan.converter == ConverterConfig(), "the defaults are the shape of the weights in the package"
    short = voice.shorten(plan, 10.7)
    assert [short.listening.minutes, short.converting.minutes] == pytest.approx([1.7, 9])
