"""A published model streams: as the whole where one chunk holds it, in the decoder's own sound, however text comes."""

import asyncio
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from riverrun.media import Chunk, join
from riverrun.models.checking import check_stream
from riverrun.models.errors import InvalidRequest
from riverrun.models.recording import recorded, sound
from riverrun.models.speech.infill import Infill, Told
from riverrun.models.speech.longcat import LongCat
from riverrun.models.speech.synthesis import Prompt, Settings, synthesise
from riverrun.models.speech.talk import talk
from riverrun.models.speech.text import Tokens, tokenizer
from riverrun.models.state import load, save
from riverrun.streaming.engine import Engine

TEXT = "Hello there, world! It is a fine day to say some words, and then some more of them."
HOP = 2048


@pytest.fixture(scope="module")
def tokens(letters: Path) -> Tokens:
    return tokenizer(letters, 97)


@pytest.fixture(scope="module")
def model(longcat: LongCat, tokens: Tokens) -> Infill:
    return Infill(longcat, tokens)


@pytest.fixture(scope="module")
def voice() -> dict[str, Any]:
    made = np.random.default_rng(0).normal(0, 0.1, 9000).astype(np.float32)
    return {"recording": recorded(made), "transcript": "Ten letter"}


def said(model: Infill, request: Told, *more: Told) -> np.ndarray:
    return join(list(talk(model, request, more))).data[:, 0]


@pytest.mark.parametrize("cloned", [False, True])
def test_one_chunk_of_all_is_the_published_procedure(
    longcat: LongCat, tokens: Tokens, voice: dict[str, Any], cloned: bool
) -> None:
    whole = Infill(longcat, tokens, chunk=120, tail=60, past=0)
    prompt = Prompt(sound(voice["recording"]), voice["transcript"]) if cloned else None
    wanted = synthesise(longcat, tokens, TEXT, prompt, Settings(steps=4, seed=3))
    got = said(whole, Told(TEXT, steps=4, seed=3, mark=False, **(voice if cloned else {})))
    assert len(got) == len(wanted) and np.abs(got - wanted).max() < 1e-5


