"""Dates and times of day are read in the order they are said."""

import pytest

from riverrun.models.speech.reading.dates import date
from tests.models.speech.reading.said import say


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("March 3rd, 2024", "March third, twenty twenty four"),
        ("3 March 2024", "the third of March twenty twenty four"),
        ("the 4th of July", "the fourth of July"),
        ("Sept. 11, 2001", "September eleventh, two thousand one"),
        ("2024-03-03", "March third twenty twenty four"),
        ("4/7/2024", "April seventh twenty twenty four"),
        ("31/3/99", "March thirty first nineteen ninety nine"),
        ("04.07.2024", "July fourth twenty twenty four"),
        ("March 2024", "March twenty twenty four"),
        ("May 5; may 5 people", "May fifth; may five people"),
        ("the 1990s, the '80s", "the nineteen nineties, the eighties"),
        ("in 1066", "in ten sixty six"),
        ("In 1984, 1984 people", "In nineteen eighty four, one thousand nine hundred eighty four people"),
        ("2010–2015", "twenty ten to twenty fifteen"),
        ("at 9:00", "at nine o'clock"),
        ("at 9:05am", "at nine oh five A M"),
        ("14:30", "fourteen thirty"),
        ("14:00", "fourteen hundred"),
        ("14:30:15", "fourteen thirty and fifteen seconds"),
        ("5 p.m. on Monday", "five P M on Monday"),
        ("5:30 p.m. Then we left.", "five thirty P M. Then we left."),
        ("5 o'clock", "five o'clock"),
        ("Mon. morning in Jan.", "Monday morning in January"),
    ],
)
def test_dates_and_times(text: str, said: str) -> None:
    assert say(text) == said


def test_british_dates_have_the_day_first() -> None:
    assert say("4/7/2024", british=True) == "the fourth of July twenty twenty four"
    assert say("July 4", british=True) == "July the fourth"


def test_a_date_in_figures_is_known_by_itself() -> None:
    assert date("2024-12-31") == "December thirty first twenty twenty four"
    assert date("2024-13-31") is None and date("soon") is None
