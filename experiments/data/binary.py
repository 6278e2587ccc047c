"""Two classes of a data set, as one output with the targets 1 and -1."""

from collections.abc import Sequence

import numpy as np

from experiments.data.splits import Data, Splits, num_examples

NUM_READ = 1000
"""Training examples among which those of both classes are looked for."""


def two_classes(
    splits: Splits, classes: Sequence[int], num_train: int | None
) -> Splits:
    """Return the examples of two classes; labels are [N, 1] float32, 1 and -1.

    Args:
      splits: with integer labels, [N].
      classes: the labels that become 1 and -1.
      num_train: training examples to keep, the first ones; None: all.

    Raises:
      ValueError: if these are not two different labels of the data set, or there are
        fewer than `num_train` examples of them.
    """
    known = range(splits.num_classes)
    if len(classes) != 2 or len(set(classes)) != 2 or not set(classes) <= set(known):
        raise ValueError(
            f"task.classes needs two different labels below {splits.num_classes}, got "
            f"{tuple(classes)}."
        )

    def of_both(data: Data) -> Data:
        kept = np.isin(data["labels"], classes)
        first = data["labels"][kept] == classes[0]
        labels = np.where(first, 1, -1).astype(np.float32)[:, None]
        return {"inputs": data["inputs"][kept], "labels": labels}

    train = of_both(splits.train)
    count = num_examples("the two classes", num_train, len(train["labels"]))
    return splits._replace(
        train={name: array[:count] for name, array in train.items()},
        test=of_both(splits.test),
        num_classes=1,
    )
