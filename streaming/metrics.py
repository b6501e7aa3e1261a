"""Figures for Prometheus, of a registry of their own, so that two servers in one process do not mix."""

from collections.abc import Iterator
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from riverrun.streaming.ledger import STAGES, Delays

BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28)  # seconds
QUANTILES = ("0.5", "0.99")
NOBODY = "0"  # a process that there is not


class Metrics:
    """What is counted as it happens, and what is looked up when it is asked for. Labels take few known values."""

    def __init__(self, version: str = "") -> None:
        self.registry = registry = CollectorRegistry()
        served = ("model", "transport")
        Info("riverrun", "What runs.", registry=registry).info({"version": version})
        self.ready = Gauge("riverrun_ready", "1 when streams are taken.", registry=registry)
        self.loop = Gauge(
            "riverrun_loop_late_seconds", "The event loop's worst lateness of late.", registry=registry
        )
        self._open = Gauge("riverrun_streams", "Open streams.", served, registry=registry)
        self.degraded = Gauge(
            "riverrun_streams_degraded", "Open streams that are given less.", registry=registry
        )
        self._opened = Counter("riverrun_streams_opened", "Streams opened.", served, registry=registry)
        self._ended = Counter(
            "riverrun_streams_ended", "Streams ended, and why.", ("transport", "reason"), registry=registry
        )
        self._resumed = Counter(
            "riverrun_resumed", "Lost connections that came back.", ("transport",), registry=registry
        )
        self._refused = Counter(
            "riverrun_refused", "Requests refused, and why.", ("reason",), registry=registry
        )
        self._delay = Histogram(
            "riverrun_delay_seconds", "From capture to being heard, by stage.", ("transport", "stage"),
            registry=registry, buckets=BUCKETS,
        )  # fmt: skip
        self._step = Histogram(
            "riverrun_step_seconds",
            "A model's step, for each stream in it.",
            registry=registry,
            buckets=BUCKETS,
        )
        self._dropped = Counter(
            "riverrun_dropped_seconds", "Live input dropped, being late.", registry=registry
        )
        self.restarts = Counter("riverrun_engine_restarts", "Engines that failed.", registry=registry)
        self.engine = Figures()
        registry.register(self.engine)
        ProcessCollector(registry=registry)
        ProcessCollector("riverrun_engine", self._process, registry=registry)

    def opened(self, model: str, transport: str) -> None:
        """A stream began."""
        self._open.labels(model, transport).inc()
        self._opened.labels(model, transport).inc()

    def closed(self, model: str, transport: str, reason: str) -> None:
        """A stream ended."""
        self._open.labels(model, transport).dec()
        self._ended.labels(transport, reason).inc()

    def refused(self, reason: str) -> None:
        """A request was refused; `reason` is an error's code."""
        self._refused.labels(reason).inc()

    def refusals(self) -> dict[str, int]:
        """How many requests were refused, by reason."""
        samples = (sample for family in self._refused.collect() for sample in family.samples)
        return {s.labels["reason"]: int(s.value) for s in samples if s.name.endswith("_total")}

    def delayed(self, transport: str, delays: Delays) -> None:
        """A chunk was sent."""
        for stage in STAGES:
            self._delay.labels(transport, stage).observe(getattr(delays, stage))

    def stepped(self, seconds: float) -> None:
        """A step was made."""
        self._step.observe(seconds)

    def dropped(self, seconds: float) -> None:
        """Input was dropped."""
        self._dropped.inc(seconds)

    def resumed(self, transport: str) -> None:
        """A lost connection came back."""
        self._resumed.labels(transport).inc()

    def text(self) -> bytes:
        """The exposition format. It looks into /proc, and so belongs into a thread."""
        return generate_latest(self.registry)

    def _process(self) -> str:
        return str((self.engine.told or {}).get("process", NOBODY))


class Figures(Collector):
    """What the engine said of itself when it was last asked. Its counters begin anew with every engine."""

    def __init__(self) -> None:
        self.told: dict[str, Any] | None = None  # as `Handle.figures`; None: it does not answer

    def collect(self) -> Iterator[Metric]:
        """Its families, which are there without an engine, too."""
        told = self.told or {"lanes": [], "models": {}}
        yield GaugeMetricFamily(
            "riverrun_engine_up", "1 when the engine answers.", float(self.told is not None)
        )
        yield from _lanes(told["lanes"])
        size = GaugeMetricFamily("riverrun_model_bytes", "Models in memory.", labels=("model", "lane"))
        for key, value in told["models"].items():
            model, _, lane = key.partition("/")
            size.add_metric((model, lane or "any"), value)
        yield size


def _lanes(lanes: list[dict[str, Any]]) -> Iterator[Metric]:
    plain, classed = ("lane",), ("lane", "class")
    load = GaugeMetricFamily(
        "riverrun_lane_load_ratio", "The share of time somebody waits for.", labels=plain
    )
    step = GaugeMetricFamily("riverrun_lane_stepping_seconds", "Age of the step in progress.", labels=plain)
    steps = CounterMetricFamily("riverrun_lane_steps", "Steps made.", labels=plain)
    rows = CounterMetricFamily("riverrun_lane_rows", "Rows of them: sessions and channels.", labels=plain)
    late = GaugeMetricFamily(
        "riverrun_lane_late_seconds", "How late steps end; below 0, before they are due.",
        labels=("lane", "quantile"),
    )  # fmt: skip
    busy = CounterMetricFamily("riverrun_lane_busy_seconds", "Time spent in steps.", labels=classed)
    waiting = GaugeMetricFamily("riverrun_lane_waiting", "Pieces of work that wait.", labels=classed)
    sessions = GaugeMetricFamily("riverrun_lane_sessions", "Sessions.", labels=classed)
    for lane in lanes:
        name = lane["name"]
        for family, value in ((load, "load"), (step, "stepping"), (steps, "steps"), (rows, "rows")):
            family.add_metric((name,), lane[value])
        for quantile, value in zip(QUANTILES, lane["late"], strict=False):  # none before the first step
            late.add_metric((name, quantile), value)
        for family, key in ((busy, "busy"), (waiting, "waiting"), (sessions, "sessions")):
            for fence, value in lane[key].items():
                family.add_metric((name, fence), value)
    yield from (load, step, steps, rows, late, busy, waiting, sessions)
