"""Training on two processes: they end together though their clocks differ, and see different examples."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = """
import os, sys, time
from dataclasses import replace
from pathlib import Path
import torch
torch.set_num_threads(1)
from riverrun.models.training.restoration import train
from tests.models.training.test_restoration import SMOKE, Tones, small

class Seen(Tones):
    def __getitem__(self, i):
        with open(f"{sys.argv[1]}/seen-{os.environ['RANK']}", "a") as file:
            file.write(f"{i} ")
        return super().__getitem__(i)

time.sleep(0.3 * int(os.environ["RANK"]))
train(small(), replace(SMOKE, minutes=0.02, steps=None), Seen(), Path(sys.argv[1]) / "out")
"""


def test_two_processes_end_together_and_share_the_examples(tmp_path: Path) -> None:
    (tmp_path / "it.py").write_text(SCRIPT)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr=127.0.0.1"]
    done = subprocess.run(
        [*command, "--nproc-per-node=2", str(tmp_path / "it.py"), str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "ACCELERATE_USE_CPU": "true", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    first, second = ({int(i) for i in (tmp_path / f"seen-{rank}").read_text().split()} for rank in (0, 1))
    assert first and second and not first & second
    assert (tmp_path / "out" / "last.pt").exists()
