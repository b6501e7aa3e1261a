"""Velocities are learned of frames that are not known, at the times that a clip is made at, with captions left out."""

import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

from riverrun.models import checkpoint
from riverrun.models.training.buckets import Bucket, Slot
from riverrun.models.training.footage import Clip, Measure
from riverrun.models.training.latents import CAPTION, LATENTS, Caption, Example, Shelf
from riverrun.models.training.loop import Alone
from riverrun.models.training.velocities import (
    Course,
    Masks,
    Recipe,
    batch,
    losses,
    measured,
    times,
    train,
)
from riverrun.models.video import masking, rflow
from riverrun.models.video.stdit3 import STDiT3
from tests.models.video.small import SMALL, drawn, small
from tests.models.video.test_vae import SMALL as AUTOENCODER

CPU = Alone(torch.device("cpu"))
SLOT = Slot(Bucket("144p", 18, 2), (16, 24))


def examples(folder: Path, count: int = 2, frames: int = 18) -> tuple[Shelf, list[Example]]:
    """Clips whose latents and captions are on a shelf."""
    folder.mkdir(exist_ok=True)
    shelf, made = Shelf(folder), []
    slot = replace(SLOT, bucket=replace(SLOT.bucket, frames=frames))
    for i in range(count):
        clip = Clip(folder / f"{i}.mp4", "a sea" * (i + 1))
        one = Example(clip, Measure(frames, 16, 24, 24.0 + i), slot, f"{i:064}")
        size = AUTOENCODER.size(frames, 16, 24)
        latents = {LATENTS: drawn(4, *size, seed=i).half()}
        checkpoint.write(shelf.latents(one), latents, LATENTS, AUTOENCODER)
        features = {CAPTION: drawn(i + 2, SMALL.text, seed=9 + i).bfloat16()}
        checkpoint.write(shelf.caption(clip.text), features, CAPTION, Caption(clip.text))
        made.append(one)
    return shelf, made


def test_masks_are_those_that_are_published() -> None:
    assert set(asdict(Masks())) == set(get_args(masking.Kind))
    assert Masks(image_head=0.2).shares == dict.fromkeys(get_args(masking.Kind), 0.0) | {"image_head": 0.2}
    with pytest.raises(ValueError, match="1 together at most"):
        Masks(image_head=0.6, random=0.6)


def test_a_batch_is_what_its_number_says(tmp_path: Path) -> None:
    shelf, found = examples(tmp_path)
    recipe = Recipe(silent=0.5, masks=Masks(image_head=0.5))
    made = [batch(shelf, SLOT, found, recipe, number) for number in range(40)]
    one = made[0]
    assert one.latents.shape == one.noise.shape == (2, 4, 6, 4, 6) and one.size == (16, 24)
    assert one.fps.tolist() == [24, 25] and one.features.shape == (2, 3, SMALL.text)
    assert one.mask.tolist() == [[True, True, False], [True] * 3] and not one.features[0, 2].any()
    again = batch(shelf, SLOT, found, recipe, 0)
    assert all(torch.equal(value, vars(again)[k]) for k, value in vars(one).items() if torch.is_tensor(value))
    assert len({float(b.noise.sum()) for b in made}) == len({float(b.time[0]) for b in made}) == 40
    silent = torch.cat([b.silent for b in made]).float().mean()
    known = [0.0 if b.noisy is None else float((~b.noisy).any(1).float().mean()) for b in made]
    assert 0.3 < silent < 0.7 and 0.3 < np.mean(known) < 0.7
    assert all(b.noisy is None or bool(b.noisy[:, 1:].all()) for b in made), "only first frames are known"
    shelf, found = examples(tmp_path / "still", frames=1)
    still = batch(shelf, found[0].slot, found, recipe, 3)
    assert still.latents.shape[2] == 1 and still.noisy is None


@pytest.mark.parametrize(
    ("recipe", "deviation"), [(Recipe(), 208), (Recipe(times="uniform"), 1000 / math.sqrt(12))]
)
def test_times_are_shifted_as_for_sampling(recipe: Recipe, deviation: float) -> None:
    plain, moved = (times(recipe, 4000, ratio, np.random.default_rng(0)) for ratio in (1.0, 2.4187))
    assert 0 <= plain.min() and plain.max() <= 1000
    assert float(plain.median()) == pytest.approx(500, abs=25)
    assert float(plain.std()) == pytest.approx(deviation, abs=8)
    torch.testing.assert_close(moved, rflow.shifted(plain, 2.4187))


def test_times_of_longer_clips_lie_nearer_to_noise(tmp_path: Path) -> None:
    (short, one), (long, other) = examples(tmp_path / "a", frames=9), examples(tmp_path / "b", frames=18)
    a = batch(short, one[0].slot, one, Recipe(), 1).time
    b = batch(long, other[0].slot, other, Recipe(), 1).time
    torch.testing.assert_close(rflow.shifted(a, math.sqrt(2)), b)


