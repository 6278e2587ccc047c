"""Run an experiment: `python -m experiments.main --config=FILE --workdir=FOLDER`.

Fields can be overridden: `--config.steps=1000 --config.optimizer.learning_rate=0.05`.
The same command on the same folder resumes a run that was interrupted.
"""

import sys

from absl import app, flags, logging
from ml_collections import config_flags

from experiments import records, report, train
from experiments.compilation import keep_compiled_programs, without_wrong_fusions
from experiments.data import MissingDatasetError
from experiments.sinks import MissingPackageError

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
    without_wrong_fusions()
    keep_compiled_programs()
    workdir = str(_WORKDIR.value)
    try:
        status = train.run(
            _CONFIG.value, workdir, sys.argv, from_older_checkpoint=_OLDER.value
        )
    except (
        MissingDatasetError,
        MissingPackageError,
        records.ForeignWorkdirError,
    ) as error:
        sys.exit(f"error: {error}")
    except records.CorruptCheckpointError as error:
        sys.exit(f"error: {error}\n--from_older_checkpoint takes the one before.")
    print(f"status: {status['status']}")
    print(report.write_report(workdir))


if __name__ == "__main__":
    app.run(main)
