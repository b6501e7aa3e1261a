"""Addresses of the web and of mail are said piece by piece."""

import pytest

from tests.models.speech.reading.said import say


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("john.doe99@example.co.uk", "john dot doe ninety nine at example dot co dot U K"),
        ("https://www.bbc.co.uk/news.", "W W W dot B B C dot co dot U K slash news."),
        (
            "See example.com/a_b?id=5!",
            "See example dot com slash A underscore B question mark I D equals five!",
        ),
        ("(http://example.org/)", "example dot org,"),
        ("node.js", "node dot J S"),
        ("@home #winning", "at home hashtag winning"),
        ("/usr/bin", "slash usr bin"),
    ],
)
def test_addresses(text: str, said: str) -> None:
    assert say(text) == said
