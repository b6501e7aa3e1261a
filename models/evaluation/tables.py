"""Tables in Markdown, and means that say how sure they are."""

from collections.abc import Iterable, Sequence

from riverrun.models.evaluation.metrics import ratio


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table, and an empty one."""
    return [
        "| " + " | ".join(head) + " |",
        "|" + "---|" * len(head),
        *("| " + " | ".join(row) + " |" for row in rows),
        "",
    ]


def cell(values: Sequence[float], wholes: Sequence[float] | None = None, digits: int = 2) -> str:
    """A mean and its 95 % interval, or that of a sum over the sum of `wholes`; nothing of nothing."""
    if not values or not sum(wholes or [1.0]):
        return ""
    found = ratio(values, [1.0] * len(values) if wholes is None else wholes)
    mean, low, high = (f"{value:.{digits}f}" for value in found)
    return f"{mean} ({low}-{high})"
