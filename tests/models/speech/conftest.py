"""The recording of the reference implementation, and a tokenizer it could have been made with."""

import string
from pathlib import Path

import pytest

from riverrun.models.speech.longcat import LongCat, load

LONGCAT = Path(__file__).parent / "longcat"


@pytest.fixture(scope="session")
def longcat() -> LongCat:
    """The reference's own tiny checkpoint of random weights."""
    return load(LONGCAT / "weights.safetensors")


@pytest.fixture(scope="session")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tokenizer of letters that ends every text with token 1, as UMT5's does."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    known = ["<pad>", "</s>", "<unk>", " ", *string.ascii_lowercase, *string.digits, *".,!?'"]
    words = Tokenizer(models.WordLevel({c: i for i, c in enumerate(known)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    words.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    folder = tmp_path_factory.mktemp("letters")
    made = PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    made.save_pretrained(str(folder))
    return folder
