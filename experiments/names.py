"""Choices by name, as configs make them."""

from collections.abc import Mapping
from typing import TypeVar

T = TypeVar("T")


def lookup(kind: str, name: str, known: Mapping[str, T]) -> T:
    """Return `known[name]`.

    Raises:
      ValueError: if there is no such name; the message lists those there are.
    """
    if name not in known:
        raise ValueError(
            f"unknown {kind} {name!r}; known ones: {', '.join(sorted(known))}"
        )
    return known[name]
