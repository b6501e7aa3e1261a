"""Prompts are read by the text encoders a user has; padding, cutting, precision, and what is missing."""

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from riverrun.models import CheckpointError, ModelError
from riverrun.models.video.text import Read, Remembering, load_clip, load_t5, once


def tokenizer(folder: Path, known: list[str], end: str) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(known)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [(end, known.index(end))]
    words.post_processor = processors.TemplateProcessing(single=f"$A {end}", special_tokens=ends)
    made = PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token=end, unk_token="<unk>"
    )
    made.save_pretrained(str(folder))


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import T5Config, T5EncoderModel

    folder = tmp_path_factory.mktemp("t5")
    tokenizer(folder, ["<pad>", "</s>", "<unk>", "a", "calm", "sea"], "</s>")
    torch.manual_seed(0)
    shape = T5Config(
        vocab_size=6, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2, feed_forward_proj="gated-gelu"
    )
    T5EncoderModel(shape).save_pretrained(str(folder))
    return folder


def test_a_prompt_is_padded_and_padding_is_not_read(t5: Path) -> None:
    long, short = load_t5(t5, 8, dtype="float32"), load_t5(t5, 4, dtype="float32")
    told = long.read(["a calm sea", "sea"])
    assert told.features.shape == (2, 8, 16) and told.mask.sum(1).tolist() == [4, 2]
    torch.testing.assert_close(
        short.read(["a calm sea"]).features[0], told.features[0, :4], atol=1e-5, rtol=0
    )
    padded = long.read(["sea"], padded=True)
    assert (padded.features[0] - told.features[1]).abs().max() > 1e-3
    assert load_t5(t5, 2).read(["a calm sea"]).features.shape == (1, 2, 16)


def test_prompts_are_read_in_half_precision_and_the_encoder_is_let_go(t5: Path) -> None:
    told = once(t5, ["a calm sea"], 8)
    assert told.features.dtype == torch.bfloat16 and not told.features.requires_grad
    full = load_t5(t5, 8, dtype="float32").read(["a calm sea"]).features
    assert (told.features - full)[:, :4].norm() < 0.05 * full[:, :4].norm()


def test_clip_says_what_a_prompt_is_as_a_whole(tmp_path: Path) -> None:
    from transformers import CLIPTextConfig, CLIPTextModel

    tokenizer(tmp_path, ["<pad>", "<unk>", "a", "calm", "sea", "</s>"], "</s>")
    torch.manual_seed(0)
    shape = CLIPTextConfig(
        vocab_size=6, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        eos_token_id=5, pad_token_id=0, bos_token_id=2,
    )  # fmt: skip
    CLIPTextModel(shape).save_pretrained(str(tmp_path))
    clip = load_clip(tmp_path, dtype="float32")
    pooled = clip.read(["a calm sea", "sea"])
    assert pooled.shape == (2, 16)
    torch.testing.assert_close(clip.read(["sea"])[0], pooled[1], atol=1e-5, rtol=0)
    assert (pooled[0] - pooled[1]).abs().max() > 1e-3


def test_what_is_missing_is_named(t5: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CheckpointError, match="no such folder"):
        load_t5(tmp_path / "gone")
    with pytest.raises(CheckpointError, match="holds no text encoder"):
        load_t5(tmp_path)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ModelError, match=r"riverrun\[video\]"):
        load_t5(t5)


def test_what_was_read_is_remembered_while_it_is_among_the_last() -> None:
    asked = list[str]()

    def reader(prompts: Sequence[str]) -> Read:
        asked.extend(prompts)
        lengths = torch.tensor([len(prompt) for prompt in prompts])
        return Read(lengths[:, None, None].expand(-1, 2, 3).float(), torch.ones(len(prompts), 2) > 0)

    remembering = Remembering(reader, 2)
    both = remembering(["a", "sea", "a"])
    assert both.features[:, 0, 0].tolist() == [1, 3, 1] and both.mask.shape == (3, 2)
    remembering(["a"])
    assert asked == ["a", "sea"]
    remembering(["storm"])  # in the place of the sea
    remembering(["a", "sea"])
    assert asked == ["a", "sea", "storm", "sea"]
