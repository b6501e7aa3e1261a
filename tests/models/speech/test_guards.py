"""A chunk that is no speech is told from one that is, and drawn again once."""

import numpy as np
import torch

from riverrun.media import join
from riverrun.models.speech.guards import LARGEST, poor
from riverrun.models.speech.lite import Said, SpeakLite
from riverrun.models.speech.talk import talk
from tests.models.speech.small import small

SPOKEN, QUIET = torch.ones(8, dtype=torch.bool), torch.zeros(4)


def test_what_is_speech_passes_and_what_is_none_does_not() -> None:
    torch.manual_seed(0)
    chunk, before = torch.randn(2, 8, 4)
    assert not poor(chunk, before, SPOKEN, QUIET)
    assert poor(chunk.clone().fill_(float("nan")), before, SPOKEN, QUIET)
    assert poor(chunk * 2 * LARGEST, before, SPOKEN, QUIET)
    assert poor(0.1 * chunk, before, SPOKEN, QUIET), "silent, though something is to be said"
    assert not poor(0.1 * chunk, before, ~SPOKEN, QUIET)
    assert poor(before + 0.01 * chunk, before, SPOKEN, QUIET), "it says the last one again"


def test_a_chunk_that_ran_away_is_drawn_again_once_and_others_are_as_they_were() -> None:
    model = small()
    text = "it says this "

    def said(limits: list[bool]) -> tuple[np.ndarray, int]:
        drawn, draw = 0, SpeakLite._draw

        class Counted(SpeakLite):
            def _draw(self, state: dict[str, object], i: int, seed: int) -> None:
                nonlocal drawn
                drawn += 1
                draw(self, state, i, seed)
                if limits and limits.pop(0):
                    state["x"][i] *= 1e4  # type: ignore[index]

        one = Counted(model.net, model.voices, model.symbols.symbols)
        return join(list(talk(one, Said(text, voice="anna")))).data, drawn

    plain, chunks = said([])
    again, drawn = said([False, True])
    assert (
        drawn == chunks + 1 and len(again) == len(plain) and np.abs(again).max() < 2 * np.abs(plain).max() + 1
    )
    hop = model.hop
    assert np.array_equal(again[:hop], plain[:hop]) and not np.array_equal(again[hop:], plain[hop:])
    _, drawn = said([False, True, True])
    assert drawn == chunks + 1, "once"
