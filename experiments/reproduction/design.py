"""An experiment's config file, at a scale.

A config file gives the paper's setting: `get_config()`, and `get_grid()` where it takes
several runs (`experiments.sweep_grid`). Its `SCALES` say what smaller machines change:

    SCALES = {"cpu": {"steps": 4000}, "ci": {"steps": 60, "task.num_train": 100}}

and its `GRIDS`, if it has any, which runs are left: {"ci": {"batch_size": (10, 50)}}.
"""

import os
import runpy
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import ml_collections

from experiments.names import lookup
from experiments.sweep_grid import Point, make_points, point_name, value_of

SCALE_NAMES = ("ci", "cpu", "paper")

ONLY_POINT = "run"
"""Name of the one run of an experiment without a grid."""


_FEW_FIELDS = 3


class Design(NamedTuple):
    """What is run.

    question: the docstring of the config file. points: the runs.
    changes: fields that the scale changed, by dotted names, to the paper's value and
      ours. left_out: the paper's runs that the scale has not, by what they vary.
    """

    question: str
    points: tuple[Point, ...]
    changes: dict[str, tuple[Any, Any]]
    left_out: tuple[str, ...]


def read_design(path: str | os.PathLike[str], scale: str) -> Design:
    """Read a config file at one of `SCALE_NAMES`.

    Raises:
      ValueError: if the scale is unknown, the file lacks `get_config` or `SCALES`, or
        it changes an unknown field.
    """
    lookup("scale", scale, dict.fromkeys(SCALE_NAMES))
    scope = runpy.run_path(os.fspath(path))
    missing = [name for name in ("get_config", "SCALES") if name not in scope]
    if missing:
        raise ValueError(f"{path} has no {' and no '.join(missing)}")
    config, grid = scope["get_config"](), scope.get("get_grid", lambda: None)()
    base = config.copy_and_resolve_references()
    overrides: Mapping[str, Any] = scope["SCALES"].get(scale, {})
    before = {name: _value(config, name, path) for name in overrides}
    config.update_from_flattened_dict(overrides)
    points = _points(config, scope.get("GRIDS", {}).get(scale, grid))
    # The paper's runs, with the scale's changes too, so that the two can be compared.
    papers = _points(config, grid)
    varied = [*papers[0].fields, *points[0].fields]
    kept = [_values(point.config, varied) for point in points]
    return Design(
        question=(scope.get("__doc__") or "").strip(),
        points=points,
        changes={
            name: (before[name], value)
            for name, value in overrides.items()
            if before[name] != value
        },
        left_out=tuple(
            _describe(paper, base)
            for paper, changed in zip(_points(base, grid), papers, strict=True)
            if _values(changed.config, varied) not in kept
        ),
    )


def _points(config: ml_collections.ConfigDict, grid: Any) -> tuple[Point, ...]:
    if grid is None:
        return (Point(ONLY_POINT, {}, config.copy_and_resolve_references().lock()),)
    return make_points(config, grid)


def _values(config: ml_collections.ConfigDict, names: list[str]) -> list[Any]:
    return [value_of(config, name) for name in names]


def _describe(point: Point, base: ml_collections.ConfigDict) -> str:
    """Return the fields of a point that are not the base's, or else a few or none."""
    others = {
        name: value
        for name, value in point.fields.items()
        if value != value_of(base, name)
    }
    if not others and len(point.fields) > _FEW_FIELDS:
        return "the setting itself"
    return point_name(others or point.fields)


def _value(config: ml_collections.ConfigDict, name: str, path: Any) -> Any:
    try:
        return value_of(config, name)
    except (KeyError, AttributeError) as error:
        raise ValueError(f"{Path(path)} changes an unknown field {name!r}") from error
