from __future__ import annotations

import keras
import numpy as np
import pytest

import tfgreen as tg
from tests.surgery.cases import outputs
from tfgreen.errors import ConversionError

hub = pytest.importorskip("keras_hub").models

TEXT = {"vocabulary_size": 30, "num_layers": 2, "hidden_dim": 32, "intermediate_dim": 64}
SHORT = {**TEXT, "num_heads": 4, "max_sequence_length": 12}
GROUPED = {**TEXT, "num_query_heads": 4, "num_key_value_heads": 2}
VIT = {
    "image_shape": (16, 16, 3), "patch_size": (4, 4), "num_layers": 2, "num_heads": 4, "hidden_dim": 32, "mlp_dim": 64,
}
ELECTRA = {**{name: value for name, value in SHORT.items() if name != "vocabulary_size"}, "vocab_size": 30}

FAMILIES = {
    "bert": lambda: hub.BertBackbone(**SHORT),
    "gpt2 that writes": lambda: hub.GPT2CausalLM(hub.GPT2Backbone(**SHORT), preprocessor=None),
    "bert that sorts": lambda: hub.BertTextClassifier(hub.BertBackbone(**SHORT), num_classes=3, preprocessor=None),
    "distilbert": lambda: hub.DistilBertBackbone(**SHORT),
    "roberta": lambda: hub.RobertaBackbone(**SHORT),
    "albert": lambda: hub.AlbertBackbone(**SHORT, embedding_dim=16),
    "electra": lambda: hub.ElectraBackbone(**ELECTRA, embedding_dim=32),
    "deberta": lambda: hub.DebertaV3Backbone(**SHORT, bucket_size=8),
    "gpt2": lambda: hub.GPT2Backbone(**SHORT),
    "gemma": lambda: hub.GemmaBackbone(**GROUPED, head_dim=8),
    "gemma that writes": lambda: hub.GemmaCausalLM(hub.GemmaBackbone(**GROUPED, head_dim=8), preprocessor=None),
    "t5": lambda: hub.T5Backbone(**TEXT, num_heads=4),
    "t5, gated and untied": lambda: hub.T5Backbone(
        **TEXT, num_heads=4, use_gated_activation=True, activation="gelu", tie_embedding_weights=False
    ),
    "vit": lambda: hub.ViTBackbone(**VIT),
    "vit that sorts": lambda: hub.ViTImageClassifier(hub.ViTBackbone(**VIT), num_classes=3, preprocessor=None),
    "llama": lambda: hub.LlamaBackbone(**GROUPED),
}
FAST = ("bert", "gpt2 that writes")
# Their code slices what is of open size, for which LiteRT has no operator.
REFUSED = ("deberta", "gemma", "gemma that writes", "t5", "t5, gated and untied", "llama")


def sample(model: keras.Model) -> dict[str, np.ndarray]:
    rng, x = np.random.default_rng(0), {}
    for tensor in model.inputs:
        shape = (2, *(size or 8 for size in tensor.shape[1:]))
        if "padding" in tensor.name:
            x[tensor.name] = np.ones(shape, tensor.dtype)
        elif tensor.dtype.startswith("float"):
            x[tensor.name] = rng.normal(size=shape).astype(tensor.dtype)
        else:
            x[tensor.name] = rng.integers(0, 2 if "segment" in tensor.name else 30, shape).astype(tensor.dtype)
    return x


@pytest.mark.filterwarnings("ignore::UserWarning:keras.*")  # masks that T5 drops, optimizers that were never built
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in FAST else pytest.mark.slow) for name in FAMILIES]
)
def test_every_family_gets_smaller_and_is_saved_and_loaded(name, tmp_path):
    keras.utils.set_random_seed(0)
    model = FAMILIES[name]()
    x, groups = sample(model), tg.channel_groups(model)
    assert all(group.reason for group in groups if not group.removable)
    slim = tg.prune_channels(model, ratio=0.5, round_to=1)
    assert isinstance(slim, type(model)) and slim.count_params() < 0.8 * model.count_params()
    before = outputs(slim, x)
    slim.save(tmp_path / "slim.keras")
    loaded = keras.models.load_model(tmp_path / "slim.keras", compile=False)
    assert isinstance(loaded, type(model))
    for expected, got in zip(before, outputs(loaded, x), strict=True):
        np.testing.assert_array_equal(got, expected)
    slim.save_weights(tmp_path / "slim.weights.h5")
    loaded.set_weights([np.zeros_like(weight) for weight in loaded.get_weights()])
    loaded.load_weights(tmp_path / "slim.weights.h5")
    for expected, got in zip(before, outputs(loaded, x), strict=True):
        np.testing.assert_array_equal(got, expected)
    if name in REFUSED:
        with pytest.raises(ConversionError, match="for which LiteRT has no operator"):
            tg.convert(model)
        return
    lite = tg.convert(loaded)
    for expected, got in zip(before, keras.tree.flatten(lite.predict(x)), strict=True):
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-3 * np.abs(expected).max())
