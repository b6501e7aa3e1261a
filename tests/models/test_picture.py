"""A picture survives being part of a request, and what is none is refused."""

import numpy as np
import pytest

from riverrun.models.errors import InvalidRequest
from riverrun.models.picture import pictured, pixels


def test_a_picture_survives_a_request() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    np.testing.assert_array_equal(pixels(pictured(picture)), picture)


@pytest.mark.parametrize(
    ("picture", "why"),
    [
        ("", "begins with ''"),
        ("2x2:!!!!", "no base64"),
        ("2x2:AAAA", "3 bytes, expected 12"),
        ("0x2:", "0 x 2 pixels"),
        ("99999x99999:AAAA", "make it smaller"),
    ],
)
def test_what_is_no_picture_is_refused(picture: str, why: str) -> None:
    with pytest.raises(InvalidRequest, match=why):
        pixels(picture)
