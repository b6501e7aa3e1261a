"""A transformer on two processes computes what it computes on one, however many patches and heads there are."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = """
import os
from dataclasses import replace
import torch
import torch.distributed as dist
torch.set_num_threads(1)
from riverrun.models.video import caching, rflow
from riverrun.models.video.caching import Caching
from riverrun.models.video.parallel import Parallel
from riverrun.models.video.plan import sampling
from tests.models.memory import peak
from tests.models.video.small import SMALL, drawn, small

dist.init_process_group("gloo")
ranks = dist.get_world_size()
fps, far = torch.tensor([24.0]), 0.0
noisy = torch.tensor([[False, True, True]])
with torch.inference_mode():
    for heads in (1, 2, 4):
        torch.manual_seed(0)
        net = small(replace(SMALL, heads=heads))
        told, nothing = (net.read(drawn(1, 6, 12, seed=s), torch.tensor([[1, 1, 1, 1, 0, 0]])) for s in (1, 2))
        for y, x in ((6, 6), (5, 10), (2, 2), (4, 6)):
            latents, size = drawn(1, 4, 3, y, x), (8.0 * y, 8.0 * x)
            alone, shared = (
                rflow.guided(of, told, nothing, fps, size, 2.0) for of in (net, Parallel(net))
            )
            for known in (None, noisy):
                far = max(far, (alone(latents, 700.0, known) - shared(latents, 700.0, known)).abs().max().item())
for heads in (3, 4):
    wide = replace(SMALL, width=48, heads=heads)
    net, time, rates = Parallel(small(wide)), torch.full((2,), 500.0), torch.full((2,), 24.0)
    x, told = drawn(2, 4, 5, 16, 18), net.net.read(drawn(2, 6, 12))
    planned, held = sampling(wide, x.shape[2:], 2, 2, 4, ranks), peak(lambda: net(x, time, told, rates, (128, 144)))
    assert held < planned < 1.5 * held, (heads, held, planned)
print(f"{ranks} ranks, {far:.1e} apart", flush=True)
assert far < 1e-5, far

torch.manual_seed(0)
net = small(SMALL)
told, nothing = (net.read(drawn(1, 6, 12, seed=s), torch.ones(1, 6)) for s in (1, 2))
x, size, draw = drawn(1, 4, 3, 6, 6), (48.0, 48.0), rflow.draws([0], (4, 3, 6, 6))
times = rflow.grid(8, 1.0)


def sampled(of):
    velocity = rflow.guided(of, told, nothing, fps, size, 2.0)
    return caching.sample(Caching(delta=0.3), of, velocity, x, times, draw, fps, size)


with torch.inference_mode():
    one, kept = sampled(net)
    assert 0 < kept["counts"][0]["blocks"] < 7
    seen = net.look
    net.look = lambda *args: seen(*args) + 1e6 * dist.get_rank()  # of which nothing would seem to change
    two, also = sampled(Parallel(net))
    assert also["counts"] == kept["counts"] and (one - two).abs().max() < 1e-4
dist.barrier()
os._exit(0)  # at once: gloo's threads now and then abort a process that takes its leave
"""


def test_two_processes_are_as_one(tmp_path: Path) -> None:
    """Of 9, 15, 1 and 6 patches, with heads that divide and one that does not; in the memory that is planned."""
    (tmp_path / "it.py").write_text(SCRIPT)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr=127.0.0.1"]
    done = subprocess.run(
        [*command, "--nproc-per-node=2", str(tmp_path / "it.py")],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("2 ranks") == 2
