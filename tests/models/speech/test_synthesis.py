"""From text to a whole clip: of the right length, in the prompt's voice, the same for the same seed."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from riverrun.models import InvalidRequest
from riverrun.models.guidance import Guidance, Method
from riverrun.models.speech.longcat import LongCat
from riverrun.models.speech.sampling import Clip, advance, begin, conditioned, grid, sample
from riverrun.models.speech.synthesis import Prompt, Settings, synthesise
from riverrun.models.speech.text import Tokens, tokenizer
from riverrun.models.state import load, save

TEXT = "Hello there, world!"  # 17 characters at 0.082 s: 16 frames
QUICK = Settings(steps=3)


@pytest.fixture(scope="module")
def tokens(letters: Path) -> Tokens:
    return tokenizer(letters, 97)


@pytest.fixture
def prompt() -> Prompt:
    return Prompt(np.random.default_rng(0).normal(0, 0.1, 9000).astype(np.float32), "Ten letter")


def test_a_text_becomes_sound_of_the_length_it_is_worth(longcat: LongCat, tokens: Tokens) -> None:
    sound = synthesise(longcat, tokens, TEXT, settings=QUICK)
    assert sound.shape == (16 * 2048,) and sound.dtype == np.float32 and np.isfinite(sound).all()
    assert np.array_equal(sound, synthesise(longcat, tokens, TEXT, settings=QUICK))
    assert not np.allclose(sound, synthesise(longcat, tokens, TEXT, settings=replace(QUICK, seed=1)))
    assert not np.allclose(sound, synthesise(longcat, tokens, TEXT.replace("e", "a"), settings=QUICK))


def test_length_and_speed_are_as_asked_within_the_limit(longcat: LongCat, tokens: Tokens) -> None:
    def made(**changed: float) -> int:
        return len(synthesise(longcat, tokens, TEXT, settings=replace(QUICK, **changed))) // 2048  # type: ignore[arg-type]

    assert made(speed=2.0) == 8 and made(seconds=1.0) == 11
    assert made(speed=1e6) == 1 and made(seconds=1e6) == 351


def test_a_prompt_is_continued_and_not_repeated(longcat: LongCat, tokens: Tokens, prompt: Prompt) -> None:
    sound = synthesise(longcat, tokens, TEXT, prompt, QUICK)
    assert sound.shape == (16 * 2048,)
    other = Prompt(prompt.sound[::-1], prompt.text)
    assert not np.allclose(sound, synthesise(longcat, tokens, TEXT, other, QUICK), atol=1e-3)
    plain = synthesise(longcat, tokens, TEXT, prompt, replace(QUICK, guidance=Guidance("cfg")))
    assert not np.allclose(sound, plain, atol=1e-3), "with a prompt, guidance is projected"


def test_what_cannot_be_said_is_refused(longcat: LongCat, tokens: Tokens, prompt: Prompt) -> None:
    with pytest.raises(InvalidRequest, match="empty"):
        synthesise(longcat, tokens, ' " ')
    long = Prompt(np.zeros(30 * 24_000, np.float32), "Ten letter")
    with pytest.raises(InvalidRequest, match="shorter"):
        synthesise(longcat, tokens, TEXT, long)
    with pytest.raises(InvalidRequest, match="transcript"):
        Prompt(prompt.sound, " ")
    with pytest.raises(InvalidRequest, match="mono"):
        Prompt(prompt.sound[:, None], "Ten letter")
    for wrong in ({"steps": 1}, {"speed": 0.0}, {"seconds": float("nan")}):
        with pytest.raises(InvalidRequest, match="expected"):
            Settings(**wrong)


def test_a_sampler_can_stop_between_any_two_evaluations(longcat: LongCat) -> None:
    noise, known = torch.randn(2, 9, 8), torch.randn(2, 4, 8)
    text, here = torch.randn(2, 5, 32), torch.ones(2, 5, dtype=torch.bool)
    clip, guidance = begin(noise, known), Guidance("apg")
    velocity = conditioned(longcat.transformer, clip, text, here, guidance)
    wanted = sample(velocity, clip, guidance, 4)
    assert torch.equal(wanted[:, :4], known), "what was known is as it was"
    x, state = clip.noise, guidance.start(clip.noise)
    for time, until in pairwise(grid(4)):
        kept = load(save({"x": x, **state}))
        x, _, state = advance(velocity, clip, kept.pop("x"), time, until, kept)
    assert torch.equal(x[:, 4:], wanted[:, 4:])


@pytest.mark.parametrize("method", ["cfg", "apg"])
def test_clips_of_different_lengths_share_a_batch(longcat: LongCat, method: Method) -> None:
    """One of 9 frames after a prompt of 4, one of 6 after a prompt of 2, with texts of 5 and 3 tokens."""
    lengths, prompts, texts = torch.tensor([[9], [6]]), torch.tensor([[4], [2]]), torch.tensor([[5], [3]])
    noise, latents, text = torch.randn(2, 9, 8), torch.randn(2, 9, 8), torch.randn(2, 5, 32)
    free, frames, here = (torch.arange(9) >= prompts), torch.arange(9) < lengths, torch.arange(5) < texts
    guidance = Guidance(method)

    def made(row: slice, t: int, n: int) -> torch.Tensor:
        at = row, slice(t)
        clip = Clip(noise[at], latents[at] * ~free[at][..., None], free[at], frames[at])
        velocity = conditioned(longcat.transformer, clip, text[row, :n], here[row, :n], guidance)
        return sample(velocity, clip, guidance, 4)

    both = made(slice(2), 9, 5)
    for i in range(2):
        t, n = int(lengths[i]), int(texts[i])
        assert torch.allclose(made(slice(i, i + 1), t, n)[0], both[i, :t], atol=1e-4)


def test_without_the_condition_not_even_the_noise_of_the_prompt_is_seen(longcat: LongCat) -> None:
    """A guided velocity is v + w (v - u): what it says of u must not depend on the prompt's own noise."""
    noise, known = torch.randn(1, 9, 8), torch.randn(1, 4, 8)
    text, here = torch.zeros(1, 5, 32), torch.ones(1, 5, dtype=torch.bool)

    def without(noise: torch.Tensor) -> torch.Tensor:
        x, by = clip_x(noise), [Guidance("cfg", w) for w in (0.0, 1.0)]
        plain, more = (
            conditioned(longcat.transformer, begin(noise, known), text, here, g)(x, 0.5, {})[0] for g in by
        )
        return 2 * plain - more

    def clip_x(noise: torch.Tensor) -> torch.Tensor:
        return begin(noise, known).hold(torch.ones(1, 9, 8), 0.5)

    other = torch.cat([torch.randn(1, 4, 8), noise[:, 4:]], dim=1)
    assert torch.allclose(without(noise), without(other), atol=1e-4)
