"""What every test gets: one thread, the same seeds, and hypothesis without clock or dice."""

import random
import sys
from collections.abc import Generator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from tests.pace import skipped

settings.register_profile("riverrun", deadline=None, derandomize=True, database=None)
settings.register_profile("fuzz", settings.get_profile("riverrun"), max_examples=1_120, derandomize=False)
settings.load_profile("riverrun")

TIMED = [
    Path(__file__).parent / name for name in ("streaming", "sdk", "webui")
]  # where time passes in earnest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Live calls and streams get another try: a machine that others share may be away for seconds.

    The summary tells which ones took it.
    """
    for item in items:
        if any(item.path.is_relative_to(folder) for folder in TIMED):
            item.add_marker(pytest.mark.flaky(reruns=2))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A machine that cannot keep up with live sound is no fault of what is tested."""
    report = yield
    skipped(item, call, report)
    return report


@pytest.fixture(autouse=True)
def seeds() -> None:
    """Every test starts from the same random states."""
    random.seed(0)
    np.random.seed(0)
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)
        torch.set_num_threads(1)  # small steps wait for their threads longer than they compute
