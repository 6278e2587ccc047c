"""Time whole experiments that have to be cheap, with all that they measure.

    python -m experiments.benchmarks.whole --out=FOLDER [--quick]

400 four-neuron networks on XOR side by side (K = 4, d = 250, T = 150) with the spectra
at the end; logistic regression on ten components (d = 1,000, T = 50) with Lanczos
spectra of all classes' blocks at 50 times; and six linear transformers side by side
with SGD, condition numbers and directional smoothness, 1,000 of the published 10,000
steps. Writes `whole.json` and `whole.md`: seconds of wall time with compilation, each
run from scratch. With --quick, tiny ones instead.
"""

import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import ml_collections

from configs.linear_attention import optimizers
from configs.linear_attention import settings as prompts
from configs.outlier_eigenspaces import logistic, mixtures, success
from experiments import train
from experiments.benchmarks import command
from experiments.compilation import without_wrong_fusions

_TIMES_LONGER = 10


class Timed(NamedTuple):
    """A run that is timed.

    config: of the run. limit: seconds that we allow on two cores. times: by how much
    the whole experiment is longer than the run.
    """

    config: ml_collections.ConfigDict
    limit: float
    times: int = 1


def _success() -> ml_collections.ConfigDict:
    config = success.get_config()
    config.seeds = 400
    return config


def _logistic() -> ml_collections.ConfigDict:
    config = logistic.get_config()
    config.seeds = 1
    config.blocks.splits = ("test",)
    config.blocks.matrices = ("hessian",)
    config.measure.block_density = 0
    config.update_from_flattened_dict(mixtures.lasting(1000, 50, 50))
    return config


def _transformers() -> ml_collections.ConfigDict:
    config = optimizers.get_config()
    config.steps //= _TIMES_LONGER
    return config


def runs(quick: bool) -> dict[str, Timed]:
    """Return what is timed, by name."""
    found = {
        "400 XOR networks, d = 250, T = 150": Timed(_success(), 300),
        "logistic, d = 1,000, T = 50, 50 spectra": Timed(_logistic(), 300),
        "6 linear transformers, SGD": Timed(_transformers(), 480, _TIMES_LONGER),
    }
    if quick:
        little = (mixtures.LITTLE, mixtures.LITTLE_LOGISTIC, prompts.LITTLE)
        for timed, changes in zip(found.values(), little, strict=True):
            timed.config.update_from_flattened_dict(changes)
    return found


def measure(timed: Timed) -> dict[str, float]:
    """Return the seconds of a run and, multiplied, of the whole experiment."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        status = train.run(timed.config, f"{folder}/run")
        seconds = time.perf_counter() - start
    if status["status"] != "finished":
        raise RuntimeError(f"a timed run ended as {status['status']!r}")
    return {"seconds": seconds, "whole": seconds * timed.times, "limit": timed.limit}


def to_markdown(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the results as a table."""
    lines = ["| experiment | seconds | of the whole | limit |", "|---|--:|--:|--:|"]
    lines += [
        f"| {name} | {row['seconds']:.0f} | {row['whole']:.0f} | {row['limit']:.0f} |"
        for name, row in results.items()
    ]
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    args = command.parser("experiments.benchmarks.whole", __doc__).parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    without_wrong_fusions()
    results = {name: measure(timed) for name, timed in runs(args.quick).items()}
    command.write(args.out, "whole", results, to_markdown(results))
    print(to_markdown(results))


if __name__ == "__main__":
    main()
