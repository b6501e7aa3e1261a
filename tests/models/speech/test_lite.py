"""Speech comes chunk by chunk, the same however text comes and whoever is beside; a small one learns to speak."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from riverrun.media import Chunk, join
from riverrun.models.errors import InvalidRequest
from riverrun.models.recording import recorded
from riverrun.models.speech import lite
from riverrun.models.speech.chunks import ChunkConfig
from riverrun.models.speech.frames import FrameConfig
from riverrun.models.speech.lite import Said, SpeakLite, SpeakLiteNet
from riverrun.models.speech.talk import talk
from riverrun.models.state import leaves, load, save
from riverrun.models.training.chunks import Draws, Recipe, Utterance, checked, train
from riverrun.models.training.loop import Alone
from riverrun.streaming.engine import Engine, run

CHUNKS = ChunkConfig(12, 4, 16, 2, 2, 2.0, chunk=4, past=12, reads=1, hears=1, pool=2)
FRAMES = FrameConfig(4, 12, 2, (8, 1, 1), (8, 1, 1), noise=True)
ALPHABET = "abcdefghij "
TEXT = "cedgbi cfhbddja"


@pytest.fixture(scope="module")
def model() -> SpeakLite:
    torch.manual_seed(0)
    net = SpeakLiteNet(CHUNKS, FRAMES).eval().requires_grad_(False)
    for value in net.dit.parameters():
        value.add_(0.2 * torch.randn_like(value))
    net.dit.reader.time.bias.fill_(0.9)
    return SpeakLite(net, {"anna": torch.randn(9, 4), "ben": torch.randn(5, 4)}, ALPHABET)


def spoken(model: SpeakLite, request: Said, *more: Said) -> np.ndarray:
    return join(list(talk(model, request, more))).data


@pytest.mark.parametrize("cuts", [[1], [5], [14], [2, 3, 9], list(range(1, 15))], ids=str)
def test_text_in_pieces_is_said_as_the_whole(model: SpeakLite, cuts: list[int]) -> None:
    whole = spoken(model, Said(TEXT, voice="anna", seed=7))
    edges = [0, *cuts, len(TEXT)]
    parts = [TEXT[a:b] for a, b in zip(edges, edges[1:], strict=False)]
    said = [Said(part, end=i == len(parts) - 1, voice="anna", seed=7) for i, part in enumerate(parts)]
    assert np.allclose(spoken(model, *said), whole, atol=1e-5)
    assert len(whole) > 4 * model.hop and np.abs(whole).max() > 0


def test_the_end_may_be_told_later_and_alone(model: SpeakLite) -> None:
    whole = spoken(model, Said(TEXT, seed=7))
    late = spoken(model, Said(TEXT, end=False, seed=7), Said(end=True, seed=7))
    assert np.allclose(late, whole, atol=1e-5)


def test_a_text_of_any_length_takes_no_more_memory(model: SpeakLite) -> None:
    kept, state = list[int](), model.open(Said(end=False, steps=1))
    with torch.inference_mode():
        for i in range(20):
            state = model.update(state, Said(TEXT, end=i == 19))
            while model.key(state) is not None:
                ((made, _),), state = model.step([None], state)
                if made is not None and made.last:
                    break
            kept.append(len(state["symbols"][0]))
    assert state["frame"][0] > 500 and max(kept) < 2 * len(TEXT) + 2 * model.reach


def test_a_text_without_an_end_is_told(model: SpeakLite) -> None:
    with pytest.raises(InvalidRequest, match="no end"):
        spoken(model, Said(TEXT, end=False))


def test_nothing_to_say_is_an_empty_end(model: SpeakLite) -> None:
    assert spoken(model, Said()).shape == (0, 1)


def test_it_tells_when_each_symbol_ends(model: SpeakLite) -> None:
    with Engine() as engine:
        engine.add("lite", model)

        async def main() -> tuple[np.ndarray, np.ndarray]:
            name = await engine.open("lite", Said(TEXT, end=False, voice="anna"))
            await engine.update(name, Said(TEXT[:7]))
            sound, times = [], []
            while chunks := await engine.poll(name):
                sound += chunks
            while chunks := await engine.poll(name, 1):
                times += chunks
            return join(sound).data, join(times).data

        sound, times = asyncio.run(main())
    ends = times[:, 0] * model.net.vae.config.hop
    assert len(ends) == len(TEXT) + 7 and (np.diff(ends) >= 0).all()
    assert ends[-1] <= len(sound) < ends[-1] + model.net.vae.config.hop


def test_what_is_flushed_is_said_before_more_comes(model: SpeakLite) -> None:
    state, out = model.open(Said(TEXT, end=False)), list[Chunk]()
    state = model.update(state, Said(end=False, flush=True))

    def heard() -> int:
        nonlocal state
        with torch.inference_mode():
            while model.key(state) is not None:
                ((made, _),), state = model.step([None], state)
                out.extend([made] if made is not None else [])
        return sum(map(len, out))

    whole = len(spoken(model, Said(TEXT)))
    assert whole <= heard() <= whole + model.hop
    state = model.update(state, Said(TEXT, end=False, flush=True))
    assert abs(heard() - 2 * whole) <= 2 * model.hop


def test_a_pause_lasts_as_long_as_is_said_and_speed_is_of_what_comes_with_it(model: SpeakLite) -> None:
    hop, rate = model.net.vae.config.hop, 24_000
    plain, paused = spoken(model, Said(TEXT)), spoken(model, Said(TEXT, pause=0.5))
    assert abs(len(paused) - len(plain) - 0.5 * rate) <= hop
    both = spoken(model, Said(TEXT, end=False), Said(TEXT, speed=2.0))
    assert abs(len(both) / len(plain) - 1.5) < 0.1


def test_a_recording_is_heard_in_pieces_and_once(model: SpeakLite) -> None:
    sound = 0.1 * np.random.default_rng(0).standard_normal(24_000 * 12).astype(np.float32)
    request = Said(TEXT, recording=recorded(sound), steps=1)
    first = Speech(model)
    whole = first.all(request)
    assert first.count("listen") == 4
    again = Speech(model)
    assert np.array_equal(again.all(request), whole) and not again.count("listen")
    heard = np.round(sound[:240_000].clip(-1, 1) * 32767) / np.float32(32767)
    mean, _ = model.net.vae.hear(heard.astype(np.float32))
    assert torch.allclose(model.clones[again.state["voice"][0]], mean[0].T, atol=1e-4)


def test_a_session_takes_the_voice_out_of_its_recording_along(model: SpeakLite) -> None:
    sound = 0.1 * np.random.default_rng(1).standard_normal(24_000 * 4).astype(np.float32)
    request = Said(TEXT, recording=recorded(sound), steps=1)

    def elsewhere(state: Any) -> Any:
        model.clones.clear()
        model.heard.clear()
        return load(save(state))

    assert np.array_equal(Speech(model).all(request, elsewhere), Speech(model).all(request))


class Speech:
    """A session alone, and the phases of its steps."""

    def __init__(self, model: SpeakLite) -> None:
        self.model, self.keys, self.state = model, list[Any](), dict[str, Any]()

    @torch.inference_mode()
    def all(self, request: Said, between: Callable[[Any], Any] = lambda state: state) -> np.ndarray:
        self.state, out = self.model.open(request), list[Chunk]()
        while not out or not out[-1].last:
            self.keys.append(self.model.key(self.state))
            ((made, _),), self.state = self.model.step([None], self.state)
            out += [made] if made is not None else []
            if self.keys[-1][0] == "say":
                self.state = between(self.state)
        return join(out).data

    def count(self, phase: str) -> int:
        return sum(key[0] == phase for key in self.keys)


def test_seed_voice_and_speed_change_what_is_heard(model: SpeakLite) -> None:
    first = spoken(model, Said(TEXT, voice="anna", seed=7))
    assert np.array_equal(first, spoken(model, Said(TEXT, voice="anna", seed=7)))
    for other in (Said(TEXT, voice="ben", seed=7), Said(TEXT, seed=7), Said(TEXT, voice="anna", seed=8)):
        heard = spoken(model, other)
        count = min(len(first), len(heard))
        assert not np.allclose(heard[:count], first[:count], atol=1e-3)
    fast = spoken(model, Said(TEXT, voice="anna", seed=7, speed=2.0))
    assert abs(len(fast) / len(first) - 0.5) < 0.15


def test_sessions_share_steps_and_each_is_as_if_alone(model: SpeakLite) -> None:
    requests = [
        Said(TEXT, voice="anna", seed=1), Said(TEXT[:9], voice="ben", seed=2), Said(TEXT[4:], seed=3, speed=1.5),
        Said(TEXT, voice="anna", seed=4, steps=3),
    ]  # fmt: skip

    async def main(engine: Engine) -> list[np.ndarray]:
        names = [await engine.open("lite", request) for request in requests]

        async def heard(name: str) -> np.ndarray:
            out = []
            while chunks := await engine.poll(name):
                out += chunks
            return join(out).data

        return await asyncio.gather(*map(heard, names))

    with Engine() as engine:
        engine.add("lite", model)
        for request, got in zip(requests, asyncio.run(main(engine)), strict=True):
            assert np.allclose(got, spoken(model, request), atol=1e-4)


def test_a_saved_session_says_the_rest_the_same(model: SpeakLite) -> None:
    whole, state, out = spoken(model, Said(TEXT, seed=5)), model.open(Said(TEXT, seed=5)), []
    with torch.inference_mode():
        for i in range(1000):
            if i % 7 == 3:
                state = load(save(state))
            ((made, _),), state = model.step([None], state)
            out += [made] if made is not None else []
            if made is not None and made.last:
                break
    assert np.array_equal(join(out).data, whole)


def test_half_precision_is_nearly_the_same_and_its_sessions_go_on_in_either(
    model: SpeakLite, tmp_path: Path
) -> None:
    path = tmp_path / "lite.safetensors"
    lite.save(path, model.net, model.voices, ALPHABET)
    whole, half = spoken(model, Said(TEXT, seed=5)), lite.load(path, half=True)
    assert half.net.dit.dtype == torch.bfloat16
    assert 0 < np.linalg.norm(spoken(half, Said(TEXT, seed=5)) - whole) < 0.1 * np.linalg.norm(whole)
    state, out = half.open(Said(TEXT, seed=5)), list[Chunk]()
    with torch.inference_mode():
        while not (out and out[-1].last):
            ((made, _),), state = (half if len(out) < 2 else model).step([None], state)
            out += [made] if made is not None else []
            assert torch.bfloat16 not in {
                value.dtype for _, value in leaves(state) if isinstance(value, Tensor)
            }
    assert 0 < np.linalg.norm(join(out).data - whole) < 0.1 * np.linalg.norm(whole)


def test_run_speaks_in_this_thread(model: SpeakLite) -> None:
    out = join(list(run(model, Said(TEXT, seed=7))))
    assert out.rate == 24_000 and np.allclose(out.data, spoken(model, Said(TEXT, seed=7)), atol=1e-5)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"symbols": "cx"}, "'x' at 1 are no symbols of this alphabet"),
        ({"voice": "carl"}, "voice is 'carl', expected one of anna, ben"),
        ({"voice": "anna", "recording": "AAAA"}, "voice is 'anna' and there is a recording"),
        ({"recording": "a"}, "recording is no base64"),
        ({"recording": "AAAA"}, "recording has 1 samples, expected 24 or more"),
        ({"pause": 99.0}, "pause is 99.0, expected 0 to 30"),
        ({"speed": 9.0}, "speed is 9.0, expected 0.25 to 4"),
        ({"steps": 0}, "steps is 0, expected 1 to 64"),
    ],
)
def test_what_cannot_be_said_is_refused(model: SpeakLite, change: dict[str, object], why: str) -> None:
    with pytest.raises(InvalidRequest, match=why):
        model.open(replace(Said(TEXT), **change))  # type: ignore[arg-type]


def test_networks_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="4 and 3 channels"):
        SpeakLiteNet(CHUNKS, replace(FRAMES, width=3))


def utterances(count: int) -> list[Utterance]:
    """A language: each symbol is a pattern of its own for its own number of frames, each voice moves all of it."""
    torch.manual_seed(3)
    pattern, places = 1.5 * torch.randn(CHUNKS.symbols, 4), {"anna": 1.0, "ben": -1.0}
    clips = []
    for i in range(count):
        symbols = torch.randint(1, 5, (8,))
        durations = 1 + symbols % 4
        who = ("anna", "ben")[i % 2]
        mean = pattern[symbols].repeat_interleave(durations, 0) + places[who]
        clips.append(
            Utterance(
                torch.cat([mean, 0.05 * torch.ones_like(mean)], 1), symbols, durations.cumsum(0).float(), who
            )
        )
    return clips


def test_a_small_one_learns_a_language_and_whose_voice_it_is(tmp_path: Path) -> None:
    clips = utterances(64)
    net = SpeakLiteNet(replace(CHUNKS, width=32), FRAMES)
    recipe = Recipe(5, steps=250, frames=300, heard=12, rate=6e-3, ema=0.97, log_seconds=1e9)
    (row,) = train(net.dit, recipe, clips, tmp_path, Alone(torch.device("cpu")))
    assert row["step"] == 250
    voices = {clip.voice: clip.latents[:, :4] for clip in clips}
    model = SpeakLite(net, voices, ALPHABET)
    for clip in utterances(66)[64:]:
        made = latents(model, Said(model.symbols.decode(clip.symbols.tolist()), voice=clip.voice))
        count = min(len(made), len(clip.latents))
        assert abs(len(made) - len(clip.latents)) <= 2, "it knows how long each symbol takes"
        wanted = clip.latents[:count, :4]
        right = float((made[:count] - wanted).square().mean())
        wrong = float((made[:count] - wanted + 2 * (1 if clip.voice == "anna" else -1)).square().mean())
        assert right < 0.5 * float(wanted.var()) and right < wrong


def latents(model: SpeakLite, request: Said) -> Tensor:
    """What is decoded, without what fills the last chunk.  # [t, c]"""
    state, out, ends = model.open(request), list[Tensor](), list[float]()
    with torch.inference_mode():
        while True:
            if model.key(state) and model.key(state)[0] == "say":  # type: ignore[index]
                out.append(state["x"][0].clone())
            ((made, _),), state = model.step([None], state)
            if made is not None and made.last:
                ends = state["ends"][0]
                return torch.cat(out)[: round(ends[-1])]


