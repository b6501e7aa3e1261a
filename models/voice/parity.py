"""Recordings of X-VC beside what these modules compute: every module, the whole chain, and streams by windows."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from riverrun.models.checkpoint import build, fill, on_meta, read
from riverrun.models.errors import CheckpointError
from riverrun.models.parity import Pair
from riverrun.models.voice.features import banks, highpass, level, log_mel, prepare, whole
from riverrun.models.voice.speaker import SpeakerPredictor
from riverrun.models.voice.vocos import Vocos, VocosConfig
from riverrun.models.voice.windows import Windows, by_windows, convert
from riverrun.models.voice.xvc import VOCOS, XVc, assemble, parse

Tensors = dict[str, Tensor]
SILENCE = 38_400  # samples after a recording, as in training


@dataclass(frozen=True)
class Reference:
    """A folder's networks, with the heads of training and the variant that was never published, and its streams."""

    net: XVc
    semantic_decoder: Vocos
    speaker_predictor: SpeakerPredictor
    cond_backbone_optional: Vocos
    windows: dict[str, Windows]
    recording: Tensor  # [1, n], whose voice the streams have

    def sound(self, given: Tensors) -> Tensor:
        return rearrange(given["wav"], "b 1 n -> b n")


def recorded(folder: Path) -> Iterator[Pair]:
    """Every tensor in io.safetensors of a folder that is no input, with ours.

    Raises CheckpointError for missing files, inputs, or recorded tensors that nothing here computes.
    """
    held = read(folder / "io.safetensors")[1]
    reference = _read(folder, held)
    left = {name for name in held if name.split(".")[1] != "in"}
    for case in dict.fromkeys(name.split(".")[0] for name in sorted(left)):
        kind = next((k for k in sorted(CASES, reverse=True) if case.startswith(k)), "")
        inputs = f"{case}.in."
        given = {name.removeprefix(inputs): v for name, v in held.items() if name.startswith(inputs)}
        try:
            ours = CASES[kind](reference, given, case) if kind else {}
        except KeyError as error:
            raise CheckpointError(f"{folder}: the recording of {case} lacks {error}") from error
        except ValueError as error:
            raise CheckpointError(f"{folder}: {case}: {error}") from error
        for name, value in ours.items():
            if (recorded := f"{case}.{name}") in left:
                left.discard(recorded)
                yield Pair(recorded, value, held[recorded])
    if left:
        raise CheckpointError(f"{folder}: no code here computes {', '.join(sorted(left)[:5])}")


def _read(folder: Path, held: Tensors) -> Reference:
    path = folder / "weights.safetensors"
    config, tensors = parse(folder / "config.json"), read(path)[1]
    try:
        told = json.loads((folder / "config.json").read_bytes())
        streams = {s["name"]: Windows(*(s[f"{k}_ms"] for k in ("chunk", "current", "future", "smooth")))
                   for s in told["streams"]}  # fmt: skip
        predictor = [told["speaker_predictor"][k] for k in ("input_dim", "output_dim", "hidden_dim")]
        shapes = {
            name: {ours: told[name][theirs] for ours, theirs in VOCOS.items() if theirs in told[name]}
            for name in ("semantic_decoder", "cond_backbone_optional")
        }
        recording = held["offline_chain.in.reference"]
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{folder} is not a recording of an X-VC: {error!r}") from error

    def head(name: str, make: Callable[[], nn.Module]) -> Any:
        module = on_meta(make)
        fill(
            module,
            {k.removeprefix(f"{name}."): v for k, v in tensors.items() if k.startswith(f"{name}.")},
            path,
        )
        return module.eval()

    heads = {name: head(name, lambda name=name: Vocos(build(VocosConfig, shapes[name]))) for name in shapes}  # type: ignore[misc]
    plain = {k: v for k, v in tensors.items() if not k.startswith("cond_backbone_optional.")}
    return Reference(
        net=assemble(config, plain, path),
        speaker_predictor=head("speaker_predictor", lambda: SpeakerPredictor(*predictor)),
        windows=streams,
        recording=rearrange(recording, "1 1 n -> 1 n"),
        **heads,
    )


# The cases: what each module makes of its inputs, by the names they were recorded with


def _prepared(reference: Reference, given: Tensors, case: str) -> Tensors:
    sound = given["wav64"].numpy()
    made = {
        "mid.volnorm64": level(sound),
        "mid.highpass64": highpass(level(sound)),
        "out.wav": prepare(sound),
    }
    return {name: torch.from_numpy(value) for name, value in made.items()}


