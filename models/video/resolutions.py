"""Sizes and lengths of video by name, as Open-Sora was trained on them.

A name is a number of pixels, and its shape a ratio of height to width: "9:16" is wide, "16:9" is high. With "_16d"
after a name sizes are multiples of 16, as in 1.3. Names of 2.0 end in "px", and its ratios are of width to height.
Source: the releases of Open-Sora 1.2 to 2.0; arXiv 2412.20404, section on multi-resolution training; arXiv 2503.09642.
"""

import re

from riverrun.models.errors import InvalidRequest

NAMES = ("144p", "240p", "360p", "480p", "720p", "1080p")
SHAPES = {  # height and width for each name
    "3:8": ((117, 312), (196, 522), (294, 784), (392, 1046), (588, 1568), (882, 2352)),
    "9:21": ((125, 291), (210, 490), (314, 732), (420, 980), (628, 1466), (942, 2198)),
    "12:25": ((133, 277), (222, 462), (332, 692), (444, 925), (666, 1388), (998, 2080)),
    "1:2": ((135, 270), (226, 452), (340, 680), (452, 904), (678, 1356), (1018, 2036)),
    "9:17": ((139, 262), (232, 438), (350, 662), (466, 880), (698, 1318), (1048, 1980)),
    "27:50": ((141, 260), (236, 436), (352, 652), (470, 870), (706, 1306), (1058, 1958)),
    "9:16": ((144, 256), (240, 426), (360, 640), (480, 854), (720, 1280), (1080, 1920)),
    "5:8": ((151, 241), (252, 404), (380, 608), (506, 810), (758, 1212), (1138, 1820)),
    "2:3": ((156, 234), (262, 393), (392, 588), (522, 784), (784, 1176), (1176, 1764)),
    "3:4": ((166, 221), (276, 368), (416, 554), (554, 738), (832, 1110), (1248, 1664)),
    "1:1": ((192, 192), (320, 320), (480, 480), (640, 640), (960, 960), (1440, 1440)),
    "4:3": ((221, 165), (370, 278), (554, 416), (740, 555), (1108, 832), (1662, 1246)),
    "3:2": ((235, 156), (392, 262), (588, 392), (784, 522), (1176, 784), (1764, 1176)),
    "16:9": ((256, 144), (426, 240), (640, 360), (854, 480), (1280, 720), (1920, 1080)),
    "17:9": ((263, 139), (440, 232), (660, 350), (880, 466), (1320, 698), (1980, 1048)),
    "2:1": ((271, 135), (452, 226), (678, 340), (906, 454), (1358, 680), (2036, 1018)),
    "50:27": ((277, 132), (462, 222), (692, 332), (924, 444), (1386, 666), (2078, 998)),
}  # fmt: skip
RESOLUTIONS = {name: {shape: sizes[i] for shape, sizes in SHAPES.items()} for i, name in enumerate(NAMES)}
LATER = {  # of 2.0
    "256px": {
        "16:9": (192, 336), "9:16": (336, 192), "1:1": (256, 256), "2.39:1": (160, 384), "4:3": (224, 288),
        "3:2": (208, 304),
    },
    "768px": {
        "16:9": (576, 1024), "9:16": (1024, 576), "1:1": (768, 768), "2.39:1": (496, 1184), "4:3": (656, 880),
        "3:2": (624, 928),
    },
}  # fmt: skip
FRAMES = {"2s": 51, "4s": 102, "8s": 204, "16s": 408, "32s": 816}  # at 24 frames a second: 51 are 2.125 s
TIMES = {"1x": 51, "2x": 102, "4x": 204, "8x": 408, "16x": 816}
GROUP, LATENTS = 17, 5  # frames that are coded together along time, and the latent frames they become
PICTURE = 120  # the rate that a picture alone is told of  # frames a second


def size(name: str, shape: str) -> tuple[int, int]:
    """Height and width in pixels. Raises InvalidRequest for a name or a shape that is not known."""
    plain = name.removesuffix("_16d")
    if (sizes := RESOLUTIONS.get(plain) or LATER.get(name)) is None:
        known = ", ".join((*NAMES, *LATER))
        raise InvalidRequest(f"resolution is {name!r}, expected one of {known}, or the first with _16d")
    if shape not in sizes:
        order = "width to height" if name in LATER else "height to width"
        raise InvalidRequest(f"aspect ratio is {shape!r}, expected one of {', '.join(sizes)} ({order})")
    height, width = sizes[shape]
    return (height, width) if plain == name else (height // 16 * 16, width // 16 * 16)


def pixels(text: str) -> tuple[int, int]:
    """Height and width as in "240x426". Raises InvalidRequest for what is not two even numbers."""
    form = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text.strip())
    if not form:
        raise InvalidRequest(f"size is {text!r}, expected rows and columns of pixels, such as 240x426")
    height, width = int(form[1]), int(form[2])
    if height % 2 or width % 2:
        even = f"{height // 2 * 2}x{width // 2 * 2}"
        raise InvalidRequest(f"size is {text!r}, expected even numbers: {even} is near")
    return height, width


def frames(length: int | str) -> int:
    """How many frames a length is: a number of them, "2s" to "32s", or "1x" to "16x".

    Raises InvalidRequest for one that is not known or below 1.
    """
    known = FRAMES | TIMES
    if isinstance(length, str) and length in known:
        return known[length]
    if isinstance(length, str) and not length.isdecimal():
        raise InvalidRequest(
            f"length is {length!r}, expected a number of frames or one of {', '.join(known)}"
        )
    if (count := int(length)) < 1:
        raise InvalidRequest(f"length is {count} frames, expected at least 1")
    return count


def shift_frames(count: int, group: int = GROUP, latents: int = LATENTS) -> int:
    """The latent frames by which times are shifted: of whole groups only, as published; at least one."""
    return max(count // group * latents, 1)


def fitted(height: int, width: int, size: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    """How a picture fills another size: the size it is scaled to, which covers that, and where its middle is cut.

    Gives (height, width) and (top, left), in pixels.
    """
    scale = max(size[0] / height, size[1] / width)
    rows, columns = max(round(height * scale), size[0]), max(round(width * scale), size[1])
    return (rows, columns), ((rows - size[0]) // 2, (columns - size[1]) // 2)
