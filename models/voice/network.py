"""The small converter: what is said, as somebody else would say it, frame by frame.

A voice enters twice, as in X-VC (arXiv 2604.12456): one vector modulates every layer, and tokens of the recording
are attended to. Nothing looks ahead: what is converted was heard some frames ago.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from riverrun.models.layers.convnext import KERNEL, Conv, Layers
from riverrun.models.layers.spectra import OVERLAP
from riverrun.models.state import State
from riverrun.models.voice.listener import STRIDE, Listener, ListenerConfig
from riverrun.models.voice.source import Pulses, Synthesis

TONES = 4  # numbers of each frame beside content: see Listener


@dataclass(frozen=True)
class ConverterConfig:
    """The shape of a converter.

    `slow` layers work on pairs of frames, `fast` ones on frames, all `width` wide; the `attends`-th slow ones attend to
    the voice with `heads` heads. A voice is heard by `ears` layers of `hearing` channels, gives a token each `pool`
    pairs of frames, and a `vector`. A spectrum begins `ahead` frames before the last one whose content is known, as
    it spans several. Raises ValueError where pitch is not known just as far as a spectrum needs it, or `late` is odd.
    """

    listener: ListenerConfig = ListenerConfig()
    width: int = 256
    slow: int = 5
    fast: int = 4
    attends: tuple[int, ...] = (1, 3)
    heads: int = 4
    hearing: int = 192
    ears: int = 4
    pool: int = 8
    vector: int = 128
    ahead: int = 2

    def __post_init__(self) -> None:
        heard = self.listener
        known = heard.late - heard.late_pitch + self.ahead
        if known != OVERLAP - 1 or heard.late % STRIDE or self.ahead < 0:
            raise ValueError(
                f"late is {heard.late}, late_pitch {heard.late_pitch} and ahead {self.ahead}, expected an even late"
                f" and late - late_pitch + ahead of {OVERLAP - 1}, where a spectrum ends"
            )

    @property
    def latency(self) -> int:
        """Samples after which a hop is told."""
        return (self.listener.late + self.ahead) * self.listener.hop


class Voice(nn.Module):
    """Recordings to tokens, and tokens to a vector: who speaks, whatever is said."""

    def __init__(self, config: ConverterConfig) -> None:
        super().__init__()
        c, self.pool = config.hearing, config.pool
        self.first, self.norm = nn.Linear(STRIDE * config.listener.bands, c), nn.LayerNorm(c)
        self.layers, self.last_norm = Layers(c, config.ears, causal=True), nn.LayerNorm(c)
        self.weigh, self.last = nn.Linear(c, c), nn.Linear(2 * c, config.vector)

    def start(self, batch: int) -> State:
        return self.layers.start(batch)

    def forward(self, bands: Tensor, state: State) -> tuple[Tensor, State]:
        """Tokens; what does not fill one is left out.  # [b, t, bands] -> [b, t / 2 / pool, c]"""
        x = self.norm(self.first(rearrange(bands, "b (t n) m -> b t (n m)", n=STRIDE)))
        x, state = self.layers(x, state)
        whole = x.shape[1] // self.pool * self.pool
        tokens: Tensor = self.last_norm(rearrange(x[:, :whole], "b (t n) c -> b t n c", n=self.pool).mean(2))
        return tokens, state

    def sum_up(self, tokens: Tensor, here: Tensor) -> Tensor:
        """Mean and spread of tokens that are there, each channel weighing them its own way.  # [b, n, c], [b, n]"""
        scores = self.weigh(tokens).float().masked_fill(~here[..., None], -1e4)
        weights = scores.softmax(1)
        mean = (weights * tokens).sum(1)
        spread = (weights * (tokens - mean[:, None]).square()).sum(1).clamp_min(1e-6).sqrt()
        vector: Tensor = self.last(torch.cat([mean, spread], dim=1))
        return vector


class Turned(nn.Module):
    """A ConvNeXt layer that a voice turns: its scale, shift and gate come from outside (AdaLN, arXiv 2212.09748)."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.conv, self.norm = Conv(c, c, KERNEL, True, groups=c), nn.LayerNorm(c, elementwise_affine=False)
        self.grow, self.shrink = nn.Linear(c, 3 * c), nn.Linear(3 * c, c)
        self.size = nn.Parameter(torch.full((c,), 0.3))

    def start(self, batch: int) -> Tensor:
        return self.conv.start(batch)

    def forward(self, x: Tensor, turn: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        scale, shift, gate = turn.chunk(3, dim=-1)
        y, past = self.conv(x, past)
        y = self.norm(y) * (1 + scale) + shift
        return x + self.size * (1 + gate) * self.shrink(F.gelu(self.grow(y))), past


class Attend(nn.Module):
    """Frames ask a voice's tokens.  # [b, t, c]; keys and values [b, h, n, d]"""

    def __init__(self, c: int, told: int, heads: int) -> None:
        super().__init__()
        self.heads, self.norm = heads, nn.LayerNorm(c)
        self.ask, self.tell, self.out = nn.Linear(c, c), nn.Linear(told, 2 * c), nn.Linear(c, c)
        nn.init.zeros_(self.out.weight)

    def hear(self, tokens: Tensor) -> Tensor:
        """Keys and values, one after the other.  # [b, n, c] -> [b, 2, h, n, d]"""
        told: Tensor = rearrange(self.tell(tokens), "b n (k h d) -> b k h n d", k=2, h=self.heads)
        return told

    def forward(self, x: Tensor, told: Tensor, here: Tensor) -> Tensor:
        q = rearrange(self.ask(self.norm(x)), "b t (h d) -> b h t d", h=self.heads)
        keys, values = told.to(q.dtype).unbind(1)
        y = F.scaled_dot_product_attention(q, keys, values, attn_mask=here[:, None, None])
        found: Tensor = self.out(rearrange(y, "b h t d -> b t (h d)"))
        return found


