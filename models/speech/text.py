"""Text as LongCat-AudioDiT reads it: plain lower case, tokens, and features of a frozen UMT5 encoder.

Source: arXiv 2603.29339, section 2; arXiv 2304.09151 (UMT5); module names as published.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from riverrun.models.errors import CheckpointError, ModelError

Tokens = Callable[[Sequence[str]], tuple[Tensor, Tensor]]
"""Texts as numbers and which of them there are, padded to one length.  # n texts -> [n, t] int64, [n, t] bool"""
Join = Literal["space", "stop"]
PAD, END = 0, 1  # tokens


@dataclass(frozen=True)
class TextConfig:
    """The shape of a UMT5 encoder: heads of `head` channels, `buckets` of distances up to `reach` tokens."""

    width: int = 768
    inner: int = 2048
    layers: int = 12
    heads: int = 12
    head: int = 64
    vocabulary: int = 256_384
    buckets: int = 32
    reach: int = 128
    eps: float = 1e-6

    def __post_init__(self) -> None:
        sizes = (self.width, self.inner, self.layers, self.heads, self.head, self.vocabulary, self.reach)
        if min(sizes) < 1 or self.buckets < 4:
            raise ValueError(
                f"text encoder of sizes {sizes} and {self.buckets} buckets, expected positive ones"
            )


class TextEncoder(nn.Module):
    """Numbers of tokens to features: the last layer and the embedding, each normed, added.

    Raises ModelError where transformers is not installed.
    """

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        library = _transformers()
        shape = library.UMT5Config(
            d_model=config.width, d_ff=config.inner, d_kv=config.head, num_heads=config.heads,
            num_layers=config.layers, vocab_size=config.vocabulary, layer_norm_epsilon=config.eps,
            relative_attention_num_buckets=config.buckets, relative_attention_max_distance=config.reach,
            feed_forward_proj="gated-gelu", dropout_rate=0.0,
        )  # fmt: skip
        self.encoder = library.UMT5EncoderModel(shape).encoder

    def layers(self, ids: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Embedding and last hidden layer.  # [b, n] twice -> [b, n, d] twice"""
        words = self.encoder.embed_tokens(ids)
        return words, self.encoder(inputs_embeds=words, attention_mask=tokens.long()).last_hidden_state

    def forward(self, ids: Tensor, tokens: Tensor) -> Tensor:
        """Features in float32; where `tokens` is false they mean nothing.  # [b, n] twice -> [b, n, d]"""
        words, last = self.layers(ids, tokens)
        return (_norm(last) + _norm(words)).float()


def _norm(x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], eps=1e-6)


def tokenizer(folder: Path, vocabulary: int) -> Tokens:
    """The tokenizer in a local folder (that of google/umt5-base), as `Tokens`; nothing is downloaded.

    Raises CheckpointError if there is none, it is another model's, or it knows more than the encoder's `vocabulary`.
    """
    library = _transformers()
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: no such folder, expected that of the tokenizer of google/umt5-base")
    try:
        made: Any = library.AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise CheckpointError(f"{folder} holds no tokenizer that can be read: {error}") from error
    if (ends := (made.pad_token_id, made("a")["input_ids"][-1])) != (PAD, END):
        raise CheckpointError(f"the tokenizer in {folder} pads with and ends in {ends}, UMT5's {(PAD, END)}")
    if len(made) > vocabulary:
        raise CheckpointError(
            f"the tokenizer in {folder} knows {len(made)} tokens, the text encoder {vocabulary}"
        )

    def tokens(texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        told = made(list(texts), padding=True, return_tensors="pt")
        return told["input_ids"], told["attention_mask"].bool()

    return tokens


def _transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise ModelError("reading text needs transformers: pip install 'riverrun[speech]'") from error
    return transformers


def normalise(text: str) -> str:
    """Lower case, double and curly quotes as spaces, runs of white space as one. Numbers stay digits."""
    return re.sub(r"\s+", " ", re.sub('["“”‘’]', " ", text.lower()))


def joined(transcript: str, text: str, join: Join = "space") -> str:
    """A prompt's transcript and what is to be said after it, both normalised.

    "space" puts one between them, as the published command does; "stop" only after a full stop, as the published
    evaluation does: what its figures were measured with, and right for Chinese.
    """
    between = " " if join == "space" or transcript.endswith(".") else ""
    return f"{transcript}{between}{text}"
