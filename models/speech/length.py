"""How long a text takes to say, by counting its characters.

Source: arXiv 2603.29339; the published rule, which knows Chinese and everything else.
"""

ENGLISH, CHINESE = 0.082, 0.21  # seconds a character


def seconds(text: str, limit: float) -> float:
    """How long a normalised text takes, at most `limit`.

    Digits and punctuation count with the script that has more letters; white space takes no time.
    """
    characters = [c for c in text if not c.isspace()]
    chinese = sum("\u4e00" <= c <= "\u9fff" for c in characters)
    english = sum(c.isalpha() and not "\u4e00" <= c <= "\u9fff" for c in characters)
    other = len(characters) - chinese - english
    if chinese > english:
        chinese += other
    else:
        english += other
    return min(limit, CHINESE * chinese + ENGLISH * english)


def continued(text: str, transcript: str, spoken: float, limit: float) -> float:
    """How long a text takes after a prompt that took `spoken` seconds, at the prompt's pace.

    A slow prompt slows the text, by up to a half; a fast one does not hurry it. All of it, the prompt included,
    should fit into `limit`, but the slowing comes after that.
    Raises ValueError if the transcript is empty.
    """
    usual = seconds(transcript, limit)
    if usual <= 0:
        raise ValueError("the transcript of the prompt is empty, expected what is said in it")
    return seconds(text, limit - spoken) * min(max(spoken / usual, 1.0), 1.5)


def frames(duration: float, rate: int, hop: int) -> int:
    """Whole latent frames in a duration."""
    return int(duration * rate // hop)
