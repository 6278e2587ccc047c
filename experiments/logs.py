"""What other people's libraries may say on the terminal."""

import contextlib
import logging
from collections.abc import Iterator


@contextlib.contextmanager
def absl_level(level: int) -> Iterator[None]:
    """Let absl's logger through from `level` on, for as long as the block lasts.

    TensorFlow Datasets and Orbax report their progress there, some of it as warnings.
    Exceptions are not touched.
    """
    logger = logging.getLogger("absl")
    previous = logger.level
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(previous)
