"""Recordings of LongCat-AudioDiT beside what these modules compute: every activation, velocity and waveform."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from riverrun.models.checkpoint import on_meta, read
from riverrun.models.errors import CheckpointError
from riverrun.models.guidance import Guidance, apg
from riverrun.models.layers.attention import rope
from riverrun.models.parity import Pair
from riverrun.models.speech.dit import Dit
from riverrun.models.speech.longcat import LongCat, load
from riverrun.models.speech.sampling import Clip, advance, begin, conditioned, grid

Tensors = dict[str, Tensor]
RENAMED = {"adaln_global_mlp": "adaln_global", "text_conv_layer.3": "text_conv"}


def recorded(folder: Path) -> Iterator[Pair]:
    """Every tensor in outputs.safetensors of a folder, with ours.

    Raises CheckpointError for missing files, inputs, or recorded tensors that nothing here computes.
    """
    model = load(folder / "weights.safetensors")
    given, theirs = (read(folder / f"{name}.safetensors")[1] for name in ("inputs", "outputs"))
    try:
        cases = json.loads((folder / "meta.json").read_bytes())["sampling_cases"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{folder / 'meta.json'} lists no sampling cases: {error!r}") from error
    parts: dict[str, Callable[[], Tensors]] = {
        "vae.": lambda: _vae(model, given),
        "text.": lambda: _text(model, given),
        "dit.": lambda: _dit(model, given),
        "apg.": lambda: _apg(given),
        **{f"sample.{name}.": partial(_sampling, model, given, name, case) for name, case in cases.items()},
    }
    left = set(theirs)
    for prefix, part in parts.items():
        names = [name for name in theirs if name.startswith(prefix)]
        try:
            ours = part() if names else {}
            valid = given["text.attention_mask"].bool() if prefix == "text." else ...
        except (KeyError, TypeError) as error:
            raise CheckpointError(f"{folder}: the recording lacks {error}") from error
        except ValueError as error:
            raise CheckpointError(f"{folder}: {error}") from error
        for name in names:
            if name in ours:
                left.discard(name)
                yield Pair(name, ours[name][valid], theirs[name][valid])
    if left:
        raise CheckpointError(f"{folder}: no code here computes {', '.join(sorted(left)[:5])}")


def _vae(model: LongCat, given: Tensors) -> Tensors:
    vae, sound = model.vae, given["vae.wav"]
    latent = vae.encode(sound, given["vae.eps"])
    return {
        "vae.encoder_out": vae.encoder(sound),
        "vae.latent": latent,
        "vae.decoded": vae.decode(latent)[0],
        "vae.long_decoded": vae.decode(given["vae.long_latent"])[0],
    }


def _text(model: LongCat, given: Tensors) -> Tensors:
    ids, tokens = given["text.input_ids"], given["text.attention_mask"].bool()
    words, last = model.text_encoder.layers(ids, tokens)
    features = model.text_encoder(ids, tokens)
    return {"text.hidden0": words, "text.last_hidden": last, "text.embedding": features}


def _dit(model: LongCat, given: Tensors) -> Tensors:
    """One forward pass with all activations, texts of different lengths leaking into each other as published."""
    dit, x = model.transformer, given["dit.x"]
    text, tokens = _text(model, given)["text.embedding"], given["text.attention_mask"].bool()
    frames = torch.arange(x.shape[1]) < given["dit.audio_len"][:, None]

    def velocity(dit: Dit) -> Tensor:
        told = dit.read(text, tokens, leak=True)
        y: Tensor = dit(x, given["dit.time"], given["dit.latent_cond"], told, frames)
        return y

    with watched(dit) as seen:
        whole = velocity(dit)
    acts = {f"dit.act.{RENAMED.get(name, name.replace('blocks.', 'block'))}": y for name, y in seen.items()}
    cos, sin = rope(x.shape[1], dit.config.width // dit.config.heads, x.device)
    if (at := f"blocks.{(dit.config.skip or 0) - 1}") in seen:
        acts["dit.repa_hidden"] = seen[at]
    bare = velocity(without_skip(dit))
    velocities = {"dit.velocity": whole, "dit.velocity_without_midskip": bare}
    return acts | velocities | {"dit.rope_cos": cos, "dit.rope_sin": sin}


@contextmanager
def watched(module: nn.Module) -> Iterator[Tensors]:
    """What each module inside puts out, by name; of several calls the last."""
    seen: Tensors = {}

    def keep(name: str) -> Any:
        return lambda module, inputs, output: seen.__setitem__(name, output)

    hooks = [part.register_forward_hook(keep(name)) for name, part in module.named_modules() if name]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def without_skip(dit: Dit) -> Dit:
    """The same weights without the first block's input added inside."""
    bare = on_meta(lambda: Dit(replace(dit.config, skip=None)))
    bare.load_state_dict(dit.state_dict(), assign=True)
    assert isinstance(bare, Dit)
    return bare.requires_grad_(False)


def _apg(given: Tensors) -> Tensors:
    before, made = torch.zeros(()), Tensors()
    for i in range(sum(name.startswith("apg.cond") for name in given)):
        clean, without = given[f"apg.cond{i}"], given[f"apg.uncond{i}"]
        made[f"apg.out{i}"], before = apg(clean, without, before, Guidance("apg"))
    return made


def _sampling(model: LongCat, given: Tensors, name: str, case: dict[str, Any]) -> Tensors:
    """One run of the sampler: the times, every velocity and state, the latents and the sound."""
    prefix, known, heard = f"sample.{name}.", None, 0
    noise = given[f"{prefix}y0"]
    text, tokens = _text(model, given)["text.embedding"], given["text.attention_mask"].bool()
    if case["prompt"]:
        eps = rearrange(given[f"{prefix}prompt_eps"], "b c t -> b t c")
        known = model.listen(rearrange(given[case["prompt"]], "b 1 n -> b n"), eps)
        heard = known.shape[1]
    clip, guidance = begin(noise, known), Guidance(case["guidance_method"], case["cfg_strength"])
    rows = slice(case["batch"])
    velocity = conditioned(model.transformer, clip, text[rows], tokens[rows], guidance, leak=True)
    x, state, states, slopes = noise, guidance.start(noise), list[Tensor](), []
    for time, until in pairwise(times := grid(case["steps"])):
        left = _left(clip, x, time, guidance)
        x, slope, state = advance(velocity, clip, x, time, until, state)
        if states:
            states[-1] = left
        states.append(left + (until - time) * slope)
        slopes.append(slope)
    latents = x[:, heard:]
    found = {
        "t": torch.tensor(times), "v": torch.stack(slopes), "states": torch.stack(states),
        "latent": rearrange(latents, "b t c -> b c t"), "waveform": model.speak(latents),
        "n_prompt_frames": torch.tensor(heard),
    }  # fmt: skip
    return {prefix + k: v for k, v in found.items()}


def _left(clip: Clip, x: Tensor, time: float, guidance: Guidance) -> Tensor:
    """What is recorded as the state: the published sampler writes into it for each branch, the last one zeros."""
    held = clip.hold(x, time)
    return held if guidance.idle else held * clip.free[..., None]
