"""Tables in Markdown, and means that say how sure they are."""

from collections.abc import Iterable, Sequence

from riverrun.models.evaluation.metrics import interval


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table, and an empty one."""
    return [
        "| " + " | ".join(head) + " |",
        "|" + "---|" * len(head),
        *("| " + " | ".join(row) + " |" for row in rows),
        "",
    ]


def cell(values: Sequence[float]) -> str:
    """A mean and its 95 % interval; nothing of nothing."""
    if not values:
        return ""
    mean, low, high = interval(values)
    return f"{mean:.2f} ({low:.2f}-{high:.2f})"
