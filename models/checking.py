"""check_stream: the properties every streaming model has, measured on any model and asserted."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from riverrun.media import Chunk
from riverrun.models.contract import StreamModel
from riverrun.models.errors import ModelError
from riverrun.models.noise import noise
from riverrun.models.recording import recorded
from riverrun.models.state import State, clone, load, part, save, stack

TOLERANCE = 1e-5  # of full scale, or of the peak if that is higher
SHADE = 1 / 255  # of full scale: a difference as small as that of sound may round a pixel the other way
HOPS = 4  # fewest: something happens to a session in the middle, and the next one joins two steps later
PATIENCE = 10_000  # steps without any output or change of input

Audio = NDArray[np.float32]


def sample(model: StreamModel, seed: int = 0) -> Any:
    """A request that the model takes: its usual one, in the voice of a second of noise if it knows none by name, or
    some pictures of something, in a mode by the seed.
    """
    if model.spec.shows:
        port, modes = model.spec.gives[0], model.spec.modes or ("",)
        seconds, mode = float(4 * port.hop / port.rate), modes[seed % len(modes)]
        return model.request(prompt="a red ball", seconds=seconds, seed=seed, mode=mode)
    if not model.spec.converts or model.spec.voices:
        return model.request()
    return model.request(recording=recorded(0.1 * noise(seed, 0, (int(model.spec.gives[0].rate),))))


@dataclass(frozen=True)
class Report:
    """The largest difference found for each property; None where a model has nothing to compare."""

    ticks: int  # of port 0, in each stream compared
    batch: int  # most sessions that shared a step
    batched: float  # a row of a batch joined out of phase, to the same session alone
    resumed: float  # saved and loaded mid-stream, to never stopped: 0 at equal threads
    forked: float  # going on after a clone went another way: 0
    repeated: float  # the same input again, and then another future: 0
    whole: float | None = None  # the stream, to one forward pass over the whole clip
    pieces: float | None = None  # text in other pieces, at other times

    @property
    def max_difference(self) -> float:
        """The largest of all."""
        values = [getattr(self, f.name) for f in fields(self)]
        return max(v for v in values if isinstance(v, float))


@dataclass(eq=False)
class Run:
    """One stream under check: hops of a filter's input, or requests for a generator, and what came out."""

    model: StreamModel
    state: State
    data: Audio | None = None  # [t, c]
    updates: deque[Any] = field(default_factory=deque)
    ports: list[list[Chunk]] = field(init=False)
    position: int = 0  # ticks fed
    steps: int = 0  # taken
    pending: bool = False
    over: bool = False

    def __post_init__(self) -> None:
        self.ports = [[] for _ in self.model.spec.gives]
        self.over = self.data is not None and not len(self.data)

    def key(self) -> Any:
        """The model's key; an idle generator is given its next update first."""
        while (key := self.model.key(self.state)) is None:
            if not self.updates:
                raise ModelError("the generator waits for an update after the last one, and has not ended")
            self.update()
        return key

    def update(self) -> None:
        self.state = self.model.update(self.state, self.updates.popleft())

    def take(self) -> Chunk | None:
        """The next input."""
        takes = self.model.spec.takes
        if takes is None or self.data is None or self.pending:
            return None
        hop = Chunk(self.data[self.position :][: takes.hop], self.position, takes.rate)
        self.position, self.pending = self.position + takes.hop, True
        return hop

    def give(self, outputs: tuple[Chunk | None, ...]) -> None:
        """Look at an answer: type, shape and place. Raises ModelError."""
        spec = self.model.spec
        if len(outputs) != len(spec.gives):
            raise ModelError(
                f"model gave {len(outputs)} outputs, expected one for each of {len(spec.gives)} ports"
            )
        for port, chunk, seen in zip(spec.gives, outputs, self.ports, strict=True):
            if chunk is None:
                continue
            kind, shape = ("uint8", None) if port.kind == "video" else ("float32", (port.channels,))
            start = seen[-1].end if seen else -spec.latency if spec.takes else chunk.pts
            found = (str(chunk.data.dtype), chunk.rate, chunk.pts)
            if found != (kind, port.rate, start) or shape not in (None, chunk.data.shape[1:]):
                raise ModelError(
                    f"model gave {found} of shape {chunk.data.shape}, expected {(kind, port.rate, start)}"
                    f" of shape [t, {'y, x, 3' if shape is None else port.channels}]"
                )
            if spec.takes and len(chunk) != port.hop:
                raise ModelError(f"model gave {len(chunk)} ticks for one hop, expected {port.hop}")
            seen.append(chunk)
            self.pending = False
        if self.data is None:
            self.over = all(seen and seen[-1].last for seen in self.ports)
        else:
            self.over = not self.pending and self.position >= len(self.data)

    def result(self) -> list[NDArray[np.float64]]:
        """What came out, a port each, as numbers in [-1, 1]."""
        wide = [
            np.concatenate([c.data for c in seen] or [np.empty(0)]).astype(np.float64) for seen in self.ports
        ]
        return [d / 255 if p.kind == "video" else d for d, p in zip(wide, self.model.spec.gives, strict=True)]


