"""What begins with a figure is read for what it is."""

import pytest

from tests.models.speech.reading.said import say


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("-5, −3.2", "minus five, minus three point two"),
        ("0.5 and .5", "zero point five and point five"),
        ("1,000,000", "one million"),
        ("007", "zero zero seven"),
        ("1st 2nd 3rd 112th", "first second third one hundred twelfth"),
        ("1/2, 3/4, 7/8", "one half, three quarters, seven eighths"),
        ("1 1/2, 2½, ¼", "one and a half, two and a half, one quarter"),
        ("8/10, 3/10 of it", "eight out of ten, three tenths of it"),
        ("24/7", "twenty four seven"),
        ("555-123-4567", "five five five, one two three, four five six seven"),
        ("(555) 123-4567", "five five five, one two three, four five six seven"),
        ("call 555-1234", "call five five five, one two three four"),
        ("500-1000 people", "five hundred to one thousand people"),
        ("+44 20 7946 0958", "plus four four, two zero, seven nine four six, zero nine five eight"),
        ("1.2.3", "one point two point three"),
        ("v2.0", "version two point zero"),
        ("Python 3.11", "Python three point eleven"),
        ("192.168.0.1", "one nine two dot one six eight dot zero dot one"),
        ("pages 5-10", "pages five to ten"),
        ("9-to-5", "nine to five"),
        ("5 - 3 = 2", "five minus three equals two"),
        ("2+2=4", "two plus two equals four"),
        ("3:1, 1.78:1", "three to one, one point seven eight to one"),
        ("2×3, 800×600", "two times three, eight hundred by six hundred"),
        ("1-2-3", "one two three"),
        ("10x faster, 4x4", "ten times faster, four by four"),
        ("1e6", "one times ten to the six"),
        ("10²", "ten squared"),
        ("A380", "A three eighty"),
        ("GTX1080", "G T X ten eighty"),
        ("COVID-19", "COVID nineteen"),
        ("3D B2B MP3", "three D B two B M P three"),
    ],
)
def test_figures(text: str, said: str) -> None:
    assert say(text) == said


def test_a_number_of_sixty_figures_is_read_one_by_one() -> None:
    assert say("7" * 60) == " ".join(["seven"] * 60)
    assert say("7" * 60 + "th").split()[:60] == ["seven"] * 60


def test_british_numbers_have_an_and() -> None:
    assert say("105 km", british=True) == "one hundred and five kilometers"
