"""Losses of the restoration recipes."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from riverrun.models.restoration.network import Restorer, complex_noise
from riverrun.models.restoration.spectrum import synthesise
from riverrun.models.training.loop import precision

WINDOWS = (256, 512, 768, 1024)  # samples, of the multi-resolution spectra


def magnitudes(x: Tensor, size: int) -> Tensor:
    """Hann magnitudes at half-overlapping frames, scaled by 1/sqrt(size).  # [b, n] -> [b, y, t]"""
    window = torch.hann_window(size, device=x.device)
    spectrum = torch.stft(x, size, size // 2, window=window, return_complex=True)
    power: Tensor = spectrum.real.square() + spectrum.imag.square()
    return torch.sqrt((power + 1e-9) / size)


def waveform_loss(x: Tensor, target: Tensor) -> Tensor:
    """Half the L1 distance in time, half that of magnitudes at four resolutions.

    Shapes: waveforms `[b, n]`. Source: arXiv 2512.19442, loss of the initial predictor.
    """
    spectral = [F.l1_loss(magnitudes(x, w), magnitudes(target, w)) for w in WINDOWS]
    return 0.5 * F.l1_loss(x, target) + 0.5 * torch.stack(spectral).mean()


def level(noisy: Tensor, target: Tensor) -> Tensor:
    """What brings each example to a common level, so that a quiet one counts as much.  # [b, n] -> [b, 1]"""
    rms = [v.square().mean(1, keepdim=True).sqrt() for v in (noisy, target)]
    return 0.1 / torch.maximum(rms[1], 0.3 * rms[0]).clamp_min(1e-3)


class Pesq(nn.Module):
    """How much worse than the clean speech a listener model finds it, per batch; 0 where nothing is spoken.

    Source: ITU-T P.862.2 as a differentiable loss, the torch-pesq package.
    """

    def __init__(self, rate: int) -> None:
        super().__init__()
        from torch_pesq import PesqLoss

        self.judge = PesqLoss(0.5, sample_rate=rate)

    def forward(self, heard: Tensor, clean: Tensor) -> Tensor:
        spoken = clean.square().mean(1).sqrt() > 0.01
        if not spoken.any():
            return heard.new_zeros(())
        distance: Tensor = self.judge(clean[spoken], heard[spoken])
        return distance.mean().to(heard.dtype)


def predictor_loss(
    model: Restorer, seen: Tensor, noisy: Tensor, target: Tensor, wanted: Tensor, pesq: Pesq | None = None
) -> Tensor:
    """How far a first estimate is from the clean speech, by compressed spectra as hearing weighs them.

    Complex and magnitude distances of the model's own compressed spectra, magnitudes at other resolutions
    raised to 0.3, the waveform, and PESQ where given; every example at a common level. A task that sees no phases
    is asked for none: only magnitudes of what is heard count, at more resolutions, and PESQ.
    Shapes: seen, wanted complex `[b, y, t]`; noisy, target `[b, n]`.
    """
    config, gain = model.config.spectrum, level(noisy, target)
    with precision(noisy.device, half=True):
        estimate = model.predict(seen)
    heard = synthesise(config, estimate)[0][:, config.latency :] * gain
    clean = target[:, : heard.shape[1]] * gain
    judged = 0.1 * pesq(heard, clean) if pesq else heard.new_zeros(())
    sizes = (256, 384, 512, 768, 1024) if model.config.blind else (256, 1024)
    others = [F.l1_loss(magnitudes(heard, w) ** 0.3, magnitudes(clean, w) ** 0.3) for w in sizes]
    if model.config.blind:
        return 3 * torch.stack(others).mean() + judged
    scale = gain[..., None] ** config.alpha
    complex_distance = ((estimate - wanted) * scale).abs().square().mean()
    magnitude_distance = ((estimate.abs() - wanted.abs()) * scale).square().mean()
    spectral = 6 * complex_distance + 6 * magnitude_distance + torch.stack(others).mean()
    return spectral + 4 * F.l1_loss(heard, clean) + judged


def flow_loss(
    model: Restorer, seen: Tensor, first: Tensor, wanted: Tensor, generator: torch.Generator
) -> Tensor:
    """Squared distance of the velocity at a random flow time, summed over bins, averaged over the batch.

    Source: arXiv 2512.19442 (joint flow matching).
    """
    z = complex_noise(seen, generator)
    begin, end = model.config.path.begin(first, z), model.config.path.end(wanted, z)
    time = torch.rand(len(seen), generator=generator, device=seen.device)
    x = torch.lerp(begin, end, time[:, None, None].to(begin.dtype))
    with precision(seen.device, half=True):
        velocity = model.velocity(x, time, model.conditions(seen, first))
    return 0.5 * (velocity - (end - begin)).abs().square().sum((1, 2)).mean()
