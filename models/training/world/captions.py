"""Captions that say what a scene shows, exactly, in words that vary, all from one small vocabulary."""

from collections.abc import Iterable

import numpy as np

from riverrun.models.training.world.colors import COLORS, SHADES
from riverrun.models.training.world.names import nouns
from riverrun.models.training.world.scenes import PAIRED, PALE, Background, Scene, Thing
from riverrun.models.training.world.shapes import SHAPES
from riverrun.models.training.world.sprites import Bank

PLURALS = {
    **{
        name: name
        for name in ("bison", "deer", "sheep", "fish", "squid", "shrimp", "corn", "broccoli", "sushi")
    },
    **{
        "goose": "geese",
        "mouse": "mice",
        "wolf": "wolves",
        "leaf": "leaves",
        "die": "dice",
        "snowman": "snowmen",
    },
    **{"fly": "flies", "butterfly": "butterflies", "cherry": "cherries", "blueberry": "blueberries"},
    **{"strawberry": "strawberries", "battery": "batteries", "factory": "factories"},
    **{
        "tomato": "tomatoes",
        "potato": "potatoes",
        "mango": "mangoes",
        "bread": "breads",
        "garlic": "garlics",
    },
    **{"canoe": "canoes", "trophy": "trophies", "candy": "candies"},
}
COUNTS = {1: (), 2: ("two",), 3: ("three",), 4: ("four",)}
SIZES = {"small": ("small", "little"), "big": ("big", "large")}
SMALL, BIG = 0.27, 0.42  # of the height of the picture: below is small, above is big

# how a verb is said: of one, of more than one, and as a participle
Forms = tuple[str, str, str]
SAID: dict[str, tuple[Forms, ...]] = {
    "moves": (("moves", "move", "moving"), ("goes", "go", "going"), ("travels", "travel", "traveling")),
    "moves up": (
        ("rises", "rise", "rising"),
        ("moves up", "move up", "moving up"),
        ("goes up", "go up", "going up"),
    ),
    "moves down": (
        ("sinks", "sink", "sinking"),
        ("moves down", "move down", "moving down"),
        ("goes down", "go down", "going down"),
    ),
    "rolls": (("rolls", "roll", "rolling"),),
    "falls": (
        ("falls", "fall", "falling"),
        ("drops", "drop", "dropping"),
        ("falls down", "fall down", "falling down"),
    ),
    "bounces": (
        ("bounces", "bounce", "bouncing"),
        ("bounces up and down", "bounce up and down", "bouncing up and down"),
    ),
    "grows": (("grows", "grow", "growing"), ("gets bigger", "get bigger", "getting bigger")),
    "shrinks": (("shrinks", "shrink", "shrinking"), ("gets smaller", "get smaller", "getting smaller")),
    "spins": (("spins", "spin", "spinning"), ("turns", "turn", "turning"), ("rotates", "rotate", "rotating")),
    "swings": (
        ("swings", "swing", "swinging"),
        ("swings from side to side", "swing from side to side", "swinging from side to side"),
    ),
    "stays": (
        ("stays still", "stay still", "staying still"),
        ("does not move", "do not move", "standing still"),
        ("stays in place", "stay in place", "staying in place"),
    ),
    "orbits": (
        ("orbits", "orbit", "orbiting"),
        ("circles around", "circle around", "circling around"),
        ("goes around", "go around", "going around"),
    ),
    "chases": (
        ("chases", "chase", "chasing"),
        ("runs after", "run after", "running after"),
        ("follows", "follow", "following"),
    ),
    "hides": (
        ("hides behind", "hide behind", "hiding behind"),
        ("slips behind", "slip behind", "slipping behind"),
    ),
}
WAYS = {
    "left": ("left", "to the left", "from right to left"),
    "right": ("right", "to the right", "from left to right"),
    "clockwise": ("clockwise",),
    "counterclockwise": ("counterclockwise",),
}
SETTINGS = {
    "meadow": ("in a meadow", "on green grass", "on a green meadow"),
    "beach": ("on a beach", "at the beach", "on the sand by the sea"),
    "desert": ("in a desert", "among sand dunes"),
    "snow": ("in the snow", "in a snowy field"),
    "sea": ("on the sea", "on the ocean", "over the waves"),
    "city": ("in a city", "on a street", "in front of tall buildings"),
    "room": ("in a room", "inside a house", "on a wooden floor"),
    "forest": ("in a forest", "in front of pine trees", "in the woods"),
    "hills": ("in front of hills", "in the hills", "in a valley"),
    "plain": ("on a {} background", "in front of a plain {} wall"),
    "striped": ("on a striped {} background", "in front of {} stripes"),
    "dotted": ("on a dotted {} background", "in front of {} dots"),
    "checked": ("on a checked {} background", "in front of {} checks"),
}
LIT = {
    "day": ("by day", "in daylight", "on a bright day"),
    "dusk": ("at dusk", "at sunset", "in the evening light"),
    "night": ("at night", "in the dark", "by night"),
}
VIEWS = {
    "still": ("the camera is still", "with a still camera"),
    "pan left": ("the camera pans left", "the camera pans to the left", "with the camera panning left"),
    "pan right": ("the camera pans right", "the camera pans to the right", "with the camera panning right"),
    "zoom in": ("the camera zooms in", "with the camera zooming in", "the camera moves closer"),
    "zoom out": ("the camera zooms out", "with the camera zooming out", "the camera moves away"),
}
GLUE = ("a", "an", "the", "one", "and", "while", "with", "is", "are", "of", "video", "clip", "pale", ",")


