"""Clips by Open-Sora 1.2, by tiny networks: references, loops, texts for loops, and what is refused."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from riverrun.models import InvalidRequest
from riverrun.models.video.clips import OpenSora, Request
from riverrun.models.video.text import Read
from riverrun.models.video.vae import VideoVae, draws
from tests.models.video.small import drawn, small, stirred
from tests.models.video.test_vae import SMALL

ASKED = Request("a calm sea", frames=18, size=(17, 24), steps=2, carried=3, align=3)


def read(texts: Sequence[str]) -> Read:
    """Features by the letters of a text."""
    seeds = [sum(map(ord, text)) for text in texts]
    mask = torch.tensor([[True] * 4 + [False] * 2] * len(texts))
    return Read(torch.cat([drawn(1, 6, 12, seed=seed) for seed in seeds]), mask)


@pytest.fixture(scope="module")
def parts() -> OpenSora:
    made = stirred(VideoVae(SMALL))
    assert isinstance(made, VideoVae)
    return OpenSora(small(), made, read)


def clip(parts: OpenSora, references: Sequence[Tensor] = (), **values: Any) -> Tensor:
    return torch.cat(list(parts.generate(replace(ASKED, **values), references)), dim=1)


def test_a_clip_comes_in_groups_and_is_the_same_again(parts: OpenSora) -> None:
    made = list(parts.generate(ASKED))
    assert [tuple(part.shape) for part in made] == [(3, 9, 16, 24), (3, 9, 16, 24)]
    assert torch.equal(torch.cat(made, dim=1), clip(parts))
    for changed in ({"seed": 1}, {"prompt": "a storm"}, {"strength": 0.0}, {"fps": 8.0}, {"motion": 5.0}):
        assert (clip(parts, **changed) - clip(parts)).abs().max() > 1e-4
    assert clip(parts, frames=1).shape == (3, 1, 16, 24)


def test_a_reference_becomes_the_beginning(parts: OpenSora) -> None:
    """The first group of latents is kept, so its pixels are those of the reference, coded."""
    reference = drawn(3, 9, 17, 24)
    kept = clip(parts, [reference], strategy="0,0,0,0,3,0")
    other = clip(parts, [reference], strategy="0,0,0,0,3,0", seed=3, prompt="a storm")
    assert (kept[:, 9:] - other[:, 9:]).abs().max() > 1e-3
    coded = parts.vae.encode(reference[None], draws(ASKED.seed))
    torch.testing.assert_close(kept[:, :9], parts.vae.decode(coded, 9)[0], atol=1e-5, rtol=0)


def test_loops_go_on_from_what_came_before(parts: OpenSora) -> None:
    texts = "|0| a calm sea |1| a storm"
    long = clip(parts, prompt=texts, loops=3)
    assert long.shape == (3, 18 + 2 * 9, 16, 24)
    assert torch.equal(long[:, :18], clip(parts))
    assert (clip(parts, loops=3)[:, 18:27] - long[:, 18:27]).abs().max() > 1e-4


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"frames": 0}, "frames is 0, expected a positive number"),
        ({"strength": -1.0}, "strength is -1.0"),
        ({"edit": 2.0}, "edit 2.0, expected at least 0, and 0 to 1"),
        ({"size": (2, 24)}, "expected at least 4 on a side"),
        ({"loops": 2, "carried": 2}, "carried is 2 of 6 latent frames, expected fewer, in groups of 3"),
        ({"loops": 2, "carried": 6}, "carried is 6 of 6"),
        ({"strategy": "0"}, "reference 0, there are 0"),
        ({"camera": "up"}, "camera motion is 'up'"),
    ],
)
def test_what_cannot_be_shown_is_refused(parts: OpenSora, values: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        clip(parts, **values)
