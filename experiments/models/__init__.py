"""Networks as pure functions of a plain tree of parameters.

Each function here returns a `Model`, or a `StatefulModel` where there is BatchNorm:

- `mlp`: dense layers.
- `cnn`, `vgg11`: convolutions and max-pools, without normalization.
- `resnet8`: a residual network with BatchNorm.
- `transformer_classifier`: an encoder that classifies sentences.
- `gpt`: a decoder that predicts the next character.
- `linear`, `two_layer`: without biases, for the theory of mixtures.
- `linear_transformer`, `softmax_transformer`: regression in context.

All of them can be differentiated forward over reverse, which is what a product with the
Hessian does. For a network of your own, `pure_model` and `pure_stateful_model` make the
pure functions from a flax module, and `experiments.curvature_check` tests its products.
"""

from experiments.models.convolutional import cnn as cnn
from experiments.models.convolutional import vgg11 as vgg11
from experiments.models.decoder import gpt as gpt
from experiments.models.encoder import (
    transformer_classifier as transformer_classifier,
)
from experiments.models.in_context import linear_transformer as linear_transformer
from experiments.models.in_context import softmax_transformer as softmax_transformer
from experiments.models.layers import ACTIVATIONS as ACTIVATIONS
from experiments.models.layers import INITIALIZERS as INITIALIZERS
from experiments.models.perceptron import mlp as mlp
from experiments.models.pure import Model as Model
from experiments.models.pure import Params as Params
from experiments.models.pure import StatefulModel as StatefulModel
from experiments.models.pure import pure_model as pure_model
from experiments.models.pure import pure_stateful_model as pure_stateful_model
from experiments.models.pure import split as split
from experiments.models.residual import resnet8 as resnet8
from experiments.models.shallow import linear as linear
from experiments.models.shallow import two_layer as two_layer
