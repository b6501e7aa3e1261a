"""The shapes of Open-Sora's transformers of frames, 1.0 to 1.3."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Config:
    """The shape of a transformer: `text` and `latent` are the channels it is given, `ratio` widens feed-forward.

    `tokens` are the rows of the caption that says nothing, `square` is the side in pixels of the picture whose
    patches lie at whole places. With `sigma` twice the channels come out, and only the first half is the velocity
    or the noise. `legacy` rounds times, rates and places as the published code does in half precision.
    Of 1.0 alone: places are patches over `space` and frames over `time`. Of 1.3 alone: `window` holds the rows and
    columns of patches that attend to each other through all frames, and with `turned` those in a frame have
    positions, too.
    Raises ValueError for sizes that are not positive or heads that do not divide the width into even parts.
    """

    width: int = 1152
    depth: int = 28
    heads: int = 16
    ratio: float = 4.0
    text: int = 4096
    tokens: int = 300
    latent: int = 4
    patch: int = 2
    square: int = 512
    sigma: bool = True
    normed: bool = True
    legacy: bool = False
    space: float = 1.0
    time: float = 1.0
    window: tuple[int, int] = (8, 8)
    turned: bool = True

    def __post_init__(self) -> None:
        sizes = (
            self.width,
            self.depth,
            self.heads,
            self.text,
            self.tokens,
            self.latent,
            self.patch,
            self.square,
        )
        if min(*sizes, self.inner, *self.window) < 1 or min(self.space, self.time) <= 0:
            raise ValueError(f"{self}: sizes are expected to be at least 1, and space and time above 0")
        if len(self.window) != 2:
            raise ValueError(f"window is {self.window}, expected rows and columns")
        if self.width % (2 * self.heads) or self.width % 4:
            raise ValueError(
                f"width {self.width} does not divide into {self.heads} heads of even width, or by 4"
            )

    @property
    def inner(self) -> int:
        """Channels inside feed-forward."""
        return int(self.width * self.ratio)

    @property
    def head(self) -> int:
        """Channels of a head."""
        return self.width // self.heads

    @property
    def out(self) -> int:
        """Channels that come out."""
        return self.latent * (2 if self.sigma else 1)


V12 = Config()
V12_3B = replace(V12, width=1872, heads=26)
V10 = replace(V12, tokens=120, normed=False)
V11 = replace(V12, tokens=200)
V13 = replace(V12, latent=16)
