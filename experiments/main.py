"""Run an experiment: `python -m experiments.main --config=FILE --workdir=FOLDER`.

Fields can be overridden: `--config.steps=1000 --config.optimizer.learning_rate=0.05`.
The same command on the same folder resumes a run that was interrupted.
"""

import os
import sys
from pathlib import Path

import jax
from absl import app, flags, logging
from ml_collections import config_flags

from experiments import records, report, train
from experiments.data import MissingDatasetError

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "The experiment, a file under configs/.", lock_config=True
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Where the run's records go.")
_OLDER = flags.DEFINE_bool(
    "from_older_checkpoint",
    False,
    "Resume from the last checkpoint that can be read; delete those that cannot.",
)
flags.mark_flags_as_required(["config", "workdir"])


def main(argv: list[str]) -> None:
    """Train, then write the report and print its path."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    # Orbax reports each of its steps, from threads of its own too.
    logging.set_verbosity(logging.WARNING)
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        jax.config.update("jax_compilation_cache_dir", str(_cache_folder()))
    workdir = str(_WORKDIR.value)
    try:
        status = train.run(
            _CONFIG.value, workdir, sys.argv, from_older_checkpoint=_OLDER.value
        )
    except (MissingDatasetError, records.ForeignWorkdirError) as error:
        sys.exit(f"error: {error}")
    except records.CorruptCheckpointError as error:
        sys.exit(f"error: {error}\n--from_older_checkpoint takes the one before.")
    print(f"status: {status['status']}")
    print(report.write_report(workdir))


def _cache_folder() -> Path:
    """Return where compiled programs are kept from one run to the next."""
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(caches) / "dominant" / "compiled"


if __name__ == "__main__":
    app.run(main)
