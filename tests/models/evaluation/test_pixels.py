"""The reader of pixels: right on what was drawn, and not on claims that differ in one attribute."""

from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
import pytest

from riverrun.models.evaluation.finding import Finder, light
from riverrun.models.evaluation.pixels import Mark, read, read_camera
from riverrun.models.training.world.render import Renderer
from riverrun.models.training.world.scenes import CAMERAS, Background, Camera, Scene, Thing, draw
from tests.models.pictures import bank

BANK = bank()
FINDER = Finder(BANK)
TIMES = np.arange(24) / 12
STILL = Camera("still", 0.0)


def scene(name: str, color: str, verb: str, direction: str = "", speed: float = 0.3, **changes: Any) -> Scene:
    """One thing in the middle of a meadow."""
    thing = Thing(name, color, 0.32, verb, direction, speed, (0.5, 0.5), ((0.0, 0.0),), (0.17, 0.17), 0.0)
    ground = Background("meadow", "", 1)
    return Scene(ground, "day", STILL, (replace(thing, **changes),))


CLAIMS = {
    "moves": scene("star", "red", "moves", "right", at=(0.25, 0.5)),
    "rolls": scene("circle", "blue", "rolls", "left", at=(0.75, 0.72)),
    "bounces": scene("heart", "purple", "bounces", "", 2.2, at=(0.5, 0.72), span=0.5),
    "falls": scene("square", "red", "falls", "", 1.0),
    "grows": scene("square", "black", "grows", at=(0.5, 0.5)),
    "shrinks": scene("diamond", "orange", "shrinks"),
    "spins": scene("star", "blue", "spins", "clockwise", 0.25),
    "stays": scene("ring", "red", "stays", "", 0.0),
    "sprite": scene("rocket", "", "moves", "up", at=(0.5, 0.75)),
}
WRONG: dict[str, dict[str, Any]] = {
    "count": {"offsets": ((-0.2, 0.0), (0.2, 0.0))},
    "color": {"color": "turquoise"},
    "object": {"name": "cross"},
}


def marks(shown: Scene, claimed: Scene) -> dict[str, bool]:
    """What the reader says of the first thing, and of the scene."""
    said: list[Mark] = read(Renderer(shown, BANK).frames(TIMES), claimed, FINDER)
    return {mark.attribute: mark.right for mark in said if mark.thing < 1}


@pytest.mark.parametrize("what", CLAIMS)
def test_what_is_shown_is_right(what: str) -> None:
    assert all(marks(CLAIMS[what], CLAIMS[what]).values())


@pytest.mark.parametrize("attribute", WRONG)
def test_a_claim_that_differs_in_one_attribute_is_wrong_in_it(attribute: str) -> None:
    claimed = replace(CLAIMS["stays"], things=(replace(CLAIMS["stays"].things[0], **WRONG[attribute]),))
    said = marks(CLAIMS["stays"], claimed)
    assert not said[attribute] and sum(not right for right in said.values()) == 1


@pytest.mark.parametrize(
    ("shown", "claimed"),
    [
        ("moves", "stays"),
        ("stays", "spins"),
        ("grows", "shrinks"),
        ("shrinks", "stays"),
        ("falls", "bounces"),
    ],
)
def test_another_verb_is_wrong(shown: str, claimed: str) -> None:
    thing = CLAIMS[shown].things[0]
    other = CLAIMS[claimed].things[0]
    asked = replace(thing, verb=other.verb, direction=other.direction)
    said = marks(CLAIMS[shown], replace(CLAIMS[shown], things=(asked,)))
    assert not said["verb"] and said["object"] and said["color"]


@pytest.mark.parametrize("what", ["moves", "rolls", "spins"])
def test_the_other_direction_is_wrong(what: str) -> None:
    turned = {"right": "left", "left": "right", "clockwise": "counterclockwise"}
    thing = CLAIMS[what].things[0]
    asked = replace(CLAIMS[what], things=(replace(thing, direction=turned[thing.direction]),))
    assert not marks(CLAIMS[what], asked)["direction"]


def test_another_sprite_is_wrong() -> None:
    thing = replace(CLAIMS["sprite"].things[0], name="pig")
    assert not marks(CLAIMS["sprite"], replace(CLAIMS["sprite"], things=(thing,)))["object"]


@pytest.mark.parametrize("kind", CAMERAS)
def test_the_camera_is_read_from_the_background(kind: str) -> None:
    ground = Background("dotted", "blue", 2)
    shown = Scene(ground, "day", Camera(kind, 0.0 if kind == "still" else 0.12), ())
    frames = Renderer(shown, BANK).frames(TIMES[::2])
    assert read_camera(frames, [[] for _ in frames], 6.0)[0] == kind


def test_the_light_of_any_scene_is_read() -> None:
    for seed in range(8):
        drawn = draw(seed, "train", BANK)
        assert light(Renderer(drawn, BANK).frames([0.0])) == drawn.light


def test_most_of_what_scenes_show_is_right() -> None:
    drawn = [draw(seed, "heldout", BANK) for seed in range(3)]
    said = [read(Renderer(one, BANK).frames(np.arange(12) / 12), one, FINDER) for one in drawn]
    assert np.mean([mark.right for mark in chain(*said)]) > 0.9
