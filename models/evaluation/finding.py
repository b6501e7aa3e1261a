"""Find named things in pictures by rule: shapes by the colour and outline of patches, sprites by matching."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import fft, ndimage

from riverrun.models.training.world import shapes
from riverrun.models.training.world.colors import COLORS, LIGHTS, NEAR
from riverrun.models.training.world.sprites import Bank

Floats = NDArray[np.float32]
MIDDLING, DIM = 486, 330  # red + green + blue in the middle, below which it is dusk, night
SMALLEST = 0.012  # of the picture, that a patch of a shape covers
OUTLINE = 24  # pixels, of the squares in which outlines are compared
TURNS = 20  # in which outlines, and sprites that turn, are tried


@dataclass(frozen=True)
class Sighting:
    """Something found: where, how high, turned by how much (in turns, clockwise), and how badly it fits."""

    x: float  # in pictures
    y: float
    size: float
    angle: float
    misfit: float  # 0 is exact
    whole: bool  # does not touch the rim
    name: str = ""
    color: str = ""


def light(frames: NDArray[np.uint8]) -> str:
    """The light of a clip: day, dusk or night, from how bright most of it is."""
    bright = float(np.median(frames.reshape(-1, 3).astype(np.int32).sum(-1)))
    return "day" if bright > MIDDLING else "dusk" if bright > DIM else "night"


def by_day(frames: NDArray[np.uint8], seen: str) -> Floats:
    """Pictures with the tint that a light gives to things taken off."""
    gain, offset = (np.array(part, np.float32) for part in LIGHTS[seen])
    day: Floats = (frames - NEAR * offset) / (1 + NEAR * (gain - 1))
    return day


def patches(picture: Floats) -> list[Sighting]:
    """The patches of a picture by day that are of one strong colour, each with the shape it is most like."""
    found = []
    names = _strong(picture)
    n = len(picture)
    for k in np.unique(names[names >= 0]):
        color = tuple(COLORS)[k]
        labels, count = ndimage.label(names == k)
        for i, box in enumerate(ndimage.find_objects(labels), 1):
            mask = labels[box] == i
            if mask.sum() >= SMALLEST * n * n:
                found.append(_shape(mask, box, n, color))
    return found


def _strong(picture: Floats) -> NDArray[np.intp]:
    """For each pixel the number of the shapes' colour that it has, or -1."""
    palette = np.array(list(COLORS.values()), np.float32)
    away = picture.reshape(-1, 3) @ (-2 * palette.T) + (palette**2).sum(1)  # less the pixel's own square
    best = away.argmin(-1)
    near = away[np.arange(len(best)), best] + (picture**2).sum(-1).ravel() < 60**2
    return np.where(near, best, -1).reshape(picture.shape[:2])


def _shape(mask: NDArray[np.bool_], box: tuple[slice, slice], n: int, color: str) -> Sighting:
    """What a patch is most like, of all shapes in all turns, by how much of both they share."""
    ys, xs = np.nonzero(mask)
    cy, cx = ys.mean(), xs.mean()
    side = np.sqrt(len(ys))
    grid = (np.arange(OUTLINE) + 0.5) / OUTLINE * 2.4 - 1.2
    rows = np.rint(cy + grid * side * 0.85).astype(int)
    columns = np.rint(cx + grid * side * 0.85).astype(int)
    inside = ((rows >= 0) & (rows < mask.shape[0]))[:, None] & ((columns >= 0) & (columns < mask.shape[1]))
    seen = mask[np.clip(rows, 0, mask.shape[0] - 1)[:, None], np.clip(columns, 0, mask.shape[1] - 1)] & inside
    names, turns, outlines, scales, middles = _outlines()
    flat = seen.ravel().astype(np.float32)
    both = outlines @ flat
    share = both / (outlines.sum(1) + flat.sum() - both)
    k = int(share.argmax())
    size = side * scales[k] / n
    top, left = box[0].start, box[1].start
    whole = top > 0 and left > 0 and box[0].stop < n and box[1].stop < n
    x, y = (left + cx + 0.5) / n - middles[k][0] * size, (top + cy + 0.5) / n - middles[k][1] * size
    return Sighting(x, y, size, turns[k], float(1 - share[k]), whole, names[k], color)


