"""Riverrun: generative media, live, chunk by chunk, on your own machine."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from riverrun.local import Restorer, Result, restore

__all__ = ["Restorer", "Result", "restore"]


def __getattr__(name: str) -> Any:
    """Import what a public name needs when it is first used, so that importing riverrun stays quick."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from riverrun import local

    return getattr(local, name)
