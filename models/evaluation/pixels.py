"""Read a clip's pixels by rule, and say which attributes of a claimed scene are right.

The claim says only what to look for: nothing of where, when, how large or how fast is taken from it.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from riverrun.models.evaluation.finding import SIZES, TURNS, Finder, Floats, Sighting, by_day, light, patches
from riverrun.models.training.world.scenes import FLOOR, PAIRED, STEPS, Scene, Thing

GAP = 0.5  # seconds between the pictures that the camera is read from
TURNING = ("spins", "rolls", "swings")
Track = list[list[Sighting]]  # what was seen of one thing, picture by picture


class Mark(NamedTuple):
    """Whether one attribute of a claim is right: which one, of which thing (-1: of the scene)."""

    attribute: str  # object, color, count, verb, direction, light, camera
    thing: int
    right: bool


def read(frames: NDArray[np.uint8], claim: Scene, finder: Finder, rate: float = 12.0) -> list[Mark]:
    """Which attributes of a claimed scene a clip shows.  # [t, y, x, 3]; 2 s or more

    A plain shape has an object (its outline) and a color, a sprite only an object: it is found, and fits better
    than others of the bank.
    """
    seen = light(frames)
    frames, rate = frames[::2], rate / 2
    day = by_day(frames, seen)
    spots = [patches(picture) for picture in day]
    tracks = [_track(thing, day, spots, finder) for thing in claim.things]
    camera, pan, zoom = read_camera(frames, [list(chain(*some)) for some in zip(*tracks, strict=True)], rate)
    marks = [Mark("light", -1, seen == claim.light), Mark("camera", -1, camera == claim.camera.kind)]
    for i, (thing, track) in enumerate(zip(claim.things, tracks, strict=True)):
        marks += [Mark(name, i, ok) for name, ok in _what(thing, track, spots, day, finder)]
        marks.append(Mark("count", i, _count(track) == thing.count))
        if i == 1 and claim.things[0].verb in PAIRED:
            continue  # what the second of a pair does is said by what the first does to it
        other = tracks[1] if thing.verb in PAIRED else None
        verb, way = _does(thing, _course(track, rate, pan, zoom), track, other)
        marks.append(Mark("verb", i, verb))
        if thing.direction:
            marks.append(Mark("direction", i, way))
    return marks


def _track(thing: Thing, day: Floats, spots: list[list[Sighting]], finder: Finder) -> Track:
    """What is seen of a thing in each picture."""
    if thing.color:
        found = [[spot for spot in some if spot.color == thing.color] for some in spots]
        if not _shown(thing, found):
            return [[spot for spot in some if spot.name == thing.name] for some in spots]
        named = [[spot for spot in some if spot.name == thing.name] for some in found]
        return named if sum(map(len, named)) >= 0.4 * sum(map(len, found)) else found
    turns = tuple(k / TURNS for k in range(TURNS)) if thing.verb in TURNING else (0.0,)
    mirrors = (thing.direction == "right" and finder.bank.left[finder.bank.find(thing.name)],)
    most = 5
    some = range(len(day) // 6, len(day), max(1, len(day) // 3))
    tries = [finder.find(day[k], thing.name, 1, turns[::2], mirrors, SIZES[::2]) for k in some]
    best = [found[0].size for found in tries if found]
    near = np.median(best) if best else 0.3
    wide = 2.0 if thing.verb in ("grows", "shrinks") else 1.2
    sizes = [size for size in SIZES if near / wide < size < near * wide]
    return [_alike(finder.find(picture, thing.name, most, turns, mirrors, sizes)) for picture in day]


def _shown(thing: Thing, track: Track) -> bool:
    """Whether something is seen for long enough; what hides, or has left the picture, is not seen all the time."""
    return sum(map(bool, track)) >= (0.1 if thing.verb == "hides" else 0.25) * len(track)


def _alike(found: list[Sighting]) -> list[Sighting]:
    """The best sighting and those that are about as good and as large."""
    return [
        one
        for one in found
        if one.misfit < max(0.15, 2.2 * found[0].misfit) and 0.74 < one.size / found[0].size < 1.35
    ]


def _what(
    thing: Thing, track: Track, spots: list[list[Sighting]], day: Floats, finder: Finder
) -> list[tuple[str, bool]]:
    """Whether a thing looks as it should: its object and, of a shape, its color."""
    shown = _shown(thing, track)
    if not thing.color:
        return [("object", shown and _fits_best(thing, track, day, finder))]
    found = list(chain(*track)) if shown else list(chain(*spots))
    whole = [spot for spot in found if spot.whole] or found
    alike = sum(spot.name == thing.name for spot in whole)
    colored = _shown(thing, [[spot for spot in some if spot.color == thing.color] for some in spots])
    return [("object", alike > 0.4 * len(whole)), ("color", colored)]


def _fits_best(thing: Thing, track: Track, day: Floats, finder: Finder, others: int = 8) -> bool:
    """Whether a sprite fits better, where it was found, than others of the bank do there."""
    k = finder.bank.find(thing.name)
    step = max(1, len(finder.bank) // others)
    rivals = [finder.bank.names[(k + step * i + i) % len(finder.bank)] for i in range(1, others)]
    seen = [(some[0], t) for t, some in enumerate(track) if some and some[0].whole]
    seen = sorted(seen, key=lambda pair: pair[0].misfit)[:2]
    wins = 0
    for one, t in seen:
        sizes = [size for size in SIZES if 0.85 < size / one.size < 1.18]
        wins += all(
            other.misfit > one.misfit or abs(other.x - one.x) + abs(other.y - one.y) > 0.5 * one.size
            for name in rivals
            if name != thing.name
            for other in finder.find(day[t], name, 1, (one.angle,), sizes=sizes)
        )
    return 2 * wins > len(seen) or not seen


def _count(track: Track) -> int:
    """The most that are seen at once in a fifth of the pictures that show any: some may have left the others."""
    counts = Counter(len(some) for some in track if some)
    return max((count for count in counts if counts[count] >= 0.2 * counts.total()), default=0)


@dataclass(frozen=True)
class Course:
    """How a thing goes, against the background: steps between pictures, per second."""

    vx: Floats
    vy: Floats
    x: Floats  # at each step
    y: Floats
    wx: Floats  # over `GAP` seconds at a time
    wy: Floats
    grows: float  # of the logarithm of its size
    turns: float
    low: float  # where its lower rim mostly is


def _course(track: Track, rate: float, pan: float, zoom: float) -> Course:
    steps = [(a, b) for a, b in _steps(track, 1) if a.whole and b.whole]
    hop = max(1, round(GAP * rate))
    hops = [(a, b) for a, b in _steps(track, hop) if a.whole and b.whole]
    rows = [((b.x - a.x) * rate + pan, (b.y - a.y) * rate, a.x, a.y) for a, b in steps]
    vx, vy, x, y = np.array(rows, np.float32).reshape(-1, 4).T
    wx, wy = np.array([(b.x - a.x, b.y - a.y) for a, b in hops], np.float32).reshape(-1, 2).T * rate / hop
    grows = _middle([np.log(b.size / a.size) * rate / hop - zoom for a, b in hops])
    turns = _mean([((b.angle - a.angle + _half(a)) % (2 * _half(a)) - _half(a)) * rate for a, b in steps])
    return Course(vx, vy, x, y, wx + pan, wy, grows, turns, _middle([a.y + a.size / 2 for a, _ in steps]))


def _steps(track: Track, hop: int) -> Iterator[tuple[Sighting, Sighting]]:
    """Each sighting, and the nearest one `hop` pictures later if it can be the same thing's."""
    for before, after in zip(track, track[hop:], strict=False):
        for one in before:
            same = min(after, key=lambda s: abs(s.x - one.x) + abs(s.y - one.y), default=None)
            if same is not None and abs(same.x - one.x) + abs(same.y - one.y) < 0.33:
                yield one, same


