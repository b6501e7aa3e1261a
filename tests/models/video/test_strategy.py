"""Mask strategies: the reference's own cases, and what is refused."""

import json
from dataclasses import astuple
from pathlib import Path
from typing import Any

import pytest
import torch

from riverrun.models import InvalidRequest
from riverrun.models.video.prompts import at, options, segments
from riverrun.models.video.strategy import Step, apply, continuation, nearest, parse, total

CASES: dict[str, Any] = json.loads((Path(__file__).parent / "opensora/mask_strategy.json").read_text())


@pytest.mark.parametrize("case", CASES["nearest"])
def test_places_are_aligned_as_published(case: str) -> None:
    place, align, limit = map(int, case.split(","))
    assert nearest(place, align, limit) == CASES["nearest"][case]


@pytest.mark.parametrize("text", CASES["parse"])
def test_strategies_are_read_as_published(text: str) -> None:
    assert [list(astuple(step)) for step in parse(text)] == CASES["parse"][text]


@pytest.mark.parametrize("case", CASES["apply"])
def test_references_are_placed_as_published(case: str) -> None:
    """References are latents that count: 1 to 15, one frame of 7, one of 9, and the loop before."""
    name, _, rest = case.partition(' "')
    text = rest.rstrip('"') or "0;0,1,0,-1,1"
    clip = torch.arange(1.0, 16)[None, :, None, None]
    references = {
        "i2v": [clip[:, :1] * 7],
        "connect": [clip[:, :1] * 7, clip[:, :1] * 9],
        "connect align none": [clip[:, :1] * 7, clip[:, :1] * 9],
        "extend-back": [clip],
        "edit": [clip],
        "continue loop1": [clip],
    }[name]
    loop, align = (1, 5) if "loop1" in name else (0, None if "none" in name else 5)
    z, mask = apply(parse(text), references, torch.zeros(1, 15, 1, 1), loop, align)
    assert z.flatten().tolist() == CASES["apply"][case]["z"]
    assert mask.tolist() == CASES["apply"][case]["mask"]


def test_prompts_are_split_as_published() -> None:
    prompt = "|0| a dog runs |2| a dog sleeps |4| a dog eats"
    assert [list(part) for part in segments(prompt)] == CASES["split"]
    assert {str(i): at(prompt, i) for i in range(6)} == CASES["loop_prompts"]
    told = options('hello {"reference_path": "a.png;b.png", "mask_strategy": "0;0,1,0,-1,1"}')
    texts, paths, strategies = CASES["json"]
    assert (told.text, ";".join(told.references), told.strategy) == (texts[0], paths[0], strategies[0])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0,x", "'0,x', expected up to six numbers"),
        ("0,0,0,0,1,0,9", "expected up to six numbers"),
        ("0,0,0,0,0", "length at least 1"),
        ("-1", "loop and reference are at least 0"),
        ("0,0,0,0,1,1.5", "edit from 0 to 1"),
        ("0,0,0,0,1,nan", "edit from 0 to 1"),
        ("0;", "mask strategy ''"),
    ],
)
def test_what_is_no_strategy_is_named(text: str, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        parse(text)


def test_what_is_not_there_is_named() -> None:
    z = torch.zeros(4, 15, 2, 3)
    with pytest.raises(InvalidRequest, match="reference 1, there are 1"):
        apply([Step(reference=1)], [z], z)
    with pytest.raises(InvalidRequest, match="target 15, expected -15 to 14 latent frames"):
        apply([Step(target=15)], [z], z)
    with pytest.raises(InvalidRequest, match="start -6, expected -5 to 4"):
        apply([Step(start=-6)], [z[:, :5]], z)
    with pytest.raises(InvalidRequest, match="reference 0 is 3 x 2 latents, expected 2 x 3"):
        apply([Step()], [z.mT], z)
    assert apply([Step(loop=3, reference=9)], [], z)[1].min() == 1  # of another loop


def test_a_long_video_goes_on_from_what_came_before() -> None:
    assert continuation(2, 3, 5, 0.2) == Step(2, 3, -5, 0, 5, 0.2)
    assert total(51, 3, 5, 17, 5) == 51 + 2 * 34
    with pytest.raises(InvalidRequest, match="loop is 0"):
        continuation(0, 0, 5)
