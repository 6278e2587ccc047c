"""The mean and the standard deviation of each pixel, and a cache for them."""

import contextlib
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np


class PixelStatistics(NamedTuple):
    """Of pixels in [0, 1], for each pixel and channel.

    mean: [height, width, channels] float64.
    std: the same; the population standard deviation, sqrt(E x^2 - (E x)^2).
    """

    mean: np.ndarray
    std: np.ndarray


def of_images(chunks: Iterable[np.ndarray]) -> PixelStatistics:
    """Return the statistics of images in parts, each [N_c, height, width, channels].

    Args:
      chunks: uint8 arrays, at least one image in all.

    Raises:
      ValueError: there is no image.
    """
    count = 0
    # In integers nothing is rounded, and nothing cancels below.
    total = squares = np.zeros((), np.int64)
    for chunk in chunks:
        count += len(chunk)
        wide = chunk.astype(np.int64)
        total = total + wide.sum(axis=0)
        squares = squares + (wide**2).sum(axis=0)
    if not count:
        raise ValueError("statistics need at least one image")
    # Var x = (N sum x^2 - (sum x)^2) / N^2
    return PixelStatistics(
        mean=total / (255 * count),
        std=np.sqrt(count * squares - total**2) / (255 * count),
    )


def standardize(images: np.ndarray, pixels: PixelStatistics) -> np.ndarray:
    """Return (x / 255 - mean) / std in float32, std replaced by 1 where it is 0.

    Args:
      images: [N, height, width, channels] uint8.
      pixels: the statistics of a data set.
    """
    scale = np.where(pixels.std > 0, pixels.std, 1)
    return ((images / 255 - pixels.mean) / scale).astype(np.float32)


def cached(key: str, compute: Callable[[], PixelStatistics]) -> PixelStatistics:
    """Return the statistics stored under a name, or compute and store them.

    They are in `dominant/` in the user's cache folder, XDG_CACHE_HOME or `~/.cache`. A
    file that cannot be read is replaced; where none can be written, each call computes.

    Args:
      key: a file name; must change when the images do.
      compute: called where nothing is stored.
    """
    path = _cache_folder() / f"{key}.npz"
    stored = _read(path)
    if stored is not None:
        return stored
    computed = compute()
    # The folder may be read-only or the disk full, which only costs time.
    with contextlib.suppress(OSError):
        _write(path, computed)
    return computed


def _cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification has relative paths ignored.
    if not os.path.isabs(base):
        base = os.path.expanduser("~/.cache")
    return Path(base) / "dominant"


def _read(path: Path) -> PixelStatistics | None:
    """Return what is stored, or None if there is no such file or it is damaged."""
    try:
        # NumPy leaves a file that it has opened itself open where that is damaged.
        with path.open("rb") as file, np.load(file) as arrays:
            stored = PixelStatistics(arrays["mean"], arrays["std"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return stored


def _write(path: Path, pixels: PixelStatistics) -> None:
    """Write a file at once: no reader sees a part of it, nor two writers' mixture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    try:
        with os.fdopen(descriptor, "wb") as file:
            np.savez(file, **pixels._asdict())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
