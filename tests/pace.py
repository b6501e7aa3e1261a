"""What a test raises that needs a machine to keep up with live sound, and is told that it does not."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest


class TooSlow(Exception):
    """The server itself said that it is late. The test is tried again as any that failed, and then skipped."""


@contextmanager
def kept_up(late: Callable[[], object]) -> Iterator[None]:
    """What is asserted here holds of a server that keeps up; `late` gives what it told if it did not."""
    try:
        yield
    except AssertionError as error:
        if told := late():
            raise TooSlow(f"this machine is too slow, as the server says itself: {told}") from error
        raise


def skipped(item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport) -> None:
    """Make the report of the last try that of a skipped test, where the machine was too slow."""
    marker = item.get_closest_marker("flaky")
    tries = 1 + marker.kwargs["reruns"] if marker else 1
    if call.excinfo and call.excinfo.errisinstance(TooSlow) and getattr(item, "execution_count", 1) >= tries:
        report.outcome = "skipped"
        report.longrepr = (str(item.path), (item.location[1] or 0) + 1, f"Skipped: {call.excinfo.value}")
