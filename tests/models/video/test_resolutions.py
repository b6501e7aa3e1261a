"""Sizes and lengths by name."""

import pytest

from riverrun.models import InvalidRequest
from riverrun.models.video.resolutions import LATER, NAMES, RESOLUTIONS, SHAPES, fitted, frames, size

PIXELS = dict(zip(NAMES, (36_864, 102_240, 230_400, 409_920, 921_600, 2_073_600), strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_a_number_of_pixels_and_a_shape_a_ratio(name: str) -> None:
    assert len(RESOLUTIONS[name]) == len(SHAPES) == 17
    for shape, (height, width) in RESOLUTIONS[name].items():
        assert height * width == pytest.approx(PIXELS[name], rel=0.02)
        rows, columns = map(int, shape.split(":"))
        if shape != "50:27":  # whose sizes are 25:12, and published so
            assert height / width == pytest.approx(rows / columns, rel=0.03)
    assert size(name, "9:16") == size(name, "16:9")[::-1]


def test_sizes_of_later_versions() -> None:
    assert size("360p_16d", "9:16") == (352, 640) and size("720p_16d", "1:1") == (960, 960)
    assert size("256px", "16:9") == (192, 336) and size("768px", "2.39:1") == (496, 1184)
    assert all(n % 16 == 0 for sizes in LATER.values() for pair in sizes.values() for n in pair)
    with pytest.raises(InvalidRequest, match=r"'9:21', expected one of 16:9, .* \(width to height\)"):
        size("256px", "9:21")
    with pytest.raises(InvalidRequest, match="resolution is '256px_16d'"):
        size("256px_16d", "1:1")


def test_lengths() -> None:
    assert [frames(n) for n in ("2s", "4x", 51, "97", "32s", 1)] == [51, 204, 51, 97, 816, 1]


def test_what_is_not_known_is_named() -> None:
    with pytest.raises(InvalidRequest, match="'300p', expected one of 144p, 240p"):
        size("300p", "1:1")
    with pytest.raises(InvalidRequest, match="'5:4', expected one of 3:8"):
        size("240p", "5:4")
    with pytest.raises(InvalidRequest, match="'long', expected a number of frames or one of 2s"):
        frames("long")
    with pytest.raises(InvalidRequest, match="length is 0 frames"):
        frames(0)


def test_a_picture_fills_another_size() -> None:
    assert fitted(100, 200, (50, 50)) == ((50, 100), (0, 25))
    assert fitted(200, 100, (60, 60)) == ((120, 60), (30, 0))
    for height, width in ((333, 517), (10, 11), (240, 426)):
        (rows, columns), (top, left) = fitted(height, width, (240, 426))
        assert rows >= 240 and columns >= 426 and top >= 0 and left >= 0
