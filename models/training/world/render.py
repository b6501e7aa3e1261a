"""Pictures of stories: sprites over a background, moved by parts of a pixel, smooth at their edges."""

from collections.abc import Iterable
from math import cos, pi, sin

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from riverrun.models.training.world import backgrounds, shapes
from riverrun.models.training.world.colors import LIGHTS, NEAR
from riverrun.models.training.world.motion import Place, story_pan, story_places, view
from riverrun.models.training.world.scenes import Scene, Story
from riverrun.models.training.world.sprites import SIDE, Bank

Frames = NDArray[np.uint8]
LEVELS = (
    64,
    48,
    32,
    24,
    16,
    8,
)  # pixels, of the copies of a sprite: the smallest that is large enough is drawn


class Renderer:
    """Draws a scene, or a story, at any times, `size` pixels high and wide; what can be is painted once."""

    def __init__(self, story: Story | Scene, bank: Bank, size: int = 96) -> None:
        self.story = Story((story,)) if isinstance(story, Scene) else story
        self.bank, self.size = bank, size
        self._grounds: dict[int, Frames] = {}
        self._sprites: dict[tuple[str, str, str, bool], list[Image.Image]] = {}

    def frames(self, times: Iterable[float]) -> Frames:
        """The pictures at these times, in seconds from the story's start.  # [t, y, x, 3]"""
        return np.stack([self.frame(t) for t in times])

    def frame(self, t: float) -> Frames:
        """The picture at one time.  # [y, x, 3]"""
        places, k, share = story_places(self.story, t)
        picture = self._compose(places, k, t)
        if share == 1:
            return picture
        old = self._compose(places, k - 1, t)
        return np.rint(old + (picture.astype(np.float32) - old) * share).astype(np.uint8)

    def _compose(self, places: list[Place], k: int, t: float) -> Frames:
        """The places over the background of scene k, in its light."""
        picture = self._ground(k, t)
        for place in places:
            self._put(picture, place, self.story.scenes[k].light)
        return picture

    def _ground(self, k: int, t: float) -> Frames:
        scene, n = self.story.scenes[k], self.size
        if k not in self._grounds:
            self._grounds[k] = _lit(backgrounds.paint(scene.background, n), scene.light)
        ground = self._grounds[k]
        start = self.story.switches[k - 1] if k else 0.0
        shift = story_pan(self.story, k, t) * n
        whole = int(shift // 1)
        part = int(256 * (shift - whole))
        columns = np.arange(whole, whole + n + 1) % ground.shape[1]
        strip = ground[:, columns]
        if part:
            mixed = strip[:, :-1] * np.uint16(256 - part) + strip[:, 1:] * np.uint16(part)
            picture = (mixed >> 8).astype(np.uint8)
        else:
            picture = strip[:, :-1].copy()
        zoom = view(scene.camera, t - start).zoom
        if zoom == 1:
            return picture
        edge = n / 2 * (1 - 1 / zoom)
        box = (edge, edge, n - edge, n - edge)
        return np.array(Image.fromarray(picture).resize((n, n), Image.Resampling.BILINEAR, box))

    def _put(self, picture: Frames, place: Place, light: str) -> None:
        """Lay a sprite over a picture, in its light, where and as large as its place says."""
        n = self.size
        side = place.size * n * SIDE / (SIDE - 2)
        reach = side / 2 * (abs(cos(2 * pi * place.angle)) + abs(sin(2 * pi * place.angle)))
        x, y = place.x * n, place.y * n
        left, right = max(0, int(x - reach)), min(n, int(x + reach) + 2)
        top, bottom = max(0, int(y - reach)), min(n, int(y + reach) + 2)
        if left >= right or top >= bottom or side < 1:
            return
        sprite = next((s for s in reversed(self._levels(place, light)) if s.size[0] >= 0.9 * side), None)
        sprite = sprite or self._levels(place, light)[0]
        scale = sprite.size[0] / side
        c, s = scale * cos(2 * pi * place.angle), scale * sin(2 * pi * place.angle)
        dx, dy = left - x, top - y
        middle = sprite.size[0] / 2
        moved = (c, s, c * dx + s * dy + middle, -s, c, c * dy - s * dx + middle)
        box = (right - left, bottom - top)
        patch = np.asarray(sprite.transform(box, Image.Transform.AFFINE, moved, Image.Resampling.BILINEAR))
        fade = np.uint16(round(256 * place.opacity))
        under = picture[top:bottom, left:right]
        over = patch[..., :3] * fade
        clear = 255 * 256 - patch[..., 3:].astype(np.uint32) * fade
        under[:] = np.minimum(255, (over + under * clear // 255) >> 8)

    def _levels(self, place: Place, light: str) -> list[Image.Image]:
        """A thing's sprite in a light, premultiplied, the largest first."""
        key = (place.name, place.color, light, place.mirrored)
        if key not in self._sprites:
            pixels = shapes.drawn(self.bank, place.name, place.color, place.mirrored)
            lit = np.concatenate([_lit(pixels[..., :3], light, NEAR), pixels[..., 3:]], -1)
            whole = Image.fromarray(lit, "RGBA").convert("RGBa")
            self._sprites[key] = [whole.resize((n, n), Image.Resampling.BOX) for n in LEVELS]
        return self._sprites[key]


def _lit(pixels: Frames, light: str, share: float = 1.0) -> Frames:
    """Pixels by day in another light, or a share of the way to it.  # [..., 3]"""
    gain, offset = (np.array(part, np.float32) for part in LIGHTS[light])
    lit: Frames = np.rint(pixels * (1 + share * (gain - 1)) + share * offset).astype(np.uint8)
    return lit


__all__ = ["Renderer"]
