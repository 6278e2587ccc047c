"""The paper's main figure in two minutes, on scikit-learn's handwritten digits.

    make run

1,500 real 8x8 images, which come with scikit-learn: no download. An MLP is trained by
SGD until its gradient lies almost wholly in the top-10 Hessian eigenspace; from that
state SGD, Dom-SGD and Bulk-SGD go on. Expected: SGD and Bulk-SGD learn (loss at most
0.7 of that before the switch), Dom-SGD stalls (at least 0.95).
"""

import ml_collections

from configs import defaults


def get_config() -> ml_collections.ConfigDict:
    config = defaults.get_config()
    config.title = "Quickstart: SGD, Dom-SGD and Bulk-SGD on handwritten digits"
    config.steps = 2500
    config.task.hidden_sizes = (100, 100)
    config.optimizer.learning_rate = 0.1
    config.subspace.refresh_every = 10
    # The loss falls fast at first; later it tells less of the luck of the moment.
    config.switch.min_steps = 500
    config.log_every = 10
    config.measure.spectrum = config.measure.held_out = 25
    config.checkpoint_every = 500
    config.claims.plain.max_ratio = 0.7
    config.claims.bulk.max_ratio = 0.7
    config.claims.bulk.text = "Bulk-SGD learns at least as well as SGD"
    config.claims.bulk.max_difference_to_plain = 0.5
    return config
