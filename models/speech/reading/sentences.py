"""A text that comes in pieces, cut into utterances: at sentences, long ones at clauses, then at words.

Where it is cut depends on the text, and on where it was flushed; never on how it came.
"""

import re
from dataclasses import dataclass

from riverrun.models.speech.reading.lists import AFTER, BARE, COUNTED, DAYS, DOTTED, MONTH, SHORT, TITLES
from riverrun.models.speech.reading.stops import LOOK, starts_sentence

LONGEST = 300  # characters of an utterance, unless told otherwise: some 20 s of speech
SHORTEST = 32  # characters that `longest` may be at least
BLANK = 64  # characters of white space that end a sentence, whatever comes
CLOSING = frozenset("\"')]}”’»›*_")
STOPS = frozenset(".!?…")
CANDIDATE = re.compile(r"[.!?…\n]")
BEFORE = re.compile(r"[A-Za-z0-9.&]+$")
CLAUSES = (re.compile(r"[;:—–)\]](?=\s)|—|--(?=\s|\w)"), re.compile(r",(?=\s)"))
LISTED = re.compile(r"(?:[-*•+]|\d{1,3}[.)])\s")
LISTED_SO_FAR = re.compile(r"[-*•+]?|\d{1,3}[.)]?")
ORDERED = re.compile(r"\s*(?:\d{1,3}|[A-Za-z])$")
NEVER = frozenset([*TITLES, *(name.lower() for name in BARE)]) - {"St", "Dr", "dr"}
"""Abbreviations no sentence ends in."""
COUNTING = frozenset(COUNTED)
ENDING = frozenset(name.lower() for name in (*AFTER, *SHORT, *DAYS)) | {
    *(name for name in MONTH if name not in ("may", "june", "july") and len(name) < 5),
}


@dataclass(frozen=True)
class Piece:
    """An utterance and where it starts in all that was fed."""

    text: str
    start: int

    @property
    def end(self) -> int:
        """Behind its last character in all that was fed."""
        return self.start + len(self.text)


class Sentences:
    """Cuts what is fed into pieces of at most `longest` characters, without white space around.

    No more than about `longest` characters are kept. Raises ValueError if `longest` is below SHORTEST.
    """

    def __init__(self, longest: int = LONGEST) -> None:
        if longest < SHORTEST:
            raise ValueError(f"longest is {longest} characters, expected at least {SHORTEST}")
        self.longest = longest
        self._kept = ""
        self._at = 0  # of all that was fed: where `_kept` starts
        self._seen = 0  # of `_kept`: before it no sentence ends

    def feed(self, text: str) -> list[Piece]:
        """Take the next characters; give what is complete now."""
        self._kept += text
        return self._cut(last=False)

    def flush(self) -> list[Piece]:
        """Give all that is left: the text ends here, or should be heard up to here."""
        return self._cut(last=True)

    def clear(self) -> None:
        """Forget what is left; places go on counting behind it."""
        self._at += len(self._kept)
        self._kept, self._seen = "", 0

    def _cut(self, last: bool) -> list[Piece]:
        pieces: list[Piece] = []
        start = 0
        while True:
            start = _past_blank(self._kept, start)
            end, seen = _end(self._kept, start, max(start, self._seen), self.longest, last)
            self._seen = seen
            if end is None:
                break
            pieces.append(Piece(self._kept[start:end].rstrip(), self._at + start))
            start = self._seen = end
        self._at += start
        self._kept = self._kept[start:]
        self._seen = max(0, self._seen - start)
        return pieces


def _past_blank(text: str, start: int) -> int:
    while start < len(text) and text[start].isspace():
        start += 1
    return start


def _end(text: str, start: int, seen: int, longest: int, last: bool) -> tuple[int | None, int]:
    """Where the piece that begins at `start` ends, None for not yet; and up to where that is sure."""
    limit = start + longest
    while found := CANDIDATE.search(text, seen, limit):
        end = _sentence_end(text, start, found.start(), last)
        if end is None:
            return None, found.start()
        if start < end <= limit:
            return end, end
        seen = found.end()
    seen = max(seen, min(len(text), limit))
    if len(text) <= limit:
        return (len(text), len(text)) if last and start < len(text) else (None, seen)
    end = _clause_end(text, start, limit)
    return end, end


def _sentence_end(text: str, start: int, at: int, last: bool) -> int | None:
    """Where a sentence ends for a mark at `at`; 0 if it does not, None if the text is too short to say."""
    if text[at] == "\n":
        return _line_end(text, at, last)
    end = at + 1
    while end < len(text) and end - at < BLANK and text[end] in STOPS:
        end += 1
    stops = end
    while end < len(text) and end - at < BLANK and text[end] in CLOSING:
        end += 1
    if end == len(text):
        return 0 if last else None
    if not text[end].isspace():
        return 0
    ahead = text[end : end + BLANK + LOOK]
    following = ahead.lstrip()
    blank = ahead[: len(ahead) - len(following)]
    if len(blank) >= BLANK or blank.count("\n") > 1:
        return end
    if not following:
        return end if last else None
    ends = _ends(text, start, (at, stops, end), following, last)
    return None if ends is None else end if ends else 0


def _ends(text: str, start: int, mark: tuple[int, int, int], following: str, last: bool) -> bool | None:
    """Whether a stop with a space after it ends a sentence; a mark is where it, its stops and its quotes end."""
    at, stops, end = mark
    first = following[0]
    if "?" in text[at:stops] or "!" in text[at:stops]:
        return not (first.islower() and end > stops)
    if stops - at > 1 or text[at] == "…" or end > stops:
        return not first.islower()
    if ORDERED.fullmatch(text, start, at):
        return False
    found = BEFORE.search(text, max(start, at - LOOK), at)
    written = found[0] if found else ""
    word = written.lower()
    if written in NEVER or word in DOTTED:
        return False
    if word in COUNTING and first.isdigit():
        return False
    letters = any(c.isalpha() for c in word)
    if word in ENDING or letters and ("." in word or len(word) == 1):
        return starts_sentence(following[:LOOK], last or len(following) >= LOOK)
    return True


def _line_end(text: str, at: int, last: bool) -> int | None:
    """A blank line ends a sentence, and so does the line before an item of a list."""
    ahead = text[at + 1 : at + 1 + BLANK]
    following = ahead.lstrip()
    if "\n" in ahead[: len(ahead) - len(following)] or len(ahead) == BLANK and not following:
        return at
    if LISTED_SO_FAR.fullmatch(following) and len(ahead) < BLANK and not last:
        return None
    return at if LISTED.match(following) else 0


def _clause_end(text: str, start: int, limit: int) -> int:
    """Where a sentence that is too long is cut: at a clause in its later half, a word, or anywhere."""
    for marks in CLAUSES:
        ends = [found.end() for found in marks.finditer(text, start + (limit - start) // 3, limit)]
        if ends:
            return ends[-1]
    space = max(text.rfind(blank, start + 1, limit + 1) for blank in " \n\t")
    return space if space > start else limit