def test_chunks_are_decoded_as_the_whole_would_be(model: Infill, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, say = list[torch.Tensor](), Infill._say

    def noted(self: Infill, state: dict[str, Any]) -> Any:
        made = state["made"][0]
        outputs, after = say(self, state)
        if fresh := after["made"][0] - made:
            kept.append(after["past"][:, -fresh:])
        return outputs, after

    monkeypatch.setattr(Infill, "_say", noted)
    got = said(model, Told(TEXT, steps=2, mark=False))
    assert len(kept) > 3
    wanted = model.model.speak(torch.cat(kept, 1))[0].numpy()
    assert len(got) == len(wanted) and np.abs(got - wanted).max() < 1e-5


@pytest.mark.parametrize("cuts", [[1], [20, 21], [5, 30, 60], list(range(1, len(TEXT)))], ids=len)
def test_text_in_pieces_is_said_as_the_whole(model: Infill, cuts: list[int]) -> None:
    edges = [0, *cuts, len(TEXT)]
    parts = [TEXT[a:b] for a, b in zip(edges, edges[1:], strict=False)]
    pieces = [Told(part, end=i == len(parts) - 1, steps=2, seed=5) for i, part in enumerate(parts)]
    assert np.allclose(said(model, *pieces), said(model, Told(TEXT, steps=2, seed=5)), atol=1e-5)


def test_a_saved_session_says_the_rest_the_same(model: Infill, voice: dict[str, Any]) -> None:
    request = Told(TEXT, steps=3, **voice)
    state, out, count = model.open(request), list[Chunk](), 0
    while not out or not out[-1].last:
        count += 1
        state = load(save(state)) if count % 3 == 1 else state
        ((made, _),), state = model.step([None], state)
        out += [made] if made is not None else []
    assert np.array_equal(join(out).data[:, 0], said(model, request))


def test_what_is_flushed_is_said_before_more_comes(model: Infill) -> None:
    state, heard = model.open(Told("Hello there", end=False, flush=True, steps=2)), 0
    while model.key(state) is not None:
        ((made, _),), state = model.step([None], state)
        heard += 0 if made is None else len(made)
    assert heard >= 8 * HOP, "as long as the rule says that the words take"
    state = model.update(state, Told(" and so on", steps=2))
    out: list[Chunk] = []
    while not out or not out[-1].last:
        ((made, _),), state = model.step([None], state)
        out += [made] if made is not None else []
    assert out[0].pts == heard and out[-1].end > heard


def test_a_long_text_takes_no_more_memory_and_no_longer_clips(model: Infill, voice: dict[str, Any]) -> None:
    state, longest, most, out = model.open(Told((TEXT + " ") * 12, steps=2, **voice)), 0, 0, 0
    while True:
        ((made, _),), state = model.step([None], state)
        longest, most = max(longest, state["past"].shape[1]), max(most, state["x"].shape[1])
        out += 0 if made is None else len(made)
        if made is not None and made.last:
            break
    assert out / HOP > 12 * 60 and longest <= 100 and most < 120


def test_it_runs_at_an_engine(model: Infill) -> None:
    async def main(engine: Engine) -> np.ndarray:
        name, out = await engine.open("longcat", Told(TEXT, steps=2)), list[Chunk]()
        while chunks := await engine.poll(name):
            out += chunks
        return join(out).data[:, 0]

    with Engine() as engine:
        engine.add("longcat", model)
        assert np.array_equal(asyncio.run(main(engine)), said(model, Told(TEXT, steps=2)))


def test_it_keeps_what_every_stream_promises(model: Infill, voice: dict[str, Any]) -> None:
    short, said = "It is a fine day, and so we say some words.", partial(Told, steps=2, seed=5)
    first, second = (
        said("One two", end=False, flush=True),
        said(" three four", end=False, pause=0.5, flush=True),
    )
    third, nothing = said(pause=0.1, end=False), said("", end=False, flush=True)
    flushed = [first, second, nothing, third, said(" and five", speed=2.0)]
    pieces = [said(short[:10], end=False), said(short[10:30], end=False), said(short[30:])]
    report = check_stream(
        model, [Told(short, steps=2, **voice), Told("And", steps=3)], [[said(short)], pieces]
    )
    assert report.pieces == 0.0
    assert check_stream(model, [said("Hi all")], [flushed]).pieces == 0.0


def test_a_pause_is_silence_and_what_follows_comes_after_it(
    model: Infill, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "quiet", torch.zeros_like(model.quiet))
    plain = said(model, Told("Ten letters", steps=2, mark=False))
    more = Told("and ten more", steps=2)
    paused = said(model, Told("Ten letters", end=False, pause=3.0, steps=2, mark=False), more)
    assert len(paused) == len(plain) + round(3.0 * 24_000 / HOP) * HOP + 9 * HOP, "at 0.082 s a letter"
    nothing = model.model.speak(torch.zeros(1, 30, 8))[0, 10 * HOP : 12 * HOP].numpy()
    middle = len(plain) + 14 * HOP
    assert np.abs(paused[middle : middle + 2 * HOP] - nothing).max() < 1e-5
    flushed = said(model, Told("Ten letters", end=False, flush=True, steps=2, mark=False), more)
    assert len(flushed) == len(plain) + 19 * HOP, "with a pause between, which the decoder looks ahead into"
    over = said(model, Told("Ten letters", end=False, flush=True, steps=2, mark=False), Told("", steps=2))
    assert len(over) == len(plain), "and none where nothing follows"


def test_each_character_has_an_end_and_its_own_speed(model: Infill) -> None:
    state, told = model.open(Told("ab  cd", end=False, steps=2)), list[Chunk]()
    state = model.update(state, Told(" ef", end=False, pause=0.64, speed=2.0, steps=2))
    state = model.update(state, Told('"gh" ', steps=2))
    while not told or not told[-1].last:
        ((_, times),), state = model.step([None], state)
        told += [times] if times is not None else []
    frames = 0.082 * 24_000 / HOP
    a, b = (frames * i for i in (1, 2))
    words = [a, b, b, b, b + a / 2, b + b / 2, b + b / 2, b + b / 2 + a / 2, 2 * b]
    begun = int(2 * b) + 8
    ends = [*words, begun, *(begun + b * i / 4 for i in range(1, 5)), begun + b]
    assert np.allclose(join(told).data[:, 0], ends, atol=1e-4)


def test_nothing_to_say_is_an_empty_end_and_no_end_is_told(model: Infill) -> None:
    assert not len(said(model, Told(" ", steps=2)))
    with pytest.raises(InvalidRequest, match="no end"):
        said(model, Told("Hello", end=False))


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"steps": 1}, "steps is 1"),
        ({"steps": 101}, "steps is 101, expected 2 to 100"),
        ({"speed": 0.2}, "speed is 0.2, expected 0.25 to 4"),
        ({"pause": 31.0}, "pause is 31"),
        ({"voice": "anna"}, "knows none by name: give a recording and its transcript"),
        ({"transcript": "a"}, "expected both or none"),
        ({"recording": recorded(np.zeros(24_000 * 29, np.float32)), "transcript": "a"}, "no clip has room"),
    ],
    ids=str,
)
def test_what_cannot_be_said_is_refused(model: Infill, values: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidRequest, match=why):
        model.open(Told("Hello", **values))