class Converter(nn.Module):
    """What was heard, and a voice, to sound.

    Shapes: content `[b, t / 2, content]`, tone `[b, t, 4]` and pitch `[b, t]`, in octaves, as a Listener tells them and
    as they are wanted -> `[b, t hop]`, which begins `ahead` frames before what content is of.
    """

    def __init__(self, config: ConverterConfig) -> None:
        super().__init__()
        heard, c = config.listener, config.width
        self.config = config
        self.listener, self.voice = Listener(heard), Voice(config)
        self.first = nn.Linear(heard.content + STRIDE * TONES, c)
        self.slow = nn.ModuleList(Turned(c) for _ in range(config.slow))
        self.attends = nn.ModuleDict(
            {str(i): Attend(c, config.hearing, config.heads) for i in config.attends}
        )
        self.unfold = nn.Linear(c, STRIDE * c)
        self.fast = nn.ModuleList(Turned(c) for _ in range(config.fast))
        self.turns = nn.Linear(config.vector, (config.slow + config.fast) * 3 * c)
        self.last_norm, self.last = nn.LayerNorm(c), nn.Linear(c, 3 * heard.bins)
        nn.init.normal_(self.turns.weight, std=0.02)
        nn.init.zeros_(self.turns.bias)
        nn.init.normal_(self.last.weight, std=0.01)
        nn.init.constant_(self.last.bias[: heard.bins], -4.0)
        nn.init.zeros_(self.last.bias[heard.bins : 2 * heard.bins])
        nn.init.constant_(self.last.bias[2 * heard.bins :], -6.0)
        self.pulses, self.synthesis = Pulses(heard.rate, heard.hop, heard.lowest), Synthesis(heard.hop)

    def start(self, batch: int) -> State:
        """Before the first frame."""
        layers = [*self.slow, *self.fast]
        past = {str(i): layer.start(batch) for i, layer in enumerate(layers) if isinstance(layer, Turned)}
        return {"layers": past, "pulses": self.pulses.start(batch), "synthesis": self.synthesis.start(batch)}

    def hear(self, tokens: Tensor, here: Tensor) -> State:
        """What layers need of voices: worked out once.  # [b, n, c], [b, n]"""
        vector = self.voice.sum_up(tokens, here)
        told = [part.hear(tokens) for part in self.attends.values() if isinstance(part, Attend)]
        turns = rearrange(self.turns(F.silu(vector)), "b (n c) -> b n c", n=len(self.slow) + len(self.fast))
        return {"turns": turns, "told": torch.stack(told, dim=1), "here": here}

    def forward(
        self, content: Tensor, tone: Tensor, pitch: Tensor, voice: State, state: State
    ) -> tuple[Tensor, State]:
        told, layers = self.spectra(content, tone, voice, state["layers"])
        pulses, pulsing = self.pulses(pitch, state["pulses"])
        sound, synthesis = self.synthesis(told, pulses, state["synthesis"])
        return sound, {"layers": layers, "pulses": pulsing, "synthesis": synthesis}

    def spectra(self, content: Tensor, tone: Tensor, voice: State, state: State) -> tuple[Tensor, State]:
        """Filters and noise of every frame.  # [b, t, 3 bins]"""
        tones = torch.cat([tone[..., :1], (tone[..., 1:2] - 1.5) / 0.6, tone[..., 2:]], dim=2)
        pairs = rearrange(tones, "b (t n) c -> b t (n c)", n=STRIDE)
        x, kept = self.first(torch.cat([content, pairs], dim=2)), State()
        turns = voice["turns"][:, :, None].unbind(1)
        attending = 0
        for i, layer in enumerate(self.slow):
            x, kept[str(i)] = layer(x, turns[i], state[str(i)])
            if str(i) in self.attends:
                x = x + self.attends[str(i)](x, voice["told"][:, attending], voice["here"])
                attending += 1
        x = rearrange(self.unfold(x), "b t (n c) -> b (t n) c", n=STRIDE)
        for i, layer in enumerate(self.fast, len(self.slow)):
            x, kept[str(i)] = layer(x, turns[i], state[str(i)])
        return self.last(self.last_norm(x)), kept
