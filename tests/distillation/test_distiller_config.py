"""What the Distiller refuses, in words that name what came and what to do."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import tfgreen as tg
from tests import zoo

LOGITS = tg.LogitsDistillation()


def classifier(classes: int = 4, activation: str | None = "softmax", width: int = 6) -> keras.Model:
    x = inputs = keras.Input((12,))
    x = layers.Dense(width, activation="relu", name="hidden_layer")(x)
    return keras.Model(inputs, layers.Dense(classes, activation=activation, name="head")(x), name="classifier")


def make(**options):
    settings = {"teacher": classifier(), "student": classifier(), "distillation_losses": [LOGITS], **options}
    return tg.Distiller(**settings)


FEATURE = {"teacher_layer_name": "hidden_layer", "student_layer_name": "hidden_layer"}


@pytest.mark.parametrize(
    ("error", "match", "options"),
    [
        (TypeError, "teacher.*LiteRTModel.*received str", {"teacher": "model.keras"}),
        (TypeError, "student.*keras.Model.*received int", {"student": 3}),
        (ValueError, "teacher.*empty list", {"teacher": []}),
        (ValueError, "distillation_losses.*one distillation loss or more", {"distillation_losses": []}),
        (TypeError, "distillation_losses.*tg.LogitsDistillation.*received NoneType", {"distillation_losses": None}),
        (TypeError, "distillation_losses.*received str", {"distillation_losses": ["kl"]}),
        (TypeError, "distillation_losses", {"distillation_losses": [keras.losses.KLDivergence()]}),
        (ValueError, r"student_loss_weight.*number >= 0 and <= 1, received 1.5", {"student_loss_weight": 1.5}),
        (ValueError, "student_loss_weight.*received -0.1", {"student_loss_weight": -0.1}),
        (TypeError, "student_loss_weight.*number", {"student_loss_weight": "half"}),
        (
            ValueError, "student_loss_weight, at step 100:.*received 2.0",
            {"student_loss_weight": keras.optimizers.schedules.PolynomialDecay(0.5, 100, 2.0)},
        ),
        (TypeError, "distillation_loss_weights.*list of numbers", {"distillation_loss_weights": 2.0}),
        (ValueError, "distillation_loss_weights.*1 numbers", {"distillation_loss_weights": [1.0, 2.0]}),
        (ValueError, "distillation_loss_weights.*>= 0, received -1", {"distillation_loss_weights": [-1]}),
        (TypeError, "distillation_loss_weights.*number", {"distillation_loss_weights": [None]}),
        (TypeError, "cache.*tg.TeacherCache", {"cache": "teacher.cache"}),
        (ValueError, "teacher_weights.*1 numbers", {"teacher_weights": [1, 2]}),
        (ValueError, "teacher_weights", {"teacher_weights": [0.0]}),
        (ValueError, "teacher: .*>= 0 and <= 0 or None", {"distillation_losses": tg.LogitsDistillation(teacher=1)}),
        (ValueError, r"same classes.*\(5,\) and \(4,\)", {"teacher": classifier(5)}),
        (ValueError, "softmax and sigmoid", {"student": classifier(activation="sigmoid")}),
        (ValueError, "ends in a softmax.*=True", {"distillation_losses": tg.LogitsDistillation(from_logits=True)}),
        (ValueError, "activation='softmax'", {"distillation_losses": tg.LogitsDistillation(activation="sigmoid")}),
        (ValueError, "output=None, as it has only one", {"distillation_losses": tg.LogitsDistillation(output="label")}),
        (
            ValueError, r"teacher_layer_name of model 'classifier'.*'hidden_layer'.*received 'hidden_layr'",
            {"distillation_losses": tg.FeatureDistillation("mse", "hidden_layr", "hidden_layer")},
        ),
        (
            ValueError, r"student_layer_name of model 'classifier'.*received 'conv'",
            {"distillation_losses": tg.FeatureDistillation("mse", "hidden_layer", "conv")},
        ),
        (
            ValueError, "softmax outputs, as the loss relates classes",
            {
                "distillation_losses": tg.RelationalDistillation(),
                "teacher": classifier(activation="sigmoid"), "student": classifier(activation="sigmoid"),
            },
        ),
    ],
)
def test_bad_arguments(error, match, options):
    with pytest.raises(error, match=match):
        make(**options)


def test_an_unbuilt_model_is_named():
    unbuilt = keras.Sequential([layers.Dense(4)], name="unbuilt")
    for role in ("teacher", "student"):
        with pytest.raises(ValueError, match="'unbuilt'.*built model"):
            make(**{role: unbuilt})


def test_weights_shared_by_teacher_and_student_are_refused():
    model = classifier()
    with pytest.raises(ValueError, match="weights of its own.*clone_model"):
        make(teacher=model, student=model)


@pytest.mark.parametrize("role", ["teacher", "student"])
def test_an_output_of_which_it_cannot_be_told_whether_it_is_logits(role):
    inputs = keras.Input((12,))
    unclear = keras.Model(inputs, layers.BatchNormalization()(layers.Dense(4)(inputs)), name="unclear")
    with pytest.raises(ValueError, match=f"output of {role} 'unclear'.*BatchNormalization.*State from_logits"):
        make(**{role: unclear})
    stated = (True, None) if role == "teacher" else (None, True)
    make(distillation_losses=tg.LogitsDistillation(from_logits=stated), **{role: unclear})


def test_a_single_number_may_be_a_logit_or_a_regression():
    models = {"teacher": classifier(1, None), "student": classifier(1, None)}
    with pytest.raises(ValueError, match="activation='sigmoid'.*regression.*FeatureDistillation"):
        make(**models)
    make(distillation_losses=tg.LogitsDistillation(activation="sigmoid"), **models)
    make(distillation_losses=tg.FeatureDistillation(), **models)


def test_several_outputs_must_be_told_apart():
    with pytest.raises(ValueError, match=r"output= one of \['label', 'size'\]"):
        make(teacher=zoo.multi_io(), student=zoo.multi_io())
    teacher, student = zoo.multi_io(), zoo.multi_io()
    names = [next(layer.name for layer in model.layers if "flatten" in layer.name) for model in (teacher, student)]
    losses = tg.FeatureDistillation("mse", names[0], names[1])
    distiller = make(teacher=teacher, student=student, distillation_losses=losses, student_loss_weight=0)
    distiller.compile("sgd", run_eagerly=True)
    weight = {"label": np.ones(8, "float32"), "size": np.ones(8, "float32")}
    with pytest.raises(ValueError, match="sample_weight.*output= of the loss"):
        distiller.evaluate(zoo.sample("multi_io"), zoo.targets("multi_io"), sample_weight=weight, verbose=0)


def test_labels_and_loss_are_asked_for_when_alpha_needs_them():
    x, y = np.ones((4, 12), "float32"), np.array([0, 1, 2, 3])
    distiller = make(student_loss_weight=0.1)
    distiller.compile("sgd", "sparse_categorical_crossentropy")
    with pytest.raises(ValueError, match="student_loss_weight 0.1: expected labels.*received no labels. Pass student_"):
        distiller.fit(x, verbose=0)
    distiller = make(student_loss_weight=0.1)
    distiller.compile("sgd")
    with pytest.raises(ValueError, match="student_loss_weight 0.1.*received no loss"):
        distiller.fit(x, y, verbose=0)
    distiller = make(student_loss_weight=0, distillation_losses=tg.DecoupledDistillation())
    distiller.compile("sgd")
    with pytest.raises(ValueError, match="DecoupledDistillation: expected labels, received no labels"):
        distiller.fit(x, verbose=0)


def test_sample_weights_of_too_many_axes():
    distiller = make(student_loss_weight=0)
    distiller.compile("sgd", run_eagerly=True)
    with pytest.raises(ValueError, match="sample_weight, for LogitsDistillation.*at most 1 axes"):
        distiller.fit(np.ones((4, 12)), np.zeros(4), sample_weight=np.ones((4, 3)), verbose=0)


def test_a_teacher_that_runs_outside_the_graph_has_outputs_only_and_no_xla():
    lite = tg.convert(classifier())
    with pytest.raises(ValueError, match="LiteRTModel.*State from_logits"):
        make(teacher=lite)
    with pytest.raises(ValueError, match="a Keras model, whose layers can be read.*hidden_layer"):
        make(teacher=lite, distillation_losses=tg.FeatureDistillation(**FEATURE))
    distiller = make(teacher=lite, distillation_losses=tg.LogitsDistillation(from_logits=(False, None)))
    distiller.compile("sgd", "sparse_categorical_crossentropy")
    assert not distiller.jit_compile
    with pytest.warns(UserWarning, match="doesn't support `jit_compile=True`"):
        distiller.compile("sgd", "sparse_categorical_crossentropy", jit_compile=True)


def test_a_layer_that_is_called_twice_has_no_one_output():
    losses = tg.FeatureDistillation("mse", "shared", "shared")
    with pytest.raises(ValueError, match="layer 'shared'.*calls once.*2 calls"):
        make(teacher=zoo.shared_layer(), student=zoo.shared_layer(), distillation_losses=losses)
