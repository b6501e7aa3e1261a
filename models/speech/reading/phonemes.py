"""Spoken words as symbols of an alphabet: phonemes where there is a library for them, letters where not."""

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from riverrun.models.errors import InvalidRequest, ModelError
from riverrun.models.speech.reading.normal import Word

PAD = 0
"""The number that is no symbol."""
Accent = Literal["en-US", "en-GB"]


@dataclass(frozen=True)
class Alphabet:
    """Symbols in an order that never changes; each is one character, and its number is its place from 1 on.

    Raises ValueError for a symbol that comes twice.
    """

    symbols: str

    def __post_init__(self) -> None:
        if len(set(self.symbols)) != len(self.symbols):
            raise ValueError(f"symbols {self.symbols!r} have one twice")

    @cached_property
    def numbers(self) -> dict[str, int]:
        """The number of each symbol."""
        return {symbol: number for number, symbol in enumerate(self.symbols, PAD + 1)}

    @property
    def size(self) -> int:
        """How many numbers there are, PAD included."""
        return len(self.symbols) + 1

    def encode(self, text: str) -> list[int]:
        """The numbers of symbols. Raises InvalidRequest for what is none."""
        unknown = sorted(set(text) - self.numbers.keys())
        if unknown:
            at = next(i for i, c in enumerate(text) if c in unknown)
            raise InvalidRequest(
                f"{''.join(unknown[:8])!r} at {at} are no symbols of this alphabet, which has {self.symbols!r}"
            )
        return [self.numbers[symbol] for symbol in text]

    def decode(self, numbers: Sequence[int]) -> str:
        """The symbols of numbers, PAD left out. Raises InvalidRequest for numbers beyond `size`."""
        wrong = [number for number in numbers if not PAD <= number < self.size]
        if wrong:
            raise InvalidRequest(f"{wrong[0]} is no number of a symbol, expected {PAD} to {self.size - 1}")
        return "".join(self.symbols[number - 1] for number in numbers if number != PAD)


MARKS = " ,.?!;:—"
PHONEMES = Alphabet(
    MARKS + "…\"()“”ˈˌːᵊᵻAIOQTWYabdfhijklmnpstuvwzæðŋɐɑɒɔəɛɜɡɪɹʃʊʌʒʤʧθɾʔʀcegoqrxyçø\u0303"
)  # fmt: skip
"""Those of misaki for American and British English, and some for loans. New ones go to the end."""
LETTERS = Alphabet(MARKS + "'abcdefghijklmnopqrstuvwxyz")
STRESSES = "ˈˌ"
PAUSES = {"-": "—"}  # what a pause is called in both alphabets, if not what it is


@dataclass(frozen=True)
class Sound:
    """A spoken word and its symbols; `gap` is what stands between it and the next word: a mark, a space, both."""

    word: Word
    symbols: str
    gap: str = " "


@dataclass(frozen=True)
class Pronunciation:
    """How words are made into symbols of an alphabet."""

    alphabet: Alphabet
    pronounce: Callable[[Sequence[Word]], list[str]]
    joins: bool = False
    """Whether words that are `joined` have no space between."""

    def __call__(self, words: Sequence[Word]) -> list[Sound]:
        """The symbols of each word, in the order and number of the words."""
        symbols = self.pronounce(words)
        return [Sound(word, made, self._gap(word)) for word, made in zip(words, symbols, strict=True)]

    def _gap(self, word: Word) -> str:
        if word.pause:
            return f"{PAUSES.get(word.pause, word.pause)} "
        return "" if word.joined and self.joins else " "


def written(sounds: Sequence[Sound]) -> str:
    """All symbols of an utterance in a row."""
    return "".join(sound.symbols + sound.gap for sound in sounds).rstrip()


def spans(sounds: Sequence[Sound]) -> list[tuple[int, int]]:
    """From where to where in `written` the symbols of each word are, gaps apart."""
    places, at = [], 0
    for sound in sounds:
        places.append((at, at + len(sound.symbols)))
        at += len(sound.symbols) + len(sound.gap)
    return places


def letters() -> Pronunciation:
    """Words in small letters, as they are written."""
    return Pronunciation(LETTERS, lambda words: [_letters(word.text) for word in words])


