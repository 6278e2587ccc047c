"""JSON for numbers that JSON lacks, and files that are written whole or not at all.

NaN and the infinities are written as the strings "NaN", "Infinity" and "-Infinity", and
read back as numbers.
"""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def encode(value: Any) -> Any:
    """Return nested dicts, lists and scalars as what JSON can hold; tuples as lists."""
    if isinstance(value, Mapping):
        return {str(key): encode(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [encode(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def decode(value: Any) -> Any:
    """Return what `encode` was given, tuples apart."""
    if isinstance(value, dict):
        return {key: decode(item) for key, item in value.items()}
    if isinstance(value, list):
        return [decode(item) for item in value]
    return _NON_FINITE.get(value, value) if isinstance(value, str) else value


def read_file(path: Path) -> dict[str, Any]:
    """Read a JSON object."""
    return decode(json.loads(path.read_text(encoding="utf-8")))


def write_file(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object; a reader, or a crash, never meets half of it."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        temporary.write_text(_text(value), encoding="utf-8")
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    os.replace(temporary, path)


def overwrite_file(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object into a file's own blocks, where the disk has no others."""
    with path.open("r+", encoding="utf-8") as file:
        file.write(_text(value))
        file.truncate()


def _text(value: Mapping[str, Any]) -> str:
    return json.dumps(encode(value), indent=2, allow_nan=False) + "\n"


def flatten(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested dicts as one dict with dotted keys; an empty dict stays a value."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