def check_stream(
    model: StreamModel,
    requests: Sequence[Any],
    scripts: Sequence[Sequence[Any]] = (),
    seed: int = 0,
    hops: int = 24,
    device: str = "cpu",
) -> Report:
    """Assert what every streaming model promises, and say how closely it is kept.

    Sessions opened by `requests` are compared alone, in batches, saved, forked and repeated. Each of `scripts` is
    for a generator: a request that opens and updates that follow, all of which must give one and the same stream.
    A filter with a method `whole(data [t, c], request) -> data` is compared with it.
    Raises ModelError naming the property and the difference; ValueError without a request, or where a filter has
    fewer than 4 hops or not more than twice its latency, so that nothing would be proved.
    """
    if not requests:
        raise ValueError("no request to open a session with")
    takes, latency = model.spec.takes, model.spec.latency
    if takes is not None and (hops < HOPS or hops // 2 * takes.hop <= latency):
        least = max(HOPS, 2 * (latency // takes.hop + 1))
        raise ValueError(
            f"hops is {hops}, expected at least {least} for hops of {takes.hop} and latency {latency}"
        )
    bench = Bench(model, list(requests) * (1 if len(requests) > 2 else 3), seed, hops, device)
    runs = bench.start()
    alone = [bench.finish(run) for run in runs]
    middles = [run.steps // 2 for run in runs]
    batched, batch = bench.together()
    report = Report(
        ticks=min(len(ports[0]) for ports in alone),
        batch=batch,
        batched=max(map(difference, alone, batched)),
        resumed=max(map(difference, alone, bench.interrupted(bench.saved, middles))),
        forked=max(map(difference, alone, bench.interrupted(bench.forked, middles))),
        repeated=bench.repeated(alone),
        whole=bench.whole(alone),
        pieces=bench.pieces(scripts),
    )
    shade = SHADE if model.spec.gives[0].kind == "video" else 0.0
    for name in ("resumed", "forked", "repeated", "batched", "whole", "pieces"):
        limit = TOLERANCE * bench.peak + shade if name in ("batched", "whole", "pieces") else 0
        found = getattr(report, name)
        if found is not None and not found <= limit:
            raise ModelError(
                f"stream is not the same {name}: it differs by {found:.3g}, the limit is {limit:.3g}"
            )
    return report


class Bench:
    """The streams a model is checked with: one a request, each with a sound of its own."""

    def __init__(self, model: StreamModel, requests: list[Any], seed: int, hops: int, device: str) -> None:
        self.model, self.requests, self.device = model, requests, device
        self.data: list[Audio | None] = [None] * len(requests)
        self.peak = 1.0
        takes = model.spec.takes
        if takes is not None:
            ticks = hops * takes.hop
            swell = 0.1 + 0.1 * np.sin(np.arange(ticks) * 20 / float(takes.rate))[:, None]
            self.data = [
                (noise(seed, i, (ticks, takes.channels)) * swell).astype(np.float32)
                for i in range(len(requests))
            ]

    def start(self) -> list[Run]:
        return [
            Run(self.model, self.model.open(request), data)
            for request, data in zip(self.requests, self.data, strict=True)
        ]

    def step(self, runs: list[Run]) -> None:
        """Step runs of one key together."""
        state = stack([run.state for run in runs])
        outputs, state = self.model.step([run.take() for run in runs], state)
        for i, (run, output) in enumerate(zip(runs, outputs, strict=True)):
            run.state, run.steps = part(state, i, i + 1), run.steps + 1
            run.give(output)

    def finish(
        self, run: Run, when: Callable[[Run], bool] = lambda run: run.over
    ) -> list[NDArray[np.float64]]:
        """Step a run alone to its end, or until it is `when`."""
        steps = 0
        while not (run.over or when(run)):
            run.key()
            self.step([run])
            steps += 1
            if steps > PATIENCE + 100 * run.position:
                raise ModelError(
                    f"model took {steps} steps and did not end: is its last chunk marked `last`?"
                )
        result = run.result()
        self.peak = max([self.peak, *(float(np.abs(port).max(initial=0)) for port in result)])
        return result

    def together(self) -> tuple[list[list[NDArray[np.float64]]], int]:
        """Every run, each joining two steps after the one before; and the most that shared a step."""
        runs, turn, most = self.start(), 0, 0
        while not all(run.over for run in runs):
            groups: dict[Any, list[Run]] = {}
            for run in runs[: 1 + turn // 2]:
                if not run.over:
                    groups.setdefault(run.key(), []).append(run)
            if groups:  # one a turn, so that sessions of different phases meet
                group = max(groups.values(), key=len)[: self.model.spec.max_batch]
                most = max(most, len(group))
                self.step(group)
            turn += 1
        return [run.result() for run in runs], most

    def interrupted(
        self, event: Callable[[Run], None], middles: Sequence[int]
    ) -> list[list[NDArray[np.float64]]]:
        """Every run alone, with something happening to it at its middle step or, for later runs, a little before."""
        runs = self.start()
        for i, (run, middle) in enumerate(zip(runs, middles, strict=True)):
            at = max(1, middle - i % 3)
            self.finish(run, lambda run, at=at: run.steps >= at)  # type: ignore[misc]
            event(run)
        return [self.finish(run) for run in runs]

    def saved(self, run: Run) -> None:
        """Replace the state by what its bytes hold."""
        run.state = load(save(run.state), self.device)

    def forked(self, run: Run) -> None:
        """Let a clone of the state go another way to its end."""
        other = Run(self.model, clone(run.state), None if run.data is None else run.data[::-1].copy())
        other.position, other.pending, other.ports = run.position, run.pending, [list(p) for p in run.ports]
        other.over = run.over
        self.finish(other)

    def repeated(self, alone: list[list[NDArray[np.float64]]]) -> float:
        """How far the same input comes out otherwise the second time, up to where the input changes."""
        worst = 0.0
        for run, before in zip(self.start(), alone, strict=True):
            known = len(before[0])
            if run.data is not None and self.model.spec.takes is not None:
                at = len(run.data) // 2 + self.model.spec.takes.hop // 3
                run.data = np.concatenate([run.data[:at], -run.data[at:]])
                fed = at // self.model.spec.takes.hop  # whole hops before the change
                known = fed * self.model.spec.gives[0].hop
            worst = max(worst, difference([self.finish(run)[0][:known]], [before[0][:known]]))
        return worst

    def whole(self, alone: list[list[NDArray[np.float64]]]) -> float | None:
        """How far the streams are from one forward pass over everything."""
        whole, latency = getattr(self.model, "whole", None), self.model.spec.latency
        if whole is None:
            return None
        return max(
            difference([whole(data, request)[: len(ports[0]) - latency]], [ports[0][latency:]])
            for data, request, ports in zip(self.data, self.requests, alone, strict=True)
        )

    def pieces(self, scripts: Sequence[Sequence[Any]]) -> float | None:
        """How far streams differ that say the same in other pieces, each asked for early and late."""
        results = []
        for script in scripts:
            for early in (0, 3, PATIENCE):  # steps before an update; at the latest when nothing else is to do
                run = Run(self.model, self.model.open(script[0]), updates=deque(script[1:]))
                while run.updates and not run.over:
                    steps = iter(range(early))
                    self.finish(run, lambda run, steps=steps: self._idle(run) or next(steps, None) is None)  # type: ignore[misc]
                    if run.updates:
                        run.update()
                results.append(self.finish(run))
        return max((difference(results[0], r) for r in results[1:]), default=None)

    def _idle(self, run: Run) -> bool:
        return self.model.key(run.state) is None


def difference(one: list[Any], other: list[Any]) -> float:
    """The largest difference of two streams, port by port; infinity if lengths or shapes differ or it is NaN."""
    worst = 0.0
    for a, b in zip(one, other, strict=True):
        if a.shape != b.shape:
            return float("inf")
        found = float(np.abs(a - b).max(initial=0))
        worst = max(worst, found if found == found else float("inf"))
    return worst
