"""Labels: they lie where pictures show things, and name the one that is nearest, and what it does."""

from dataclasses import replace

import numpy as np
import pytest

from riverrun.models.training.world.captions import vocabulary
from riverrun.models.training.world.labels import ACTIONS, NAMES, Labeler
from riverrun.models.training.world.render import Renderer
from riverrun.models.training.world.scenes import Background, Camera, Scene, Story, Thing, draw_story
from tests.models.pictures import bank

BANK = bank()
CELLS, SIZE = 12, 96
WHITE = Background("plain", "white", 0)


def thing(name: str, color: str, x: float, size: float = 0.3, verb: str = "stays", way: str = "") -> Thing:
    return Thing(name, color, size, verb, way, 0.0, (x, 0.5), ((0.0, 0.0),), (size / 2, size / 2), 0.0)


def story(*things: Thing) -> Story:
    return Story((Scene(WHITE, "day", Camera("still", 0.0), things),))


def test_labels_lie_where_pictures_differ_from_the_background() -> None:
    agree = []
    for seed in range(8):
        drawn = draw_story(seed, "train", BANK)
        scenes = tuple(replace(scene, light="day") for scene in drawn.scenes)
        bare = tuple(replace(scene, things=()) for scene in scenes)
        for t in (0.0, 0.8):
            picture, ground = (
                Renderer(replace(drawn, scenes=some), BANK, SIZE).frame(t).astype(int)
                for some in (scenes, bare)
            )
            differs = (np.abs(picture - ground).max(-1) > 12).reshape(CELLS, 8, CELLS, 8).any((1, 3))
            labels = Labeler(replace(drawn, scenes=scenes), BANK, CELLS).at(t)
            assert not (labels[0][~differs] > 0).any(), "where there is nothing, nothing is named"
            assert ((labels[0] > 0) == (labels[1] > 0)).all()
            agree.append((labels[0] > 0)[differs].mean())
    assert np.mean(agree) > 0.75, "but for cells of which a thing has only a rim"


def test_a_thing_in_front_hides_the_one_behind() -> None:
    labels = Labeler(story(thing("square", "red", 0.5), thing("cat", "", 0.5, 0.2)), BANK, CELLS).at(0)
    assert {NAMES[n - 1] for n in labels[0][labels[0] > 0]} == {"square", "cat"}
    assert NAMES[labels[0][6, 6] - 1] == "cat" and NAMES[labels[0][6, 4] - 1] == "square"


@pytest.mark.parametrize("name", ["circle", "cat"])
def test_labels_say_what_a_thing_does(name: str) -> None:
    color = "blue" if name == "circle" else ""
    labels = Labeler(story(thing(name, color, 0.5, verb="moves", way="left")), BANK, CELLS).at(0)
    assert NAMES[labels[0][6, 6] - 1] == name and ACTIONS[labels[1][6, 6] - 1] == ("moves", "left")


def test_after_a_change_labels_are_of_what_is_seen() -> None:
    before, after = (story(one).scenes[0] for one in (thing("star", "red", 0.3), thing("ring", "blue", 0.7)))
    labeler = Labeler(Story((before, after), (1.0,)), BANK, CELLS)
    for t, name in ((0.9, "star"), (1.1, "star"), (1.4, "ring"), (2.0, "ring")):
        seen = labeler.at(t)[0]
        assert {NAMES[n - 1] for n in seen[seen > 0]} == {name}, t


def test_all_that_captions_name_has_a_label() -> None:
    assert {word for name in NAMES for word in name.split()} <= set(vocabulary())
    assert len(set(NAMES)) == len(NAMES)
