"""The settings of PruneConfig on whole models: criteria, scopes, shapes of zeros, patterns, ways to train."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import tfgreen as tg
from tests import zoo
from tests.replicas import on_two_replicas
from tfgreen.model.paths import weights_by_path
from tfgreen.training.schedules import _tfmot_schedules
from tfgreen.transforms.compress import Choice, compress
from tfgreen.transforms.fake_quant import FakeQuant

NOW = tg.ConstantSparsity(0.5, begin_step=0)


def trained(model: keras.Model, name: str, **settings) -> keras.Model:
    pruned = tg.prune(model, tg.PruneConfig(**{"schedule": NOW, **settings}))
    pruned.compile(keras.optimizers.SGD(1e-3), zoo.loss(name))
    pruned.fit(zoo.sample(name, 16), zoo.targets(name, 16), verbose=0, callbacks=[tg.UpdateCompression()])
    return pruned


def zeros(model: keras.Model) -> dict[str, float]:
    return {f"{s.layer}/{s.weight}": s.sparsity for s in tg.summary(model).weights if s.done}


@pytest.mark.parametrize("name", zoo.mostly_slow())
@pytest.mark.parametrize("settings", [{"scope": "global"}, {"scope": "erk"}, {"criterion": "random"}], ids=str)
def test_scopes_and_chance_reach_the_sparsity_on_every_model(name, settings, tmp_path):
    pruned = trained(zoo.ZOO[name](), name, **settings)
    sizes = {f"{s.layer}/{s.weight}": s.size for s in tg.summary(pruned).weights if s.done}
    total = sum(zeros(pruned)[weight] * size for weight, size in sizes.items()) / sum(sizes.values())
    assert total == pytest.approx(0.5, abs=0.5 * len(sizes) / sum(sizes.values()) + 1e-9)
    if settings.get("scope"):  # the layers compete: they do not all get the same share
        assert len(set(zeros(pruned).values())) > 1
    pruned.save(tmp_path / "m.keras")
    assert zeros(keras.models.load_model(tmp_path / "m.keras")) == zeros(pruned)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sequential", "residual", "separable", "lstm", "attention", "custom_layer", "nested"])
def test_criteria_from_data_run_on_every_kind_of_layer(name, tmp_path):
    x, y = zoo.sample(name, 40), zoo.targets(name, 40)
    model = zoo.ZOO[name]()
    before = model.get_weights()
    taylor = {"criterion": "taylor", "x": x, "y": y, "loss": "sparse_categorical_crossentropy"}
    at_once = [{"criterion": criterion, "calibration_data": x} for criterion in ("wanda", "sparsegpt")]
    for options in (*at_once, taylor):
        pruned = trained(model, name, **options)
        assert all(abs(share - 0.5) < 0.1 for share in zeros(pruned).values())
        pruned.save(tmp_path / "m.keras")
        loaded = keras.models.load_model(tmp_path / "m.keras")
        for a, b in zip(pruned.weights, loaded.weights, strict=True):
            np.testing.assert_array_equal(a, b)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_taylor_scores_are_the_gradients_worked_out_by_hand():
    model = keras.Sequential([keras.Input((3,)), layers.Dense(1, use_bias=False, name="out")])
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(20, 3)).astype("float32"), rng.normal(size=(20, 1)).astype("float32")
    pruned = tg.prune(model, tg.PruneConfig(schedule=NOW, criterion="taylor", x=x, y=y, loss="mse"))
    kernel = model.get_layer("out").kernel.numpy().astype("float64")
    gradient = 2 * x.astype("float64").T @ (x @ kernel - y) / 20
    importance = pruned.get_layer("out").chains[0].transforms[0].importance.numpy()
    np.testing.assert_allclose(importance, np.abs(gradient), rtol=1e-4)


def test_a_global_scope_ranks_the_weights_of_all_layers_together():
    model = zoo.functional()
    pruned = tg.prune(model, tg.PruneConfig(schedule=NOW, scope="global"))
    tg.UpdateCompression(pruned)
    kernels = [model.get_layer(name).kernel.numpy() for name in ("hidden", "probabilities")]
    threshold = np.median(np.abs(np.concatenate([kernel.ravel() for kernel in kernels])))
    for name, kernel in zip(("hidden", "probabilities"), kernels):
        mask = pruned.get_layer(name).chains[0].transforms[0].mask.numpy()
        np.testing.assert_array_equal(mask, np.abs(kernel) > threshold)


def test_a_threshold_drops_all_up_to_it_whatever_the_schedule_says():
    model = zoo.functional()
    pruned = trained(model, "functional", criterion="threshold", threshold=0.2)
    for weight, variable in weights_by_path(tg.strip(pruned)).items():
        if weight.endswith("kernel"):
            kept = np.abs(variable.numpy()[variable.numpy() != 0])
            assert kept.size and kept.min() > 0.19


def test_blocks_and_m_by_n_lie_in_the_converted_file():
    inputs = keras.Input((8, 8, 8))
    x = layers.Conv2D(16, 3, name="conv")(inputs)
    model = keras.Model(inputs, layers.Dense(4, name="head")(layers.GlobalAveragePooling2D()(x)))
    blocks = tg.PruneConfig(schedule=NOW, block_size=(4, 1))
    pruned = tg.prune(model, tg.PruneConfig(schedule=NOW, m_by_n=(2, 4), layers={"head": blocks}))
    pruned.compile("sgd", "mse")
    tg.UpdateCompression(pruned)
    weights = {w.values.ndim: w.values for w in tg.convert(tg.strip(pruned)).weights.values()}
    conv = weights[4]  # LiteRT stores (out, h, w, in)
    assert ((conv.reshape(16, 3, 3, 2, 4) == 0).sum(-1) == 2).all()
    head = weights[2].T.reshape(4, 4, 4)
    assert ((head == 0).all(axis=1) | (head != 0).all(axis=1)).all()


def test_zeros_are_counted_in_the_converted_file_per_layer():
    model = trained(zoo.residual(), "residual", schedule=tg.ConstantSparsity(0.75, 0))
    for quantization in ("float32", "int8"):
        data = zoo.sample("residual", 32) if quantization == "int8" else None
        lite = tg.convert(tg.strip(model), tg.ConvertConfig(quantization=quantization, calibration_data=data))
        found = sorted((w.values.size, w.zeros) for w in lite.weights.values())
        promised = sorted((s.size, s.size - s.nonzeros) for s in tg.summary(model).weights if s.done)
        assert [size for size, _ in found] == [size for size, _ in promised]
        assert all(have >= want for (_, have), (_, want) in zip(found, promised))


def test_patterns_choose_settings_by_layer_and_ask_for_extra_weights():
    config = tg.PruneConfig(
        schedule=NOW,
        layers={"dense*": None, "separable*": tg.PruneConfig(schedule=tg.ConstantSparsity(0.25, 0))},
        extra_weights=("depthwise_conv2d/kernel", "batch_normalization/gamma"),
    )
    pruned = tg.prune(zoo.separable(), config)
    pruned.compile("sgd", zoo.loss("separable"))
    pruned.fit(zoo.sample("separable"), zoo.targets("separable"), verbose=0, callbacks=[tg.UpdateCompression()])
    assert zeros(pruned) == {
        "separable_conv2d/pointwise_kernel": 0.25,
        "depthwise_conv2d/kernel": 0.5,
        "batch_normalization/gamma": 0.5,
        "conv2d_transpose/kernel": 0.5,
    }
    reasons = {status.layer: status.reason for status in tg.summary(pruned).weights}
    assert "leave it out" in reasons["dense"]


def test_a_policy_of_the_users_own_and_its_reason():
    def only_hidden(model):
        return {"probabilities": "the head is tiny"}

    pruned = tg.prune(zoo.functional(), tg.PruneConfig(schedule=NOW, policy=only_hidden))
    status = {s.layer: s for s in tg.summary(pruned).weights}
    assert status["hidden"].done == ("Mask",) and status["probabilities"].reason == "the head is tiny"


def test_schedules_of_tfmot_and_functions_of_the_step():
    theirs = _tfmot_schedules()
    config = tg.PruneConfig(schedule=theirs.PolynomialDecay(0.1, 0.6, 0, 10, frequency=2))
    assert config.schedule == tg.PolynomialDecay(0.1, 0.6, 0, 10, power=3, frequency=2)

    class Mine(theirs.PruningSchedule):
        def __call__(self, step):
            return self._should_prune_in_step(step, 1, -1, 2), 0.25

        def get_config(self):
            return {}

    pruned = trained(zoo.functional(), "functional", schedule=Mine())
    assert set(zeros(pruned).values()) == {0.25}
    pruned = trained(zoo.functional(), "functional", schedule=lambda step: 0.125 if step else 0.0)
    assert set(zeros(pruned).values()) == {0.125}


def test_a_function_of_the_users_goes_with_copies_of_the_model_though_no_config_can_hold_it():
    share = 0.25

    class Schedule:
        def __call__(self, step):
            return share

    for schedule in (lambda step: share, Schedule()):
        pruned = trained(zoo.functional(), "functional", schedule=schedule)
        assert (tg.strip(pruned).get_layer("hidden").kernel.numpy() == 0).mean() == share
        rounded = compress(pruned, lambda path, layer, chains: Choice({name: [FakeQuant(bits=4)] for name in chains}))
        mask = rounded.get_layer("hidden").chains[0].transforms[0]
        assert mask.schedule.function is schedule and mask.sparsity == share and int(mask.step) == 1
    subclassed = trained(zoo.subclassed(), "subclassed", schedule=lambda step: share)
    assert (tg.strip(subclassed).blocks[1].kernel.numpy() == 0).mean() == share


@keras.saving.register_keras_serializable(package="tests")
class Half:
    def __call__(self, step):
        return True, 0.5

    def get_config(self):
        return {}

    @classmethod
    def from_config(cls, config):
        return cls()


@pytest.mark.parametrize("scope", ["global", "erk"])
def test_masks_share_their_budget_after_loading_whatever_the_schedule_is(scope, tmp_path):
    pruned = trained(zoo.functional(), "functional", schedule=Half(), scope=scope)
    pruned.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    before = zeros(pruned)
    assert len(set(before.values())) == 2
    tg.UpdateCompression(loaded).step()
    assert zeros(loaded) == before


def test_layers_with_settings_of_their_own_have_a_budget_of_their_own():
    own = tg.PruneConfig(schedule=NOW, scope="global")
    pruned = tg.prune(zoo.functional(), tg.PruneConfig(schedule=NOW, scope="global", layers={"hidden": own}))
    tg.UpdateCompression(pruned)
    assert set(zeros(pruned).values()) == {0.5}


@keras.saving.register_keras_serializable(package="tests")
def quarter(step):
    return 0.25


def test_a_registered_function_is_saved_with_the_model(tmp_path):
    pruned = trained(zoo.functional(), "functional", schedule=quarter)
    pruned.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert loaded.get_layer("hidden").chains[0].transforms[0].schedule.sparsity_at(3) == 0.25


def test_settings_round_trip_as_plain_values():
    config = tg.PruneConfig(
        schedule=tg.PolynomialDecay(0.0, 0.5, 0, 10),
        m_by_n=(2, 4),
        layers={"head": None, "conv*": tg.PruneConfig(schedule=NOW, scope="erk", block_size=[1, 4])},
        policy=tg.PruneForLatencyOnXNNPack(),
    )
    assert tg.PruneConfig.from_dict(config.to_dict()) == config


@pytest.mark.slow
def test_under_mirrored_strategy_both_replicas_are_sparse():
    on_two_replicas(
        """
