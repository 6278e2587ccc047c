"""Every field of an experiment, with its default. Experiments override, never add."""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    config = ml_collections.ConfigDict()

    # Shown on top of the report.
    config.title = "SGD, Dom-SGD and Bulk-SGD"
    # Initial parameters and data order.
    config.seed = 0
    # Steps in all: warm-up and the branch after it.
    config.steps = 20_000
    # Mini-batches: reshuffled each epoch, without replacement; what is left over at the
    # end of an epoch, less than one batch, is skipped.
    config.batch_size = 50

    config.task = ml_collections.ConfigDict()
    # "digits", "mnist", "fashion_mnist" or "cifar10"; see experiments/data.
    config.task.dataset = "digits"
    # The first so many training examples; they are all of the training loss.
    config.task.num_train = 1500
    # Hidden layers of the MLP.
    config.task.hidden_sizes = (200, 200)
    config.task.activation = "tanh"
    # "pytorch": uniform in 1/sqrt(fan_in), weights and biases; "lecun": flax's default.
    config.task.init = "pytorch"
    # "half_squared_error" (half the sum over outputs) or "cross_entropy".
    config.task.loss = "half_squared_error"

    config.optimizer = ml_collections.ConfigDict()
    # "sgd" (with momentum below) or "adam".
    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 0.01
    # Heavy-ball momentum, m <- beta m + g.
    config.optimizer.momentum = 0.0

    config.subspace = ml_collections.ConfigDict()
    # Dimension of the dominant space: the number of classes.
    config.subspace.k = 10
    # Steps between refreshes of the basis, 1 is the paper's exact method; 0: as often
    # as it takes to keep the basis within max_angle (radians), but at least each
    # max_interval steps.
    config.subspace.refresh_every = 0
    config.subspace.max_angle = 0.1
    config.subspace.max_interval = 1000
    # Relative residual of the eigenpairs.
    config.subspace.tol = 1e-3
    # Examples a chunk of a curvature product, to bound memory; 0: all at once.
    config.subspace.batch_size = 0

    # The switch: once the moving average of chi_k of the full gradient (started at 0)
    # passes the threshold, and not before min_steps.
    config.switch = ml_collections.ConfigDict()
    config.switch.threshold = 0.95
    config.switch.decay = 0.9
    config.switch.min_steps = 0

    # What to train from the state at the switch: "plain", "dom", "bulk".
    config.modes = ("plain", "dom", "bulk")

    # Steps between logged lines, between spectra (top 2k eigenvalues) with test
    # metrics, and between checkpoints. The last two are multiples of the first.
    config.log_every = 50
    config.spectrum_every = 500
    config.checkpoint_every = 5000

    # Steps averaged for "the loss before the switch" and "the loss at the end".
    config.report_window = 100
    # What the paper says of each branch, and what counts as reproduced: bounds on the
    # loss at the end over the loss before the switch.
    config.claims = ml_collections.ConfigDict()
    config.claims.plain = ml_collections.ConfigDict()
    config.claims.plain.text = "SGD learns"
    config.claims.plain.max_ratio = 0.6
    config.claims.dom = ml_collections.ConfigDict()
    config.claims.dom.text = "Dom-SGD stalls or rises"
    config.claims.dom.min_ratio = 0.95
    config.claims.bulk = ml_collections.ConfigDict()
    config.claims.bulk.text = "Bulk-SGD learns as SGD does, within 25 %"
    config.claims.bulk.max_ratio = 0.6
    # |loss / SGD's loss - 1| at the end.
    config.claims.bulk.max_difference_to_plain = 0.25

    return config.lock()
