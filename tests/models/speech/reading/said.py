"""What tests of reading say: the spoken words of a text as one line."""

from riverrun.models.speech.reading.normal import Word, normalise


def line(words: list[Word]) -> str:
    """Words with a space between, and the pause after each."""
    return " ".join(word.text + word.pause for word in words)


def say(text: str, british: bool = False) -> str:
    """How a text is read."""
    return line(normalise(text, british))
