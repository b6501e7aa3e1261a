"""Scenes drawn from a seed, and where each thing of a scene is at any time: a pure function without end.

Lengths are in pictures (1 is its width and its height), y points down, times are in seconds.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from riverrun.models.training.world.colors import COLORS, LIGHTS
from riverrun.models.training.world.shapes import SHAPES
from riverrun.models.training.world.sprites import Bank

SPLITS = ("train", "heldout", "images")
ALONE = ("moves", "rolls", "falls", "bounces", "grows", "shrinks", "spins", "swings", "stays")
PAIRED = ("orbits", "chases", "hides")  # of a thing and another one
VERBS = (*ALONE, *PAIRED)
CAMERAS = ("still", "pan left", "pan right", "zoom in", "zoom out")
PATTERNS = ("plain", "striped", "dotted", "checked")
PALE = ("white", "gray", "pink", "blue", "green", "yellow", "purple", "orange")
PLACES = ("meadow", "beach", "desert", "snow", "sea", "city", "room", "forest", "hills")
FLOOR = 0.88  # where things roll and bounce
STEPS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
ZOOMED = ("bounces", "spins", "swings", "stays", "orbits", "hides")  # what the camera can zoom in on
GROWTH = 2.0  # times, of what grows or shrinks
SPEEDS = {  # from, to; in the units of Thing.speed
    **dict.fromkeys(("moves", "chases"), (0.25, 0.5)),
    "rolls": (0.25, 0.45),
    "falls": (0.8, 1.4),
    "bounces": (1.8, 2.8),
    **dict.fromkeys(("grows", "shrinks", "hides"), (0.25, 0.33)),
    **dict.fromkeys(("spins", "orbits"), (0.2, 0.4)),
    "swings": (0.35, 0.5),
    "stays": (0.0, 0.0),
}
UNSUITED = {  # shapes that cannot be seen to do it
    "spins": ("circle", "ring"),
    "rolls": tuple(name for name in SHAPES if name not in ("circle", "ring")),
}
COVERING = 0.62  # the share of its square that a sprite fills which others can hide behind
KEPT = 30  # names that only the split "images" shows


@dataclass(frozen=True)
class Background:
    """What is behind the things: a pattern in a pale colour, or a place (without a colour)."""

    kind: str
    color: str
    seed: int  # of the details


@dataclass(frozen=True)
class Camera:
    """How the camera moves."""

    kind: str
    speed: float  # pictures a second, or the growth a second of the logarithm of the zoom


@dataclass(frozen=True)
class Thing:
    """One or more copies of a sprite or a shape, and what they do."""

    name: str
    color: str  # of a shape; a sprite has its own, and "" here
    size: float
    verb: str
    direction: str  # left, right, up, down, clockwise, counterclockwise, or "" for a verb without one
    speed: float  # pictures or turns a second; of falls and bounces their gravity; else cycles a second
    at: tuple[float, float]  # where the middle of all copies is at time 0, without the verb
    offsets: tuple[tuple[float, float], ...]  # of each copy from there
    reach: tuple[float, float]  # how far from the middle anything of it can be seen
    phase: float  # seconds that its cycle is ahead
    span: float = 0.0  # how far it swings, orbits, hides or bounces

    @property
    def count(self) -> int:
        return len(self.offsets)


@dataclass(frozen=True)
class Scene:
    """What is to be seen. In a pair the first thing chases, orbits or hides behind the second."""

    background: Background
    light: str
    camera: Camera
    things: tuple[Thing, ...]


@dataclass(frozen=True)
class Story:
    """Scenes in a row: `scenes[k + 1]` takes over at `switches[k]`, and then is at its own time 0."""

    scenes: tuple[Scene, ...]
    switches: tuple[float, ...] = ()


def held_out(name: str, verb: str, color: str) -> bool:
    """Whether a combination, one of five, is never in the split "train"."""
    return zlib.crc32(f"{name}/{verb}/{color}".encode()) % 5 == 0


def kept(names: Sequence[str]) -> frozenset[str]:
    """The 30 names (of a small bank a tenth) that only the split "images" shows."""
    ranked = sorted(names, key=lambda name: zlib.crc32(f"kept/{name}".encode()))
    return frozenset(ranked[: min(KEPT, len(ranked) // 10)])


def draw(seed: int, split: str, bank: Bank) -> Scene:
    """The scene of a seed, of "train", of "heldout" (its first thing is held out) or of "images" (is kept).

    Raises ValueError for another split.
    """
    if split not in SPLITS:
        raise ValueError(f"the split is {split!r}, expected one of {SPLITS}")
    rng = np.random.default_rng([seed, SPLITS.index(split)])
    few = kept(bank.names)
    while True:
        scene = _scene(rng, bank, split)
        names = {thing.name for thing in scene.things}
        fresh = [held_out(thing.name, thing.verb, thing.color) for thing in scene.things]
        if split == "images":
            if scene.things[0].name in few:
                return scene
        elif not names & few and (fresh[0] if split == "heldout" else not any(fresh)):
            return scene


def draw_story(seed: int, split: str, bank: Bank, count: int = 2, gap: tuple[float, float] = (2, 5)) -> Story:
    """A story of `count` scenes, `gap` seconds apart; half of its scenes change but a part of the one before."""
    rng = np.random.default_rng([seed, SPLITS.index(split), count])
    scenes = [draw(int(rng.integers(2**62)), split, bank)]
    while len(scenes) < count:
        fresh = draw(int(rng.integers(2**62)), split, bank)
        scenes.append(_edited(rng, scenes[-1], fresh) if rng.random() < 0.5 else fresh)
    return Story(tuple(scenes), tuple(float(t) for t in np.cumsum(rng.uniform(*gap, count - 1))))


def _edited(rng: np.random.Generator, old: Scene, new: Scene) -> Scene:
    """The old scene with the things, the background or the light of the new one; a still camera."""
    part = rng.choice(["things", "background", "light"], p=[0.6, 0.25, 0.15])
    if part == "things":
        return replace(old, things=new.things, camera=Camera("still", 0.0))
    if part == "background":
        return replace(old, background=new.background, camera=Camera("still", 0.0))
    return replace(old, light=new.light)


def _scene(rng: np.random.Generator, bank: Bank, split: str) -> Scene:
    pattern = rng.random() < 0.5
    kind = str(rng.choice(PATTERNS if pattern else PLACES))
    background = Background(kind, str(rng.choice(PALE)) if pattern else "", int(rng.integers(2**31)))
    light = str(rng.choice(list(LIGHTS), p=[0.6, 0.2, 0.2]))
    draws = _Things(rng, bank, split == "images")
    sort = rng.random()
    if sort < 0.5:
        things = draws.one()
    elif sort < 0.72:
        things = draws.pair()
    else:
        things = draws.two()
    camera = Camera("still", 0.0)
    if kind != "plain" and rng.random() < 0.4:
        zooms = all(thing.verb in ZOOMED for thing in things)
        camera = _camera(rng, str(rng.choice(CAMERAS[1:] if zooms else CAMERAS[1:3])))
    return Scene(background, light, camera, things)


def _camera(rng: np.random.Generator, kind: str) -> Camera:
    low, high = (0.08, 0.16) if kind.startswith("pan") else (0.09, 0.14)
    return Camera(kind, float(rng.uniform(low, high)))


@dataclass
class _Things:
    """Draws of the things of a scene."""

    rng: np.random.Generator
    bank: Bank
    images: bool

    def one(self) -> tuple[Thing, ...]:
        """One thing alone, in one to four copies."""
        verb = self.pick(tuple(verb for verb in ALONE if not (self.images and verb == "rolls")))
        most = {"rolls": 2, "bounces": 3, "falls": 3, "swings": 2}.get(verb, 4)
        count = min(most, int(self.rng.choice([1, 2, 3, 4], p=[0.55, 0.2, 0.15, 0.1])))
        low, high = {1: (0.28, 0.48), 2: (0.26, 0.38)}.get(count, (0.25, 0.29))
        direction = self.direction(verb)
        size = float(self.rng.uniform(low, high))
        room = 0.5 + self.rng.uniform(-0.12, 0.12) if count == 1 else 0.5
        offsets = _formation(count, size, upright=direction in ("left", "right") and verb == "moves")
        return (self.thing(0, verb, direction, size, (room, 0.5), offsets),)

    def two(self) -> tuple[Thing, ...]:
        """Two things, one above or beside the other, so that neither is in the other's way."""
        rows = self.rng.random() < 0.5
        verbs: tuple[str, ...] = ("spins", "grows", "shrinks", "stays", "moves", "rolls" if rows else "falls")
        if rows:  # what rolls does so on the floor, so in the lower row
            first, second, ways = self.pick(verbs[:-1]), self.pick(verbs), ("left", "right")
            x, other = (float(side) for side in self.rng.uniform(0.3, 0.7, 2))
            spots = ((x, 0.27), (other, 0.73))
        else:
            verbs = (*verbs, "bounces")
            first, second, ways = self.pick(verbs), self.pick(verbs), ("up", "down")
            spots = ((0.27, 0.5), (0.73, 0.5))
        things: list[Thing] = []
        for i, (verb, at) in enumerate([(first, spots[0]), (second, spots[1])]):
            count = int(self.rng.choice([1, 2], p=[0.7, 0.3])) if rows else 1
            size = float(self.rng.uniform(0.25, 0.3 if count > 1 else 0.38))
            at = (0.5, at[1]) if count > 1 else at
            direction = self.direction(verb, ways)
            taken = {thing.name for thing in things}
            things.append(self.thing(i, verb, direction, size, at, _formation(count, size), taken))
        swap = not self.images and self.rng.random() < 0.5
        return tuple(things[::-1] if swap else things)

    def pair(self) -> tuple[Thing, ...]:
        """A thing that chases, orbits or hides behind another one."""
        rng, verb = self.rng, self.pick(PAIRED)
        if verb == "chases":
            way = self.pick(("left", "right"))
            size, other = (float(s) for s in rng.uniform(0.25, 0.34, 2))
            ahead = 0.22 * (1 if way == "right" else -1)
            spot = (0.5, float(rng.uniform(0.35, 0.65)))
            first = self.thing(0, "chases", way, size, spot, ((-ahead, 0.0),))
            second = self.thing(1, "moves", way, other, spot, ((ahead, 0.0),), {first.name})
            reach = (0.26 + max(size, other) / 2, max(size, other) / 2)
            return replace(first, reach=reach), replace(second, at=first.at, reach=reach, speed=first.speed)
        spot = (float(rng.uniform(0.45, 0.55)), float(rng.uniform(0.47, 0.53)))
        if verb == "orbits":
            size, other = float(rng.uniform(0.24, 0.3)), float(rng.uniform(0.28, 0.34))
            span = 0.03 + (size + other) / 2
        else:
            size, other = float(rng.uniform(0.24, 0.27)), float(rng.uniform(0.44, 0.5))
            span = (0.04 + (size + other) / 2) * float(rng.choice([-1, 1]))
        way = self.direction(verb)
        first = replace(self.thing(0, verb, way, size, spot, ((0.0, 0.0),)), span=span)
        second = self.thing(1, "stays", "", other, spot, ((0.0, 0.0),), {first.name}, covers=verb == "hides")
        reach = (abs(span) + size / 2, abs(span) + size / 2)
        return replace(first, reach=reach), replace(second, reach=reach)

    def thing(
        self,
        i: int,
        verb: str,
        direction: str,
        size: float,
        at: tuple[float, float],
        offsets: tuple[tuple[float, float], ...],
        taken: frozenset[str] | set[str] = frozenset(),
        covers: bool = False,
    ) -> Thing:
        name, color = self.what(verb, i, taken, covers)
        ahead = float(self.rng.uniform(0.1, 0.25)) if verb in ("moves", "rolls", "chases") else 0.0
        x, y = (where - ahead * step for where, step in zip(at, STEPS.get(direction, (0, 0)), strict=True))
        y = FLOOR - size / 2 if verb in ("rolls", "bounces") else y
        if verb in ("rolls", "bounces", "falls"):
            offsets = _row(len(offsets), size + 0.05)
        low, high = SPEEDS[verb]
        span = {"bounces": FLOOR - size - 0.04, "swings": 0.2 if len(offsets) == 1 else 0.1}.get(verb, 0.0)
        most = GROWTH * size if verb in ("grows", "shrinks") else size
        reach = (max(abs(x) for x, _ in offsets) + most / 2, max(abs(y) for _, y in offsets) + most / 2)
        return Thing(
            name,
            color,
            size,
            verb,
            direction,
            float(self.rng.uniform(low, high)),
            (x, y),
            offsets,
            reach,
            float(self.rng.uniform(0, 2)),
            span,
        )

    def what(self, verb: str, i: int, taken: frozenset[str] | set[str], covers: bool) -> tuple[str, str]:
        """A name and, of a shape, a colour that suit the verb, or what is to cover another thing.

        The first thing of the split "images" is a kept sprite.
        """
        few = kept(self.bank.names)
        image = self.images and i == 0
        while True:
            if image or self.rng.random() < 0.6:
                k = int(self.rng.integers(len(self.bank)))
                name, suits = self.bank.names[k], verb != "rolls" or self.bank.round[k]
                suits = suits and (not covers or (self.bank.pixels[k, ..., 3] > 128).mean() > COVERING)
                if suits and name not in taken and (name in few) == image:
                    return name, ""
            else:
                name = self.pick(("circle", "square") if covers else tuple(SHAPES))
                if name not in taken and name not in UNSUITED.get(verb, ()):
                    return name, self.pick(tuple(COLORS))

    def direction(self, verb: str, ways: tuple[str, ...] = ("left", "right", "up", "down")) -> str:
        if verb == "moves":
            return self.pick(ways)
        if verb == "rolls":
            return self.pick(("left", "right"))
        if verb in ("spins", "orbits"):
            return self.pick(("clockwise", "counterclockwise"))
        return ""

    def pick(self, words: tuple[str, ...]) -> str:
        return words[int(self.rng.integers(len(words)))]


def _formation(count: int, size: float, upright: bool = False) -> tuple[tuple[float, float], ...]:
    """Where copies stand around their middle: a row or an upright row, or, of four, a square."""
    if count == 4:
        return tuple((x, y) for y in (-0.19, 0.19) for x in (-0.19, 0.19))
    row = _row(count, max(0.33, size + 0.06))
    return tuple((y, x) for x, y in row) if upright else row


def _row(count: int, step: float) -> tuple[tuple[float, float], ...]:
    return tuple((step * (k - (count - 1) / 2), 0.0) for k in range(count))


__all__ = ["Background", "Camera", "Scene", "Story", "Thing", "draw", "draw_story", "held_out", "kept"]
