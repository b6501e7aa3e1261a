"""A whole clip of speech from text, and from a voice to continue: the published procedure, from end to end."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from riverrun.models.errors import InvalidRequest
from riverrun.models.guidance import Guidance
from riverrun.models.noise import noise_rows
from riverrun.models.speech import length
from riverrun.models.speech.longcat import LongCat
from riverrun.models.speech.sampling import begin, conditioned, sample
from riverrun.models.speech.text import Join, Tokens, joined, normalise
from riverrun.models.speech.vae import SILENCE

CLONED, FREE = Guidance("apg"), Guidance("cfg")  # what the publishers advise with a prompt, and without
PROMPT = -(2**40)  # ticks of the draws of a prompt's latents begin here, far from those of any clip


@dataclass(frozen=True)
class Prompt:
    """A voice to continue: mono samples at the model's rate, and what is said in them.

    Raises InvalidRequest if either is missing.
    """

    sound: NDArray[np.float32]  # [n]
    text: str

    def __post_init__(self) -> None:
        if self.sound.ndim != 1 or not len(self.sound):
            raise InvalidRequest(
                f"the prompt's sound is of shape {self.sound.shape}, expected mono samples [n]"
            )
        if not self.text.strip():
            raise InvalidRequest("the prompt has no transcript: continuing a voice needs what is said in it")


@dataclass(frozen=True)
class Settings:
    """How a clip is made. Fewer `steps` are faster; `speed` 1.1 gives a tenth less time to the same text.

    `guidance` None takes what the publishers advise: apg with a prompt, cfg without. `seconds` is the length of
    what is made, None for what the text is worth. `join` is that of `text.joined`.
    Raises InvalidRequest for fewer than 2 steps, or a speed or length that is not positive.
    """

    steps: int = 16
    guidance: Guidance | None = None
    seed: int = 0
    speed: float = 1.0
    seconds: float | None = None
    join: Join = "space"

    def __post_init__(self) -> None:
        if self.steps < 2:
            raise InvalidRequest(f"steps is {self.steps}, expected at least 2")
        for name, value in (("speed", self.speed), ("seconds", self.seconds)):
            if value is not None and not 0 < value < float("inf"):
                raise InvalidRequest(f"{name} is {value}, expected a positive number")


@torch.inference_mode()
def synthesise(
    model: LongCat,
    tokens: Tokens,
    text: str,
    prompt: Prompt | None = None,
    settings: Settings | None = None,
) -> NDArray[np.float32]:
    """Say a text, in the voice of a prompt or in one the seed picks; the prompt itself is not in what comes back.

    Shapes: `[n]`, whole latent frames. Units: the model's rate, 24 kHz as published.
    Raises InvalidRequest if there is nothing to say, or no room for it within the model's longest clip.
    """
    settings = settings or Settings()
    heard = 0 if prompt is None else model.vae.frames(len(prompt.sound))
    said = normalise(text)
    made = _frames(model, said, prompt, heard, settings)
    known = None if prompt is None else _listen(model, prompt, heard, settings.seed)
    if prompt is not None:
        said = joined(normalise(prompt.text), said, settings.join)
    ids, here = (v.to(model.device) for v in tokens([said]))
    clip = begin(_noise(model, settings.seed, -heard, heard + made), known)
    guidance = settings.guidance or (FREE if prompt is None else CLONED)
    velocity = conditioned(model.transformer, clip, model.text_encoder(ids, here), here, guidance)
    latents = sample(velocity, clip, guidance, settings.steps)
    sound: NDArray[np.float32] = model.speak(latents[:, heard:])[0].cpu().numpy()
    return sound


def _frames(model: LongCat, said: str, prompt: Prompt | None, heard: int, settings: Settings) -> int:
    """How many latent frames to make."""
    rate, hop, limit = model.config.vae.rate, model.config.vae.hop, model.config.limit
    room, spoken = length.frames(limit, rate, hop) - heard, heard * hop / rate
    if not said.strip():
        raise InvalidRequest("the text is empty, expected something to say")
    if room < 1:
        raise InvalidRequest(
            f"the prompt takes {spoken:.1f} s, and clips end at {limit:g} s: use a shorter one"
        )
    usual = (
        length.seconds(said, limit)
        if prompt is None
        else length.continued(said, normalise(prompt.text), spoken, limit)
    )
    wanted = usual / settings.speed if settings.seconds is None else settings.seconds
    return max(1, min(room, length.frames(wanted, rate, hop)))


def _listen(model: LongCat, prompt: Prompt, heard: int, seed: int) -> Tensor:
    eps = _noise(model, seed, PROMPT, heard + SILENCE)
    sound = torch.from_numpy(np.ascontiguousarray(prompt.sound, np.float32))
    return model.listen(sound[None].to(model.device), eps)


def _noise(model: LongCat, seed: int, first: int, count: int) -> Tensor:
    """Noise of so many latent frames; a frame's depends on the seed and its tick alone.  # [1, t, c]"""
    ticks = range(first, first + count)
    return noise_rows([seed] * count, ticks, (model.config.vae.width,))[None].to(model.device)