def phonemes(accent: Accent = "en-US") -> Pronunciation:
    """Words in phonemes, by the library hibari; takes about a second and 100 MB.

    Raises ModelError where it is not installed, InvalidRequest for another accent.
    """
    if accent not in ("en-US", "en-GB"):
        raise InvalidRequest(f"accent is {accent!r}, known are en-US and en-GB")
    try:
        library: Any = importlib.import_module("hibari.g2p")
    except ImportError as error:
        raise ModelError("phonemes need hibari: pip install 'riverrun[phonemes]'") from error
    reader = library.G2P(british=accent == "en-GB")
    return Pronunciation(PHONEMES, lambda words: _phonemes(reader, words), joins=True)


def best(accent: Accent = "en-US") -> Pronunciation:
    """`phonemes` where they can be had, else `letters`."""
    try:
        return phonemes(accent)
    except ModelError as error:
        if isinstance(error, InvalidRequest):
            raise
        return letters()


def _letters(text: str) -> str:
    return "".join(c for c in text.lower() if c in LETTERS.numbers)


def _phonemes(reader: Any, words: Sequence[Word]) -> list[str]:
    """Read whole, so that words sound as they do among others; one by one where that cannot be told apart."""
    if not words:
        return []
    texts = [_text(word) for word in words]
    made = _read(reader, texts)
    if len(made) != len(words):
        made = ["".join(_read(reader, [text])) for text in texts]
    if any(word.joined for word in words):
        made = _compounds(reader, words, texts, made)
    made = [symbols or _spelt(reader, word) for symbols, word in zip(made, words, strict=True)]
    after = [*words[1:], None]
    return [_in_row(symbols, word, next_) for symbols, word, next_ in zip(made, words, after, strict=True)]


def _compounds(reader: Any, words: Sequence[Word], texts: list[str], apart: list[str]) -> list[str]:
    """The symbols of words with hyphens between, read as one word and shared out again."""
    runs = [[0]]
    for at in range(1, len(words)):
        if words[at - 1].joined and not words[at - 1].spelt and not words[at].spelt:
            runs[-1].append(at)
        else:
            runs.append([at])
    whole = _read(reader, ["-".join(texts[at] for at in run) for run in runs])
    if len(whole) != len(runs):
        return apart
    made: list[str] = []
    for run, symbols in zip(runs, whole, strict=True):
        made += _shared(symbols, [apart[at] for at in run])
    return made


def _shared(whole: str, apart: list[str]) -> list[str]:
    """A compound's symbols shared among its words by how many each has; as they are if the sum is another."""
    sizes = [sum(c not in STRESSES for c in word) for word in apart]
    if sum(c not in STRESSES for c in whole) != sum(sizes):
        return [whole] if len(apart) == 1 else apart
    made, at = [], 0
    for size in sizes:
        start = at
        while size and at < len(whole):
            size -= whole[at] not in STRESSES
            at += 1
        made.append(whole[start:at])
    return made


def _read(reader: Any, texts: Sequence[str]) -> list[str]:
    """What the library says between spaces."""
    made, symbols = [], ""
    for token in reader.phonemize_tokens(reader.tokenize(" ".join(texts))):
        symbols += token.phonemes or ""
        if token.whitespace:
            made.append(symbols)
            symbols = ""
    return [_only_symbols(part) for part in [*made, symbols]]


def _text(word: Word) -> str:
    """A word as the library should see it; the letters A and I, which are words, too, with their sounds."""
    text = f"[{word.text}](/ˈ{word.text}/)" if word.spelt and word.text in ("A", "I") else word.text
    return text + PAUSES.get(word.pause, word.pause)


def _only_symbols(text: str) -> str:
    """What a word is made of: no spaces, no marks."""
    return "".join(c for c in text if c in PHONEMES.numbers and c not in MARKS and c not in '…"()“”')


def _spelt(reader: Any, word: Word) -> str:
    """The names of a word's letters, for a word without a sound."""
    return "".join(
        _read(reader, [_text(Word(c.upper(), 0, 1, "", True))])[0] for c in word.text if c.isalpha()
    )


def _in_row(symbols: str, word: Word, after: Word | None) -> str:
    """Of letters in a row, the last has the main stress."""
    in_row = word.spelt and word.joined and after is not None and after.spelt
    return symbols.replace("ˈ", "ˌ") if in_row else symbols
