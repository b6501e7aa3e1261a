"""Amounts are read with their units, in the plural where they are."""

import pytest

from tests.models.speech.reading.said import say


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("It costs $5.", "It costs five dollars."),
        ("$1", "one dollar"),
        ("$1.50", "one dollar and fifty cents"),
        ("$0.99", "ninety nine cents"),
        ("£0.01", "one penny"),
        ("£3.20", "three pounds and twenty pence"),
        ("$1,234.56", "one thousand two hundred thirty four dollars and fifty six cents"),
        ("$2.5 million", "two point five million dollars"),
        ("a $2.5 million deal", "a two point five million dollar deal"),
        ("£3bn and €10m", "three billion pounds and ten million euros"),
        ("$5-10", "five to ten dollars"),
        ("-$5", "minus five dollars"),
        ("5€, 5 EUR, USD 20", "five euros, five euros, twenty dollars"),
        ("US$5 million", "five million U S dollars"),
        ("A$3", "three Australian dollars"),
        ("$30/month", "thirty dollars per month"),
        ("5¢", "five cents"),
        ("50%", "fifty percent"),
        ("3.5 %", "three point five percent"),
        ("5-10%", "five to ten percent"),
        ("5 km", "five kilometers"),
        ("1 kg", "one kilogram"),
        ("3.2 GHz", "three point two gigahertz"),
        ("20°C, −5 °C, 100°", "twenty degrees Celsius, minus five degrees Celsius, one hundred degrees"),
        ("60 km/h", "sixty kilometers per hour"),
        ("9.8 m/s²", "nine point eight meters per second squared"),
        ("10 m², 10 m2", "ten square meters, ten square meters"),
        ("a 5-km run", "a five kilometer run"),
        ("5 μm, 10 kΩ", "five micrometers, ten kiloohms"),
        ("100 MB/s", "one hundred megabytes per second"),
        ("55 mph", "fifty five miles per hour"),
        ("10 lbs", "ten pounds"),
        ("5 ft. 10 in. tall", "five feet ten inches tall"),
        ("6'2\" tall", "six foot two tall"),
    ],
)
def test_amounts(text: str, said: str) -> None:
    assert say(text) == said
