"""Of several candidates for a line the one is kept that a judge likes best; the built-in one hears what is said."""

from pathlib import Path

import numpy as np

from riverrun.media import join, read
from riverrun.models.speech.choice import Aligned, best
from riverrun.models.speech.lite import Said
from tests.models.speech.small import small

LINES = [Said(" one line "), Said("", pause=0.2), Said(" and two ")]
SAMPLE = Path(__file__).parents[3] / "assets" / "sample-clean.flac"


def heard(count: int, loud: bool = True) -> tuple[np.ndarray, list[float]]:
    """What is said by the loudest, or the quietest, of so many, and how loud each candidate was."""
    marks = list[float]()

    def judge(sound: np.ndarray, symbols: str) -> float:
        marks.append(float(np.abs(sound).mean()))
        return marks[-1] if loud else -marks[-1]

    made = list(best(small(), Said(voice="anna", seed=3, steps=2), LINES, count, judge))
    assert made[-1].last and [chunk.pts for chunk in made[1:]] == [chunk.end for chunk in made[:-1]]
    return join(made).data[:, 0], marks


def test_each_line_is_the_best_of_its_candidates() -> None:
    one, _ = heard(1)
    loud, marks = heard(4)
    quiet, _ = heard(4, loud=False)
    assert len(marks) == 12 and len(set(marks[:4])) == 4
    assert len(one) == len(loud) == len(quiet)
    assert np.abs(quiet).mean() < np.abs(loud).mean()


def test_the_first_candidate_is_what_is_said_without_a_choice() -> None:
    once, _ = heard(1)
    first = list(best(small(), Said(voice="anna", seed=3, steps=2), LINES, 3, lambda sound, symbols: 0.0))
    assert np.allclose(join(first).data[:, 0], once, atol=1e-4)


def test_the_aligner_likes_what_is_said_better_than_noise_and_another_text() -> None:
    judge = Aligned()
    sound, rate = read(SAMPLE)
    speech = np.interp(np.arange(0, len(sound), rate / 24_000), np.arange(len(sound)), sound[:, 0]).astype(
        np.float32
    )
    noise = 0.1 * np.random.default_rng(0).standard_normal(len(speech)).astype(np.float32)
    symbols = "ðə kwˈɪk bɹˈWn fˈɑks"
    assert judge(noise[:24_000], symbols) < 0.2
    assert judge(speech[:100], symbols) == 0 and judge(speech, "ˈ") == 0