def _half(one: Sighting) -> float:
    """Half the turn after which a shape looks the same again."""
    return 0.5 / {"square": 4, "star": 5, "cross": 4, "triangle": 3, "diamond": 2}.get(one.name, 1)


def _middle(values: Sequence[float] | Floats) -> float:
    return float(np.median(values)) if len(values) else 0.0


def _mean(values: Sequence[float]) -> float:
    """The mean without the outer fifths."""
    inner = sorted(values)[len(values) // 5 : len(values) - len(values) // 5]
    return float(np.mean(inner)) if inner else 0.0


def _swings(v: Floats) -> bool:
    """Whether something goes to and fro."""
    return len(v) > 0 and min((v > 0.14).mean(), (v < -0.14).mean()) > 0.1


def _one_way(v: Floats) -> bool:
    """Whether something hardly ever goes back."""
    return bool((np.sign(v) == np.sign(np.median(v))).mean() > 0.75)


def _does(thing: Thing, course: Course, track: Track, other: Track | None) -> tuple[bool, bool]:
    """Whether a thing does what is claimed, and in the direction that is claimed."""
    if other is not None:
        return _paired(thing, course, track, other)
    vx, vy = _middle(course.vx), _middle(course.vy)
    steady = len(course.vx) > 0 and max(abs(vx), abs(vy)) < 0.07
    steady = steady and not _swings(course.wx) and not _swings(course.wy)
    side = 1 if thing.direction == "clockwise" else -1
    match thing.verb:
        case "moves" | "rolls":
            dx, dy = STEPS[thing.direction]
            along, across = (vx, vy) if dx else (vy, vx)
            right = along * (dx + dy) > 0
            goes = abs(along) > 0.12 and abs(across) < 0.5 * abs(along)
            goes = goes and _one_way(course.vx if dx else course.vy) and not (dy and _falls(course))
            low = abs(course.low - FLOOR) < 0.09
            return goes and (thing.verb == "moves" or (bool(dx) and low)), goes and right
        case "falls":
            return vy > 0.1 and abs(vx) < 0.1 and _falls(course), True
        case "bounces":
            return _swings(course.wy) and abs(vx) < 0.1 and float(np.ptp(course.y)) > 0.08, True
        case "grows" | "shrinks":
            return steady and course.grows * (1 if thing.verb == "grows" else -1) > 0.1, True
        case "spins":
            return steady and abs(course.turns) > 0.08, course.turns * side > 0.04
        case "swings":
            return _swings(course.wx) and float(np.ptp(course.y)) < 0.6 * float(np.ptp(course.x)), True
        case _:
            return steady and abs(course.grows) < 0.1 and abs(course.turns) < 0.08, True


def _falls(course: Course) -> bool:
    """Whether something is the faster the lower it is, as what falls is: v² grows by 2 g a height."""
    if len(course.y) < 3 or float(np.ptp(course.y)) < 0.1:
        return False
    return float(np.polyfit(course.y, course.vy**2, 1)[0]) > 0.5


def _paired(thing: Thing, course: Course, track: Track, other: Track) -> tuple[bool, bool]:
    """Whether the first of a pair orbits, chases or hides behind the second."""
    both = [(a[0], b[0]) for a, b in zip(track, other, strict=True) if a and b]
    if len(both) < 3:
        return thing.verb == "hides" and any(other) and not all(track), False
    apart = np.array([(a.x - b.x, a.y - b.y) for a, b in both], np.float32)
    if thing.verb == "orbits":
        turns = np.diff(np.unwrap(np.arctan2(apart[:, 1], apart[:, 0])))
        around = float(np.median(turns))
        steady = (np.sign(turns) == np.sign(around)).mean() > 0.75
        return bool(steady and abs(turns.sum()) > 1), around * (
            1 if thing.direction == "clockwise" else -1
        ) > 0
    if thing.verb == "chases":
        vx, way = _middle(course.vx), STEPS[thing.direction][0]
        behind = float((apart[:, 0] * np.sign(vx) < 0).mean()) > 0.6
        return abs(vx) > 0.12 and behind and bool(np.ptp(apart[:, 0]) < 0.35), vx * way > 0
    covered = sum(not a for a in track) > 0.1 * len(track)
    return bool(float(np.ptp(apart[:, 0])) > 0.1 or covered) and float(np.ptp(apart[:, 1])) < 0.15, True


def read_camera(
    frames: NDArray[np.uint8], things: list[list[Sighting]], rate: float
) -> tuple[str, float, float]:
    """What the camera does, how fast it pans to the right (pictures/s) and zooms in (log/s): what explains best
    how the picture beside the things goes on `GAP` seconds later."""
    n, hop = frames.shape[1], max(1, round(GAP * rate))
    pairs = [(i, i + hop) for i in range(0, len(frames) - hop, max(1, hop // 2))]
    gray = frames.astype(np.float32).mean(-1)
    free = [_beside(some, n) for some in things]
    moves = [("still", 0.0)]
    moves += [(f"pan {w}", s * d * n / 96) for w, s in (("left", -1), ("right", 1)) for d in range(3, 10)]
    moves += [("zoom in", 1.045), ("zoom in", 1.065), ("zoom out", 1 / 1.045), ("zoom out", 1 / 1.065)]
    bands = np.zeros((len(moves), 6))
    for i, j in pairs:
        for k, (kind, amount) in enumerate(moves):
            warped, ok = _warp(gray[i], kind, amount), _warp(free[i], kind, amount) > 0.99
            ok &= free[j] > 0.99
            ok[:, : n // 9] = ok[:, -n // 9 :] = ok[: n // 16] = ok[-n // 16 :] = False
            away = np.where(ok, np.minimum(abs(warped - gray[j]), 40), 0)
            parts = zip(*(np.array_split(part, 8, 1)[1:-1] for part in (away, ok)), strict=True)
            bands[k] += [part.sum() / max(1, some.sum()) / len(pairs) for part, some in parts]
    costs = bands.sum(1)
    best = int(costs.argmin())
    everywhere = (bands[0] > 0.04).sum() >= 5 and (bands[best] < 0.85 * bands[0]).sum() >= 3
    kind, amount = moves[best if costs[best] < 0.8 * costs[0] and everywhere else 0]
    if kind.startswith("pan"):
        return kind, amount / n / GAP, 0.0
    return kind, 0.0, float(np.log(amount)) / GAP if kind != "still" else 0.0


def _beside(some: list[Sighting], n: int) -> Floats:
    free = np.ones((n, n), np.float32)
    for one in some:
        reach = 0.62 * one.size
        top, bottom, left, right = (
            int(n * v) for v in (one.y - reach, one.y + reach, one.x - reach, one.x + reach)
        )
        free[max(0, top) : max(0, bottom + 1), max(0, left) : max(0, right + 1)] = 0
    return free


def _warp(picture: Floats, kind: str, amount: float) -> Floats:
    """What a picture becomes when the camera pans by so many pixels, or zooms by a factor."""
    n = len(picture)
    if kind == "still":
        return picture
    move = (1.0, 0.0, amount, 0.0, 1.0, 0.0)
    if kind.startswith("zoom"):
        edge = n / 2 * (1 - 1 / amount)
        move = (1 / amount, 0.0, edge, 0.0, 1 / amount, edge)
    image = Image.fromarray(picture, "F")
    return np.asarray(image.transform((n, n), Image.Transform.AFFINE, move, Image.Resampling.BILINEAR))


__all__ = ["Mark", "read", "read_camera"]