def test_batches_are_of_similar_length_with_a_voice_of_the_same_person() -> None:
    clips, seen = utterances(20), 0
    for batch in Draws(clips, Recipe(frames=120, heard=9), torch.device("cpu")):
        lengths = batch.frames.sum(1)
        assert len(lengths) * batch.frames.shape[1] <= 120 or len(lengths) == 1
        assert torch.equal(batch.durations.sum(1), lengths.float())
        said = torch.where(batch.owner >= 0, batch.symbols.gather(1, batch.owner.clamp_min(0)), 0)
        assert torch.equal(said != 0, batch.frames)
        seen += 1
        if seen == 10:
            break


def test_clips_are_measured_with_the_same_noise_and_each_once() -> None:
    clips, dit, cpu = utterances(20), SpeakLiteNet(CHUNKS, FRAMES).dit, torch.device("cpu")
    recipe = Recipe(frames=120, heard=9, guidance=0.5)
    batches = list(Draws(clips, recipe, cpu).all())
    assert len(batches) > 1 and sum(len(batch.latents) for batch in batches) == 20
    state = torch.get_rng_state()
    first, again = (checked(dit, recipe, clips, cpu) for _ in range(2))
    assert first == again and first["heldout_flow"] > 0 < first["heldout_timing"]
    assert torch.equal(torch.get_rng_state(), state)


def test_guidance_that_never_ends_is_refused() -> None:
    with pytest.raises(ValueError, match="guidance is 1, expected 0 or more, and less than 1"):
        Recipe(guidance=1)
