"""Features of prompts, by the frozen text encoders of published checkpoints: T5, and CLIP for Open-Sora 2.0.

A T5-XXL is larger than the transformer it reads for, so that it computes in bfloat16 and is let go of after a prompt;
`transformers` is imported by what needs it. Letters: b prompt, n token, d width.
Source: arXiv 1910.10683 (T5), arXiv 2103.00020 (CLIP); arXiv 2412.20404 and 2503.09642 on how they are read.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from riverrun.models.checkpoint import shapes
from riverrun.models.errors import CheckpointError, ModelError

TOKENS = {"stdit1": 120, "stdit2": 200, "stdit3": 300, "stdit3_v13": 300, "mmdit": 512}  # of a prompt
POOLED_TOKENS = 77  # that CLIP reads


class Read(NamedTuple):
    """Features of prompts, and which tokens there are.  # [b, n, d], [b, n]"""

    features: Tensor
    mask: Tensor


Reader = Callable[[Sequence[str]], Read]
"""Prompts to features."""


class Remembering:
    """A Reader that reads no prompt twice, while it is among the last `most` that were asked for."""

    def __init__(self, reader: Reader, most: int) -> None:
        self.reader, self.most = reader, most
        self.known: OrderedDict[str, Read] = OrderedDict()  # of one prompt each

    def __call__(self, prompts: Sequence[str]) -> Read:
        """As a Reader."""
        if fresh := [prompt for prompt in dict.fromkeys(prompts) if prompt not in self.known]:
            parts = zip(*(part.split(1) for part in self.reader(fresh)), strict=True)
            self.known |= {prompt: Read(*part) for prompt, part in zip(fresh, parts, strict=True)}
        found = [self.known[prompt] for prompt in prompts]
        for prompt in prompts:
            self.known.move_to_end(prompt)
        while len(self.known) > self.most:
            self.known.popitem(last=False)
        return Read(*(torch.cat(part) for part in zip(*found, strict=True)))


@dataclass(frozen=True)
class T5:
    """A T5 encoder and its tokenizer. What is longer than `tokens` is cut, what is shorter padded."""

    tokenizer: Any
    encoder: Any
    tokens: int = 300

    @torch.inference_mode()
    def read(self, prompts: Sequence[str], padded: bool = False) -> Read:
        """The last layer. With `padded` tokens attend to padding, too, as Open-Sora 2.0 was trained."""
        told = _told(self.tokenizer, prompts, self.tokens, self.encoder.device)
        mask = None if padded else told["attention_mask"]
        states = self.encoder(input_ids=told["input_ids"], attention_mask=mask).last_hidden_state
        return Read(states, told["attention_mask"].bool())


@dataclass(frozen=True)
class Clip:
    """A CLIP text encoder and its tokenizer."""

    tokenizer: Any
    encoder: Any

    @torch.inference_mode()
    def read(self, prompts: Sequence[str]) -> Tensor:
        """What each prompt is as a whole.  # [b, d]"""
        told = _told(self.tokenizer, prompts, POOLED_TOKENS, self.encoder.device)
        pooled: Tensor = self.encoder(input_ids=told["input_ids"]).pooler_output
        return pooled


def _told(tokenizer: Any, prompts: Sequence[str], tokens: int, device: torch.device) -> Any:
    return tokenizer(
        list(prompts), max_length=tokens, padding="max_length", truncation=True, return_tensors="pt"
    ).to(device)


def load_t5(folder: Path, tokens: int = 300, device: str = "cpu", dtype: str = "bfloat16") -> T5:
    """A T5 encoder from a local folder (that of DeepFloyd/t5-v1_1-xxl); nothing is downloaded.

    Raises CheckpointError if there is none, ModelError where transformers is not installed.
    """
    return T5(*_load("T5EncoderModel", folder, device, dtype), tokens)


def load_clip(folder: Path, device: str = "cpu", dtype: str = "bfloat16") -> Clip:
    """A CLIP text encoder from a local folder (that of openai/clip-vit-large-patch14); nothing is downloaded.

    Raises CheckpointError if there is none, ModelError where transformers is not installed.
    """
    return Clip(*_load("CLIPTextModel", folder, device, dtype))


def _load(kind: str, folder: Path, device: str, dtype: str) -> tuple[Any, Any]:
    library = _transformers()
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: no such folder, expected that of a text encoder")
    try:
        tokenizer = library.AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
        encoder = getattr(library, kind).from_pretrained(
            str(folder), local_files_only=True, dtype=getattr(torch, dtype), use_safetensors=True
        )
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise CheckpointError(f"{folder} holds no text encoder that can be read: {error}") from error
    return tokenizer, encoder.to(device).eval().requires_grad_(False)


def _transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise ModelError("reading prompts needs transformers: pip install 'riverrun[video]'") from error
    return transformers


@dataclass
class Kept:
    """A Reader by a T5 that is loaded for the first prompts, and stays. It raises as `load_t5` does."""

    folder: Path
    tokens: int = 300
    device: str = "cpu"
    encoder: T5 | None = None

    def __call__(self, prompts: Sequence[str]) -> Read:
        """As a Reader."""
        self.encoder = self.encoder or load_t5(self.folder, self.tokens, self.device)
        return self.encoder.read(prompts)


def once(folder: Path, prompts: Sequence[str], tokens: int = 300, device: str = "cpu") -> Read:
    """Features of prompts by a T5 that is loaded for them, and let go of. Raises as `load_t5` does."""
    told = load_t5(folder, tokens, device).read(prompts)
    if told.features.is_cuda:
        torch.cuda.empty_cache()
    return told


def weight(folder: Path, item: int = 2) -> int:
    """Bytes of an encoder whose values take `item` each, by its files; nothing is loaded.

    Raises CheckpointError for a file that is not readable.
    """
    return item * sum(
        math.prod(shape)
        for path in folder.glob("*.safetensors")
        for name, shape in shapes(path).items()
        if not name.startswith(("decoder.", "lm_head."))
    )
