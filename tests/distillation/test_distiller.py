"""The Distiller: what it computes, on every kind of student, and what it leaves alone."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from scipy.special import expit, log_softmax, softmax

import tfgreen as tg
from tests import zoo
from tests.replicas import on_two_replicas
from tfgreen.model.paths import walk

LOGITS = tg.LogitsDistillation(temperature=4.0)


def network(width: int = 6, activation: str | None = "softmax", name: str | None = None) -> keras.Model:
    """A small image classifier with BatchNorm; ``width`` channels."""
    x = inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(width, 3, padding="same", use_bias=False, name="conv")(x)
    x = layers.ReLU(name="relu")(layers.BatchNormalization(name="norm")(x))
    x = layers.GlobalAveragePooling2D(name="pool")(layers.AveragePooling2D(2, name="half")(x))
    return keras.Model(inputs, layers.Dense(4, activation=activation, name="head")(x), name=name)


def data(count: int = 32):
    rng = np.random.default_rng(0)
    return rng.normal(size=(count, 8, 8, 3)).astype("float32"), rng.integers(0, 4, count)


def logits_of(model: keras.Model, x: np.ndarray) -> np.ndarray:
    """Logits of a network, without the code under test."""
    pool = keras.Model(model.input, model.get_layer("pool").output)
    kernel, bias = model.get_layer("head").get_weights()
    return pool(x, training=False).numpy().astype("float64") @ kernel + bias


def kl(teacher: np.ndarray, student: np.ndarray, temperature: float) -> np.ndarray:
    log_p, log_q = log_softmax(teacher / temperature, -1), log_softmax(student / temperature, -1)
    return temperature**2 * (np.exp(log_p) * (log_p - log_q)).sum(-1)


def cross_entropy(student: np.ndarray, y: np.ndarray) -> np.ndarray:
    return -log_softmax(student, -1)[np.arange(len(y)), y]


def loss_of(distiller: tg.Distiller, *args, **options) -> float:
    return distiller.evaluate(*args, batch_size=32, verbose=0, return_dict=True, **options)["loss"]


def compiled(distiller: tg.Distiller, loss="sparse_categorical_crossentropy", optimizer="sgd", **options):
    distiller.compile(optimizer, loss, **options)
    return distiller


# ------------------------------------------------------------------------------------------------ what it computes
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_loss_is_the_formula_and_sample_weights_apply_to_both_parts(share, weighted):
    teacher, student = network(9), network()
    x, y = data()
    weight = np.random.default_rng(1).uniform(0, 2, len(x)).astype("float32") if weighted else None
    distiller = compiled(tg.Distiller(teacher, student, [LOGITS], student_loss_weight=share))
    got = distiller.evaluate(x, y, sample_weight=weight, batch_size=len(x), verbose=0, return_dict=True)
    w = 1.0 if weight is None else weight
    hard = np.mean(w * cross_entropy(logits_of(student, x), y))
    soft = np.mean(w * kl(logits_of(teacher, x), logits_of(student, x), 4.0))
    assert got["loss"] == pytest.approx(share * hard + (1 - share) * soft, rel=1e-5)
    assert got["student_loss"] == pytest.approx(hard if share else 0, rel=1e-5)
    assert got["distillation_loss"] == pytest.approx(soft if share < 1 else 0, rel=1e-5)


def test_class_weights_apply_to_both_parts():
    teacher, student = network(9), network()
    x, y = data()
    distiller = compiled(tg.Distiller(teacher, student, [LOGITS], student_loss_weight=0.3), optimizer="sgd")
    distiller.optimizer.learning_rate = 0.0
    student.get_layer("norm").trainable = False  # so that it trains as it predicts
    factors = {0: 0.0, 1: 2.0, 2: 0.5, 3: 1.0}
    got = distiller.fit(x, y, batch_size=len(x), class_weight=factors, verbose=0).history
    w = np.array([factors[label] for label in y])
    assert got["student_loss"][0] == pytest.approx(np.mean(w * cross_entropy(logits_of(student, x), y)), rel=1e-5)
    soft = np.mean(w * kl(logits_of(teacher, x), logits_of(student, x), 4.0))
    assert got["distillation_loss"][0] == pytest.approx(soft, rel=1e-5)


@pytest.mark.parametrize(
    "loss",
    [
        LOGITS,
        tg.DecoupledDistillation(),
        tg.RelationalDistillation(),
        tg.FeatureDistillation("mse", "relu", "relu"),
        tg.AttentionTransfer("relu", "relu"),
    ],
    ids=lambda loss: type(loss).__name__,
)
def test_weights_of_zero_leave_samples_out_and_all_zero_gives_a_loss_of_zero(loss):
    x, y = data(16)
    w = np.array([1.0] * 8 + [0.0] * 8, "float32")
    distiller = compiled(tg.Distiller(network(9), network(), loss))
    part = loss_of(distiller, x[:8], y[:8])
    assert part > 0
    assert loss_of(distiller, x, y, sample_weight=w) == pytest.approx(part / 2, rel=1e-5)
    before = [v.numpy() for v in distiller.student.trainable_variables]
    assert distiller.fit(x, y, sample_weight=0 * w, verbose=0).history["loss"] == [0.0]
    for a, b in zip(before, distiller.student.trainable_variables):
        np.testing.assert_array_equal(a, b.numpy())


def test_masked_positions_count_in_neither_part():
    def tagger() -> keras.Model:
        x = inputs = keras.Input((None,), dtype="int32")
        x = layers.LSTM(6, return_sequences=True, name="lstm")(layers.Embedding(20, 5, mask_zero=True)(x))
        return keras.Model(inputs, layers.Dense(3, activation="softmax")(x))

    teacher, student = tagger(), tagger()
    x, y = np.array([[1, 2, 0, 0], [3, 4, 5, 0]]), np.array([[0, 1, 2, 2], [2, 1, 0, 1]])
    losses = [LOGITS, tg.FeatureDistillation("mse", "lstm", "lstm")]
    distiller = compiled(tg.Distiller(teacher, student, losses))
    got = distiller.evaluate(x, y, verbose=0, return_dict=True)
    p, q = (np.log(m.predict(x, verbose=0).astype("float64")) for m in (teacher, student))
    features = [keras.Model(m.input, m.get_layer("lstm").output).predict(x, verbose=0) for m in (teacher, student)]
    values = kl(p, q, 4.0) + ((features[0] - features[1]) ** 2).mean(-1)
    assert got["distillation_loss"] == pytest.approx(values[x > 0].mean(), rel=1e-4)
    # weights for each step, and for each sample
    steps = np.where(x > 0, 1.0, 5.0) * [[1.0], [3.0]]
    weighted = distiller.evaluate(x, y, sample_weight=steps, verbose=0, return_dict=True)["distillation_loss"]
    assert weighted == pytest.approx((values * steps)[x > 0].sum() / (x > 0).sum(), rel=1e-4)
    assert np.isfinite(distiller.fit(x, y, verbose=0).history["loss"]).all()


def test_sigmoid_heads_and_regression():
    x, _ = data()
    y = np.random.default_rng(0).integers(0, 2, (32, 4)).astype("float32")
    teacher, student = network(9, "sigmoid"), network(6, "sigmoid")
    distiller = compiled(tg.Distiller(teacher, student, LOGITS), "binary_crossentropy")
    got = distiller.evaluate(x, y, batch_size=32, verbose=0, return_dict=True)["distillation_loss"]
    p, q = expit(logits_of(teacher, x) / 4), expit(logits_of(student, x) / 4)
    expected = 16 * (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))).mean()
    assert got == pytest.approx(expected, rel=1e-4)

    teacher, student = network(9, None), network(6, None)
    distiller = compiled(tg.Distiller(teacher, student, tg.FeatureDistillation()), "mse")
    got = distiller.evaluate(x, y, batch_size=32, verbose=0, return_dict=True)["distillation_loss"]
    assert got == pytest.approx(np.mean((logits_of(teacher, x) - logits_of(student, x)) ** 2), rel=1e-5)


@pytest.mark.parametrize("teacher_ends_in", ["softmax", None, "layer", "operation", "nested"])
@pytest.mark.parametrize("student_ends_in", ["softmax", None])
def test_logits_are_exact_however_a_model_ends(teacher_ends_in, student_ends_in):
    """Logits so far apart that the probabilities have underflowed: only the real logits give the loss."""

    def model(ends_in: str | None, scale: float) -> keras.Model:
        x = inputs = keras.Input((4,))
        activation = "softmax" if ends_in == "softmax" else None
        x = layers.Dense(4, activation=activation, use_bias=False, name="head")(x)
        if ends_in == "layer":
            x = layers.Softmax()(x)
        elif ends_in == "operation":
            x = keras.ops.softmax(x)
        result = keras.Model(inputs, x)
        if ends_in == "nested":
            result = keras.Sequential([keras.Input((4,)), keras.Sequential([result, layers.Activation("softmax")])])
        walked = {layer.name: layer for _, layer in walk(result)}
        walked["head"].set_weights([scale * np.eye(4)])
        return result

    x = np.array([[1.0, -1.0, 0.5, 0.9]], "float32") * 100
    teacher, student = model(teacher_ends_in, 1.0), model(student_ends_in, -0.5)
    distiller = compiled(tg.Distiller(teacher, student, LOGITS, student_loss_weight=0))
    assert loss_of(distiller, x) == pytest.approx(kl(x.astype(float), -0.5 * x, 4.0)[0], rel=1e-5)


def test_several_teachers_are_averaged_weighted_or_have_losses_of_their_own():
    teachers, student = [network(9), network(12)], network()
    x, _ = data()
    soft = [kl(logits_of(teacher, x), logits_of(student, x), 4.0).mean() for teacher in teachers]

    def loss(losses, **options):
        distiller = tg.Distiller(teachers, student, losses, student_loss_weight=0, **options)
        return loss_of(compiled(distiller, None), x)

    assert loss(LOGITS) == pytest.approx(np.mean(soft), rel=1e-5)
    assert loss(LOGITS, teacher_weights=[3, 1]) == pytest.approx(0.75 * soft[0] + 0.25 * soft[1], rel=1e-5)
    own = [tg.LogitsDistillation(4.0, teacher=0), tg.LogitsDistillation(4.0, teacher=1)]
    assert loss(own, distillation_loss_weights=[1, 0.5]) == pytest.approx(soft[0] + 0.5 * soft[1], rel=1e-5)


def test_weights_and_temperature_follow_the_optimizer_steps():
    teacher, student = network(9), network()
    x, y = data(8)
    rate = keras.optimizers.schedules.PiecewiseConstantDecay
    share, temperature = rate([0, 1], [1.0, 0.5, 0.0]), rate([0, 1], [1.0, 2.0, 8.0])
    losses = tg.LogitsDistillation(temperature=temperature)
    distiller = compiled(tg.Distiller(teacher, student, losses, student_loss_weight=share))
    distiller.optimizer.learning_rate = 0.0
    student.get_layer("norm").trainable = False
    hard, z = cross_entropy(logits_of(student, x), y).mean(), (logits_of(teacher, x), logits_of(student, x))
    for share, degree in ((1.0, 1.0), (0.5, 2.0), (0.0, 8.0)):
        got = distiller.fit(x, y, verbose=0).history
        assert got["loss"][0] == pytest.approx(share * hard + (1 - share) * kl(*z, degree).mean(), rel=1e-5)


def test_regularization_counts_in_full_whatever_the_weight_of_the_labels():
    x, y = data()
    teacher, student = network(9), network()
    inputs = keras.Input((8, 8, 3))
    head = layers.Dense(4, activation="softmax", kernel_regularizer=keras.regularizers.L2(0.5))
    regular = keras.Model(inputs, head(keras.Model(student.input, student.get_layer("pool").output)(inputs)))
    head.set_weights(student.get_layer("head").get_weights())
    penalty = 0.5 * np.sum(head.get_weights()[0].astype("float64") ** 2)
    for share in (0.0, 0.4, 1.0):
        with_it, without = (
            loss_of(compiled(tg.Distiller(teacher, model, LOGITS, student_loss_weight=share)), x, y)
            for model in (regular, student)
        )
        assert with_it - without == pytest.approx(penalty, rel=1e-4)


# ------------------------------------------------------------------------------------------- what it leaves alone
FEATURES = [
    LOGITS,
    tg.FeatureDistillation("mse", "relu", "relu"),
    tg.AttentionTransfer("half", "relu"),
]


def test_the_student_runs_once_a_step_and_batch_norm_moves_once():
    x, y = data(16)
    student, twin = network(), network()
    twin.set_weights(student.get_weights())
    distiller = compiled(tg.Distiller(network(9), student, FEATURES))
    distiller.fit(x, y, batch_size=16, epochs=1, verbose=0)
    twin.compile(keras.optimizers.SGD(0.0), "sparse_categorical_crossentropy")
    twin.fit(x, y, batch_size=16, epochs=1, verbose=0)
    for name in ("moving_mean", "moving_variance"):
        ours, plain = getattr(student.get_layer("norm"), name), getattr(twin.get_layer("norm"), name)
        np.testing.assert_allclose(ours, plain, atol=1e-6)
    assert np.abs(student.get_layer("norm").moving_mean.numpy()).max() > 1e-4


def test_the_teacher_is_left_as_it_is():
    x, y = data()
    teacher = network(9)
    teacher.get_layer("conv").trainable = False
    flags, weights = [layer.trainable for layer in teacher.layers], teacher.get_weights()
    config, attributes = teacher.get_config(), [set(vars(layer)) for layer in teacher.layers]
    distiller = compiled(tg.Distiller(teacher, network(), FEATURES), optimizer="adam")
    distiller.fit(x, y, verbose=0)
    distiller.trainable = False
    assert [layer.trainable for layer in teacher.layers] == flags and teacher.trainable
    assert teacher.get_config() == config and [set(vars(layer)) for layer in teacher.layers] == attributes
    for before, after in zip(weights, teacher.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


def test_the_saved_student_holds_no_teacher_and_no_projection(tmp_path):
    x, y = data()
    student = network()
    plain = student.count_params()
    distiller = compiled(tg.Distiller(network(30), student, FEATURES), optimizer="adam")
    assert distiller.student is student
    distiller.fit(x, y, verbose=0)
    assert [layer.name for layer in distiller.projections] == ["projection"]  # only where channels differ and count
    student.save(tmp_path / "student.keras")
    loaded = keras.models.load_model(tmp_path / "student.keras")
    assert loaded.count_params() == plain and [layer.name for layer in loaded.layers] == [
        layer.name for layer in student.layers
    ]
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), student.predict(x, verbose=0))
    np.testing.assert_array_equal(distiller.predict(x, verbose=0), student.predict(x, verbose=0))


@pytest.mark.slow
def test_a_saved_distiller_continues_as_if_it_had_not_been_interrupted(tmp_path):
    x, y = data()
    schedule = keras.optimizers.schedules.PolynomialDecay(0.9, 20, 0.1)
    losses = [*FEATURES, tg.LogitsDistillation(temperature=schedule), tg.DecoupledDistillation(teacher=1)]
    teachers = [network(9), network(7)]
    options = {"batch_size": 8, "shuffle": False, "verbose": 0}
    distiller = tg.Distiller(teachers, network(), losses, student_loss_weight=schedule, teacher_weights=[2, 1])
    compiled(distiller, optimizer="adam", metrics=["accuracy"]).fit(x, y, **options)
    distiller.save(tmp_path / "distiller.keras")
    loaded = keras.models.load_model(tmp_path / "distiller.keras")
    assert loaded.distillation_losses[1:3] == distiller.distillation_losses[1:3]
    assert loaded.evaluate(x, y, verbose=0) == distiller.evaluate(x, y, verbose=0)
    for _ in range(2):
        ours, theirs = distiller.fit(x, y, **options).history, loaded.fit(x, y, **options).history
        assert theirs == {name: pytest.approx(values, rel=1e-5) for name, values in ours.items()}
    for a, b in zip(distiller.student.get_weights(), loaded.student.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


# --------------------------------------------------------------------------------------------- every kind of model
def test_several_outputs_with_weights_metrics_and_labels_of_their_own():
    teacher, student, x, y = zoo.multi_io(), zoo.multi_io(), zoo.sample("multi_io"), zoo.targets("multi_io")
    losses = [tg.LogitsDistillation(4.0, output="label"), tg.FeatureDistillation(output="size")]
    distiller = tg.Distiller(teacher, student, losses, [1.0, 2.0], 0.0)
    compiled(distiller, zoo.loss("multi_io"), metrics={"label": "accuracy"})
    rng = np.random.default_rng(0)
    weight = {"label": rng.uniform(size=8).astype("float32"), "size": rng.uniform(size=8).astype("float32")}
    got = distiller.evaluate(x, y, sample_weight=weight, verbose=0, return_dict=True)
    a, b = (m.predict(x, verbose=0) for m in (teacher, student))
    soft = kl(np.log(a["label"].astype("float64")), np.log(b["label"].astype("float64")), 4.0) * weight["label"]
    size = ((a["size"] - b["size"]) ** 2)[:, 0] * weight["size"]
    assert got["loss"] == pytest.approx(soft.mean() + 2 * size.mean(), rel=1e-4)
    assert 0 <= got["label_accuracy"] <= 1


def test_layers_are_found_by_path_in_nested_and_subclassed_models():
    x, teacher, student = zoo.sample("nested"), zoo.nested(), zoo.nested()
    convs = [next(path for path, _ in walk(model) if path.startswith("features/conv")) for model in (teacher, student)]
    losses = tg.FeatureDistillation("mse", convs[0], convs[1].split("/")[1])
    distiller = compiled(tg.Distiller(teacher, student, losses, student_loss_weight=0))
    a, b = (model.get_layer("features").layers[0](x).numpy() for model in (teacher, student))
    assert loss_of(distiller, x) == pytest.approx(np.mean((a - b) ** 2), rel=1e-5)
    losses = tg.FeatureDistillation("mse", convs[0], "features")
    with pytest.raises(ValueError, match="features of as many axes"):
        tg.Distiller(teacher, student, losses)

    x, y = zoo.sample("subclassed"), zoo.targets("subclassed")
    losses = [tg.LogitsDistillation(), tg.FeatureDistillation("mse", "blocks/1", "blocks/0")]
    distiller = compiled(tg.Distiller(zoo.subclassed(), zoo.subclassed(), losses))
    assert distiller.fit(x, y, verbose=0, epochs=3).history["distillation_loss"][-1] > 0


def test_projection_is_trained_and_maps_of_other_sizes_are_averaged():
    x, y = data()
    losses = tg.FeatureDistillation("mse", "half", "relu")
    teacher, student = network(9), network()
    distiller = compiled(tg.Distiller(teacher, student, losses, student_loss_weight=0.5))
    (projection,) = distiller.projections
    before = projection.kernel.numpy()
    assert before.shape == (6, 9)
    features = keras.Model(student.input, student.get_layer("half").output)(x)
    target = keras.Model(teacher.input, teacher.get_layer("half").output)(x)
    expected = np.mean((features.numpy() @ before - target.numpy()) ** 2)
    got = distiller.evaluate(x, y, batch_size=32, verbose=0, return_dict=True)
    assert got["distillation_loss"] == pytest.approx(expected, rel=1e-4)
    distiller.fit(x, y, verbose=0)
    assert np.abs(projection.kernel.numpy() - before).max() > 0


# ----------------------------------------------------------------------------------------------- how it is trained
def test_tf_data_and_pydataset_train_as_arrays_do():
    x, y = data()

    class Batches(keras.utils.PyDataset):
        def __len__(self) -> int:
            return 4

        def __getitem__(self, index: int):
            return x[8 * index : 8 * index + 8], y[8 * index : 8 * index + 8]

    histories = []
    for batches in ((x, y), (tf.data.Dataset.from_tensor_slices((x, y)).batch(8),), (Batches(),)):
        keras.utils.set_random_seed(0)
        distiller = compiled(tg.Distiller(network(9), network(), FEATURES))
        options = {"batch_size": 8} if len(batches) == 2 else {}
        histories.append(distiller.fit(*batches, shuffle=False, verbose=0, **options).history["loss"])
    assert histories[1] == histories[2] == pytest.approx(histories[0], rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"jit_compile": True}, {"run_eagerly": True}, {"steps_per_execution": 2}])
def test_every_way_of_running_a_step_gives_the_same(options):
    x, y = data()
    histories = []
    for chosen in ({"jit_compile": False}, options):
        keras.utils.set_random_seed(0)
        distiller = tg.Distiller(network(9), network(), [*FEATURES, tg.DecoupledDistillation()])
        compiled(distiller, **chosen)
        histories.append(distiller.fit(x, y, batch_size=8, shuffle=False, verbose=0).history["loss"])
    assert histories[0] == pytest.approx(histories[1], rel=1e-4)


def test_mixed_float16_scales_the_loss_and_stays_finite():
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        teacher, student = network(9), network()
    finally:
        keras.mixed_precision.set_global_policy("float32")
    x, y = data()
    losses = [*FEATURES, tg.RelationalDistillation()]
    distiller = compiled(tg.Distiller(teacher, student, losses))
    history = distiller.fit(x, y, epochs=3, batch_size=8, verbose=0).history
    assert isinstance(distiller.optimizer, keras.optimizers.LossScaleOptimizer)
    assert history["loss"][-1] < history["loss"][0] and np.isfinite(history["loss"]).all()


def test_gradient_accumulation_counts_optimizer_steps():
    x, y = data()
    distiller = tg.Distiller(network(9), network(), FEATURES)
    compiled(distiller, optimizer=keras.optimizers.SGD(0.1, gradient_accumulation_steps=2))
    distiller.fit(x, y, batch_size=8, verbose=0)
    assert int(distiller.optimizer.iterations) == 2


@pytest.mark.slow
def test_two_replicas_train_as_one():
    on_two_replicas(
        """
