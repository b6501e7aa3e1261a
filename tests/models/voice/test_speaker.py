"""Who speaks: activations that are bounded, statistics that are the checkpoint's, numbers that keep their length."""

import torch
from torch import Tensor, nn

from riverrun.models.voice.speaker import BatchNorm
from riverrun.models.voice.xvc import XVc


def test_blocks_are_clamped_at_20_and_the_stem_is_not(net: XVc, recorded: dict[str, Tensor]) -> None:
    speaker, seen = net.speaker_encoder, list[Tensor]()
    hooks = [block.register_forward_hook(lambda module, x, y: seen.extend((*x, y)))
             for level in speaker.levels if isinstance(level, nn.Sequential) for block in level]  # fmt: skip
    speaker(recorded["eres2net_hot.in.fbank"])
    for hook in hooks:
        hook.remove()
    stem, *later = seen
    assert stem.max() > 20
    assert max(float(y.max()) for y in later[0::2]) == 20 and min(float(y.min()) for y in later[0::2]) == 0


def test_norms_use_the_statistics_they_were_given() -> None:
    norm, plain = BatchNorm(3), nn.BatchNorm2d(3).eval()
    for module in (norm, plain):
        statistics = {
            "running_mean": torch.tensor([1.0, 2.0, 3.0]),
            "running_var": torch.tensor([4.0, 5.0, 6.0]),
        }
        module.load_state_dict(module.state_dict() | statistics)
    x = torch.randn(2, 3, 4, 5)
    torch.testing.assert_close(norm.train()(x), plain(x))


def test_a_speaker_is_not_brought_to_one_length(net: XVc, recorded: dict[str, Tensor]) -> None:
    banks = recorded["eres2net.in.fbank"]
    lengths = [float(net.speaker_encoder(scale * banks).norm()) for scale in (1, 20)]
    assert abs(lengths[1] - lengths[0]) > 0.1