def _mel(reference: Reference, given: Tensors, case: str) -> Tensors:
    mel, sound = reference.net.mel_extractor, reference.sound(given)
    return {"out.mel": mel(sound), "out.mel_zero_tail": mel(F.pad(sound, (0, SILENCE)))}


def _banks(reference: Reference, given: Tensors, case: str) -> Tensors:
    return {"out.fbank": banks(reference.sound(given), reference.net.config.speaker.banks)[0]}


def _speaker(reference: Reference, given: Tensors, case: str) -> Tensors:
    net = reference.net.speaker_encoder
    return {"out.emb": net(given["fbank"]), "out.fused": net.fused(given["fbank"])}


def _encoder(reference: Reference, given: Tensors, case: str) -> Tensors:
    return {"out.z": reference.net.acoustic_encoder(given["wav"])}


def _quantizer(reference: Reference, given: Tensors, case: str) -> Tensors:
    net, z = reference.net.acoustic_quantizer, given["z"]
    codes = net.encode(z)
    distances = rearrange(net.distances(z), "b t n -> (b t) n")
    return {
        "mid.z_e": net.in_project(z),
        "mid.dist": distances,
        "out.indices": codes,
        "out.zq": net.decode(codes),
    }


def _tokens(reference: Reference, given: Tensors, case: str) -> Tensors:
    net, sound = reference.net.semantic_encoder, reference.sound(given)
    mel = log_mel(whole(sound))
    hidden = net.hidden(mel, sound.shape[1])
    tokens = net.nearest(hidden)
    valid = torch.arange(mel.shape[2]) * 160 < sound.shape[1]
    return {
        "mid.log_mel": mel,
        "mid.attention_mask": valid.long().expand(len(mel), -1),
        "mid.last_layer": hidden,
        "out.tokens": tokens,
        "out.hidden50": rearrange(hidden, "b t d -> b d t"),
        "out.last_hidden": net.embed(tokens) + net.embed_positions2.weight[: tokens.shape[1]],
    }


def _embedded(reference: Reference, given: Tensors, case: str) -> Tensors:
    return {"out.emb": reference.net.semantic_encoder.embed(given["tokens"])}


def _converter(reference: Reference, given: Tensors, case: str) -> Tensors:
    net, x, mel = reference.net.acoustic_converter, given["x"], given["frame"]
    told = net.read(mel, given["speaker"])
    embedded, block = net.input_embed(x), net.transformer_blocks[0]
    first = block(embedded, told["c"], told["gates"][:, 0], net.rotary_embed)
    return {
        "mid.x_embed": embedded,
        "mid.c_embed": told["c"],
        "mid.block0_x": first[0],
        "mid.block0_c": first[1],
        "out.y": net(x, told),
    }


def _decoder(reference: Reference, given: Tensors, case: str) -> Tensors:
    return {"out.wav": reference.net.acoustic_decoder(given["x"])}


def _chain(reference: Reference, given: Tensors, case: str) -> Tensors:
    net, (source, recording) = reference.net, (given[k][:, 0] for k in ("source", "reference"))
    made = convert(net, source[0], net.hear(recording))
    speaker = net.speaker_encoder(banks(recording, net.config.speaker.banks))
    return {"mid.speaker": speaker, "mid.frame": net.mel_extractor(recording), "out.wav": made[None, None]}


def _stream(reference: Reference, given: Tensors, case: str) -> Tensors:
    net = reference.net
    made = by_windows(net, given["source"][0, 0], net.hear(reference.recording), reference.windows[case])
    return {"out.wav": made[None, None]}


CASES: dict[str, Callable[[Reference, Tensors, str], Tensors]] = {
    "pre_": _prepared,
    "mel": _mel,
    "fbank": _banks,
    "eres2net": _speaker,
    "acoustic_encoder": _encoder,
    "fvq": _quantizer,
    "semantic": _tokens,
    "semantic_embed": _embedded,
    "semantic_adapter": lambda reference, given, case: {"out.y": reference.net.semantic_adapter(given["x"])},
    "semantic_decoder": lambda reference, given, case: {"out.y": reference.semantic_decoder(given["x"])},
    "speaker_predictor": lambda reference, given, case: {"out.y": reference.speaker_predictor(given["x"])},
    "prenet": lambda reference, given, case: {"out.y": reference.net.prenet(given["x"])},
    "cond_backbone": lambda reference, given, case: {
        "out.y": reference.cond_backbone_optional(given["x"], given["c"])
    },
    "converter": _converter,
    "wave_decoder": _decoder,
    "offline_chain": _chain,
    "stream": _stream,
}
