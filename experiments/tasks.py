"""Tasks: what is trained on what, as pure functions and arrays."""

import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import optax

from experiments import blocks, data, losses, models
from experiments.blocks import Block
from experiments.data import Source, Splits
from experiments.names import lookup


class Task(NamedTuple):
    """Everything that an experiment needs to know of its problem.

    init: `key -> params`.
    loss_fn: `(params, data) -> scalar`, the mean over the examples.
    predict_fn: `(params, data) -> outputs`, the examples on the leading axis.
    output_loss_fn: `(outputs, data) -> scalar`, the mean over the examples.
    train, test: trees of device arrays, examples on the leading axis; test may be None.
      The curvature is that of the loss on all of `train`.
    source: where all of the training examples are read from, if they are not in device
      memory; `train` then holds the first few.
    accuracy_fn: `(outputs, data) -> scalar` in [0, 1], or None.
    sample: `(key, count) -> data`, fresh examples for each step, or None: batches of
      `train`.
    blocks: parts of the params with a curvature of their own, by name.
    mixture: what the examples were drawn from, where it is one.

    A network that keeps statistics (BatchNorm) has them as its model state; all else
    has (). The functions above are those in evaluation mode, at the initial statistics.
    model_state: the initial one, the same for all seeds.
    bind: `model_state -> Task`, with the functions at these statistics.
    training_loss_fn: `(params, model_state, batch) -> (loss, model_state)`, in training
      mode, with the statistics of the batch.
    """

    init: Callable[[jax.Array], Any]
    loss_fn: Callable[[Any, Any], jax.Array]
    predict_fn: Callable[[Any, Any], Any]
    output_loss_fn: Callable[[Any, Any], jax.Array]
    train: Any
    test: Any
    source: Source | None = None
    accuracy_fn: Callable[[Any, Any], jax.Array] | None = None
    sample: Callable[[jax.Array, int], Any] | None = None
    blocks: Mapping[str, Block] = types.MappingProxyType({})
    mixture: data.Mixture | None = None
    model_state: Any = ()
    bind: Callable[[Any], "Task"] | None = None
    training_loss_fn: Callable[[Any, Any, Any], tuple[jax.Array, Any]] | None = None

    def scores(self, params: Any, data: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Return the loss, and what else there is to say of the outputs, by name."""
        loss = self.loss_fn(params, data)
        if self.accuracy_fn is None:
            return loss, {}
        outputs = self.predict_fn(params, data)
        return loss, {"accuracy": self.accuracy_fn(outputs, data)}

    def at(self, model_state: Any) -> "Task":
        """Return the task with its functions at a model state, in evaluation mode."""
        return self if self.bind is None else self.bind(model_state)

    def training_loss(
        self, params: Any, model_state: Any, batch: Any
    ) -> tuple[jax.Array, Any]:
        """Return the loss that a step differentiates, and the next model state."""
        if self.training_loss_fn is None:
            return self.loss_fn(params, batch), model_state
        return self.training_loss_fn(params, model_state, batch)

    def data_loss_fn(self, params: Any, data: Any) -> jax.Array:
        """Return the loss of the outputs alone: `loss_fn` without a ridge."""
        return self.output_loss_fn(self.predict_fn(params, data), data)

    @property
    def num_train(self) -> int:
        """The number of training examples."""
        if self.source is not None:
            return self.source.num_examples
        return jax.tree.leaves(self.train)[0].shape[0]


class _Recipe(NamedTuple):
    """How a model is made of the data and of the config's fields that it reads.

    make: `(splits, **options) -> Model or StatefulModel`. reads: those fields; where
    one is None the model's own default holds.
    """

    make: Callable[..., Any]
    reads: tuple[str, ...]


def _mlp(
    splits: Splits, *, hidden_sizes: Sequence[int] = (200, 200), **options: Any
) -> Any:
    sizes = (splits.train["inputs"][0].size, *hidden_sizes, splits.num_classes)
    return models.mlp(sizes, **options)


def _cnn(splits: Splits, **options: Any) -> Any:
    return models.cnn(splits.train["inputs"].shape[1:], splits.num_classes, **options)


def _vgg11(splits: Splits, *, width: float = 1.0, **options: Any) -> Any:
    shape = splits.train["inputs"].shape[1:]
    return models.vgg11(shape, splits.num_classes, width=width, **options)


def _resnet8(splits: Splits, **options: Any) -> Any:
    in_channels = splits.train["inputs"].shape[-1]
    return models.resnet8(in_channels, splits.num_classes, **options)


def _transformer(splits: Splits, **options: Any) -> Any:
    options = _with_whole_width(options)
    return models.transformer_classifier(
        splits.num_classes, vocab_size=splits.vocabulary_size, **options
    )


def _gpt(splits: Splits, **options: Any) -> Any:
    options = _with_whole_width(options)
    length = splits.train["inputs"].shape[1]
    return models.gpt(splits.vocabulary_size, max_length=length, **options)


def _linear(splits: Splits) -> Any:
    return models.linear(splits.train["inputs"].shape[1], splits.num_classes)


def _two_layer(splits: Splits, *, num_hidden: int = 20) -> Any:
    num_inputs = splits.train["inputs"].shape[1]
    return models.two_layer(num_inputs, num_hidden, splits.num_classes)


def _linear_transformer(splits: Splits, **options: Any) -> Any:
    return models.linear_transformer(splits.train["inputs"]["x"].shape[-1], **options)


def _softmax_transformer(splits: Splits, **options: Any) -> Any:
    return models.softmax_transformer(splits.train["inputs"]["x"].shape[-1], **options)


def _with_whole_width(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options with a width that is an integer, where there is one."""
    return {k: int(v) if k == "width" else v for k, v in options.items()}


_BLOCKS = ("width", "num_layers", "num_heads", "activation", "init")
MODELS: Mapping[str, _Recipe] = {
    "mlp": _Recipe(_mlp, ("hidden_sizes", "activation", "init")),
    "cnn": _Recipe(_cnn, ("channels", "activation", "init")),
    "vgg11": _Recipe(_vgg11, ("width", "init")),
    "resnet8": _Recipe(_resnet8, ("channels", "init")),
    "transformer": _Recipe(_transformer, (*_BLOCKS, "num_hidden", "pool")),
    "gpt": _Recipe(_gpt, _BLOCKS),
    "linear": _Recipe(_linear, ()),
    "two_layer": _Recipe(_two_layer, ("num_hidden",)),
    "linear_transformer": _Recipe(
        _linear_transformer, ("num_layers", "matrices", "num_hidden")
    ),
    "softmax_transformer": _Recipe(_softmax_transformer, ("num_layers", "matrices")),
}

_OF_DATA = (
    *("standardize", "vocabulary", "vocabulary_size", "context"),
    *("dimension", "snr", "num_components", "means", "num_test", "covariates"),
)
_IMAGES = ("cifar10", "digits", "fashion_mnist", "mnist")
_PROMPTS = ("prompts", "nonlinear_prompts")
_MIXTURES = ("gaussian_mixture", "xor_mixture")
# Which data suit which model: images, sentences, characters or vectors.
_SUITS = {
    "transformer": ("sst2",),
    "gpt": ("tiny_shakespeare",),
    "linear": _MIXTURES,
    "two_layer": _MIXTURES,
    "linear_transformer": _PROMPTS,
    "softmax_transformer": _PROMPTS,
}


def make_task(config: ml_collections.ConfigDict, num_kept: int = 1) -> Task:
    """Return a network on a data set.

    Args:
      config: `task` of configs/defaults.py.
      num_kept: of a streamed training set the examples that are in `train`.

    Raises:
      ValueError: if a name is unknown, the model does not suit the data, or a field is
        set that the chosen data set or model does not read.
      MissingDatasetError: if the data set is not on disk.
    """
    recipe = lookup("task.model", config.model, MODELS)
    output_loss_fn = lookup("task.loss", config.loss, losses.OUTPUT_LOSSES)
    _check_suits(config)
    _check_synthetic(config)
    owned = {name for other in MODELS.values() for name in other.reads}
    for name in sorted(owned - set(recipe.reads)):
        if config[name] is not None:
            raise ValueError(f"task.{name} has no effect with model {config.model!r}.")
    num_train, options = config.num_train or None, _given(config, _OF_DATA)
    source = None
    if config.streamed:
        source, splits = data.open_streamed(
            config.dataset, num_train=num_train, num_kept=num_kept, **options
        )
    elif config.classes:
        splits = data.load_two_classes(
            config.dataset, config.classes, num_train=num_train, **options
        )
    else:
        splits = data.load(config.dataset, num_train=num_train, **options)
    _require_classes(config, splits.num_classes)
    model = recipe.make(splits, **_given(config, recipe.reads))
    train, test = (
        jax.tree.map(jnp.asarray, dict(part)) for part in (splits.train, splits.test)
    )
    if isinstance(model, models.StatefulModel):
        return _stateful(model, output_loss_fn, train, test, source)

    def predict_fn(params: Any, data: Any) -> jax.Array:
        return model.apply(params, _inputs(data))

    def init(key: jax.Array) -> Any:
        return optax.tree.scale(config.init_scale, model.init(key))

    task = _task(
        model.init if config.init_scale == 1 else init,
        predict_fn,
        output_loss_fn,
        train,
        test,
        ridge=config.ridge,
    )
    return task._replace(
        source=source,
        sample=splits.sample if config.fresh else None,
        blocks=blocks.of_model(config.model, splits.mixture, model.init),
        mixture=splits.mixture,
    )


def _check_suits(config: ml_collections.ConfigDict) -> None:
    suited = _SUITS.get(config.model)
    of_others = {name for names in _SUITS.values() for name in names}
    fits = config.dataset in suited if suited else config.dataset not in of_others
    if not fits:
        wanted = f"needs {' or '.join(suited)}" if suited else "needs images"
        raise ValueError(
            f"task.model {config.model!r} {wanted}, got the data set "
            f"{config.dataset!r}."
        )


def _given(config: ml_collections.ConfigDict, names: Iterable[str]) -> dict[str, Any]:
    return {name: config[name] for name in names if config[name] is not None}


def _check_synthetic(config: ml_collections.ConfigDict) -> None:
    if config.ridge < 0:
        raise ValueError(f"task.ridge must be at least 0, got {config.ridge}.")
    if config.fresh and config.dataset not in (*_MIXTURES, *_PROMPTS):
        raise ValueError(
            "task.fresh draws synthetic examples, not those of the data set "
            f"{config.dataset!r}."
        )
    if config.model == "resnet8" and (config.ridge or config.init_scale != 1):
        raise ValueError(
            "task.ridge and task.init_scale have no effect with model 'resnet8'."
        )
    if config.classes and (config.streamed or config.dataset not in _IMAGES):
        raise ValueError(
            "task.classes chooses among images in device memory: not with "
            f"task.streamed, nor with the data set {config.dataset!r}."
        )
    if config.fresh and config.streamed:
        raise ValueError("task.fresh has no effect with task.streamed.")


def _require_classes(config: ml_collections.ConfigDict, num_classes: int) -> None:
    if num_classes == 1 and config.loss == "cross_entropy":
        raise ValueError(
            "task.loss = 'cross_entropy' of a single output is 0 whatever it is."
        )


def _inputs(data: Any) -> Any:
    """Return what a model takes: the inputs, with the mask where there is one."""
    if "mask" in data:
        return {"ids": data["inputs"], "mask": data["mask"]}
    return data["inputs"]


def _task(
    init: Callable,
    predict_fn: Callable,
    output_loss_fn: Callable,
    train: Any,
    test: Any,
    ridge: float = 0.0,
) -> Task:
    def loss_fn(params: Any, data: Any) -> jax.Array:
        loss = output_loss_fn(predict_fn(params, data), data)
        if not ridge:
            return loss
        return loss + 0.5 * ridge * optax.tree.norm(params, squared=True)

    return Task(
        init=init,
        loss_fn=loss_fn,
        predict_fn=predict_fn,
        output_loss_fn=output_loss_fn,
        accuracy_fn=losses.accuracy if _are_classes(train["labels"]) else None,
        train=train,
        test=test,
    )


def _are_classes(labels: jax.Array) -> bool:
    return jnp.issubdtype(labels.dtype, jnp.integer)


def _stateful(
    model: models.StatefulModel,
    output_loss_fn: Callable,
    train: Any,
    test: Any,
    source: Source | None,
) -> Task:
    """Return the task of a network with BatchNorm; its curvature is in evaluation mode.

    The statistics start from constants, whatever the seed.
    """
    _, initial_state = model.init(jax.random.key(0))

    def init(key: jax.Array) -> Any:
        return model.init(key)[0]

    def bind(model_state: Any) -> Task:
        def predict_fn(params: Any, data: Any) -> jax.Array:
            return model.apply(params, model_state, _inputs(data))

        return _task(init, predict_fn, output_loss_fn, train, test)._replace(
            source=source,
            model_state=initial_state,
            bind=bind,
            training_loss_fn=training_loss_fn,
        )

    def training_loss_fn(
        params: Any, model_state: Any, batch: Any
    ) -> tuple[jax.Array, Any]:
        outputs, new_state = model.apply_training(params, model_state, _inputs(batch))
        return output_loss_fn(outputs, batch), new_state

    return bind(initial_state)