with strategy.scope():
    model = keras.Sequential([keras.Input((12,)), keras.layers.Dense(10, name="hidden"), keras.layers.Dense(4)])
    pruned = tg.prune(model, tg.PruneConfig(schedule=tg.PolynomialDecay(0.0, 0.75, 0, 6, frequency=2)))
    pruned.compile("adam", "mse")
rng = np.random.default_rng(0)
x, y = rng.normal(size=(32, 12)).astype("float32"), rng.normal(size=(32, 4)).astype("float32")
pruned.fit(x, y, batch_size=4, verbose=0, callbacks=[tg.UpdateCompression()])
kernel = pruned.get_layer("hidden").layer.kernel
assert len(kernel.value.values) == 2
for copy in kernel.value.values:
    assert (copy.numpy() == 0).mean() == 0.75, (copy.numpy() == 0).mean()
assert np.isfinite(pruned.evaluate(x, y, verbose=0))
"""
    )


@pytest.mark.parametrize("options", [{"jit_compile": True}, {"steps_per_execution": 4}, {"accumulate": 2}], ids=str)
def test_ways_to_train(options):
    options = dict(options)
    pruned = tg.prune(zoo.residual(), tg.PruneConfig(schedule=tg.PolynomialDecay(0.0, 0.75, 0, 8, frequency=2)))
    optimizer = keras.optimizers.Adam(gradient_accumulation_steps=options.pop("accumulate", None))
    pruned.compile(optimizer, zoo.loss("residual"), **options)
    x, y = zoo.sample("residual", 32), zoo.targets("residual", 32)
    pruned.fit(x, y, batch_size=4, verbose=0, callbacks=[tg.UpdateCompression()])
    stored = weights_by_path(pruned.get_layer("conv2d_1").layer)["kernel"].numpy()
    assert (stored == 0).mean() == 0.75


def test_m_by_n_holds_for_a_bias_that_is_asked_for():
    model = zoo.functional()
    for layer in model.layers:
        if isinstance(layer, keras.layers.Dense):
            layer.bias.assign(np.arange(1.0, layer.units + 1))
    pruned = tg.prune(model, m_by_n=(2, 4), extra_weights=("hidden/bias",))
    tg.UpdateCompression(pruned)
    bias = keras.ops.convert_to_numpy(tg.strip(pruned).get_layer("hidden").bias)
    expected = np.arange(1.0, len(bias) + 1)
    expected[np.arange(len(bias)) % 4 < 2] = 0  # the smaller two of every four
    np.testing.assert_array_equal(bias, expected)
