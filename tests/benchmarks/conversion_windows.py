"""One window of X-VC as released: every frame anew, against what windows have in common kept and the rest left out.

Multiplications of linear and convolutional layers are counted without weights, part by part; then windows are timed
with random weights, which take 2.3 GB. Both ways give the same sound, which is compared as well.

python tests/benchmarks/conversion_windows.py [preset ...] [--count]
"""

import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from riverrun.models.checkpoint import on_meta
from riverrun.models.state import State
from riverrun.models.voice.features import RATE
from riverrun.models.voice.windows import MS, PRESETS, Windows, recoded
from riverrun.models.voice.xvc import Config, XVc

SECONDS = 10  # of the recording whose voice it is
WINDOWS = 5  # timed of each
PARTS = (
    "semantic_encoder",
    "semantic_adapter",
    "acoustic_encoder",
    "prenet",
    "acoustic_converter",
    "acoustic_decoder",
)


@contextmanager
def counted(net: XVc) -> Iterator[Counter[str]]:
    """Multiplications by part of the network, in 1e9."""
    counts: Counter[str] = Counter()

    def count(part: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def add(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            weight = layer.get_parameter("weight")
            if isinstance(layer, nn.Linear):
                places = output.numel() // weight.shape[0]
            else:
                of = inputs[0] if isinstance(layer, nn.ConvTranspose1d) else output
                places = of.numel() // of.shape[1]
            counts[part] += places * weight.numel() / 1e9  # type: ignore[assignment]

        return add

    layers = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d)
    hooks = [layer.register_forward_hook(count(name.split(".")[0]))
             for name, layer in net.named_modules() if isinstance(layer, layers)]  # fmt: skip
    yield counts
    for hook in hooks:
        hook.remove()


class Bench:
    """Two windows, one hop apart, of one network."""

    def __init__(self, net: XVc, windows: Windows) -> None:
        self.net, self.windows, device = net, windows, net.device
        sound = 0.1 * torch.randn(1, (windows.window + windows.hop) * MS, device=device)
        self.before, self.sound = sound[:, : -windows.hop * MS], sound[:, windows.hop * MS :]

        self.speaker = torch.randn(1, net.config.speaker.width, device=device)
        self.mel = torch.randn(1, net.config.mel[-1], 1 + SECONDS * RATE // 320, device=device)
        self.told: State = net.acoustic_converter.read(self.mel, self.speaker)
        self.codes = net.codes(self.before)

    def plain(self) -> Tensor:
        """As the reference does it: the recording's embedding, every code and all sound of a window."""
        made: Tensor = self.net(self.sound, self.net.acoustic_converter.read(self.mel, self.speaker))
        start = self.windows.history * MS
        return made[:, start : start + (self.windows.hop + self.windows.smooth) * MS]

    def saved(self) -> Tensor:
        """As streams are converted."""
        windows, codec = self.windows, self.net.config.codec
        moved, kept = windows.moved(codec.heard), windows.kept(codec.seen)
        codes = recoded(self.net, self.sound, self.codes, moved) if moved else self.net.codes(self.sound)
        made: Tensor = self.net(self.sound, self.told, None, codes, kept)[:, windows.given(codec.seen)]
        return made


def seconds(call: Callable[[], Tensor]) -> float:
    """Of one core's work, whoever else is at it."""
    times = []
    for _ in range(WINDOWS + 1):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return statistics.median(times[1:])


@torch.inference_mode()
def main() -> None:
    torch.set_num_threads(1)
    asked = [name for name in sys.argv[1:] if not name.startswith("-")] or ["default"]
    for name in asked:
        count(name, PRESETS[name])
    if "--count" not in sys.argv:
        net = XVc(Config()).eval().requires_grad_(False)
        for name in asked:
            timed(name, Bench(net, PRESETS[name]))


def count(name: str, windows: Windows) -> None:
    """Print multiplications a window, part by part."""
    net = on_meta(lambda: XVc(Config()))
    assert isinstance(net, XVc)
    bench, made = Bench(net, windows), list[Counter[str]]()
    for call in (bench.plain, bench.saved):
        with counted(net) as counts:
            call()
        made.append(counts)
    print(f"{name}: {windows.window} ms every {windows.hop} ms, {SECONDS} s of a voice; GMAC a window")
    print(f"{'':20} {'plain':>7} {'saved':>7}")
    for part in PARTS:
        print(f"{part:20} {made[0][part]:7.1f} {made[1][part]:7.1f}")
    plain, saved = (sum(counts.values()) for counts in made)
    print(f"{'all':20} {plain:7.1f} {saved:7.1f}   {saved / plain:.2f} of plain")


def timed(name: str, bench: Bench) -> None:
    """Print what windows take on one core, and how far the two ways are apart."""
    sound = bench.plain()
    gap, spread = float((sound - bench.saved()).abs().max()), float(sound.std())
    plain, saved = seconds(bench.plain), seconds(bench.saved)
    print(
        f"{name}: plain {plain:.2f} s, saved {saved:.2f} s of a core a window, {saved / plain:.2f} of plain"
    )
    print(f"{name}: sound of deviation {spread:.1e} differs by {gap:.1e} at most")


if __name__ == "__main__":
    main()
