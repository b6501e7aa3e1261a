"""When each phoneme of a known text is spoken: a small recogniser, and the best path through what it hears.

Every frame belongs to one sound or to a pause, and a pause is only allowed between words and at both ends. So the
blank of CTC is a pause here, and the sounds of a word lie wall to wall.
Sources: Graves et al. 2006 (CTC); Viterbi 1967; arXiv 2201.03545 (ConvNeXt).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from riverrun.models import checkpoint
from riverrun.models.errors import InvalidRequest
from riverrun.models.layers.convnext import Layers

# English phonemes in misaki's notation, then marks, then what stands between words.
PHONES = "AIOQTWYabdfhijklmnpstuvwzæðŋɐɑɒɔəɛɜɡɪɹʃʊʌʒʤʧᵊᵻθ"
MARKS = "ˈˌː"  # they change a neighbour and take no time of their own
PAUSES = ' .,!?;:—…"“”()'
SYMBOLS = PHONES + MARKS + PAUSES
BLANK = 0  # column of a pause; symbol i of SYMBOLS has column i + 1
OVERLAP = 4  # hops a spectrum
FLOOR = 1e-4  # of a band's power, where the clip's is 1
SHORTEST = 2  # frames a sound lasts at least, so that none is squeezed to nothing
SILENCE = (math.log(FLOOR) + 3) / 4  # a feature without sound
NEVER = -1e30  # log-probability of what cannot be; finite, so that two of them can be subtracted
KIND = "aligner"


@dataclass(frozen=True)
class AlignerConfig:
    """The shape of an aligner: one frame passes `near` channels, many pass `layers` of `width` channels.

    Layers work on `stride` frames at a time. Units: `rate` in Hz, `hop` in samples a frame.
    """

    near: int = 384
    width: int = 192
    layers: int = 4
    bands: int = 80
    rate: int = 24_000
    hop: int = 240
    stride: int = 2
    symbols: str = SYMBOLS

    @property
    def seconds(self) -> float:
        """Of a frame."""
        return self.hop / self.rate


@dataclass(frozen=True)
class Span:
    """A symbol and the frames it takes: `start` is the first, `end` the one after the last."""

    symbol: str
    start: int
    end: int


@dataclass(frozen=True)
class Alignment:
    """A span for every symbol, in order and without gaps; marks and unspoken pauses take no frames.

    `confidence` is 1 if no frame would rather be something else, near 0 where the text is another one.
    """

    spans: tuple[Span, ...]
    confidence: float


@dataclass(frozen=True)
class Word:
    """A word as it is spoken, and when. Units: seconds."""

    phonemes: str
    start: float
    end: float


@dataclass(frozen=True)
class Way:
    """The states that speech passes through in order, as columns; a pause, also that at either end, may be left out.

    `places` says of which symbol a state is, -1 for silence before and after all of them.
    """

    columns: tuple[int, ...]
    optional: tuple[bool, ...]
    places: tuple[int, ...]


class Near(nn.Module):
    """What a frame sounds like by itself.  # [b, t, bands] -> [b, t, symbols + 1]"""

    def __init__(self, config: AlignerConfig) -> None:
        super().__init__()
        c = config.near
        self.first, self.norm = nn.Linear(config.bands, c), nn.LayerNorm(c)
        self.grow, self.last = nn.Linear(c, c), nn.Linear(c, len(config.symbols) + 1)

    def forward(self, mel: Tensor) -> Tensor:
        x = F.gelu(self.norm(self.first(mel)))
        told: Tensor = self.last(F.gelu(self.grow(x)))
        return told.float().log_softmax(2)


class Far(nn.Module):
    """What a frame is, heard with a quarter of a second on either side.  # [b, t, bands] -> [b, t, symbols + 1]"""

    def __init__(self, config: AlignerConfig) -> None:
        super().__init__()
        c, self.stride = config.width, config.stride
        self.first, self.norm = nn.Linear(config.stride * config.bands, c), nn.LayerNorm(c)
        self.layers = Layers(c, config.layers, False)
        self.last_norm = nn.LayerNorm(c)
        self.last = nn.Linear(c, config.stride * (len(config.symbols) + 1))

    def forward(self, mel: Tensor) -> Tensor:
        count = mel.shape[1]
        mel = F.pad(mel, (0, 0, 0, -count % self.stride))
        x = self.norm(self.first(rearrange(mel, "b (t n) m -> b t (n m)", n=self.stride)))
        x, _ = self.layers(x, self.layers.start(len(x)))
        told: Tensor = rearrange(self.last(self.last_norm(x)), "b t (n k) -> b (t n) k", n=self.stride)
        return told[:, :count].float().log_softmax(2)


