"""Clips by Open-Sora 1.2, by tiny networks: references, loops, texts for loops, and what is refused."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from riverrun.models import InvalidRequest
from riverrun.models.video.caching import PAB246
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
    torch.manual_seed(0)
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


def test_references_of_which_nothing_is_said_begin_and_end_a_clip(parts: OpenSora) -> None:
    first, last = drawn(3, 18, 17, 24), drawn(3, 9, 17, 24, seed=4)
    made = clip(parts, [first, last], frames=27)
    draw = draws(ASKED.seed)
    held = [parts.vae.encode(r[None], draw) for r in (first, last)]
    torch.testing.assert_close(made[:, :9], parts.vae.decode(held[0][:, :, -3:], 9)[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(made[:, 18:], parts.vae.decode(held[1], 9)[0], atol=1e-5, rtol=0)
    picture = drawn(3, 1, 17, 24)
    assert torch.equal(clip(parts, [picture]), clip(parts, [picture], strategy="0"))
    edited, other = clip(parts, [first], edit=0.5), clip(parts, [first], strategy="0,0,0,0,6,0.5")
    assert torch.equal(edited, other)


def test_guidance_leads_away_from_a_negative_prompt(parts: OpenSora) -> None:
    assert (clip(parts, negative="a storm") - clip(parts)).abs().max() > 1e-4
    torch.testing.assert_close(
        clip(parts, negative="a calm sea", aesthetic=None), clip(parts, strength=0.0, aesthetic=None)
    )


def test_guidance_is_split_where_memory_is_short(parts: OpenSora) -> None:
    long = replace(ASKED, frames=90, size=(64, 64))
    whole, split = (parts.plan(replace(long, split=split)) for split in (False, True))
    assert split.sampling < 0.6 * whole.sampling and not whole.split
    assert parts.plan(long, whole.more) == whole == parts.plan(long)
    assert parts.plan(long, split.more) == split and "(guidance split)" in str(split)
    torch.testing.assert_close(clip(parts, split=True), clip(parts), atol=1e-5, rtol=0)
    with pytest.raises(InvalidRequest, match=r"90 frames of 64 x 64 pixels take .* free: .* \d+ frames"):
        parts.plan(long, split.more - 1)
    with pytest.raises(InvalidRequest, match="split guidance"):
        parts.plan(replace(long, split=False), split.more)
    with pytest.raises(InvalidRequest, match="this would fit: no caching"):
        parts.plan(replace(long, caching=PAB246), split.more)
    with pytest.raises(InvalidRequest, match="nothing smaller would fit"):
        list(parts.generate(long, free=1))
    with pytest.raises(InvalidRequest, match="the text encoder takes 9.0 GiB .* choose another device"):
        replace(parts, reading=9 * 2**30).plan(ASKED, 2**30)
    large = replace(ASKED, frames=17, size=(720, 1280), split=True)
    with pytest.raises(InvalidRequest, match="360p, 360 x 640 pixels"):
        parts.plan(large, parts.plan(replace(large, size=(360, 640))).more)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"frames": 0}, "frames is 0, expected 1 to 816: what is longer takes loops"),
        ({"frames": 10_000}, "frames is 10000, expected 1 to 816"),
        ({"fps": float("nan")}, "fps is nan, expected 1 to 120"),
        ({"strength": -1.0}, "strength is -1, expected 0 to 100"),
        ({"edit": 2.0}, "edit is 2, expected 0 to 1"),
        ({"size": (2, 24)}, "size is 2 x 24 pixels, expected 16 to 4096 on a side"),
        ({"prompt": " "}, "prompt is empty, expected what is to be seen"),
        ({"prompt": "|0| a sea |1|  "}, "prompt is empty"),
        ({"prompt": "a" * 10_000}, "prompt has 10000 characters, expected up to 2000: shorten it"),
        ({"negative": "a" * 10_000}, "negative has 10000 characters"),
        ({"loops": 2, "carried": 2}, "carried is 2 of 6 latent frames, expected fewer, in groups of 3"),
        ({"loops": 2, "carried": 6}, "carried is 6 of 6"),
        ({"strategy": "0"}, "reference 0, there are 0"),
        ({"camera": "up"}, "camera motion is 'up'"),
    ],
)
def test_what_cannot_be_shown_is_refused(parts: OpenSora, values: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        clip(parts, **values)
