"""What every test gets: its place in the order, one thread, the same seeds, hypothesis without clock or dice."""

import gc
import random
import sys
from collections.abc import Generator
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from tests.pace import skipped

settings.register_profile("riverrun", deadline=None, derandomize=True, database=None)
settings.register_profile("fuzz", settings.get_profile("riverrun"), max_examples=1_120, derandomize=False)
settings.load_profile("riverrun")

TIMED = ("tests/streaming/", "tests/sdk/", "tests/webui/")  # where time passes in earnest
LIVE = (  # and where sound has to keep its pace
    "tests/webui/",
    *(f"tests/streaming/test_{name}.py" for name in ("abrupt", "delay", "webrtc", "whip", "ws")),
    *(f"tests/streaming/test_{name}_calls.py" for name in ("show", "speech")),
    *(f"tests/sdk/test_{name}.py" for name in ("client", "convert", "load", "playout")),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is live comes last, and what is timed gets another try: others may hold a shared machine for seconds.

    The summary tells which ones took it.
    """
    items.sort(key=lambda item: item.nodeid.startswith(LIVE))
    for item in items:
        if item.nodeid.startswith(TIMED):
            item.add_marker(pytest.mark.flaky(reruns=2))


class Sharing(LoadScopeScheduling):  # type: ignore[misc]
    """Processes share the files in turn; when nothing else is left, one of them takes all that is live."""

    def _split_scope(self, nodeid: str) -> str:
        return "live" if nodeid.startswith(LIVE) else nodeid.partition("::")[0]

    def _reschedule(self, node: Any) -> None:
        others = (work for other, work in self.assigned_work.items() if other is not node)
        if next(iter(self.workqueue), "") == "live" and any(self._pending_of(work) > 1 for work in others):
            return  # a process keeps its last test until it knows what follows
        super()._reschedule(node)

    def mark_test_complete(self, node: Any, item_index: int, duration: float = 0) -> None:
        super().mark_test_complete(node, item_index, duration)
        for other in self.nodes:  # who waits is not asked again otherwise
            self._reschedule(other)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Sharing:
    config.option.loadscopereorder = False
    return Sharing(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A machine that cannot keep up with live sound is no fault of what is tested."""
    report = yield
    skipped(item, call, report)
    return report


@pytest.fixture(autouse=True)
def swept(request: pytest.FixtureRequest) -> None:
    """The collector does not go through what earlier tests left, as in the server: live sound would wait for it."""
    if request.node.nodeid.startswith(LIVE):
        gc.collect()
        gc.freeze()


@pytest.fixture(autouse=True)
def seeds() -> None:
    """Every test starts from the same random states."""
    random.seed(0)
    np.random.seed(0)
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)
        torch.set_num_threads(1)  # small steps wait for their threads longer than they compute
