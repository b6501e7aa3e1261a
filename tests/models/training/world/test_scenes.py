"""Scenes: drawn the same again, never out of their split, and moving as their verbs say, without end."""

from dataclasses import replace
from math import hypot

import numpy as np
import pytest

from riverrun.models.training.world.motion import FADE, Place, places, story_places, view
from riverrun.models.training.world.scenes import (
    CAMERAS,
    VERBS,
    Camera,
    Scene,
    Story,
    Thing,
    draw,
    draw_story,
    held_out,
    kept,
)
from tests.models.pictures import bank

BANK = bank()
DRAWN = [draw(seed, "train", BANK) for seed in range(400)]


def shown(verb: str) -> Scene:
    """A scene, seen by a still camera, whose first thing does this."""
    return next(
        replace(scene, camera=Camera("still", 0.0)) for scene in DRAWN if scene.things[0].verb == verb
    )


def path(scene: Scene, seconds: float = 1.0, number: int = 0) -> list[Place]:
    """Where the copy of this number is, a hundred times a second."""
    return [places(scene, t)[number] for t in np.arange(0, seconds, 0.01)]


def test_a_seed_gives_the_same_scene_again_and_another_seed_another() -> None:
    assert draw(3, "train", BANK) == draw(3, "train", BANK)
    assert len({repr(scene) for scene in DRAWN}) == len(DRAWN)


def test_every_verb_and_camera_is_drawn() -> None:
    assert {thing.verb for scene in DRAWN for thing in scene.things} == set(VERBS)
    assert {scene.camera.kind for scene in DRAWN} == set(CAMERAS)


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(ValueError, match="'test', expected one of"):
        draw(0, "test", BANK)


def test_training_never_shows_what_is_held_out_or_kept_for_images() -> None:
    things = [thing for scene in DRAWN for thing in scene.things]
    for story in (draw_story(seed, "train", BANK, count=4) for seed in range(50)):
        things += [thing for scene in story.scenes for thing in scene.things]
    assert not any(held_out(thing.name, thing.verb, thing.color) for thing in things)
    assert not {thing.name for thing in things} & kept(BANK.names)


def test_the_other_splits_show_only_what_training_does_not() -> None:
    held = [draw(seed, "heldout", BANK).things[0] for seed in range(60)]
    assert all(held_out(thing.name, thing.verb, thing.color) for thing in held)
    assert {draw(seed, "images", BANK).things[0].name for seed in range(60)} == kept(BANK.names)


def test_a_fifth_of_the_combinations_is_held_out() -> None:
    every = [held_out(name, verb, "red") for name in BANK.names for verb in VERBS]
    many = [held_out(f"{name}{i}", verb, "") for i in range(20) for name in BANK.names for verb in VERBS]
    assert 0.1 < np.mean(every) < 0.3 and 0.18 < np.mean(many) < 0.22


@pytest.mark.parametrize(
    ("way", "dx", "dy"), [("left", -1, 0), ("right", 1, 0), ("up", 0, -1), ("down", 0, 1)]
)
def test_what_moves_goes_its_way_at_its_speed(way: str, dx: int, dy: int) -> None:
    thing = replace(shown("moves").things[0], direction=way, at=(0.5, 0.5), offsets=((0.0, 0.0),))
    a, b = (places(replace(shown("moves"), things=(thing,)), t)[0] for t in (0.0, 0.5))
    assert (b.x - a.x, b.y - a.y) == pytest.approx((dx * thing.speed / 2, dy * thing.speed / 2))


def test_what_leaves_the_picture_comes_in_again_on_the_other_side() -> None:
    went = path(shown("moves"), 60)
    for a, b in zip(went, went[1:], strict=False):
        outside = max(abs(a.x - 0.5), abs(a.y - 0.5)) > 0.5 + a.size / 2 - 0.01
        assert hypot(b.x - a.x, b.y - a.y) < 0.02 or outside


def test_what_rolls_turns_as_far_as_it_goes() -> None:
    a, b = path(shown("rolls"))[:2]
    assert b.angle - a.angle == pytest.approx((b.x - a.x) / (np.pi * a.size))