@cache
def _outlines() -> tuple[list[str], list[float], Floats, list[float], list[tuple[float, float]]]:
    """All shapes in all turns, scaled to one area around their middle; their sizes and middles for that."""
    names, turns, rows, scales, middles = [], [], [], [], []
    for name in shapes.SHAPES:
        alpha = Image.fromarray(shapes.paint(name, "red")[..., 3])
        for turn in range(TURNS):
            turned = np.asarray(alpha.rotate(-360 * turn / TURNS, Image.Resampling.BILINEAR)) > 127
            ys, xs = np.nonzero(turned)
            side = np.sqrt(len(ys))
            grid = ((np.arange(OUTLINE) + 0.5) / OUTLINE * 2.4 - 1.2) * side * 0.85
            at = [np.rint(axis.mean() + grid).astype(int) for axis in (ys, xs)]
            ok = [(a >= 0) & (a < len(turned)) for a in at]
            a, b = (np.clip(axis, 0, len(turned) - 1) for axis in at)
            rows.append((turned[a[:, None], b] & ok[0][:, None] & ok[1]).ravel())
            names.append(name)
            turns.append(turn / TURNS)
            scales.append((len(turned) - 2) / side)
            middles.append(tuple((axis.mean() + 0.5) / len(turned) - 0.5 for axis in (xs, ys)))
    return names, turns, np.array(rows, np.float32), scales, middles


SIZES = tuple(0.165 * 1.12**k for k in range(13))  # of sprites, in pictures: 0.165 to 0.64
PADDED = 96  # of a picture of half the size and what its transforms need around it
FITS = 0.48  # the misfit below which a sprite is found
SPREAD = 0.1  # how much a sprite's own contrasts count where its rim does not stand out
LARGER = 2.5  # power of the size: of two fits in one place the larger one explains more
SOFT = 120.0  # squared levels; what noise and edges account for


@dataclass(frozen=True)
class Template:
    """A sprite at a size and in a turn, ready to be matched."""

    color: Floats  # [y, x, 3] by day
    mask: Floats  # [y, x]
    rim: Floats  # [y, x], just outside
    size: float
    angle: float

    @cached_property
    def spectra(self) -> NDArray[np.complex64]:
        """Of the mask and of the rim: the weights, those times red, green and blue, and times their squares."""
        color = np.moveaxis(self.color, -1, 0)
        one = np.ones_like(self.mask)
        planes = np.stack([one, *color, (color**2).sum(0)])
        weights = np.stack([self.mask, self.rim])[:, None]
        found: NDArray[np.complex64] = fft.rfft2(weights * planes, (PADDED, PADDED)).conj()
        return found  # [2, 5, y, x]

    @cached_property
    def spread(self) -> float:
        """How much the sprite's colours differ among themselves."""
        weight = self.mask[..., None] / self.mask.sum()
        mean = (weight * self.color).sum((0, 1))
        return float((weight * (self.color - mean) ** 2).sum())


