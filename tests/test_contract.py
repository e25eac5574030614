"""What every verb promises on every kind of model. A new verb adds one row to VERBS, a new model one to the zoo."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import pytest

import tfgreen as tg
from tests import zoo
from tfgreen.model.graph import LayerGraph
from tfgreen.model.internals import input_layers
from tfgreen.model.paths import replaceable_layers, walk, weights_by_path
from tfgreen.transforms.compress import Choice, compress
from tfgreen.transforms.fake_quant import FakeQuant


@dataclasses.dataclass(frozen=True)
class Verb:
    """How the suite calls a verb, and what the verb promises.

    Attributes:
        apply: The verb, on a model and 8 samples of its inputs.
        twice: What the error of a second application says; "" where it changes no prediction; None where it acts again.
        exact: How far the predictions before any training may be from those of the model it came from; None for any.
        compresses: Whether its result trains with ``tg.UpdateCompression``.
        rounds: Whether it rounds activations: its int8 file computes as it does, its stripped model not.
        folds: Whether it folds batch normalization, whose layers are then gone.
        refuses: Model of the zoo -> what the error says where the verb does not apply.
    """

    apply: Callable[[keras.Model, Any], keras.Model]
    twice: str | None
    exact: float | None = 1e-6
    compresses: bool = False
    rounds: bool = False
    folds: bool = False
    refuses: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def callbacks(self) -> list[keras.callbacks.Callback]:
        return [tg.UpdateCompression()] if self.compresses else []


def _prune(model: keras.Model, x: Any = None) -> keras.Model:
    return tg.prune(model, schedule=tg.PolynomialDecay(0.2, 0.6, begin_step=0, end_step=2, frequency=1))


def _cluster(model: keras.Model, x: Any) -> keras.Model:
    return tg.cluster(model, number_of_clusters=4, frequency=1)


def _noise(rng: np.random.Generator, layer: keras.layers.InputLayer) -> np.ndarray:
    x = rng.normal(size=(64, *layer.batch_shape[1:]))
    return (np.abs(x) if "int" in layer.dtype else x).astype(layer.dtype)  # tokens are not negative


def _quantize(model: keras.Model, x: Any) -> keras.Model:
    data = None
    if isinstance(model, keras.Model) and getattr(model, "inputs", None):
        rng = np.random.default_rng(0)
        data = keras.tree.map_structure(lambda layer: _noise(rng, layer), input_layers(model))
    return tg.quantize(model, tg.QuantizeConfig(calibration_data=data, freeze_after=1))


NO_KERNELS = "has no two kernels with only layers between them that commute with a scale"
NO_GRAPH = "expected a Sequential or functional model"
NOT_EQUALIZED = ("concat", "shared_layer", "multi_io", "lstm", "attention", "custom_layer")

VERBS = {
    "prune": Verb(_prune, "is pruned already", compresses=True),
    "cluster": Verb(_cluster, "is clustered already", exact=None, compresses=True),
    "quantize_weights": Verb(lambda model, x: tg.quantize_weights(model), "is quantized already", exact=0.1),
    "quantize": Verb(_quantize, "is quantized already", exact=0.1, compresses=True, rounds=True),
    "strip": Verb(lambda model, x: tg.strip(model), ""),
    "fold_batch_norm": Verb(lambda model, x: tg.fold_batch_norm(model), "", exact=1e-5, folds=True),
    "equalize": Verb(
        lambda model, x: tg.equalize(model), "", exact=1e-5, folds=True,
        refuses={**dict.fromkeys(NOT_EQUALIZED, NO_KERNELS), "subclassed": NO_GRAPH},
    ),
    "correct_bias": Verb(tg.correct_bias, "is corrected", exact=None, folds=True, refuses={"subclassed": NO_GRAPH}),
    "fuse_batch_norm": Verb(lambda model, x: tg.fuse_batch_norm(model), ""),
    "recalibrate_batch_norm": Verb(
        lambda model, x: tg.recalibrate_batch_norm(model, x, batch_size=4), "", exact=None
    ),
}

COMPRESSES = [name for name, verb in VERBS.items() if verb.compresses]
everywhere = pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)
over_the_zoo = pytest.mark.parametrize("name", zoo.mostly_slow("lstm", "residual", "multi_io", "nested"))


def flat_predictions(model: keras.Model, x: Any) -> list[np.ndarray]:
    return [np.asarray(y) for y in keras.tree.flatten(model.predict(x, verbose=0))]


def assert_same_predictions(one: keras.Model, other: keras.Model, x: Any, atol: float = 1e-6) -> None:
    for a, b in zip(flat_predictions(one, x), flat_predictions(other, x), strict=True):
        np.testing.assert_allclose(a, b, atol=atol, rtol=0)


def interface(model: keras.Model) -> dict[str, Any]:
    """Names and specs that a caller of the model relies on."""
    found: dict[str, Any] = {"name": model.name, "layers": [path for path, _ in replaceable_layers(model)]}
    if getattr(model, "inputs", None):
        # By the calls of the graph, because a quantized `x + y` is a layer.
        nodes = LayerGraph(model).nodes
        found["layers"] = sorted((node.path, [producer.path for producer in node.producers]) for node in nodes)
        found["inputs"] = [(t.name, tuple(t.shape), t.dtype) for t in model.inputs]
        found["outputs"] = [(tuple(t.shape), t.dtype) for t in model.outputs]
        found["input_layers"] = [layer.name for layer in keras.tree.flatten(input_layers(model))]
        found["output_names"] = getattr(model, "output_names", None)
    return found


def assert_same_interface(result: keras.Model, model: keras.Model, verb: Verb) -> None:
    after, before = interface(result), interface(model)
    if verb.folds:  # the layers that are left, in their order
        after, before = ({**found, "layers": [path for path, _ in replaceable_layers(m)]}
                         for found, m in ((after, result), (before, model)))
        before["layers"] = [path for path in before["layers"] if path in after["layers"]]
    assert after == before


@everywhere
@over_the_zoo
def test_result_trains_saves_loads_and_strips_and_the_input_is_untouched(verb, name, tmp_path):
    model = zoo.ZOO[name]()
    x, y = zoo.sample(name), zoo.targets(name)
    config, weights = model.get_config(), model.get_weights()
    predictions = flat_predictions(model, x)

    if name in verb.refuses:
        with pytest.raises(ValueError, match=verb.refuses[name]):
            verb.apply(model, x)
        return
    result = verb.apply(model, x)
    assert result is not model
    assert_same_interface(result, model, verb)
    if verb.exact is not None:
        assert_same_predictions(model, result, x, atol=verb.exact)

    result.compile("adam", loss=zoo.loss(name))
    history = result.fit(x, y, batch_size=4, epochs=1, verbose=0, callbacks=verb.callbacks())
    assert np.isfinite(history.history["loss"]).all()

    result.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert_same_predictions(loaded, result, x, atol=0)

    plain = tg.strip(loaded)
    assert not [path for path, layer in walk(plain) if type(layer).__module__.startswith("tfgreen")]
    assert not type(plain).__module__.startswith("tfgreen")
    assert interface(plain) == interface(loaded)  # Keras itself renames the tensors of anonymous inputs on loading
    assert_same_predictions(plain, result, x, atol=0.1 if verb.rounds else 1e-6)

    assert model.get_config() == config
    for before, after in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    for before, after in zip(predictions, flat_predictions(model, x), strict=True):
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("verb", [VERBS[name] for name in COMPRESSES], ids=COMPRESSES)
@over_the_zoo
def test_result_converts_and_verifies_with_its_transforms_inside(verb, name):
    x = zoo.sample(name)
    result = verb.apply(zoo.ZOO[name](), x)
    result.compile("adam", loss=zoo.loss(name))
    result.fit(x, zoo.targets(name), batch_size=4, verbose=0, callbacks=verb.callbacks())
    if verb.rounds:
        # A subclassed model runs its layers in code: its ranges are found when it is converted.
        data = None if getattr(result, "inputs", None) else x
        artifact = tg.convert(result, tg.ConvertConfig(quantization="int8", calibration_data=data))
        assert tg.verify(result, artifact, zoo.sample(name, 64)).passed
        assert artifact.quantization == "int8"
        return
    artifact = tg.convert(result)
    assert tg.verify(result, artifact, x).passed
    # what the transforms compute is folded into constants: the file is that of the stripped model
    stripped = tg.convert(tg.strip(result))
    assert artifact.operators == stripped.operators
    assert artifact.sparsity == pytest.approx(stripped.sparsity, abs=1e-9)
    assert sorted(w.values.nbytes for w in artifact.weights.values()) == sorted(
        w.values.nbytes for w in stripped.weights.values()
    )


PLAIN = [name for name in VERBS if name not in COMPRESSES]


@pytest.mark.parametrize("verb", [VERBS[name] for name in PLAIN], ids=PLAIN)
@pytest.mark.parametrize("name", zoo.mostly_slow(*set(zoo.QUICK) - {"residual", "nested"}))
def test_result_without_transforms_converts_and_verifies(verb, name):
    if name not in verb.refuses:
        x = zoo.sample(name)
        result = verb.apply(zoo.ZOO[name](), x)
        assert tg.verify(result, tg.convert(result), x).passed


@everywhere
def test_applied_twice_is_a_clear_error_or_a_no_op(verb):
    x = zoo.sample("functional")
    once = verb.apply(zoo.functional(), x)
    if verb.twice:
        with pytest.raises(ValueError, match=f"layer 'hidden'.*{verb.twice}"):
            verb.apply(once, x)
    else:
        again = verb.apply(once, x)
        assert interface(again) == interface(once)
        if verb.twice is not None:
            assert_same_predictions(again, once, x)


@everywhere
def test_no_model_and_an_unbuilt_model_are_named(verb):
    with pytest.raises(TypeError, match="a keras.Model.*received str"):
        verb.apply("model.keras", zoo.sample("functional"))
    with pytest.raises(ValueError, match="'unbuilt'.*keras.Input"):
        verb.apply(keras.Sequential([keras.layers.Dense(2)], name="unbuilt"), zoo.sample("functional"))


@over_the_zoo
def test_two_transforms_share_one_chain_appended_to_a_trained_and_saved_one(name, tmp_path):
    x, y = zoo.sample(name), zoo.targets(name)
    pruned = _prune(zoo.ZOO[name]())
    pruned.compile("adam", loss=zoo.loss(name))
    pruned.fit(x, y, batch_size=4, verbose=0, callbacks=[tg.UpdateCompression()])
    pruned.save(tmp_path / "pruned.keras")
    loaded = keras.models.load_model(tmp_path / "pruned.keras")

    both = compress(loaded, lambda path, layer, chains: Choice({weight: [FakeQuant(bits=4)] for weight in chains}))
    assert_same_predictions(loaded, pruned, x, atol=0)
    both.compile("adam", loss=zoo.loss(name))
    both.fit(x, y, batch_size=4, verbose=0, callbacks=[tg.UpdateCompression()])
    both.save(tmp_path / "both.keras")
    again = keras.models.load_model(tmp_path / "both.keras")
    assert_same_predictions(again, both, x, atol=0)
    assert_same_predictions(tg.strip(again), both, x)

    for status in tg.summary(again).weights:
        if status.done:
            assert status.done == ("Mask", "FakeQuant")
            assert status.sparsity >= 0.6 - 0.5 / status.size
    plain = weights_by_path(tg.strip(again))
    for status in tg.summary(again).weights:
        if status.done:
            path = f"{status.layer}/{status.weight}" if f"{status.layer}/{status.weight}" in plain else status.weight
            assert len(np.unique(keras.ops.convert_to_numpy(plain[path]))) <= 15


@pytest.mark.parametrize("name", zoo.mostly_slow("lstm", "residual", "nested"))
def test_the_distiller_trains_the_student_alone_saves_loads_and_its_student_converts(name, tmp_path):
    teacher, student, x, y = zoo.ZOO[name](), zoo.ZOO[name](), zoo.sample(name), zoo.targets(name)
    several = name == "multi_io"
    losses = [tg.LogitsDistillation(output="label" if several else None)]
    losses += [tg.FeatureDistillation(output="size")] if several else []
    names, weights, untrained = interface(student), teacher.get_weights(), student.get_weights()
    distiller = tg.Distiller(teacher, student, losses)
    distiller.compile("adam", zoo.loss(name))
    assert np.isfinite(distiller.fit(x, y, batch_size=4, verbose=0).history["loss"]).all()
    assert distiller.student is student and interface(student) == names
    assert any(not np.array_equal(a, b) for a, b in zip(untrained, student.get_weights(), strict=True))
    for before, after in zip(weights, teacher.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)

    distiller.save(tmp_path / "distiller.keras")
    loaded = keras.models.load_model(tmp_path / "distiller.keras")
    losses = [model.evaluate(x, y, verbose=0, return_dict=True)["loss"] for model in (distiller, loaded)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert_same_predictions(loaded.student, student, x)
    if name in ("residual", "nested") or name not in zoo.QUICK:
        assert tg.verify(student, tg.convert(loaded.student), x).passed


SMALL = keras.Sequential([keras.Input((8,), name="a"), keras.layers.Dense(4)])
PAIR = np.array([1, 2])


@pytest.fixture(scope="module")
def small_lite():
    return tg.convert(SMALL)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda lite: lite.save(None), "path: expected the path of a file"),
        (lambda lite: lite.save(""), "expected the path of a file, received one without a name"),
        (lambda lite: tg.save_compressed(SMALL, ""), "expected the path of a file, received one without a name"),
        (lambda lite: lite.save("a.cc", name=3), "name: expected the name of the array"),
        (lambda lite: lite.new_interpreter(input_shapes={"b": (1, 8)}), "input_shapes, name: expected 'a'"),
        (lambda lite: lite.new_interpreter(input_shapes=[(1, 8)]), "input_shapes: expected a dict"),
        (lambda lite: lite.new_interpreter(input_shapes={"a": 8}), r"input_shapes\['a'\]: expected a tuple"),
        (lambda lite: lite.new_interpreter(threads=10**12), "threads: expected an integer >= 1 and <= 1024"),
        (lambda lite: tg.profile_operators(lite, threads=10**12), "threads: expected an integer >= 1 and <= 1024"),
        (lambda lite: tg.verify(SMALL, lite, np.ones((2, 8)), max_scales=PAIR), "max_scales: expected a number"),
        (lambda lite: tg.verify(SMALL, lite, np.ones((2, 8)), sqnr_db=PAIR), "sqnr_db: expected a number"),
        (lambda lite: lite.evaluate(np.ones((2, 8)), np.ones((2, 4)), metrics=0), "metrics: expected a list"),
        (lambda lite: tg.ClusterConfig(preserve_sparsity=PAIR), "preserve_sparsity: expected True or False"),
        (lambda lite: tg.ConvertConfig(input_dtype=PAIR), "input_dtype: expected 'float32' or 'int8'"),
        (lambda lite: tg.ConvertConfig(sparse_weights=PAIR), "sparse_weights: expected 'auto', True or False"),
        (lambda lite: tg.ConvertConfig(layers={"a": PAIR}), r"layers\['a'\]: expected 'float32', 'int8' or 'int4'"),
        (lambda lite: tg.QuantizeConfig(ranges=PAIR), "ranges: expected 'moving_average'"),
        (lambda lite: tg.quantize(SMALL, calibration_data=str), "calibration_data: expected arrays"),
        (lambda lite: tg.LogitsDistillation(temperature=SMALL), "temperature: expected a number, or a function"),
        (lambda lite: tg.LogitsDistillation(from_logits=PAIR), "from_logits: expected True, False, None"),
    ],
)
def test_arguments_of_another_kind_are_refused_by_name(small_lite, call, message):
    with pytest.raises(tg.TfgreenError, match=message):
        call(small_lite)


def test_integers_of_numpy_are_integers(small_lite):
    two = np.int64(2)
    assert "2 threads" in str(tg.profile_operators(small_lite, threads=two, runs=two))
    assert json.loads(json.dumps(tg.benchmark(small_lite, threads=two, runs=two).to_dict()))["runs"] == 2
    small_lite.new_interpreter(threads=two, input_shapes={"a": np.array([2, 8])})
    assert json.dumps(tg.ClusterConfig(number_of_clusters=np.int64(4)).to_dict())
