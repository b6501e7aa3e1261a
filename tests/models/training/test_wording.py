"""What captions speak of is known at their nouns: how it looks, what it does, and where."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from riverrun.models.training import wording
from riverrun.models.training.loop import Alone
from riverrun.models.training.world.captions import caption, plural, vocabulary
from riverrun.models.training.world.scenes import draw
from riverrun.models.video.lite import ShowLiteNet
from riverrun.models.video.words import Vocabulary
from tests.models.pictures import bank
from tests.models.video.shows import config

CPU = Alone(torch.device("cpu"))
BANK = bank()
RECIPE = wording.Recipe(minutes=9, steps=100, batch=8, rate=1e-2, ema=0.9, save_minutes=9)


@pytest.fixture
def net() -> ShowLiteNet:
    torch.manual_seed(0)
    return ShowLiteNet(config(words=vocabulary(), size=(16, 16)))


def test_nouns_are_found_in_captions() -> None:
    words, found = Vocabulary(vocabulary()), 0
    for seed in range(60):
        scene = draw(seed, "train", BANK)
        numbers = words.encode(caption(scene, np.random.default_rng(seed), BANK), 48)
        for thing in scene.things:
            spot = wording.noun(numbers, thing, words)
            assert spot is not None
            said = words.words[numbers[spot] - 1]
            assert said in (thing.name.split()[-1], plural(thing.name).split()[-1])
            found += 1
    assert found > 60
    assert wording.noun(numbers[:1], thing, words) is None, "its end was cut off"


def test_a_name_within_another_is_not_taken_for_it() -> None:
    words = Vocabulary(vocabulary())
    polar, bear = (
        replace(draw(0, "train", BANK).things[0], name=name, color="") for name in ("polar bear", "bear")
    )
    numbers = words.encode("a polar bear chases a bear", 48)
    spot = wording.noun(numbers, polar, words)
    assert spot == 2 and wording.noun(numbers, bear, words, {spot}) == 5


def test_a_thing_looks_the_other_way_when_it_goes_there(net: ShowLiteNet) -> None:
    looks = wording.Looks(net.vae.eval(), BANK)
    left = next(
        thing
        for thing in (draw(seed, "train", BANK).things[0] for seed in range(400))
        if not thing.color and thing.direction == "left" and BANK.left[BANK.find(thing.name)]
    )
    one, other = (looks(replace(left, direction=way)) for way in ("left", "right"))
    assert one.shape == (net.config.dit.latent * wording.SIDES**2,)
    assert not torch.equal(one, other)


def test_words_come_to_mean_what_they_name(net: ShowLiteNet) -> None:
    """On captions it has not seen, of things it has."""
    course = wording.Course(net, RECIPE, CPU)
    fresh = next(wording.draws(net, BANK, RECIPE, CPU.device, 1))
    early = course.step(fresh, 0.0)
    for batch, _ in zip(wording.draws(net, BANK, RECIPE, CPU.device, 0), range(100), strict=False):
        course.step(batch, 1.0)
    late = course.step(fresh, 0.0)
    assert late["look"] < 0.8 * early["look"] and late["kind"] < 0.8 * early["kind"]


def test_what_is_learned_is_not_learned_again(tmp_path: Path) -> None:
    made = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        net = ShowLiteNet(config(words=vocabulary(), size=(16, 16)))
        rows = wording.train(net, replace(RECIPE, steps=3), BANK, tmp_path, CPU, resume=True)
        assert not any(value.requires_grad for value in net.text.parameters())
        made.append((net.text.state_dict(), rows))
    (first, rows), (again, none) = made
    assert rows and not none
    assert all(torch.equal(value, again[name]) for name, value in first.items())