@dataclass
class Finder:
    """Finds sprites of a bank in pictures of `size` pixels."""

    bank: Bank
    size: int = 96
    _made: dict[tuple[str, bool, float], list[Template]] = field(default_factory=dict)

    def templates(
        self, name: str, mirrored: bool, turns: Sequence[float], sizes: Sequence[float]
    ) -> list[Template]:
        """A sprite in all sizes and turns, at half the pictures' size."""
        out = []
        for turn in turns:
            key = (name, mirrored, turn)
            if key not in self._made:
                pixels = self.bank.pixels[self.bank.find(name)]
                picture = Image.fromarray(pixels[:, ::-1] if mirrored else pixels).convert("RGBa")
                picture = picture.rotate(-360 * turn, Image.Resampling.BICUBIC)
                self._made[key] = [_template(picture, s, self.size // 2, turn) for s in SIZES]
            out += [made for made in self._made[key] if made.size in sizes]
        return out

    def find(
        self,
        picture: Floats,
        name: str,
        most: int,
        turns: Sequence[float] = (0.0,),
        mirrors: Sequence[bool] = (False,),
        sizes: Sequence[float] = SIZES,
    ) -> list[Sighting]:
        """The best sightings of a sprite in a picture by day, at most `most`, the best first."""
        seen = Seen(picture)
        found: list[Sighting] = []
        for mirrored in mirrors:
            for template in self.templates(name, mirrored, turns, sizes):
                found += seen.best(template, most, name)
        return _apart(found, most)


def _template(picture: Image.Image, size: float, n: int, angle: float) -> Template:
    side = size * n * 64 / 62
    k = int(np.ceil(side / 2)) * 2 + 6
    scale = 64 / side
    move = (scale, 0, 32 - scale * k / 2, 0, scale, 32 - scale * k / 2)
    small = picture.resize((max(8, round(side)),) * 2, Image.Resampling.BOX) if side < 48 else picture
    scale = small.size[0] / side
    move = (scale, 0, small.size[0] / 2 - scale * k / 2, 0, scale, small.size[0] / 2 - scale * k / 2)
    placed = np.asarray(
        small.transform((k, k), Image.Transform.AFFINE, move, Image.Resampling.BILINEAR), np.float32
    )
    alpha = placed[..., 3] / 255
    near = ndimage.gaussian_filter(placed, (1.2, 1.2, 0))
    color = near[..., :3] / np.maximum(near[..., 3:] / 255, 1e-3)
    color = np.where(alpha[..., None] > 0.5, placed[..., :3] / np.maximum(alpha[..., None], 0.5), color)
    mask = np.where(alpha > 0.5, alpha, 0).astype(np.float32)
    around = ndimage.binary_dilation(alpha > 0.05, iterations=2) & ~ndimage.binary_dilation(alpha > 0.3)
    rim = (around & (near[..., 3] > 2)).astype(np.float32)
    return Template(np.clip(color, 0, 255), mask, rim, size, angle)


class Seen:
    """A picture by day at half its size, ready for matching."""

    def __init__(self, picture: Floats) -> None:
        n = len(picture) // 2
        half = picture.reshape(n, 2, n, 2, 3).mean((1, 3))
        self.n = n
        pad = (PADDED, PADDED)
        self.inside = fft.rfft2(np.ones((n, n), np.float32), pad)
        self.colors = fft.rfft2(np.moveaxis(half, -1, 0), pad)
        self.square = fft.rfft2((half**2).sum(-1), pad)

    def best(self, template: Template, most: int, name: str) -> list[Sighting]:
        """Where the template fits best."""
        k = len(template.mask)
        within, weight, beside, rims = self._errors(template.spectra)
        error = within / np.maximum(weight, 1e-3)
        stands = beside / np.maximum(rims, 1e-3)
        misfit = (error + SOFT) / (np.minimum(stands, 9000) + SPREAD * template.spread + SOFT)
        misfit = np.where(weight < 0.55 * template.mask.sum(), 9.0, misfit)
        found = []
        for _ in range(most):
            y, x = np.unravel_index(int(misfit.argmin()), misfit.shape)
            score = float(misfit[y, x])
            if score > FITS:
                break
            wide = max(2, int(0.35 * template.size * self.n))
            whole = bool(weight[y, x] > 0.97 * template.mask.sum())
            ty, tx = (int(v) - PADDED if v > self.n else int(v) for v in (y, x))
            middle = [(v + k / 2) / self.n for v in (tx, ty)]
            found.append(Sighting(middle[0], middle[1], template.size, template.angle, score, whole, name))
            misfit = misfit.copy()
            rows = np.arange(y - wide, y + wide + 1) % PADDED
            columns = np.arange(x - wide, x + wide + 1) % PADDED
            misfit[np.ix_(rows, columns)] = 9.0
        return found

    def _errors(self, spectra: NDArray[np.complex64]) -> Floats:
        """Squared differences and weights, summed under the mask and under the rim, at every place."""
        out = []
        for weight, red, green, blue, square in spectra:
            colored = self.colors[0] * red + self.colors[1] * green + self.colors[2] * blue
            out += [self.square * weight - 2 * colored + self.inside * square, self.inside * weight]
        sums: Floats = fft.irfft2(np.stack(out), (PADDED, PADDED))
        return np.maximum(sums, 0)


def _apart(found: list[Sighting], most: int) -> list[Sighting]:
    """The best sightings that are not of one and the same thing."""
    kept: list[Sighting] = []
    for one in sorted(found, key=lambda s: s.misfit / s.size**LARGER):
        if len(kept) < most and all(
            max(abs(one.x - k.x), abs(one.y - k.y)) > 0.4 * max(one.size, k.size) for k in kept
        ):
            kept.append(one)
    return kept
