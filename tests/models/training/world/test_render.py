"""Pictures: the same again, moved by parts of a pixel, in their light, and faded where scenes change."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from riverrun.models.errors import ModelError
from riverrun.models.training.world import backgrounds, sprites
from riverrun.models.training.world.render import Renderer
from riverrun.models.training.world.scenes import (
    PALE,
    PATTERNS,
    PLACES,
    Background,
    Camera,
    Scene,
    Story,
    Thing,
    draw,
)
from tests.models.pictures import bank

BANK = bank()
STILL = Camera("still", 0.0)
WHITE = Background("plain", "white", 0)


def scene(x: float = 0.5, color: str = "red", camera: Camera = STILL, ground: Background = WHITE) -> Scene:
    """A circle that stays where it is."""
    thing = Thing("circle", color, 0.3, "stays", "", 0.0, (x, 0.5), ((0.0, 0.0),), (0.15, 0.15), 0.0)
    return Scene(ground, "day", camera, (thing,))


def middle(picture: np.ndarray) -> float:
    """How far from the left a picture's red is, in pixels."""
    weight = (255.0 - picture[..., 1]).clip(20) - 20
    return float((weight * (np.arange(picture.shape[1]) + 0.5)).sum() / weight.sum())


def test_pictures_are_the_same_again_and_have_the_size_asked_for() -> None:
    drawn = draw(4, "train", BANK)
    frames = Renderer(drawn, BANK, 48).frames([0.0, 0.7])
    assert frames.shape == (2, 48, 48, 3) and frames.dtype == np.uint8
    assert (frames[1] == Renderer(drawn, BANK, 48).frame(0.7)).all()


@pytest.mark.parametrize("x", [0.4, 0.5, 0.503, 0.506])
def test_things_stand_where_they_should_to_parts_of_a_pixel(x: float) -> None:
    assert middle(Renderer(scene(x), BANK).frame(0)) == pytest.approx(96 * x, abs=0.1)


def test_edges_are_smooth_and_the_inside_has_its_color() -> None:
    picture = Renderer(scene(), BANK).frame(0)
    assert tuple(picture[48, 48]) == (222, 38, 38)
    assert len(np.unique(picture[48, :, 1])) > 3


def test_a_sprite_that_looks_left_is_mirrored_when_it_goes_right() -> None:
    thing = replace(scene().things[0], name="car", color="")
    left, right = (
        Renderer(replace(scene(), things=(replace(thing, direction=way),)), BANK).frame(0)
        for way in ("left", "right")
    )
    assert abs(left.astype(int) - right[:, ::-1]).mean() < 1 < abs(left.astype(int) - right).mean()


def test_night_is_darker_than_dusk_and_dusk_than_day() -> None:
    means = [
        Renderer(replace(scene(), light=light), BANK).frame(0).mean() for light in ("night", "dusk", "day")
    ]
    assert means == sorted(means)


@pytest.mark.parametrize("kind", (*PATTERNS, *PLACES))
def test_backgrounds_are_bright_and_go_on_without_a_seam(kind: str) -> None:
    ground = backgrounds.paint(Background(kind, PALE[2] if kind in PATTERNS else "", 3), 48).astype(float)
    steps = abs(np.diff(np.concatenate([ground, ground[:, :1]], 1), axis=1)).mean((0, 2))
    assert ground.shape == (48, 96, 3) and ground.mean() > 150
    assert steps[-1] <= steps.max()


def test_a_pan_to_the_right_moves_the_picture_to_the_left() -> None:
    ground = Background("striped", "pink", 1)
    panned = replace(scene(camera=Camera("pan right", 0.125), ground=ground), things=())
    first, later = Renderer(panned, BANK).frames([0, 1])
    assert (later[:, :-12] == first[:, 12:]).all()


def test_a_change_fades_from_one_background_to_the_next() -> None:
    blue = replace(scene(), background=Background("plain", "blue", 0))
    renderer = Renderer(Story((scene(), blue), (1.0,)), BANK)
    corner = [int(picture[0, 0, 0]) for picture in renderer.frames([0.9, 1.25, 1.6])]
    assert corner[0] == 246 and corner[2] == 184 and abs(corner[1] - 215) <= 1


def test_a_bank_is_the_same_after_it_was_saved(tmp_path: Path) -> None:
    BANK.save(tmp_path / "bank.npz")
    again = sprites.load(tmp_path / "bank.npz")
    assert (again.pixels == BANK.pixels).all()
    assert (again.names, again.colors, again.left, again.round) == (
        BANK.names,
        BANK.colors,
        BANK.left,
        BANK.round,
    )


def test_a_bank_that_is_not_there_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="draw them once"):
        sprites.load(tmp_path / "bank.npz")
    with pytest.raises(ModelError, match="no sprite is called 'yeti'"):
        BANK.find("yeti")