def test_what_falls_goes_down_ever_faster() -> None:
    y = np.array([place.y for place in path(shown("falls"), 6)])
    steps = np.diff(y)
    down = steps > 0
    assert down.mean() > 0.95
    assert (np.diff(steps)[down[:-1] & down[1:]] > 0).all()


def test_what_bounces_loses_height_and_never_sinks_into_the_floor() -> None:
    scene = shown("bounces")
    thing = scene.things[0]
    y = np.array([place.y for place in path(scene, 8)])
    tops = [y[i] for i in range(1, len(y) - 1) if y[i] < y[i - 1] and y[i] <= y[i + 1]]
    assert y.max() <= thing.at[1] + 1e-9
    assert sum(b > a for a, b in zip(tops, tops[1:], strict=False)) > len(tops) / 2


@pytest.mark.parametrize(("verb", "sign"), [("grows", 1), ("shrinks", -1)])
def test_what_grows_or_shrinks_mostly_does(verb: str, sign: int) -> None:
    sizes = np.array([place.size for place in path(shown(verb), 10)])
    assert (np.diff(sizes) * sign > 0).mean() > 0.8


def test_what_orbits_stays_as_far_away_and_goes_round_its_way() -> None:
    scene = shown("orbits")
    apart = [(a.x - b.x, a.y - b.y) for a, b in (places(scene, t) for t in np.arange(0, 1, 0.05))]
    turns = np.diff(np.unwrap([np.arctan2(dy, dx) for dx, dy in apart]))
    assert np.ptp([hypot(*away) for away in apart]) < 1e-6
    assert (np.sign(turns) == (1 if scene.things[0].direction == "clockwise" else -1)).all()


def test_what_chases_stays_behind() -> None:
    scene = shown("chases")
    way = 1 if scene.things[0].direction == "right" else -1
    assert all((b.x - a.x) * way > 0 for a, b in (places(scene, t) for t in np.arange(0, 5, 0.1)))


def test_what_hides_is_behind_and_comes_out_again() -> None:
    scene = shown("hides")
    apart = [abs(a.x - b.x) for a, b in (places(scene, t) for t in np.arange(0, 5, 0.05))]
    assert min(apart) == 0 and max(apart) > (scene.things[0].size + scene.things[1].size) / 2


@pytest.mark.parametrize("kind", CAMERAS)
def test_the_camera_goes_its_way(kind: str) -> None:
    before, after = (view(Camera(kind, 0.1), t) for t in (0.5, 1.0))
    assert np.sign(after.pan - before.pan) == {"pan right": 1, "pan left": -1}.get(kind, 0)
    assert np.sign(after.zoom - before.zoom) == {"zoom in": 1, "zoom out": -1}.get(kind, 0)


def test_a_pan_takes_what_stays_the_other_way() -> None:
    scene = replace(shown("stays"), camera=Camera("pan right", 0.1))
    a, b = (places(scene, t)[0] for t in (0.0, 0.2))
    assert b.x - a.x == pytest.approx(-0.02)


def test_a_change_is_over_in_half_a_second_and_keeps_what_both_scenes_show() -> None:
    ball = shown("stays").things[0]
    first = replace(
        shown("stays"), things=(replace(ball, name="circle", color="red", offsets=((0.0, 0.0),)),)
    )
    moved = replace(first.things[0], at=(0.7, 0.3))
    second = replace(first, things=(moved, replace(moved, name="star", at=(0.2, 0.5))))
    story = Story((first, second), (2.0,))
    assert story_places(story, 1.99)[0] == places(first, 1.99)
    assert story_places(story, 2 + FADE)[0] == places(second, FADE)
    circle, star = story_places(story, 2 + FADE / 2)[0]
    assert circle.x == pytest.approx((first.things[0].at[0] + 0.7) / 2) and circle.opacity == 1
    assert star.opacity == pytest.approx(0.5) and star.size < moved.size


def test_a_story_has_as_many_scenes_as_asked_for_one_after_the_other() -> None:
    story = draw_story(5, "train", BANK, count=4)
    assert len(story.scenes) == 4 and list(story.switches) == sorted(story.switches)
    assert story == draw_story(5, "train", BANK, count=4)
    assert isinstance(story.scenes[0].things[0], Thing)
