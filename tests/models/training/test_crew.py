"""Several processes train what speaks as one would on all they draw, end alike, and one can go on alone."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor

from riverrun.models.speech.lite import SpeakLiteNet
from riverrun.models.training import chunks, speaking, speech
from riverrun.models.training.chunks import Draws, Utterance
from riverrun.models.training.loop import Alone, Crew
from tests.models.training.test_speaking import PLAN, lay, logged

ROOT = Path(__file__).resolve().parents[3]
CPU = Alone(torch.device("cpu"))
LATER = replace(PLAN, autoencoder=replace(PLAN.autoencoder, steps=2, alone=0.4))
SCRIPT = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from riverrun.models.training.loop import assemble
from tests.models.training.test_crew import together
together(assemble(), Path(sys.argv[1]))
"""


def together(crew: Crew, folder: Path) -> None:
    """What each of two processes does, and writes for the test."""
    rank, seen = crew.process_index, list[float]()
    share = learned(crew, slice(2 * rank, 2 * rank + 2))
    torch.manual_seed(rank)  # they begin with other weights
    net = SpeakLiteNet(PLAN.chunks, PLAN.frames)

    def spy(step: Any) -> Any:
        def spied(course: Any, batch: Any, *rest: Any) -> Any:
            seen.append(float(getattr(batch, "voice", batch).abs().sum()))
            return step(course, batch, *rest)

        return spied

    with (
        mock.patch.object(speaking, "begun", return_value=net),
        mock.patch.object(speech.Course, "step", spy(speech.Course.step)),
        mock.patch.object(chunks.Course, "step", spy(chunks.Course.step)),
    ):
        speaking.run(LATER, folder, crew)
    torch.save({"share": share, "net": net.state_dict(), "seen": seen}, folder / f"{rank}.pt")


def learned(crew: Crew, rows: slice) -> dict[str, Tensor]:
    """How far both parts go in some steps without chance, on some of four rows."""
    torch.manual_seed(0)
    net = SpeakLiteNet(PLAN.chunks, replace(PLAN.frames, noise=False))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    sound = 0.1 * torch.randn(4, 24 * PLAN.frames.hop)[rows]
    clips = [Utterance(torch.randn(40, 8).abs(), torch.tensor([i + 1, 2, 3]), torch.tensor([9.0, 20 + i, 40]), "")
             for i in range(4)]  # fmt: skip
    batch = Draws(clips[rows], replace(PLAN.transformer, heard=1000), CPU.device).batch(
        range(len(clips[rows]))
    )
    batch = replace(batch, voice=batch.latents, heard=batch.frames)
    still: dict[str, Any] = {
        "randn_like": torch.zeros_like,
        "randn": torch.zeros,
        "rand": lambda *shape, device: torch.full(shape, 0.5, device=device),
        "randint": lambda *_: torch.tensor(3),
    }
    with mock.patch.multiple(torch, **still):
        hears = speech.Course(net.vae, PLAN.autoencoder, crew)
        speaks = chunks.Course(net.dit, PLAN.transformer, crew)
        for _ in range(4):
            hears.step(sound, 1.0, False)
            speaks.step(batch, 1.0, False)
    assert not torch.isnan(hears.pressure)
    return {name: value - before[name] for name, value in net.state_dict().items()}


def apart(a: dict[str, Tensor], b: dict[str, Tensor], part: str) -> float:
    """Distance of what two learned, relative to its size."""
    one, two = (torch.cat([v.flatten() for k, v in x.items() if k.startswith(part)]) for x in (a, b))
    return float((one - two).norm() / two.norm())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes left."""
    folder = lay(tmp_path_factory.mktemp("crew"))
    (folder / "it.py").write_text(SCRIPT)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr=127.0.0.1"]
    done = subprocess.run(
        [*command, "--nproc-per-node=2", str(folder / "it.py"), str(folder)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


def test_processes_learn_what_one_learns_of_all_their_rows(folder: Path) -> None:
    first, second = (torch.load(folder / f"{rank}.pt")["share"] for rank in (0, 1))
    whole, half = learned(CPU, slice(0, 4)), learned(CPU, slice(0, 2))
    for part in ("dit.", "vae."):
        assert apart(first, second, part) == 0
        assert apart(first, whole, part) < 0.1 < 0.3 < apart(half, whole, part)


def test_processes_draw_other_batches_and_end_with_the_same_weights(folder: Path) -> None:
    first, second = (torch.load(folder / f"{rank}.pt") for rank in (0, 1))
    assert all(torch.equal(value, second["net"][name]) for name, value in first["net"].items())
    assert len(first["seen"]) == len(second["seen"]) == 5 and not set(first["seen"]) & set(second["seen"])


def test_the_main_process_alone_writes_and_one_goes_on_without_the_other(folder: Path) -> None:
    out = folder / "out"
    (heard,), (spoken,) = logged(out / "autoencoder"), logged(out / "transformer")
    assert heard["step"] == 2 and heard["judged"] > 0 and spoken["step"] == 3
    assert len(list((out / "transformer" / "samples").iterdir())) == 1
    speaking.run(replace(LATER, transformer=replace(PLAN.transformer, steps=5)), folder, CPU)
    assert [row["step"] for row in logged(out / "transformer")] == [3, 5]
    assert len(logged(out / "autoencoder")) == 1
