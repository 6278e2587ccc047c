"""What every data set is loaded into."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

Data = dict[str, np.ndarray]
"""Arrays that share a leading axis of N examples.

`"inputs"`: [N, ...] float32, or [N, L] int32 for tokens. `"labels"`: [N] int32, or
[N, L] int32 with one for each token. `"mask"`, where sequences are padded: [N, L]
float32, 1 for a token and 0 for padding.
"""


_NO_DIRECTION = 1e-6  # of the largest singular value of a mixture's means


class Mixture(NamedTuple):
    """A Gaussian mixture.

    means: [components, d]. labels: [components] int32, the class of each. snr: the
    noise has variance 1 / snr in each coordinate.
    """

    means: np.ndarray
    labels: np.ndarray
    snr: float

    @property
    def span(self) -> np.ndarray:
        """An orthonormal basis of the means' span, [rank, d]."""
        _, sizes, directions = np.linalg.svd(self.means, full_matrices=False)
        return directions[sizes > _NO_DIRECTION * sizes[0]]


class Splits(NamedTuple):
    """The examples to train on, those held out, and what a model's ends depend on.

    num_classes: labels are in 0 .. num_classes - 1.
    vocabulary: where inputs are tokens, what each id stands for; else empty.
    sample: of synthetic data, `(key, count) -> examples`, fresh ones.
    mixture: where the examples were drawn from one.
    """

    train: Data
    test: Data
    num_classes: int
    vocabulary: tuple[str, ...] = ()
    sample: Callable[[Any, int], Any] | None = None
    mixture: Mixture | None = None

    @property
    def vocabulary_size(self) -> int:
        """The number of token ids; 0 where inputs are not tokens."""
        return len(self.vocabulary)


def num_examples(name: str, requested: int | None, available: int) -> int:
    """Return how many training examples to keep: those requested, or all for None.

    Raises:
      ValueError: there are fewer than requested, or none is requested.
    """
    if requested is None:
        return available
    if not 0 < requested <= available:
        raise ValueError(
            f"{name} has 1 to {available} training examples; got num_train={requested}"
        )
    return requested