def test_known_frames_are_clean_and_not_counted(tmp_path: Path) -> None:
    shelf, found = examples(tmp_path)
    net, given = small(), batch(shelf, SLOT, found, Recipe(silent=0.0), 0)
    noisy = torch.ones(2, 6, dtype=torch.bool)
    noisy[0, 0] = noisy[1, 3] = False
    known = replace(given, noisy=noisy)
    plain = losses(net, known)
    noise = given.noise.clone()
    noise[0, :, 0], noise[1, :, 3] = 7, -7
    torch.testing.assert_close(losses(net, replace(known, noise=noise)), plain)
    velocity = net(
        torch.where(rflow.by_frame(noisy), rflow.mixed(given.latents, given.noise, given.time), given.latents),
        given.time, net.read(given.features, given.mask), given.fps, given.size, noisy,
    )[0][:, :4]  # fmt: skip
    error = (velocity - (given.latents - given.noise)).square().mean((1, 3, 4))
    torch.testing.assert_close(plain, torch.stack([error[i][noisy[i]].mean() for i in range(2)]))
    data = given.latents.clone()
    data[0, :, 0] += 1
    assert losses(net, replace(known, latents=data))[0] != plain[0], "they are seen"
    assert (losses(net, given) - plain).abs().min() > 1e-4


def test_silent_clips_learn_without_their_caption(tmp_path: Path) -> None:
    shelf, found = examples(tmp_path)
    net, given = small(), batch(shelf, SLOT, found, Recipe(silent=0.0), 0)
    other = replace(given, features=given.features + 1)
    assert (losses(net, given) != losses(net, other)).all()
    mute = torch.ones(2, dtype=torch.bool)
    torch.testing.assert_close(
        losses(net, replace(given, silent=mute)), losses(net, replace(other, silent=mute))
    )


@pytest.mark.parametrize("half", [False, True])
def test_what_is_computed_again_gives_the_same_derivatives(tmp_path: Path, half: bool) -> None:
    shelf, found = examples(tmp_path)
    given = batch(shelf, SLOT, found, Recipe(masks=Masks(image_head=1.0)), 0)
    nets = [small().requires_grad_(True) for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    courses = [
        Course(net, Recipe(half=half, recompute=recompute), CPU)
        for net, recompute in zip(nets, (False, True), strict=True)
    ]
    torch.testing.assert_close(*(course.step(given, 1.0) for course in courses))
    torch.testing.assert_close(*(course.optimizer.state_dict()["state"] for course in courses))


def test_a_clip_is_learned(tmp_path: Path) -> None:
    """It is made of noise again, by the sampler, after it was all there was to learn."""
    shelf, (one,) = examples(tmp_path, count=1, frames=9)
    shades = torch.tensor([2.0, -1, 1, 0])[:, None, None, None].expand(4, 3, 4, 6)
    checkpoint.write(shelf.latents(one), {LATENTS: shades.half()}, LATENTS, AUTOENCODER)
    slot = replace(one.slot, bucket=replace(one.slot.bucket, batch=2))
    torch.manual_seed(0)
    net, recipe = STDiT3(SMALL), Recipe(minutes=1e9, steps=150, rate=1e-2, ema=0.9, save_minutes=1e9)
    before = measured(net, shelf, [one], recipe, CPU.device)
    rows = train(net, recipe, shelf, {slot: [one] * 2}, tmp_path / "out", CPU, heldout=[one])
    assert rows[-1]["heldout"] < 0.4 * before
    given = batch(shelf, slot, [one], recipe, 0)
    caption = net.read(given.features, given.mask)
    velocity = rflow.guided(net, caption, caption, given.fps, slot.size, 0)
    x, grid = drawn(1, 4, 3, 4, 6, seed=77), rflow.grid(10, rflow.ratio(slot.size, 3))
    with torch.inference_mode():
        made = rflow.sample(velocity, x, grid, lambda _: x)
    assert (made[0] - shades).norm() < 0.7 * (x[0] - shades).norm()


def test_averages_follow_and_the_rest_stays(tmp_path: Path) -> None:
    shelf, found = examples(tmp_path)
    net = small().requires_grad_(True)
    net.y_embedder.requires_grad_(False)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    course = Course(net, Recipe(ema=0.5), CPU)
    seen = course.step(batch(shelf, SLOT, found, Recipe(), 0), 1.0)
    assert set(seen) == {"loss", "norm"}
    after, averaged = net.state_dict(), course.average.module.state_dict()
    still = {name for name in before if torch.equal(before[name], after[name])}
    assert {name for name in before if name.startswith("y_embedder")} <= still and "rope.freqs" in still
    assert len(still) < 12
    for _ in range(2):
        course.step(batch(shelf, SLOT, found, Recipe(), 1), 1.0)
    name = "x_embedder.proj.weight"
    assert (
        0 < (averaged[name] - net.state_dict()[name]).norm() < (before[name] - net.state_dict()[name]).norm()
    )
