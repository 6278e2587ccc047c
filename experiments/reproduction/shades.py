"""The colours of a map's cells, and what is written along its colour bar."""

import math
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.colors import LinearSegmentedColormap, to_hex
from matplotlib.ticker import LogLocator, MaxNLocator

from experiments.reproduction.plots import Map
from experiments.reproduction.scales import Tick

# Both get lighter from end to end, so that print without colours keeps the order, and
# the colour-blind can tell their hues. The second one is blue below its middle, grey
# there, and orange above.
_SEQUENTIAL = mpl.colormaps["viridis"]
_DIVERGING = LinearSegmentedColormap.from_list(
    "diverging", ["#0b2f66", "#2f6db3", "#989898", "#eb9c3f", "#ffe08a"], N=257
)

_LINEAR = MaxNLocator(5, steps=[1, 2, 2.5, 5, 10])


class Shades(NamedTuple):
    """Where a map's cells are on the scale of its colours.

    The scale has the numbers, or their logarithms to base 10, and runs from `low` to
    `high`.

    cells: [rows, columns], NaN where there is no number. ticks: of the colour bar.
    """

    cells: np.ndarray
    low: float
    high: float
    ticks: list[Tick]


def shades(shown: Map, z: np.ndarray) -> Shades:
    """Return the shades of a map with the numbers z, [rows, columns], NaN for none.

    Raises:
      ValueError: for limits or a center that are not on the scale.
    """
    _check(shown)
    cells = _shade(shown, z)
    low, high = _ends(shown, cells)
    return Shades(cells, low, high, _ticks(shown, cells, low, high))


def colors(shown: Map, num: int) -> list[str]:
    """Return that many of a map's colours, of the lowest shade to the highest."""
    scale = _SEQUENTIAL if shown.center is None else _DIVERGING
    return [to_hex(color) for color in scale(np.linspace(0, 1, num))]


def _check(shown: Map) -> None:
    center = () if shown.center is None else (shown.center,)
    given = [*(shown.limits or ()), *center]
    if (
        not all(map(math.isfinite, given))
        or (shown.z_log and min(given, default=1) <= 0)
        or (shown.limits is not None and shown.limits[0] >= shown.limits[1])
    ):
        raise ValueError(
            f"the map {shown.title!r} has the limits {shown.limits} and the center "
            f"{shown.center}, but expected finite numbers, the lower limit first, and "
            "positive ones where colours are logarithmic"
        )


def _shade(shown: Map, values: np.ndarray) -> np.ndarray:
    """Return where numbers are on the scale; far below, if they have no logarithm."""
    if not shown.z_log:
        return values
    return np.log10(np.maximum(values, np.finfo(float).tiny))


def _ends(shown: Map, cells: np.ndarray) -> tuple[float, float]:
    """Return the ends of the scale; with a center, as far away on both sides."""
    found = cells[np.isfinite(cells)]
    if shown.limits is not None:
        found = _shade(shown, np.array(shown.limits, float))
    low, high = (float(found.min()), float(found.max())) if found.size else (0.0, 1.0)
    if shown.center is not None:
        center = float(_shade(shown, np.array(shown.center, float)))
        half = max(high - center, center - low)
        low, high = center - half, center + half
    if low == high:
        margin = 0.1 * (abs(low) or 1.0)
        return low - margin, high + margin
    return low, high


def _ticks(shown: Map, cells: np.ndarray, low: float, high: float) -> list[Tick]:
    """Return what is written: round numbers, and the center.

    An end says where there are numbers beyond it.
    """
    special: list[Tick] = []
    # Shares of the bar, which a phone's width has to hold.
    taken = []
    if shown.center is not None:
        special.append(Tick((low + high) / 2, f"{shown.center:.4g}"))
        taken.append(0.1)
    for end, sign, beyond in ((low, "≤", cells < low), (high, "≥", cells > high)):
        if beyond.any():
            special.append(Tick(end, f"{sign} {_text(shown, end)}"))
            taken.append(0.2)

    def is_free(at: float) -> bool:
        return low <= at <= high and all(
            abs(at - tick.at) > share * (high - low)
            for tick, share in zip(special, taken, strict=True)
        )

    found = filter(is_free, _round_numbers(shown, low, high).tolist())
    return sorted([*special, *(Tick(at, _text(shown, at)) for at in found)])


def _round_numbers(shown: Map, low: float, high: float) -> np.ndarray:
    """Return where on the scale the round numbers between its ends are, or about."""
    if not shown.z_log:
        return np.asarray(_LINEAR.tick_values(low, high))
    if high - low < 0.6:  # a factor of 4
        return np.log10(_LINEAR.tick_values(10**low, 10**high))
    subs = (1, 2, 5) if high - low < 1.8 else (1, 3) if high - low < 2.7 else (1,)
    locator = LogLocator(subs=subs, numticks=6)
    return np.log10(locator.tick_values(10**low, 10**high))


def _text(shown: Map, shade: float) -> str:
    return f"{10.0**shade if shown.z_log else shade:.4g}"
