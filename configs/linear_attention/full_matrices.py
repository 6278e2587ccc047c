"""P5, reviewers' and ours: the paper's full matrices instead of its code's blocks.

    make reproduce EXPERIMENTS=linear_attention/full_matrices

Setting 1 with (d + 1) x (d + 1) matrices P and Q, which the paper writes, where its
code trains d x d blocks; the learning rates are those of the blocks. Expected: as
there, Adam's loss ends below SGD's.

At SCALE=cpu it took 2 minutes on one shared AMD EPYC core. P5 full matrices:
reproduced.
"""

import ml_collections

from configs.linear_attention import settings


def get_config() -> ml_collections.ConfigDict:
    config = settings.get_config()
    config.title = "Full matrices"
    config.task.matrices = "full"
    return config


def get_grid() -> list[settings.Fields]:
    return settings.optimizers(0.02, 0.02)


SCALES: dict = {
    "cpu": {"steps": 2500},
    "ci": settings.LITTLE,
}
