"""A name that is not there: what there is instead."""

from __future__ import annotations

from types import ModuleType

import keras
import pytest

from tfgreen import compat as tfmot
from tfgreen.compat.unknown import unknown_name
from tfgreen.compat.wrappers.pruned import PruneLowMagnitude


@pytest.mark.parametrize(
    "module, name, words",
    [
        (tfmot, "python", "modules below 'python' are private"),
        (tfmot, "contrib", "was of TensorFlow 1"),
        (tfmot, "sparcity", "Did you mean 'sparsity'"),
        (tfmot.sparsity, "tf1", "It has keras."),
        (tfmot.sparsity.keras, "prune_low_magnitud", "Did you mean 'prune_low_magnitude'"),
        (tfmot.sparsity.keras, "apply_mask", r"call tfmot.sparsity.keras.prune_low_magnitude\(model\)"),
        (tfmot.clustering.keras, "cluster_weight", "Did you mean 'cluster_weights'"),
        (tfmot.quantization.keras, "create_training_graph", r"call tfmot.quantization.keras.quantize_model\(model\)"),
        (tfmot.sparsity.keras, "PruneLowMagnitude", "take PruneLowMagnitude from tfgreen.compat.wrappers.pruned"),
        (tfmot.quantization.keras.default_8bit, "NoOpQuantizeConfig", "without annotation.*whose lists are empty"),
    ],
)
def test_a_name_that_is_not_there_is_answered(module, name, words):
    with pytest.raises(AttributeError, match=f"'{module.__name__}' has no attribute '{name}'.*{words}"):
        getattr(module, name)
    assert not hasattr(module, "__wrapped__")  # which tools ask for


def below(module: ModuleType) -> list[ModuleType]:
    """A module of TFMOT's names and all within it."""
    within = [value for value in vars(module).values() if isinstance(value, ModuleType)]
    own = [value for value in within if value.__name__.startswith(f"{module.__name__}.")]
    return [module, *(found for value in own for found in below(value))]


TOP = (tfmot.clustering, tfmot.experimental, tfmot.quantization, tfmot.sparsity)
MODULES = [tfmot, *(found for module in TOP for found in below(module))]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__.removeprefix("tfgreen."))
def test_every_module_answers(module):
    name = max((name for name in vars(module) if not name.startswith("_")), key=len)
    for wrong, text in ((f"{name}s", "Did you mean"), ("xyzzy", "It has"), ("python", "are private")):
        with pytest.raises(AttributeError, match=f"module '{module.__name__}' has no attribute '{wrong}'. .*{text}"):
            getattr(module, wrong)


@pytest.mark.parametrize(
    "statement",
    [
        "import tfgreen.compat.python",
        "from tfgreen.compat import python",
        "from tfgreen.compat.python.core.sparsity.keras import pruning_wrapper",
        "from tfgreen.compat.python.core.sparsity.keras.pruning_wrapper import PruneLowMagnitude",
    ],
)
def test_imports_of_private_modules_say_what_there_is(statement):
    with pytest.raises(ImportError, match="'python' are private.*wrappers.pruned.*NoOpQuantizeConfig.*guides/tfmot.md"):
        exec(statement)
    with pytest.raises(AttributeError, match="has no attribute 'python'"):
        tfmot.python


@pytest.mark.filterwarnings("ignore::tfgreen.compat.told.TfmotWarning")
def test_what_is_said_of_private_classes_works():
    layers = [keras.Input((4,)), keras.layers.Dense(3, name="first"), keras.layers.Dense(2, name="last")]
    pruned = tfmot.sparsity.keras.prune_low_magnitude(keras.Sequential(layers))
    assert all(isinstance(layer, PruneLowMagnitude) for layer in pruned.layers)
    keras_names = tfmot.quantization.keras

    class NoOpQuantizeConfig(keras_names.QuantizeConfig):
        def get_weights_and_quantizers(self, layer):
            return []

        get_activations_and_quantizers = get_output_quantizers = get_weights_and_quantizers

        def set_quantize_weights(self, layer, quantize_weights):
            pass

        set_quantize_activations = set_quantize_weights

        def get_config(self):
            return {}

    marked = keras_names.quantize_annotate_layer(keras.layers.Dense(3), NoOpQuantizeConfig())
    plain, last = keras.layers.Dense(3), keras_names.quantize_annotate_layer(layers[2])
    quantized = keras_names.quantize_apply(keras.Sequential([layers[0], plain, marked, last]))
    chains = [getattr(layer, "chains", []) for layer in quantized.layers]
    found = [[type(transform).__name__ for chain in own for transform in chain.transforms] for own in chains]
    assert found == [[], [], ["FakeQuant"]]


def test_private_names_are_not_offered():
    assert "_hidden" not in str(unknown_name("m", "hiden", ["_hidden", "shown"]))
