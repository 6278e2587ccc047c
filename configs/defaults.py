"""Every field of an experiment, with its default. Experiments override, never add."""

import ml_collections
from ml_collections.config_dict import placeholder


def get_config() -> ml_collections.ConfigDict:
    config = ml_collections.ConfigDict()

    # Shown on top of the report.
    config.title = "SGD, Dom-SGD and Bulk-SGD"
    # Initial parameters and data order; with several seeds (this one and the next) they
    # are trained side by side in one program.
    config.seed = 0
    config.seeds = 1
    # Steps in all: warm-up and the branch after it.
    config.steps = 20_000
    # Mini-batches: reshuffled each epoch, without replacement; what is left over at the
    # end of an epoch, less than one batch, is skipped.
    config.batch_size = 50
    # In these steps, [first, last), the gradient of all training examples takes the
    # place of a mini-batch's: gradient descent for a while. (): never.
    config.noise_free_steps = ()

    # In passes over all of a data set (full gradient, curvature, test) so many examples
    # are worked on at once, which bounds memory; 0: all.
    config.examples_at_once = 0

    # Fields that start as None hold the default of the data set or the model that reads
    # them; the others have to leave them alone.
    config.task = ml_collections.ConfigDict()
    # "digits", "mnist", "fashion_mnist", "cifar10" (images); "sst2" (sentences);
    # "tiny_shakespeare" (characters); two mixtures, below.
    config.task.dataset = "digits"
    # The first so many training examples, 0: all; they make up the training loss.
    config.task.num_train = 1500
    # Keep the training examples in host memory, and move them to the device as they are
    # needed, examples_at_once for a pass over all.
    config.task.streamed = False
    # Two labels: examples of these alone, from among the first 1,000, with one output
    # and the targets 1 and -1; (): all classes.
    config.task.classes = ()
    # Images: each pixel shifted and scaled to mean 0 and variance 1.
    config.task.standardize = placeholder(bool)
    # Sentences: the file of a WordPiece vocabulary, or the size of one to be trained.
    config.task.vocabulary = placeholder(str)
    config.task.vocabulary_size = placeholder(int)
    # How many characters are an example; of prompts, the pairs before the query.
    config.task.context = placeholder(int)
    # "mlp", "cnn", "vgg11", "resnet8" (images); "transformer" (sentences); "gpt"
    # (characters); all in experiments/models.
    config.task.model = "mlp"
    # "pytorch": its defaults, which the papers used; "lecun": flax's.
    config.task.init = placeholder(str)
    # All initial parameters times this.
    config.task.init_scale = 1.0
    # Of all but vgg11 and resnet8.
    config.task.activation = placeholder(str)
    # Hidden layers of the MLP.
    config.task.hidden_sizes = placeholder(tuple)
    # Of cnn and resnet8.
    config.task.channels = placeholder(tuple)
    # Of transformer and gpt the embedding's dimension; a factor on all layers of vgg11.
    config.task.width = placeholder(float)
    # Of transformer and gpt; the hidden units (of two_layer, too) and the pooling
    # ("tokens" or "all") of transformer alone.
    config.task.num_layers = placeholder(int)
    config.task.num_heads = placeholder(int)
    config.task.num_hidden = placeholder(int)
    config.task.pool = placeholder(str)
    # "gaussian_mixture" and "xor_mixture" (vectors, for the models "linear" and
    # "two_layer"): dimension, signal-to-noise ratio, components, their means
    # ("orthonormal" or "general"), examples of the test set; and whether each step
    # draws fresh examples, batch_size of them: num_train is then for full passes alone.
    config.task.dimension = placeholder(int)
    config.task.snr = placeholder(float)
    config.task.num_components = placeholder(int)
    config.task.means = placeholder(str)
    config.task.num_test = placeholder(int)
    config.task.fresh = False
    # Adds ridge |theta|^2 / 2 to the loss, and so to its curvature.
    config.task.ridge = 0.0
    # "prompts" and "nonlinear_prompts" (in-context regression, for
    # "linear_transformer", of which num_hidden puts an MLP on the covariates, and
    # "softmax_transformer"): dimension, context and num_test as above; covariates
    # "gaussian", "sphere" or "gamma"; matrices "blocks" or "full" in each layer.
    config.task.covariates = placeholder(str)
    config.task.matrices = placeholder(str)
    # "half_squared_error" (half the sum over outputs), "squared_error",
    # "cross_entropy", "log_cosh", "sqrt".
    config.task.loss = "half_squared_error"

    config.optimizer = ml_collections.ConfigDict()
    # "sgd", "gd" (each step takes the full training set; batch_size is not read),
    # "heavy_ball", "nesterov", "adam", "adamw", "rmsprop" or "muon"; formulas are in
    # experiments/optimizers/base.py. A field that the chosen optimizer or schedule does
    # not read has to keep its default.
    config.optimizer.name = "sgd"
    # The highest one, where there is a schedule.
    config.optimizer.learning_rate = 0.01
    # For heavy_ball and nesterov (0.9 is usual), m <- momentum m + g, and muon (0.95).
    config.optimizer.momentum = 0.0
    # Decay of the moments and constant in the denominator: adam, adamw, and muon's
    # leaves that are no matrices; eps for rmsprop too.
    config.optimizer.b1 = 0.9
    config.optimizer.b2 = 0.999
    config.optimizer.eps = 1e-8
    # Decay of rmsprop's mean square.
    config.optimizer.rmsprop_decay = 0.99
    # "constant"; "linear", "cosine" and "warmup_cosine" (down to final_fraction times
    # the learning rate after all steps); "piecewise" (times drop_factor at each of
    # drop_steps). Formulas are in experiments/optimizers/schedules.py.
    config.optimizer.schedule = "constant"
    config.optimizer.warmup_steps = 0
    config.optimizer.final_fraction = 0.0
    config.optimizer.drop_steps = ()
    config.optimizer.drop_factor = 0.1
    # Largest norm of the gradient; 0: not clipped.
    config.optimizer.clip_norm = 0.0
    # Leave out steps whose gradient is not finite, such as one that overflows, in place
    # of ending the run as diverged; they are counted in cost/skipped_steps.
    config.optimizer.skip_not_finite = False
    # Decoupled for adamw and muon, an L2 penalty's gradient for the others.
    config.optimizer.weight_decay = 0.0
    # Radius of SAM around any of these; 0: without.
    config.optimizer.sam_rho = 0.0

    # Branches project the "update" (the papers' definition), or the "gradient", before
    # the optimizer sees it: another algorithm.
    config.projection = ml_collections.ConfigDict()
    config.projection.acts_on = "update"
    # Weights of the dominant and the bulk part in the mode "interpolated".
    config.projection.dom = 1.0
    config.projection.bulk = 1.0
    # If ramp_steps is positive, they move in a straight line from there to these, over
    # so many steps from the switch on.
    config.projection.ramp_steps = 0
    config.projection.dom_end = 1.0
    config.projection.bulk_end = 1.0
    # Scale the bulk part down to this fraction of its own edge of stability, that of
    # lambda_{k+1} (docs/stability.md), in all branches but "plain"; 0: not. For sgd,
    # gd, heavy_ball and nesterov at a constant learning rate.
    config.projection.cap_bulk = 0.0

    config.subspace = ml_collections.ConfigDict()
    # Dimension of the dominant space: the number of classes.
    config.subspace.k = 10
    # k is the largest dimension, and the one in use is where the gap is, with
    # hysteresis (docs/stability.md). All k vectors are tracked and refreshed.
    config.subspace.adaptive_k = False
    # Steps between refreshes of the basis, 1 is the paper's exact method; 0: as often
    # as it takes to keep the basis within max_angle (radians), but at least each
    # max_interval steps, and min_interval steps apart: without a gap at k, as of
    # cross-entropy with k classes, the basis turns at once, whatever it costs.
    config.subspace.refresh_every = 0
    config.subspace.max_angle = 0.1
    config.subspace.min_interval = 1
    config.subspace.max_interval = 1000
    # Relative residual of the eigenpairs.
    config.subspace.tol = 1e-3
    # Curvature products that the eigensolver takes at once, 1 to k: docs/tracking.md.
    config.subspace.block_size = 1
    # The curvature is taken on the first so many training examples; 0: on all.
    config.subspace.num_examples = 0
    # The space is that of the "hessian", of its part "gauss_newton" or the other one,
    # "functional_hessian", or of the Hessian without what couples its "layers"; that of
    # the latest `window` "updates", which takes no derivative; or that of a "random"
    # matrix, which means nothing. It is taken on the examples of "train" (above), or of
    # a refresh's own "batch" or of an "other_batch"; with products in "float32" or
    # "bfloat16". Measurements are about the Hessian on "train", whatever is tracked.
    config.subspace.curvature = "hessian"
    config.subspace.window = 50
    config.subspace.examples = "train"
    config.subspace.products_in = "float32"

    # Compare a Hessian-vector product with a difference of gradients before the start.
    config.check_curvature = True

    # The switch: once the moving average of chi_k of the full gradient (started at 0)
    # passes the threshold, and not before min_steps.
    config.switch = ml_collections.ConfigDict()
    config.switch.threshold = 0.95
    config.switch.decay = 0.9
    config.switch.min_steps = 0
    # If positive, the switch comes after exactly so many steps, whatever the alignment,
    # and threshold and min_steps have to keep their defaults.
    config.switch.step = 0

    # What to train from the state at the switch: "plain", "dom", "bulk" and
    # "interpolated" (weights above).
    config.modes = ("plain", "dom", "bulk")

    # Steps between logged lines, and between checkpoints, a multiple of it.
    config.log_every = 50
    config.checkpoint_every = 5000
    # What is measured, and in which of the logged lines: 1 is each, 10 each tenth, 0
    # none. docs/measurements.md has the formulas and costs.
    config.measure = ml_collections.ConfigDict()
    config.measure.losses = 1
    config.measure.alignments = 1
    config.measure.certificate = 1
    config.measure.cost = 1
    config.measure.held_out = 10
    config.measure.spectrum = 10
    config.measure.sharpness = 0
    config.measure.effective_rates = 0
    config.measure.drift = 0
    config.measure.descent = 0
    config.measure.trace = 0
    config.measure.energy = 0
    config.measure.split = 0
    config.measure.density = 0
    config.measure.noise = 0
    config.measure.exact = 0
    config.measure.effective_sharpness = 0
    config.measure.bulk_sharpness = 0
    config.measure.blocks = 0
    config.measure.block_density = 0
    config.measure.components = 0
    config.measure.smoothness = 0
    config.measure.conditioning = 0
    config.measure.canonical = 0

    # Of measure.blocks and block_density: which of the task's blocks, all of them for
    # (); of which matrices, and on which examples; eigenvalues beyond the expected
    # outliers.
    config.blocks = ml_collections.ConfigDict()
    config.blocks.names = ()
    config.blocks.matrices = ("hessian", "second_moment")
    config.blocks.splits = ("test", "train")
    config.blocks.num_more = 0

    # Where logged lines go besides metrics.jsonl (docs/logging.md): event files for
    # TensorBoard, and Weights & Biases, offline unless WANDB_MODE says otherwise.
    config.log = ml_collections.ConfigDict()
    config.log.tensorboard = False
    config.log.wandb = False

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
