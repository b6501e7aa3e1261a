"""Figures for Prometheus, of a registry of their own, so that two servers in one process do not mix."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from riverrun.streaming.ledger import STAGES, Delays

BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28)  # seconds


class Metrics:
    """What is counted; labels take a few known values only."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._open = Gauge("riverrun_streams", "Open streams.", ("model", "transport"), registry=registry)
        self._opened = Counter(
            "riverrun_streams_opened", "Streams opened.", ("model", "transport"), registry=registry
        )
        self._refused = Counter("riverrun_refused", "Requests refused.", ("reason",), registry=registry)
        self._delay = Histogram(
            "riverrun_delay_seconds",
            "Delay of a sample by stage.",
            ("transport", "stage"),
            registry=registry,
            buckets=BUCKETS,
        )
        self._step = Histogram("riverrun_step_seconds", "One model step.", registry=registry, buckets=BUCKETS)
        self._dropped = Counter("riverrun_dropped_seconds", "Input dropped by overload.", registry=registry)
        self._resumed = Counter("riverrun_resumed", "Connections resumed.", registry=registry)
        self.loop = Gauge(
            "riverrun_loop_late_seconds", "Worst lateness of the event loop of late.", registry=registry
        )
        self.ready = Gauge("riverrun_ready", "1 when requests are taken.", registry=registry)

    def opened(self, model: str, transport: str) -> None:
        """A stream began."""
        self._open.labels(model, transport).inc()
        self._opened.labels(model, transport).inc()

    def closed(self, model: str, transport: str) -> None:
        """A stream ended."""
        self._open.labels(model, transport).dec()

    def refused(self, reason: str) -> None:
        """A request was refused; `reason` is an error's code."""
        self._refused.labels(reason).inc()

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

    def resumed(self) -> None:
        """A lost connection came back."""
        self._resumed.inc()

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)
