"""Where the things and the camera of a scene are at a time: pure functions, without end."""

from math import cos, exp, log, pi, sin, sqrt
from typing import NamedTuple

from riverrun.models.training.world.scenes import GROWTH, STEPS, Camera, Scene, Story, Thing

LOSS = 0.75  # what a bounce keeps of the speed
BOUNCES = 4  # until it is thrown up again
FADE = 0.5  # seconds that a change of scenes takes
ZOOM = 1.35  # the most; then the camera goes back
BACK = 0.4  # seconds in which what grows, and the zoom, is back at its start


class Place(NamedTuple):
    """Where one copy of a thing is, in pictures from the upper left; angles in turns, clockwise."""

    name: str
    color: str
    mirrored: bool  # looks to the right, if its sprite looks to the left
    x: float
    y: float
    size: float
    angle: float
    opacity: float = 1.0


class View(NamedTuple):
    """Where the camera is: how far to the right it went, and how much it is zoomed in on the middle."""

    pan: float
    zoom: float


def view(camera: Camera, t: float) -> View:
    """What the camera sees at a time."""
    if camera.kind.startswith("pan"):
        return View(camera.speed * t * (1 if camera.kind == "pan right" else -1), 1.0)
    if camera.kind == "still":
        return View(0.0, 1.0)
    level = _ramp(t, log(ZOOM) / camera.speed + BACK)
    return View(0.0, exp(log(ZOOM) * (level if camera.kind == "zoom in" else 1 - level)))


def places(scene: Scene, t: float) -> list[Place]:
    """Where everything is at a time, the farthest first."""
    seen = view(scene.camera, t)
    return [place for thing in scene.things for place in _places(thing, t, seen)]


def story_places(story: Story, t: float) -> tuple[list[Place], int, float]:
    """Where everything is, the scene that is on, and how far it has taken over from the one before (0 to 1).

    What both scenes show goes over from its old course to its new one; the rest shrinks away, or grows.
    """
    k = sum(t >= switch for switch in story.switches)
    start = story.switches[k - 1] if k else 0.0
    new = places(story.scenes[k], t - start)
    share = _smooth((t - start) / FADE) if k else 1.0
    if share == 1:
        return new, k, 1.0
    before = story.switches[k - 2] if k > 1 else 0.0
    return _between(places(story.scenes[k - 1], t - before), new, share), k, share


def story_pan(story: Story, k: int, t: float) -> float:
    """How far the camera has gone to the right since the story's start, seen from its scene k."""
    starts = (0.0, *story.switches)
    gone = sum(
        view(scene.camera, end - start).pan
        for scene, start, end in zip(story.scenes[:k], starts, story.switches[:k], strict=False)
    )
    return gone + view(story.scenes[k].camera, t - starts[k]).pan


def _between(old: list[Place], new: list[Place], share: float) -> list[Place]:
    left, going = list(old), []
    for place in new:
        same = next((o for o in left if (o.name, o.color) == (place.name, place.color)), None)
        if same is None:
            going.append(place._replace(size=place.size * share, opacity=share))
            continue
        left.remove(same)
        turn = (place.angle - same.angle + 0.5) % 1 - 0.5
        x, y, size = (a + (b - a) * share for a, b in zip(same[3:6], place[3:6], strict=True))
        mirrored = place.mirrored if share > 0.5 else same.mirrored
        going.append(place._replace(mirrored=mirrored, x=x, y=y, size=size, angle=same.angle + turn * share))
    rest = 1 - share
    return [place._replace(size=place.size * rest, opacity=rest) for place in left] + going


def _places(thing: Thing, t: float, seen: View) -> list[Place]:
    now = t + thing.phase
    drift = [0.0, 0.0]
    scale, angle = 1.0, 0.0
    if thing.verb in ("moves", "chases", "rolls"):
        drift = [thing.speed * t * step for step in STEPS[thing.direction]]
    if thing.verb == "rolls":
        angle = drift[0] / (pi * thing.size)
    elif thing.verb == "spins":
        angle = thing.speed * now * (1 if thing.direction == "clockwise" else -1)
    elif thing.verb in ("grows", "shrinks"):
        level = _ramp(now, 1 / thing.speed)
        scale = GROWTH ** ((level if thing.verb == "grows" else 1 - level) - 0.5)
    elif thing.verb == "swings":
        angle = -0.08 * sin(2 * pi * thing.speed * now)
    x = _wrap(thing.at[0] + drift[0] - seen.pan, thing.reach[0])
    y = _wrap(thing.at[1] + drift[1], thing.reach[1]) if drift[1] else thing.at[1]
    if thing.verb == "falls":
        y = _fallen(thing, now)
    found = []
    for i, (dx, dy) in enumerate(thing.offsets):
        sx, sy = _swung(thing, i, now)
        px, py = (0.5 + (p - 0.5) * seen.zoom for p in (x + dx + sx, y + dy + sy))
        size = thing.size * scale * seen.zoom
        found.append(Place(thing.name, thing.color, thing.direction == "right", px, py, size, angle))
    return found


def _swung(thing: Thing, i: int, now: float) -> tuple[float, float]:
    """How far a verb that stays around a spot takes copy i from it."""
    turn = 2 * pi * thing.speed * now
    if thing.verb == "orbits":
        side = 1 if thing.direction == "clockwise" else -1
        return thing.span * cos(turn), thing.span * sin(turn) * side
    if thing.verb == "hides":
        return thing.span * _smooth(0.5 + 1.2 * cos(turn)), 0.0
    if thing.verb == "swings":
        away = sin(turn)
        return thing.span * away, -0.25 * thing.span * away**2
    if thing.verb == "bounces":
        return 0.0, -_height(thing.span, thing.speed, now + 0.4 * i)
    return 0.0, 0.0


def _wrap(u: float, reach: float) -> float:
    """A course that leaves the picture whole on one side and comes in again on the other."""
    return (u + reach) % (1 + 2 * reach) - reach


def _fallen(thing: Thing, now: float) -> float:
    """The height of what falls from above the picture, from rest, and again when it is below."""
    reach = thing.reach[1]
    t = now % sqrt(2 * (1 + 2 * reach) / thing.speed)
    return thing.speed * t * t / 2 - reach


def _height(top: float, gravity: float, now: float) -> float:
    """How high above the floor something is that bounces, ever lower, and is then thrown up again."""
    speed = sqrt(2 * gravity * top)
    hops = [2 * speed * LOSS**n / gravity for n in range(BOUNCES)]
    t = now % sum(hops)
    for n, hop in enumerate(hops):
        if t < hop:
            return max(0.0, speed * LOSS**n * t - gravity * t * t / 2)
        t -= hop
    return 0.0


def _ramp(t: float, period: float) -> float:
    """From 0 up to 1 in even steps, and quickly back, again and again."""
    t %= period
    up = period - BACK
    return t / up if t < up else 1 - _smooth((t - up) / BACK)


def _smooth(x: float) -> float:
    x = min(max(x, 0.0), 1.0)
    return x * x * (3 - 2 * x)


__all__ = ["FADE", "Place", "View", "places", "story_pan", "story_places", "view"]
