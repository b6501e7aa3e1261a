"""Live conversion as people use it: noise out, a gate, an even loudness, then another voice, in one session."""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from riverrun.media import Chunk
from riverrun.models import blend, checkpoint
from riverrun.models.blend import Blend
from riverrun.models.chain import Chain
from riverrun.models.contract import Outputs, StreamModel
from riverrun.models.errors import InvalidRequest
from riverrun.models.restoration import stream as restoration
from riverrun.models.rows import mono
from riverrun.models.state import State
from riverrun.models.voice import gain, gate, highpass, lite, windows, xvc
from riverrun.models.voice.gain import Gain
from riverrun.models.voice.gate import Gate
from riverrun.models.voice.highpass import Highpass
from riverrun.models.voice.lite import ConvertLite
from riverrun.models.voice.windows import Conversion
from riverrun.models.within import Filter, Within


@dataclass(frozen=True)
class Request(lite.Request):
    """What a session asks for: of the converter, as its Request says, and of what comes before it.

    `bypass` lets the input through, untouched by any of them. What is softer than `gate`, in dB of full scale, is
    silence; at -100 nothing is. `gain` is whether speech is brought to an even loudness. `clean`, 0 to 1, is how much
    of what is converted was restored first, by models that do so.
    """

    gate: float = -55.0
    gain: bool = True
    clean: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.clean <= 1:
            raise InvalidRequest(f"clean is {self.clean}, expected 0 (as it came) to 1 (restored)")


@dataclass(frozen=True)
class WindowsRequest(Request):
    """The same of X-VC, which refuses what it cannot do: see the Request in windows.py."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _of(windows.Request, self)


class LiveConverter:
    """A converter behind a gate and an automatic gain, and these behind a restorer, as one StreamModel.

    The gate hears what was restored, so that noise does not hold it open. Before X-VC is its own high-pass, too.
    """

    def __init__(
        self, converter: ConvertLite | Conversion, restorer: Filter | None = None, device: str = "cpu"
    ) -> None:
        """The restorer may be of another rate and hop than the converter."""
        port, published = mono(converter), isinstance(converter, Conversion)
        self.request: type[Request] = WindowsRequest if published else Request
        self.asks: list[Any] = [highpass.Request()] if published else []  # of what comes before the gain
        before: list[StreamModel] = [Highpass(port)] if published else []
        stages: StreamModel = Gate(Chain([*before, Gain(port, device), converter]), device)
        if restorer:
            stages = Chain([Blend(Within(restorer, port, device), device), stages])
        self.model, self.converter, self.restorer, self.device = (
            Blend(stages, device),
            converter,
            restorer,
            device,
        )
        self.presets, self.period = getattr(converter, "presets", ()), getattr(converter, "period", port.hop)
        whole = self.model.spec
        self.spec = replace(converter.spec, latency=whole.latency, max_batch=whole.max_batch)

    def at(self, preset: str) -> "LiveConverter":
        """As Presets.at, of the converter."""
        assert isinstance(self.converter, Conversion)
        return LiveConverter(self.converter.at(preset), self.restorer, self.device)

    def several(self, sound: NDArray[np.float32]) -> Iterator[bool]:
        """As Discerns.several, of the converter; not of X-VC, whose weights were not here to be measured."""
        assert isinstance(self.converter, ConvertLite)
        return self.converter.several(sound)

    def open(self, request: Request) -> State:
        """As StreamModel.open. Raises InvalidRequest."""
        return self.model.open(self._asked(request))

    def update(self, state: State, request: Request) -> State:
        """Change any of it, but the seed. Raises InvalidRequest."""
        return self.model.update(state, self._asked(request))

    def close(self, state: State) -> None:
        """As StreamModel.close."""
        self.model.close(state)

    def key(self, state: State) -> Hashable:
        """Where its stages are, and their keys."""
        return self.model.key(state)

    def step(self, inputs: Sequence[Chunk | None], state: State) -> tuple[Outputs, State]:
        """Go on by a hop, or by one of the restorer's where those are shorter."""
        return self.model.step(inputs, state)

    def _asked(self, request: Request) -> blend.Request:
        """A request as the stages know it."""
        converted = _of(self.converter.request, replace(request, bypass=False))
        asked: Any = gate.Request((*self.asks, gain.Request(request.gain), converted), request.gate)
        if self.restorer:
            restored = blend.Request(restoration.Request(seed=request.seed), request.clean)
            asked = restored, asked
        return blend.Request(asked, 0.0 if request.bypass else 1.0)


def _of(kind: type[Any], request: Request) -> Any:
    """What a converter's own request holds of one. Raises InvalidRequest."""
    return kind(**{field.name: getattr(request, field.name) for field in fields(kind)})


def load(path: Path, restorer: Path | None = None, device: str = "cpu") -> LiveConverter:
    """A converter from its checkpoint, behind a restorer if there is one of that, too. Raises CheckpointError."""
    restores = restoration.load(restorer, device) if restorer else None
    published = checkpoint.header(path).get(checkpoint.KIND) == xvc.KIND
    converter = windows.load(path, device) if published else lite.load(path, device)
    return LiveConverter(converter, restores, device)