def caption(scene: Scene, rng: np.random.Generator, bank: Bank | None = None) -> str:
    """What a scene shows: all things, their colours, counts, verbs and directions; at times the rest.

    With a bank the colour of a sprite that is mostly of one is named at times, too.
    """
    return _Words(rng, bank).scene(scene)


def vocabulary() -> tuple[str, ...]:
    """All words that captions use, and the comma, in order."""
    named = nouns()
    tables = (COUNTS, SIZES, SAID, WAYS, SETTINGS, LIT, VIEWS, GLUE, (*COLORS, *SHADES, *PALE), named)
    words = {word for text in _texts(tables) for word in text.split()} - {"{}"}
    words |= {word for noun in (*named, *SHAPES) for word in (*noun.split(), *plural(noun).split())}
    return tuple(sorted(words))


def plural(noun: str) -> str:
    """More than one of a noun: its last word's plural."""
    *first, last = noun.split()
    if last in PLURALS:
        many = PLURALS[last]
    elif last.endswith(("s", "x", "z", "ch", "sh")):
        many = last + "es"
    else:
        many = last + "s"
    return " ".join([*first, many])


def _texts(value: object) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from _texts(list(value.values()))
    elif isinstance(value, Iterable):
        for part in value:
            yield from _texts(part)


class _Words:
    """Draws of words."""

    def __init__(self, rng: np.random.Generator, bank: Bank | None) -> None:
        self.rng, self.bank = rng, bank

    def scene(self, scene: Scene) -> str:
        """The whole caption: what happens, before or after where, in which light and how it is seen."""
        where = [self.setting(scene.background)] if self.often(0.65) else []
        if self.often(0.3 if scene.light == "day" else 0.8):
            where.append(self.pick(LIT[scene.light]))
        happens = self.happens(scene.things)
        before = bool(where) and self.often(0.25)
        text = f"{' '.join(where)}, {happens}" if before else " ".join([happens, *where])
        if self.often(0.15 if scene.camera.kind == "still" else 0.9):
            text += f", {self.pick(VIEWS[scene.camera.kind])}"
        return text

    def happens(self, things: tuple[Thing, ...]) -> str:
        """What all the things do. In a pair the second one is named by what the first does to it."""
        form = int(self.rng.integers(3))  # finite, progressive, or a mere participle
        if things[0].verb in PAIRED:
            clauses = [self.pair(things[0], things[1], form)]
        else:
            clauses = [self.alone(thing, form) for thing in things]
        joint = self.pick((" and ", " while ", ", ") if form < 2 else (" and ", ", "))
        text = joint.join(clauses)
        return f"a {self.pick(('video', 'clip'))} of {text}" if form == 2 and self.often(0.4) else text

    def alone(self, thing: Thing, form: int) -> str:
        verb = thing.verb
        if thing.direction in ("up", "down"):
            return f"{self.noun(thing)} {self.verb(f'moves {thing.direction}', thing.count, form)}"
        words = [self.noun(thing), self.verb(verb, thing.count, form)]
        return " ".join([*words, *self.way(thing.direction)])

    def pair(self, first: Thing, second: Thing, form: int) -> str:
        words = [self.noun(first), self.verb(first.verb, first.count, form), self.noun(second)]
        return " ".join([*words, *self.way(first.direction)])

    def way(self, direction: str) -> list[str]:
        return [self.pick(WAYS[direction])] if direction else []

    def verb(self, verb: str, count: int, form: int) -> str:
        one, many, going = SAID[verb][int(self.rng.integers(len(SAID[verb])))]
        if form == 0:
            return one if count == 1 else many
        return going if form == 2 else f"{'is' if count == 1 else 'are'} {going}"

    def noun(self, thing: Thing) -> str:
        """The things with their count, their colour, and at times their size."""
        words = [thing.name if thing.count == 1 else plural(thing.name)]
        color = thing.color
        if not color and self.bank is not None and self.often(0.25):
            color = self.bank.colors[self.bank.find(thing.name)]
        if color:
            words.insert(0, color)
        size = "small" if thing.size < SMALL else "big" if thing.size > BIG else ""
        if size and thing.verb not in ("grows", "shrinks") and self.often(0.5):
            words.insert(0, self.pick(SIZES[size]))
        if thing.count > 1:
            return " ".join([*COUNTS[thing.count], *words])
        article = "an" if words[0][0] in "aeiou" and not words[0].startswith(("uni", "ufo")) else "a"
        return " ".join([self.pick((article, article, article, "the", "one")), *words])

    def setting(self, background: Background) -> str:
        color = background.color
        if color and color != "white":
            color = f"{self.pick(('pale', 'light'))} {color}"
        return self.pick(SETTINGS[background.kind]).format(color)

    def pick(self, words: tuple[str, ...]) -> str:
        return words[int(self.rng.integers(len(words)))]

    def often(self, share: float) -> bool:
        return bool(self.rng.random() < share)


__all__ = ["caption", "plural", "vocabulary"]
