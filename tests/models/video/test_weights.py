"""The weights of show-lite that come along show what they are asked for, as far as their card says."""

import numpy as np
import pytest
from numpy.typing import NDArray

from riverrun.media import join
from riverrun.models import load
from riverrun.models.contract import StreamModel
from riverrun.models.registry import MODELS
from riverrun.models.shown import Shown
from riverrun.models.speech.talk import talk

pytestmark = pytest.mark.skipif(not MODELS["show-lite"].path.exists(), reason="no weights of show-lite here")
SEEDS = 4


@pytest.fixture(scope="module")
def model() -> StreamModel:
    return load("show-lite")


def seen(model: StreamModel, prompt: str) -> NDArray[np.float32]:
    """Pictures of some seeds, 0 to 1.  # [n, y, x, 3]"""
    shown = [join(list(talk(model, Shown(prompt, 0.75, seed=seed)))).data for seed in range(SEEDS)]
    return np.concatenate(shown).astype(np.float32) / np.float32(255)


def share(pictures: NDArray[np.float32], channel: int) -> float:
    """How much of pictures is of one of the primary colours, and strong."""
    others = np.delete(pictures, channel, axis=-1).max(-1)
    return float((pictures[..., channel] - others > 0.3).mean())


def test_nights_are_dark(model: StreamModel) -> None:
    day, night = (seen(model, f"a red square on a beach{light}").mean() for light in ("", " at night"))
    assert night < 0.6 * day


def test_colours_are_those_of_the_prompt(model: StreamModel) -> None:
    red, blue = (seen(model, f"a {color} circle on a plain white background") for color in ("red", "blue"))
    assert share(red, 0) > 0.04 > 0.02 > share(blue, 0) and share(blue, 2) > 0.04 > 0.02 > share(red, 2)


def height(pictures: NDArray[np.float32]) -> float:
    """How far down the strong red of pictures is, 0 to 1."""
    red = pictures[..., 0] - pictures[..., 1:].max(-1) > 0.3
    return float(np.argwhere(red)[:, 1].mean() / red.shape[1])


def test_what_rolls_does_so_on_the_floor(model: StreamModel) -> None:
    rolls, floats = (
        height(seen(model, f"a red {what} on a plain white background"))
        for what in ("circle rolls left", "square moves up")
    )
    assert rolls > floats + 0.1


def test_places_look_like_themselves(model: StreamModel) -> None:
    meadow, snow = (
        seen(model, f"a dog in {place}")[:, -12:].mean((0, 1, 2)) for place in ("a meadow", "the snow")
    )
    assert meadow.argmax() == 1 and meadow[1] > meadow[2] + 0.15, "green below"
    assert snow.min() > 0.65, "white below"


def test_what_goes_on_stays_what_it_is(model: StreamModel) -> None:
    pictures = join(list(talk(model, Shown("a purple triangle in the desert", 6.0, seed=1)))).data / 255.0
    first, last = pictures[9:18].mean(0), pictures[-9:].mean(0)
    other = join(list(talk(model, Shown("a green star in the sea", 1.5, seed=2)))).data[9:].mean(0) / 255.0
    assert np.abs(last - first).mean() < 0.5 * np.abs(other - first).mean()
