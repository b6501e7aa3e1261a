"""Captions: they name all that is there, in words that vary, from a closed vocabulary."""

import numpy as np
import pytest

from riverrun.models.training.world.captions import SAID, caption, plural, vocabulary
from riverrun.models.training.world.scenes import PAIRED, draw
from tests.models.pictures import bank

BANK = bank()
DRAWN = [draw(seed, "train", BANK) for seed in range(300)]
SAYING = {"left": "left", "right": "right", "clockwise": "clockwise", "counterclockwise": "counterclockwise"}


def test_every_thing_is_named_with_its_color_count_verb_and_direction() -> None:
    for seed, scene in enumerate(DRAWN):
        text = caption(scene, np.random.default_rng(seed), BANK)
        words = text.replace(",", "").split()
        for i, thing in enumerate(scene.things):
            noun = thing.name if thing.count == 1 else plural(thing.name)
            assert noun in text and thing.color in text
            assert thing.count == 1 or ("two", "three", "four")[thing.count - 2] in words
            if i == 1 and scene.things[0].verb in PAIRED:
                continue
            verb = f"moves {thing.direction}" if thing.direction in ("up", "down") else thing.verb
            assert any(form in text for forms in SAID[verb] for form in forms)
            assert SAYING.get(thing.direction, words[0]) in words


def test_captions_use_the_vocabulary_alone_and_it_is_small() -> None:
    words = set(vocabulary())
    said = {
        w
        for i, s in enumerate(DRAWN)
        for w in caption(s, np.random.default_rng(i), BANK).replace(",", " ,").split()
    }
    assert said <= words and 600 <= len(words) <= 900


def test_the_wording_varies_and_is_the_same_for_the_same_draw() -> None:
    said = [caption(DRAWN[0], np.random.default_rng(seed)) for seed in range(40)]
    assert len(set(said)) > 20
    assert said[7] == caption(DRAWN[0], np.random.default_rng(7))


@pytest.mark.parametrize(
    ("one", "many"), [("dog", "dogs"), ("fox", "foxes"), ("goose", "geese"), ("pine tree", "pine trees")]
)
def test_more_than_one(one: str, many: str) -> None:
    assert plural(one) == many
