"""Download a data set and prepare it for `experiments.data`.

    python -m experiments.prepare mnist [--data_dir DIR]

This one step needs TensorFlow (`pip install '.[prepare]'`) and a network; reading what
it wrote needs neither.
"""

import argparse
import importlib.util
import os
import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="experiments.prepare", description=__doc__)
    parser.add_argument("dataset", help="its name in TensorFlow Datasets, like mnist")
    parser.add_argument(
        "--data_dir",
        default=os.environ.get("TFDS_DATA_DIR"),
        help="where to put it; by default TFDS_DATA_DIR, then TFDS's own default",
    )
    args = parser.parse_args(argv)
    if importlib.util.find_spec("tensorflow") is None:
        sys.exit("preparing a data set needs TensorFlow: pip install '.[prepare]'")
    prepare(args.dataset, args.data_dir)


def prepare(dataset: str, data_dir: str | None) -> None:
    """Download `dataset` and write it to `data_dir` as array_record files."""
    import tensorflow_datasets as tfds  # after the check that TensorFlow is there

    if dataset.split("/")[0] == "glue":
        # TFDS would look for it last, and gives up at the first module that it cannot
        # import.
        import tensorflow_datasets.text.glue

    # TFDS's default format, tfrecord, cannot be read without TensorFlow.
    builder = tfds.builder(dataset, data_dir=data_dir, file_format="array_record")
    builder.download_and_prepare()
    print(f"{dataset} is in {builder.data_path}")


if __name__ == "__main__":
    main()
