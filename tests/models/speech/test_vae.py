"""The waveform autoencoder computes what the published one does, and streams where it is causal."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

from riverrun.models.checkpoint import fill, on_meta, save
from riverrun.models.errors import CheckpointError
from riverrun.models.evaluation.metrics import repetition
from riverrun.models.layers.spectra import overlapped, spectra
from riverrun.models.speech.frames import FrameConfig, FrameDecoder
from riverrun.models.speech.vae import KIND, SILENCE, WaveConfig, WaveVae, load
from riverrun.models.speech.wave import fold

LONGCAT = Path(__file__).parent / "longcat"
FRAMES = 11
SMALL = WaveConfig(4, (2, 4, 8), (2, 4, 6), 4, 0.5, causal=True)
SPECTRAL = FrameConfig(4, 12, 4, (8, 1, 1), (8, 2, 1), 0.5)
NOISY = replace(SPECTRAL, noise=True)
HISS = replace(NOISY, noise_from=6000.0)
causal = pytest.mark.parametrize("config", [SMALL, SPECTRAL, NOISY, HISS])


@pytest.fixture(scope="module")
def recorded() -> dict[str, Tensor]:
    """Weights, inputs and outputs of the reference implementation, tiny and random."""
    files = {name: load_file(LONGCAT / f"{name}.safetensors") for name in ("weights", "inputs", "outputs")}
    return {f"{name}/{key}": value for name, held in files.items() for key, value in held.items()}


@pytest.fixture(scope="module")
def published(recorded: dict[str, Tensor]) -> WaveVae:
    told = json.loads((LONGCAT / "config.json").read_text())["vae_config"]
    shape = told["channels"], tuple(told["c_mults"]), tuple(told["strides"])
    model = WaveVae(WaveConfig(*shape, told["latent_dim"], told["scale"]))
    prefix = "weights/vae."
    weights = {k.removeprefix(prefix): v for k, v in recorded.items() if k.startswith(prefix)}
    fill(model, weights, LONGCAT / "weights.safetensors")
    return model.requires_grad_(False)


def close(found: Tensor, wanted: Tensor) -> bool:
    return float((found - wanted).abs().max() / wanted.abs().max().clamp_min(1)) < 1e-5


def test_encoding_is_as_published(published: WaveVae, recorded: dict[str, Tensor]) -> None:
    sound = recorded["inputs/vae.wav"]
    assert close(published.encoder(sound), recorded["outputs/vae.encoder_out"])
    assert close(published.encode(sound, recorded["inputs/vae.eps"]), recorded["outputs/vae.latent"])


@pytest.mark.parametrize("folded", [False, True])
def test_decoding_is_as_published(published: WaveVae, recorded: dict[str, Tensor], folded: bool) -> None:
    if folded:
        fold(published)
    assert close(published.decode(recorded["outputs/vae.latent"])[0], recorded["outputs/vae.decoded"])
    assert close(
        published.decode(recorded["inputs/vae.long_latent"])[0], recorded["outputs/vae.long_decoded"]
    )


def test_the_published_shape_has_its_parameters() -> None:
    model = on_meta(lambda: WaveVae(WaveConfig()))
    assert isinstance(model, WaveVae)
    sizes = [sum(p.numel() for p in part.parameters()) for part in (model.encoder, model.decoder)]
    assert sizes == [77_984_896, 78_121_729]
    assert model.config.hop == 2048 and len(model.state_dict()) == 363


@causal
@settings(max_examples=20)
@given(at=st.lists(st.integers(1, FRAMES - 1), max_size=6, unique=True).map(sorted))
def test_a_causal_decoder_does_not_care_how_it_is_cut(
    config: WaveConfig | FrameConfig, at: list[int]
) -> None:
    model, latents = WaveVae(config).double(), torch.randn(2, 4, FRAMES, dtype=torch.double)
    whole, _ = model.decode(latents)
    state, parts = model.start(2), []
    for part in latents.tensor_split(at, dim=2):
        sound, state = model.decode(part, state)
        parts.append(sound)
    assert whole.shape == (2, 1, FRAMES * config.hop)
    assert torch.allclose(torch.cat(parts, 2), whole, rtol=1e-9, atol=1e-12)


@causal
def test_a_causal_decoder_looks_at_no_later_frame(config: WaveConfig | FrameConfig) -> None:
    model = WaveVae(config)
    latents = torch.randn(1, 4, FRAMES, requires_grad=True)
    sound, _ = model.decode(latents)
    (slope,) = torch.autograd.grad(sound[..., 5 * config.hop : 6 * config.hop].square().sum(), latents)
    assert slope.abs().sum(1)[0].nonzero().flatten().max() == 5


@causal
def test_a_prompt_of_any_length_ends_in_silence_not_at_an_edge(config: WaveConfig | FrameConfig) -> None:
    model = WaveVae(config)
    sound = torch.randn(1, 1, 3 * config.hop - 7)
    eps = torch.zeros(1, 4, 3 + SILENCE)
    longer = torch.nn.functional.pad(sound, (0, 7 + SILENCE * config.hop))
    assert model.frames(sound.shape[2]) == 3
    assert torch.equal(model.prompt(sound, eps), model.encode(longer, eps)[..., :3])


def test_a_small_one_is_what_it_was_after_saving(tmp_path: Path) -> None:
    model, path = WaveVae(SPECTRAL), tmp_path / "small.safetensors"
    save(path, model, KIND, SPECTRAL)
    again, latents = load(path), torch.randn(1, 4, FRAMES)
    assert again.config == SPECTRAL and torch.equal(again.decode(latents)[0], model.decode(latents)[0])
    save(path, model, "restoration", SPECTRAL)
    with pytest.raises(CheckpointError, match="restoration"):
        load(path)


def test_noise_is_the_seeds_and_never_the_same_twice() -> None:
    model, latents = WaveVae(NOISY), torch.zeros(2, 4, 200)
    decoder = model.decoder
    assert isinstance(decoder, FrameDecoder)
    torch.nn.init.zeros_(decoder.last.weight)
    torch.nn.init.constant_(decoder.last.bias[: NOISY.bins], -20.0)  # nothing but noise
    torch.nn.init.constant_(decoder.last.bias[2 * NOISY.bins :], 0.0)
    state = model.start(2)
    state["seed"] = [3, 4]
    sound = model.decode(latents, state)[0][:, 0].detach()
    assert not torch.allclose(sound[0], sound[1], atol=0.1)
    assert 0.8 < float(sound.std()) < 1.2, "as large as it says"
    for period in (NOISY.step, NOISY.hop):
        assert abs(repetition(sound[0].numpy(), NOISY.rate, period)) < 0.1
    still = WaveVae(SPECTRAL).decode(latents)[0][0, 0].detach().numpy()
    assert repetition(still[len(still) // 2 :], SPECTRAL.rate, SPECTRAL.hop) > 0.99


def test_noise_that_begins_somewhere_leaves_all_below_alone() -> None:
    model, latents = WaveVae(HISS), torch.randn(1, 4, 200).expand(2, -1, -1)
    assert isinstance(model.decoder, FrameDecoder)
    torch.nn.init.constant_(model.decoder.last.bias[2 * HISS.bins :], 0.0)
    state = model.start(2)
    state["seed"] = [3, 4]
    one, other = model.decode(latents, state)[0][:, 0].detach()
    power = torch.fft.rfft(one - other).abs().square()
    first = round(len(power) * 2 * (6000 - 500) / HISS.rate)  # 500 Hz, as spectra are short
    assert power[first:].sum() > 100 * power[:first].sum() and (one - other).std() > 0.3
    assert sum(p.numel() for p in model.parameters()) < sum(p.numel() for p in WaveVae(NOISY).parameters())
    for hertz in (-1.0, 12_000.0):
        with pytest.raises(
            ValueError, match=f"noise is from {hertz} Hz on, expected 0 or more and below 12000"
        ):
            replace(HISS, noise_from=hertz)


def test_spectra_give_back_the_sound_they_are_of() -> None:
    decoder = FrameDecoder(SPECTRAL).double()
    sound = torch.randn(2, 240, dtype=torch.double)
    again, _ = overlapped(spectra(sound, SPECTRAL.step), decoder.start(2)["tail"])
    whole = slice(SPECTRAL.size - SPECTRAL.step, None)  # before it, earlier spectra are missing
    assert torch.allclose(again[:, whole], sound[:, whole])


@pytest.mark.parametrize("wrong", [{"multipliers": (2, 4)}, {"strides": (2, 3, 5)}, {"width": 5}])
def test_a_shape_whose_shortcuts_do_not_divide_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="multipliers|stride|divide"):
        WaveConfig(**{"channels": 4, "multipliers": (2, 4, 8), "strides": (2, 4, 6), "width": 4, **wrong})  # type: ignore[arg-type]
