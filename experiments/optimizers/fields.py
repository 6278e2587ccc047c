"""Checks of config fields, for choices of which each reads some fields only."""

from collections.abc import Iterable

import ml_collections

from configs import defaults


def require_defaults(
    config: ml_collections.ConfigDict, section: str, names: Iterable[str], reader: str
) -> None:
    """Raise ValueError if one of `names`, which `reader` does not read, was set.

    Args:
      config: the sub-config that holds the fields.
      section: its name in configs/defaults.py.
      names: the fields that have to be as they are there.
      reader: what would ignore them, for the message.
    """
    default = defaults.get_config()[section]
    for name in names:
        if config[name] != default[name]:
            raise ValueError(
                f"{section}.{name} = {config[name]} has no effect with {reader}: "
                f"leave it at {default[name]}."
            )


def require(condition: bool, message: str) -> None:
    """Raise ValueError with the message unless the condition holds."""
    if not condition:
        raise ValueError(message)