from tests.distillation.test_distiller import FEATURES, data, network
x, y = data()
weight = np.linspace(0, 2, len(x)).astype("float32")
losses, final = [], []
for strategy in (strategy, tf.distribute.get_strategy()):
    with strategy.scope():
        keras.utils.set_random_seed(0)
        student = network()
        student.get_layer("norm").trainable = False
        distiller = tg.Distiller(network(9), student, FEATURES)
        distiller.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    batches = tf.data.Dataset.from_tensor_slices((x, y, weight)).batch(16)
    history = distiller.fit(batches, epochs=2, verbose=0).history
    losses.append([history[name] for name in ("loss", "student_loss", "distillation_loss")])
    final.append([v.numpy() for v in student.trainable_variables])
np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)
for a, b in zip(*final):
    np.testing.assert_allclose(a, b, atol=1e-5)
"""
    )


def test_a_pruned_student_keeps_its_zeros_and_its_schedule():
    x, y = data()
    config = tg.PruneConfig(schedule=tg.PolynomialDecay(0.0, 0.75, 0, 6, frequency=1))
    student = tg.prune(network(), config)
    distiller = compiled(tg.Distiller(network(9), student, FEATURES), optimizer="adam")
    history = distiller.fit(x, y, batch_size=8, epochs=2, verbose=0, callbacks=[tg.UpdateCompression()]).history
    assert history["sparsity"][-1] == pytest.approx(0.75, abs=0.01)
    plain = tg.strip(distiller.student)
    assert (plain.get_layer("conv").get_weights()[0] == 0).mean() == pytest.approx(0.75, abs=0.01)
    np.testing.assert_allclose(plain.predict(x, verbose=0), distiller.predict(x, verbose=0), atol=1e-6)


def test_a_clustered_student_keeps_its_few_values():
    x, y = data()
    student = tg.cluster(network(), tg.ClusterConfig(number_of_clusters=4, frequency=2))
    distiller = compiled(tg.Distiller(network(9), student, FEATURES), optimizer="adam")
    before = student.get_layer("conv").chains[0].apply(student.get_layer("conv").layer.kernel).numpy()
    distiller.fit(x, y, batch_size=8, epochs=2, verbose=0, callbacks=[tg.UpdateCompression()])
    plain = tg.strip(distiller.student)
    kernel = plain.get_layer("conv").get_weights()[0]
    assert len(np.unique(kernel)) <= 4 and not np.array_equal(kernel, before)
    np.testing.assert_allclose(plain.predict(x, verbose=0), distiller.predict(x, verbose=0), atol=1e-6)


def test_a_quantization_aware_student_learns_and_its_file_computes_as_it_does():
    x, y = data()
    student = tg.quantize(network(), tg.QuantizeConfig(calibration_data=x))
    distiller = compiled(tg.Distiller(network(9), student, FEATURES), optimizer="adam")
    history = distiller.fit(x, y, batch_size=8, epochs=4, verbose=0, callbacks=[tg.UpdateCompression()]).history
    assert history["distillation_loss"][-1] < history["distillation_loss"][0]
    lite = tg.convert(distiller.student, tg.ConvertConfig(quantization="int8"))
    assert not lite.float_operators
    (step,) = lite.output_scales.values()
    assert np.abs(lite.predict(x) - distiller.student.predict(x, verbose=0)).max() <= 1.01 * step


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_the_logits_of_a_quantization_aware_student_are_read_before_they_are_rounded(activation):
    x, _ = data()
    loss = tg.LogitsDistillation(temperature=4.0, activation=activation)
    teacher, plain = network(9, activation=activation), network(activation=activation)
    quantized = tg.quantize(plain, tg.QuantizeConfig(calibration_data=x))
    found = [
        loss_of(compiled(tg.Distiller(teacher, student, loss, student_loss_weight=0), None), x)
        for student in (plain, quantized)
    ]
    assert found[1] == pytest.approx(found[0], rel=0.05) and found[1] != found[0]


def test_a_litert_model_teaches():
    x, y = data(8)
    teacher = network(9)
    lite = tg.convert(teacher)
    losses = tg.LogitsDistillation(from_logits=(False, None))
    options = {"student": network(), "student_loss_weight": 0.2}
    got = loss_of(compiled(tg.Distiller(teacher=lite, distillation_losses=losses, **options)), x, y)
    expected = loss_of(compiled(tg.Distiller(teacher=teacher, distillation_losses=LOGITS, **options)), x, y)
    assert got == pytest.approx(expected, rel=1e-3)
    distiller = compiled(tg.Distiller(teacher=lite, distillation_losses=losses, **options))
    assert np.isfinite(distiller.fit(x, y, verbose=0).history["loss"]).all()
    with pytest.raises(ValueError, match="Keras models as teachers.*Save distiller.student"):
        distiller.get_config()


def test_distillation_teaches():
    """A student that never sees a label learns the teacher's classes."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(512, 8)).astype("float32")
    y = (x @ rng.normal(size=(8, 3))).argmax(-1)
    teacher = keras.Sequential([keras.Input((8,)), layers.Dense(3, activation="softmax")])
    teacher.compile(keras.optimizers.Adam(0.1), "sparse_categorical_crossentropy")
    teacher.fit(x, y, epochs=10, verbose=0)
    student = keras.Sequential([keras.Input((8,)), layers.Dense(16, activation="relu"), layers.Dense(3)])
    distiller = compiled(
        tg.Distiller(teacher, student, tg.LogitsDistillation(temperature=2.0), student_loss_weight=0),
        None, optimizer=keras.optimizers.Adam(0.02),
    )
    distiller.fit(x, epochs=10, verbose=0)
    assert (student.predict(x, verbose=0).argmax(-1) == teacher.predict(x, verbose=0).argmax(-1)).mean() > 0.9
    assert softmax(student.predict(x, verbose=0), -1).max() <= 1


def test_a_student_with_fewer_inputs_takes_its_own_by_name_or_says_so():
    image, extra = keras.Input((4,), name="image"), keras.Input((3,), name="extra")
    both = layers.Concatenate()([image, extra])
    teacher = keras.Model({"image": image, "extra": extra}, layers.Dense(2)(both))
    x = {"image": np.ones((8, 4), "float32"), "extra": np.ones((8, 3), "float32")}
    for name in ("image", "other"):
        student = keras.Sequential([keras.Input((4,), name=name), keras.layers.Dense(2)])
        distiller = tg.Distiller(teacher, student, tg.LogitsDistillation(), student_loss_weight=0.0)
        distiller.compile("sgd")
        if name == "image":
            assert np.isfinite(distiller.fit(x, verbose=0).history["loss"][0])
            assert distiller.predict(x, verbose=0).shape == (8, 2)
            continue
        with pytest.raises(ValueError, match=r"takes inputs \['other'\], and the data holds.*name each keras.Input"):
            distiller.fit(x, verbose=0)
