"""The transformer of Open-Sora 1.2 and its kin: captions, batches, sizes, known frames, precision, beginnings."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from riverrun.models.video.config import Config
from riverrun.models.video.stdit3 import STDiT3
from riverrun.models.video.stdit3_v13 import Known, STDiT3V13
from riverrun.models.video.timeline import Memory
from tests.models.video.small import SMALL, drawn, small, stirred

SIZE, FPS, TIME = (40.0, 56.0), torch.tensor([24.0, 8.0]), torch.tensor([731.25, 88.0])
V13 = replace(SMALL, width=48, window=(2, 2))


@pytest.fixture(scope="module")
def model() -> STDiT3:
    return small()


@pytest.fixture(scope="module")
def windowed() -> STDiT3V13:
    made = stirred(STDiT3V13(V13))
    assert isinstance(made, STDiT3V13)
    return made


def run(
    model: STDiT3, x: Tensor, time: Tensor = TIME, noisy: Tensor | None = None, rows: slice = slice(None)
) -> Tensor:
    captions = drawn(2, 6, 12)[rows]
    y, memory = model(x[rows], time[rows], model.read(captions), FPS[rows], SIZE, noisy)
    assert memory is None or isinstance(memory, Memory)
    made: Tensor = y
    return made


def test_sizes_need_not_fill_patches(model: STDiT3) -> None:
    for f, y, w in ((1, 5, 7), (3, 4, 6), (2, 1, 1)):
        assert run(model, drawn(2, 4, f, y, w)).shape == (2, 8, f, y, w)
    assert small(replace(SMALL, sigma=False, latent=3))(
        drawn(1, 3, 2, 4, 4), TIME[:1], small().read(drawn(1, 6, 12)), FPS[:1], SIZE
    )[0].shape == (1, 3, 2, 4, 4)


def test_a_row_is_what_it_is_alone(model: STDiT3) -> None:
    x = drawn(2, 4, 3, 4, 6)
    for i in range(2):
        torch.testing.assert_close(
            run(model, x, rows=slice(i, i + 1))[0], run(model, x)[i], atol=1e-5, rtol=0
        )


def test_tokens_that_are_not_there_change_nothing(model: STDiT3) -> None:
    x, captions = drawn(2, 4, 3, 4, 6), drawn(2, 6, 12)
    mask = torch.tensor([[1, 1, 1, 1, 0, 0]] * 2)
    masked, _ = model(x, TIME, model.read(captions, mask), FPS, SIZE)
    cut, _ = model(x, TIME, model.read(captions[:, :4]), FPS, SIZE)
    torch.testing.assert_close(masked, cut, atol=1e-5, rtol=0)


def test_a_time_for_each_frame(model: STDiT3) -> None:
    x = drawn(2, 4, 3, 4, 6)
    torch.testing.assert_close(run(model, x, TIME[:, None].expand(-1, 3)), run(model, x), atol=1e-5, rtol=0)
    mixed = torch.stack([TIME, torch.zeros(2), TIME], dim=1)
    noisy = torch.tensor([[True, False, True]] * 2)
    known, each = run(model, x, noisy=noisy), run(model, x, mixed)
    torch.testing.assert_close(known[:, :, ::2], each[:, :, ::2], atol=1e-5, rtol=0)
    assert (known - each)[:, :, 1].abs().max() > 1e-3  # known frames are normed twice in the end
    torch.testing.assert_close(run(model, x, noisy=torch.ones_like(noisy)), run(model, x), atol=1e-5, rtol=0)


def test_time_rate_size_and_caption_are_heard(model: STDiT3) -> None:
    x = drawn(2, 4, 3, 4, 6)
    caption, plain = model.read(drawn(2, 6, 12)), run(model, x)
    for changed in (
        run(model, x, TIME / 2),
        model(x, TIME, caption, 2 * FPS, SIZE)[0],
        model(x, TIME, caption, FPS, (80.0, 112.0))[0],
        model(x, TIME, model.read(drawn(2, 6, 12, seed=3)), FPS, SIZE)[0],
    ):
        assert (changed - plain).abs().max() > 1e-3


def test_it_begins_without_motion() -> None:
    """Attention along time adds nothing at first, so that what is known of pictures is kept."""
    model = STDiT3(SMALL).eval()
    x = drawn(2, 4, 3, 4, 6)
    alone = torch.cat([run(model, x[:, :, i : i + 1]) for i in range(3)], dim=2)
    torch.testing.assert_close(run(model, x), alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("legacy", [False, True])
def test_half_precision_is_near_and_legacy_rounds_times(legacy: bool) -> None:
    full, half = STDiT3(SMALL).eval(), STDiT3(replace(SMALL, legacy=legacy)).eval()
    half.load_state_dict(full.state_dict())
    half.to(torch.bfloat16)
    x = drawn(2, 4, 3, 4, 6)
    y = run(half, x)
    assert y.dtype == torch.float32
    assert (y - run(full, x)).norm() < 0.1 * run(full, x).norm()
    same = torch.equal(run(half, x, torch.tensor([731.0, 88.0])), run(half, x, torch.tensor([732.0, 88.0])))
    assert same == legacy


def test_every_weight_learns() -> None:
    model = small().requires_grad_(True)
    run(model, drawn(2, 4, 3, 4, 6)).square().mean().backward()
    assert not [name for name, value in model.named_parameters() if value.grad is None]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"heads": 3}, "width 32 does not divide into 3 heads"),
        ({"depth": 0}, "at least 1"),
        ({"window": (8,)}, r"window is \(8,\), expected rows and columns"),
    ],
)
def test_shapes_that_cannot_be_are_refused(values: dict[str, int], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        replace(SMALL, **values)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="heads of width 16 do not divide into three even parts"):
        STDiT3V13(SMALL)


def heard(model: STDiT3V13, x: Tensor, known: Known | None = None) -> Tensor:
    y: Tensor = model(x, TIME, model.read(drawn(2, 6, 12)), FPS, SIZE, known)
    return y


def test_windows_mix_neighbours_and_all_frames(windowed: STDiT3V13) -> None:
    """In one pair of blocks a patch is seen by its frame, then by the windows of those: here by a row of two."""
    one = stirred(STDiT3V13(replace(V13, depth=1)))
    x = drawn(2, 4, 3, 8, 8)
    changed = x.clone()
    changed[:, :, 1, :2, :2] += 1
    seen = (heard(one, changed) - heard(one, x)).abs().amax((0, 1))  # type: ignore[arg-type]
    assert seen.shape == (3, 8, 8) and seen[1].min() > 0 and seen.min() > 0
    wide = STDiT3V13(replace(V13, window=(9, 9)))
    wide.load_state_dict(windowed.state_dict())
    exact = STDiT3V13(replace(V13, window=(4, 4)))
    exact.load_state_dict(windowed.state_dict())
    torch.testing.assert_close(heard(wide.eval(), x), heard(exact.eval(), x), atol=1e-5, rtol=0)
    assert (heard(windowed, x) - heard(exact, x)).abs().max() > 1e-3


def test_known_frames_are_given_beside_the_noise(windowed: STDiT3V13) -> None:
    x, latents = drawn(2, 4, 3, 4, 6), drawn(2, 4, 3, 4, 6, seed=7)
    dropped = torch.ones(2, dtype=torch.bool)
    without = windowed.read(drawn(2, 6, 12), torch.tensor([[1, 1, 1, 0, 0, 0]] * 2), dropped)
    known = heard(windowed, x, Known((0,), latents, without))
    other = latents.clone()
    other[:, :, 1:] = 0
    torch.testing.assert_close(heard(windowed, x, Known((0,), other, without)), known, atol=1e-6, rtol=0)
    assert (heard(windowed, x) - known).abs().max() > 1e-2
    nothing = windowed(x, TIME, without, FPS, SIZE)
    everywhere = heard(windowed, x, Known((0, 1, 2), 0 * latents, without))
    assert (nothing - everywhere).abs().max() > 1e-3  # where they are is told, too


def test_a_network_without_given_latents_hears_captions_of_known_frames() -> None:
    """As begun, what is given adds nothing, so known frames differ by their caption alone."""
    model = STDiT3V13(V13).eval()
    x, dropped = drawn(2, 4, 3, 4, 6), torch.ones(2, dtype=torch.bool)
    without = model.read(drawn(2, 6, 12), dropped=dropped)
    all_known = heard(model, x, Known((0, 1, 2), drawn(2, 4, 3, 4, 6), without))
    torch.testing.assert_close(all_known, model(x, TIME, without, FPS, SIZE), atol=1e-5, rtol=0)


def test_a_shape_is_a_preset_changed() -> None:
    assert Config() == replace(SMALL, width=1152, depth=28, heads=16, text=4096, tokens=300, ratio=4.0)
