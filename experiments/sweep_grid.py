"""The points of a sweep: a base config, and values for some of its fields.

A grid is a mapping of dotted field names to the values that each one takes; its points
are all combinations. Several grids are the points of each; one point by itself is a
grid with one value a field:

    {"optimizer.learning_rate": (0.03, 0.1), "subspace.k": (5, 10)}
    [{"subspace.k": (5, 10)}, {"subspace.k": (20,), "steps": (5000,)}]
"""

import copy
import difflib
import hashlib
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

import ml_collections

from experiments.json_values import flatten

Grid = Mapping[str, Sequence[Any]]
"""Dotted field names to lists or tuples of values."""

_LONGEST_NAME = 150  # file systems allow 255 bytes


class Point(NamedTuple):
    """One run of a sweep.

    name: of its folder, readable and unique in the sweep. fields: the values of all
    fields that the sweep varies, by dotted names. config: the base with these, locked.
    """

    name: str
    fields: dict[str, Any]
    config: ml_collections.ConfigDict


def make_points(
    base: ml_collections.ConfigDict, grid: Grid | Sequence[Grid]
) -> tuple[Point, ...]:
    """Return the points of a sweep, in the order of its values.

    A field that not every grid has is the base's where it is missing. A point that
    several grids have is there once.

    Raises:
      ValueError: if there is no point, a field is unknown (the message lists those that
        are near, or all), or a value is of the wrong type.
    """
    grids = as_grids(grid)
    names = varied_fields(grids)
    if not names:
        raise ValueError("the grid varies no field")
    known = flatten(base.to_dict())
    for name in names:
        if name not in known:
            raise ValueError(_unknown(name, known))
    made: dict[str, Point] = {}
    for values in itertools.chain.from_iterable(map(_combinations, grids)):
        config = _with_values(base, values)
        fields = {name: value_of(config, name) for name in names}
        point = Point(point_name(fields), fields, config)
        if made.setdefault(point.name, point).fields != fields:
            raise ValueError(f"two points would have the name {point.name!r}")
    if not made:
        raise ValueError("the grid has no point")
    return tuple(made.values())


def as_grids(grid: Grid | Sequence[Grid]) -> list[Grid]:
    """Return a list of grids, of one or several.

    Raises:
      ValueError: if a field's values are neither a list nor a tuple.
    """
    grids = [grid] if isinstance(grid, Mapping) else list(grid)
    for name, values in itertools.chain.from_iterable(g.items() for g in grids):
        if not isinstance(values, list | tuple):
            raise ValueError(
                f"the values of {name} must be a list or a tuple, got {values!r}; a "
                f"single one is ({values!r},)"
            )
    return grids


def varied_fields(grids: Iterable[Grid]) -> list[str]:
    """Return the names of all fields of the grids, each once."""
    return list(dict.fromkeys(itertools.chain.from_iterable(grids)))


def value_of(config: ml_collections.ConfigDict, name: str) -> Any:
    """Return the value of a field by its dotted name."""
    for part in name.split("."):
        config = config[part]
    return config


def point_name(fields: Mapping[str, Any]) -> str:
    """Return a file name like "learning_rate=0.1,k=5" from dotted names and values.

    What file systems or shells could misread is percent-encoded; a name that would be
    too long is cut, with a digest of the whole.
    """
    labels = short_names(fields)
    name = ",".join(
        f"{labels[field]}={quote(_text(value), safe='+')}"
        for field, value in fields.items()
    )
    if len(name) <= _LONGEST_NAME:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{name[: _LONGEST_NAME - len(digest) - 1]}-{digest}"


def short_names(names: Iterable[str]) -> dict[str, str]:
    """Return each dotted name's last part, or as many as tell it from the others."""
    names = list(names)

    def shortest(name: str) -> str:
        parts = name.split(".")
        endings = [".".join(parts[-n:]) for n in range(1, len(parts) + 1)]
        return next(
            ending
            for ending in endings
            if sum(f".{other}".endswith(f".{ending}") for other in names) == 1
            or ending == name
        )

    return {name: shortest(name) for name in names}


def _text(value: Any) -> str:
    """Return a value as text, the items of a list joined by "-"."""
    if isinstance(value, list | tuple):
        return "-".join(map(_text, value))
    return str(value)


def _combinations(grid: Grid) -> Iterator[dict[str, Any]]:
    """Yield all combinations of a grid's values, the last field varying fastest."""
    for values in itertools.product(*grid.values()):
        yield dict(zip(grid, values, strict=True))


def _with_values(
    base: ml_collections.ConfigDict, values: Mapping[str, Any]
) -> ml_collections.ConfigDict:
    config = copy.deepcopy(base)
    try:
        config.update_from_flattened_dict(values)
    except TypeError as error:
        raise ValueError(f"point {point_name(values)}: {error}") from error
    return config.lock()


def _unknown(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, known)
    listed = f"near ones: {', '.join(near)}" if near else None
    return (
        f"the grid has an unknown field {name!r}; "
        f"{listed or 'known ones: ' + ', '.join(sorted(known))}"
    )
