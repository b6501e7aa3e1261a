"""A small reader of captions: known words as tokens, with features of each in its place.

Letters: b session, n word, d width.
"""

import difflib
import re
from functools import lru_cache

import torch
from torch import Tensor, nn

from riverrun.models.errors import InvalidRequest

WORD = re.compile(r"[a-z]+|,")
ENDINGS = (
    ("ies", "y"),
    ("es", ""),
    ("s", ""),
    ("ing", ""),
    ("ing", "e"),
    ("ed", ""),
    ("ed", "e"),
    ("ly", ""),
)
CLOSE = 0.85  # similarity from which a word is taken for a known one


class Vocabulary:
    """Words by number, from 1 on; 0 is nothing.

    A word that is not known counts as the known one that it is a form of, or is much like; else it is left out.
    """

    def __init__(self, words: tuple[str, ...]) -> None:
        self.words, self.number = words, {word: i for i, word in enumerate(words, 1)}
        self.known = lru_cache(4096)(self._known)

    def _known(self, word: str) -> int:
        if word in self.number:
            return self.number[word]
        stems = [word, *(word.removesuffix(end) + new for end, new in ENDINGS if word.endswith(end))]
        forms = [
            *stems,
            *(stem + "s" for stem in stems),
            *difflib.get_close_matches(word, self.words, 1, CLOSE),
        ]
        return next((self.number[form] for form in forms if form in self.number), 0)

    def encode(self, caption: str, most: int) -> list[int]:
        """The known words of a caption, the first `most` of them. Raises InvalidRequest if there is none."""
        found = [number for word in WORD.findall(caption.lower()) if (number := self.known(word))]
        if not found:
            some = ", ".join(self.words[:: max(1, len(self.words) // 12)])
            raise InvalidRequest(
                f"prompt is {caption[:60]!r}, and no word of it is known: expected some such as {some}"
            )
        return found[:most]


class WordEncoder(nn.Module):
    """Words to features, each seen with the others.  # [b, n] -> [b, n, d]"""

    def __init__(self, words: int, most: int, d: int, depth: int, heads: int) -> None:
        super().__init__()
        self.embed, self.place = nn.Embedding(words + 1, d, padding_idx=0), nn.Parameter(torch.zeros(most, d))
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                d, heads, 3 * d, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
            )
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(d)
        nn.init.normal_(self.place, std=0.02)

    def forward(self, words: Tensor) -> Tensor:
        x = self.embed(words) + self.place[: words.shape[1]]
        for layer in self.layers:
            x = layer(x, src_key_padding_mask=words == 0)
        y: Tensor = self.norm(x)
        return y