class Aligner(nn.Module):
    """Log-mel frames to log-probabilities of a pause and of each symbol.  # [b, t, bands] -> [b, t, symbols + 1]

    Two listeners: one hears single frames and so cannot say too early or too late that a sound begins; the other
    hears what is around them, too, learns from what the first makes of a text, and makes fewer mistakes.
    """

    def __init__(self, config: AlignerConfig) -> None:
        super().__init__()
        self.config = config
        self.near, self.far = Near(config), Far(config)

    def forward(self, mel: Tensor) -> Tensor:
        told: Tensor = self.far(mel)
        return told

    @torch.inference_mode()
    def hear(self, sound: Tensor) -> Tensor:
        """Log-probabilities of one clip.  # [n] -> [ceil(n / hop), symbols + 1]"""
        told: Tensor = self(features(sound[None], self.config))
        return told[0]

    def align(self, sound: Tensor, phonemes: str) -> Alignment:
        """When each symbol of a clip `[n]` is spoken. Raises InvalidRequest as `align` does."""
        return align(self.hear(sound), phonemes, self.config.symbols)


def features(sound: Tensor, config: AlignerConfig) -> Tensor:
    """Log-mel frames of sound at the config's rate, whatever its level; frame i is centred in its hop.

    Shapes: `[b, n] -> [b, ceil(n / hop), bands]`, about zero mean and unit variance.
    """
    from torchaudio.functional import melscale_fbanks

    size, hop = config.hop * OVERLAP, config.hop
    power = sound.square().mean(1, keepdim=True).clamp_min(1e-10)
    around = (size - hop) // 2
    padded = F.pad(sound * power.rsqrt(), (around, around - sound.shape[1] % -hop))
    window = torch.hann_window(size, device=sound.device) * math.sqrt(8 / 3 / size)
    spectrum = torch.fft.rfft(padded.unfold(1, size, hop) * window)
    filters = melscale_fbanks(size // 2 + 1, 0.0, config.rate / 2, config.bands, config.rate)
    mel: Tensor = (spectrum.real.square() + spectrum.imag.square()) @ filters.to(sound.device)
    return ((mel + FLOOR).log() + 3) / 4


def path(phonemes: str, symbols: str = SYMBOLS) -> Way:
    """What speech of these symbols passes through. Raises InvalidRequest for one that is not in `symbols`."""
    columns, places = [BLANK], [-1]
    for place, symbol in enumerate(phonemes):
        if symbol not in symbols:
            raise InvalidRequest(
                f"symbol {place} of {phonemes!r:.60} is {symbol!r}, expected one of {symbols}"
            )
        if symbol in MARKS:
            continue
        if symbol not in PAUSES:
            columns += [symbols.index(symbol) + 1] * SHORTEST
            places += [place] * SHORTEST
        elif columns[-1] != BLANK:
            columns.append(BLANK)
            places.append(place)
        elif places[-1] < 0:
            places[-1] = place
    if columns[-1] != BLANK:
        columns.append(BLANK)
        places.append(-1)
    return Way(tuple(columns), tuple(column == BLANK for column in columns), tuple(places))


def reach(
    emission: Tensor, optional: Tensor, start: Tensor, join: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """How likely each state is at each frame, after all ways there, which `join` makes one of two.

    A way stays in its state, goes on to the next, or passes over an optional one. Shapes: emission `[b, t, s]` and
    start `[b, s]` are log-probabilities, optional `[b, s]`; gives `[b, t, s]`.
    """
    jump = torch.where(F.pad(optional[:, :-1], (1, 0)), 0.0, NEVER)
    rows = [start + emission[:, 0]]
    for now in emission.unbind(1)[1:]:
        before = F.pad(rows[-1], (2, 0), value=NEVER)
        onward = join(before[:, 2:], before[:, 1:-1])
        rows.append(join(onward, before[:, :-2] + jump) + now)
    return torch.stack(rows, 1)


def starts(optional: Tensor) -> Tensor:
    """Log-probabilities of the states a way may start in: the first, and the second after an optional one."""
    start = torch.full(optional.shape, NEVER)
    start[:, 0] = 0.0
    start[:, 1:2] = torch.where(optional[:, :1], 0.0, NEVER)
    return start


def align(logprobs: Tensor, phonemes: str, symbols: str = SYMBOLS) -> Alignment:
    """When each symbol is spoken, by the most likely path.  # [t, symbols + 1]

    A pause belongs to the first of the symbols between two words. Raises InvalidRequest where a symbol is unknown,
    nothing is to be spoken, or the sounds do not fit into the frames.
    """
    way = path(phonemes, symbols)
    needed = len(way.columns) - sum(way.optional)
    if not needed:
        raise InvalidRequest(f"{phonemes!r} holds no sound: nothing can be aligned")
    if needed > len(logprobs):
        raise InvalidRequest(
            f"{phonemes!r:.60} holds {needed // SHORTEST} sounds of at least {SHORTEST} frames, "
            f"and the clip {len(logprobs)} frames"
        )
    logprobs = logprobs.float().cpu()
    emission, optional = logprobs[:, list(way.columns)], torch.tensor([way.optional])
    scores = reach(emission[None], optional, starts(optional), torch.maximum)[0]
    states = _back(scores.tolist(), way.optional)
    lost = emission.gather(1, torch.tensor(states)[:, None])[:, 0] - logprobs.amax(1)
    return Alignment(_spans(states, way, phonemes), float(lost.mean().exp()))


def _back(scores: Sequence[Sequence[float]], optional: Sequence[bool]) -> list[int]:
    """The state of each frame on the best way to the end.  # [t, s] -> [t]"""
    state = max((len(optional) - 1, len(optional) - 2), key=lambda s: scores[-1][s])
    states = [state]
    for row in reversed(scores[:-1]):
        before = [state, state - 1] + ([state - 2] if state > 1 and optional[state - 1] else [])
        state = max((s for s in before if s >= 0), key=lambda s: row[s])
        states.append(state)
    return states[::-1]


def _spans(states: Sequence[int], way: Way, phonemes: str) -> tuple[Span, ...]:
    """Each symbol's frames; one without a state, or whose state was passed over, takes none."""
    ends = {way.places[state]: frame + 1 for frame, state in enumerate(states)}
    first = next(frame for frame, state in enumerate(states) if way.places[state] >= 0)
    spans, at = [], first
    for place, symbol in enumerate(phonemes):
        end = ends.get(place, at)
        spans.append(Span(symbol, at, end))
        at = end
    return tuple(spans)


def words(spans: Sequence[Span], seconds: float) -> list[Word]:
    """The words among spans of frames that last `seconds` each."""
    found: list[Word] = []
    group: list[Span] = []
    for span in [*spans, Span(" ", 0, 0)]:
        if span.symbol not in PAUSES:
            group.append(span)
        elif group:
            spelled = "".join(s.symbol for s in group)
            found.append(Word(spelled, group[0].start * seconds, group[-1].end * seconds))
            group = []
    return found


def spell(logprobs: Tensor, symbols: str = SYMBOLS) -> str:
    """The sounds a clip seems to hold, without its text: the likeliest of each frame, once.  # [t, symbols + 1]

    What lasts less than the shortest sound is none.
    """
    columns, lengths = torch.unique_consecutive(logprobs.argmax(1), return_counts=True)
    lasting = torch.unique_consecutive(columns[lengths >= SHORTEST])
    return "".join(symbols[column - 1] for column in lasting.tolist() if column != BLANK)


def packaged() -> Path:
    """The weights that come with the package."""
    return Path(str(files("riverrun.assets"))) / "align-lite.safetensors"


def load(file: Path) -> Aligner:
    """An aligner from its weights. Raises CheckpointError."""
    header, tensors = checkpoint.read(file)
    config = checkpoint.config(header, KIND, AlignerConfig, file)
    model = Aligner(config)
    checkpoint.fill(model, tensors, file)
    return model.eval().requires_grad_(False)
