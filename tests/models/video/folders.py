"""A tiny Open-Sora 1.2 of random weights in a folder, laid out as published."""

import json
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import save_file

from riverrun.models.video import clips
from riverrun.models.video.published import LATER, load_vae
from riverrun.models.video.vae import VideoVae
from tests.models.video.small import SMALL as TRANSFORMER
from tests.models.video.small import small, stirred
from tests.models.video.test_text import tokenizer
from tests.models.video.test_vae import SMALL as AUTOENCODER


def write(folder: Path) -> Path:
    """Make one in a folder that is there."""
    from transformers import T5Config, T5EncoderModel

    for name in clips.PARTS:
        (folder / name).mkdir()
    config = {LATER[ours]: getattr(TRANSFORMER, ours) for ours in LATER}
    (folder / "transformer" / "config.json").write_text(json.dumps(config))
    save_file(small().state_dict(), folder / "transformer" / "model.safetensors")
    save_file(stirred(VideoVae(AUTOENCODER)).state_dict(), folder / "vae" / "model.safetensors")
    text = folder / "text_encoder"
    tokenizer(text, ["<pad>", "</s>", "<unk>", "a", "calm", "sea", "storm"], "</s>")
    shape = T5Config(vocab_size=7, d_model=TRANSFORMER.text, d_kv=6, d_ff=16, num_layers=1, num_heads=2)
    torch.manual_seed(0)
    T5EncoderModel(shape).save_pretrained(str(text))
    return folder


def readable(monkeypatch: pytest.MonkeyPatch, *others: ModuleType) -> None:
    """Have its autoencoder, whose shape no file tells, loaded by clips and others as the tiny one that it is."""
    for module in (clips, *others):
        monkeypatch.setattr(module, "load_vae", partial(load_vae, shape=AUTOENCODER))
