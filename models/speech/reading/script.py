"""What a voice has to do for a text: lines of symbols and silences, and which symbols each word is."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache

from riverrun.models.errors import InvalidRequest
from riverrun.models.speech.reading import markup
from riverrun.models.speech.reading.kinds import say_as
from riverrun.models.speech.reading.normal import Word, normalise
from riverrun.models.speech.reading.phonemes import (
    Accent,
    Alphabet,
    Pronunciation,
    best,
    letters,
    spans,
    written,
)
from riverrun.models.speech.reading.sentences import LONGEST, Sentences

EDGE = " "  # the silence before an utterance, and after it
MARKUP = "<speak"
SPEEDS = (0.25, 4.0)  # times as fast as usual


@dataclass(frozen=True)
class Spoken:
    """A word of a text: which characters it stands for, and which symbols of its line it is."""

    text: str
    start: int
    end: int
    first: int
    last: int


@dataclass(frozen=True)
class Line:
    """An utterance, or a silence of `pause` seconds after it; `rate` is how many times as fast as usual it is said."""

    symbols: str = ""
    words: tuple[Spoken, ...] = ()
    pause: float = 0.0
    rate: float = 1.0

    def pace(self, speed: float) -> float:
        """How fast it is said where all is said at a speed: no model says it slower or faster than SPEEDS."""
        return min(max(speed * self.rate, SPEEDS[0]), SPEEDS[1])


class Script:
    """Reads a text for a model of some alphabet, piece by piece as it comes, or whole with its markup.

    All scripts of a process share what pronounces words, which is for one thread at a time.
    Raises InvalidRequest where what can be read is not what the model knows.
    """

    def __init__(self, alphabet: str, accent: Accent = "en-US", longest: int = LONGEST) -> None:
        self.accent, self.longest, known = accent, longest, set(alphabet)
        self.read = reader(accent)
        if not set(self.read.alphabet.symbols) <= known:
            self.read = letters()
            if not set(self.read.alphabet.symbols) <= known:
                raise InvalidRequest("this model reads phonemes: pip install 'riverrun[phonemes]'")
        self.alphabet = Alphabet(alphabet)
        self.sentences = Sentences(longest)
        self.count = 0  # characters that came
        self.marked = 0  # of those, in texts with markup

    def feed(self, text: str) -> Iterator[Line]:
        """Take the next characters; give the lines that are complete now. Raises InvalidRequest."""
        self.count += len(text)
        for piece in self.sentences.feed(text):
            yield from self._line(piece.text, piece.start + self.marked)

    def flush(self) -> Iterator[Line]:
        """What is left, though no sentence. Raises InvalidRequest."""
        for piece in self.sentences.flush():
            yield from self._line(piece.text, piece.start + self.marked)

    def clear(self) -> None:
        """Forget what is no sentence yet."""
        self.sentences.clear()

    def all(self, pieces: Iterable[str]) -> Iterator[Line]:
        """The lines of a plain text in pieces, which are asked for as they are needed. Raises InvalidRequest."""
        for piece in pieces:
            yield from self.feed(piece)
        yield from self.flush()

    def whole(self, text: str) -> Iterator[Line]:
        """The lines of a whole text, which may be SSML. Raises InvalidRequest."""
        if not text.lstrip().startswith(MARKUP):
            yield from self.all([text])
            return
        at = self.count
        self.count, self.marked = at + len(text), self.marked + len(text)
        for part in markup.parse(text):
            if part.pause:
                yield Line(pause=part.pause)
            elif part.kind:
                yield from self._placed(part, say_as(part.text, part.kind, self.accent == "en-GB"), 0, at)
            else:
                cut = Sentences(self.longest)
                for piece in [*cut.feed(part.text), *cut.flush()]:
                    yield from self._placed(part, self._words(piece.text), piece.start, at)

    def _placed(self, part: markup.Part, words: Sequence[Word], start: int, at: int) -> Iterator[Line]:
        """The line of words from `start` of a part of SSML on; its source begins at character `at` of all that came."""
        for line in self._said(words, start):
            moved = []
            for word in line.words:
                first, last = part.span(word.start, word.end)
                moved.append(replace(word, start=at + first, end=at + last))
            yield replace(line, words=tuple(moved), rate=part.rate)

    def _line(self, text: str, at: int) -> Iterator[Line]:
        yield from self._said(self._words(text), at)

    def _words(self, text: str) -> list[Word]:
        return normalise(text, self.accent == "en-GB")

    def _said(self, words: Sequence[Word], at: int) -> Iterator[Line]:
        """The line of words, or none; `at` is where the text they are of begins."""
        sounds = self.read(words)
        symbols = written(sounds)
        if not symbols:
            return
        found = [
            Spoken(
                sound.word.text,
                at + sound.word.start,
                at + sound.word.end,
                first + len(EDGE),
                last + len(EDGE),
            )
            for sound, (first, last) in zip(sounds, spans(sounds), strict=True)
            if last > first
        ]
        yield Line(EDGE + symbols + EDGE, tuple(found))


@cache
def reader(accent: Accent) -> Pronunciation:
    """How words are pronounced, made once a process, for one thread at a time."""
    return best(accent)
