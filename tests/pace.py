"""What a test raises that needs a machine to keep up with live sound, and is told that it does not."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from pytest_rerunfailures import get_reruns_count

WRONG = pytest.StashKey[bool]()
"""Whether a test has failed for another reason."""


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
    """Make the report of the last try that of a skipped test, if the machine was too slow whenever it failed."""
    slow = call.excinfo is not None and call.excinfo.errisinstance(TooSlow)
    item.stash[WRONG] = item.stash.get(WRONG, False) or (report.failed and not slow)
    last = getattr(item, "execution_count", 1) > (get_reruns_count(item) or 0)
    if call.excinfo and slow and last and not item.stash[WRONG]:
        report.outcome = "skipped"
        report.longrepr = (str(item.path), (item.location[1] or 0) + 1, f"Skipped: {call.excinfo.value}")
