"""The chain on its own: order, projection, copies, configs; layers that hold chains are in test_compressed.py."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfgreen.model.copy import Copies
from tfgreen.transforms.base import ActivationHook, Chain, Projection, TensorTransform


@keras.saving.register_keras_serializable(package="tests")
class Scale(TensorTransform):
    """Multiply; what the optimizer leaves is clipped to the factor."""

    projects = True
    scheduled = True

    def __init__(self, factor: float = 2.0, **kwargs) -> None:
        super().__init__(**kwargs)
        self.factor = factor

    def apply(self, weight):
        return weight * self.factor

    def project(self, weight):
        return keras.ops.clip(weight, -self.factor, self.factor)

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}


@keras.saving.register_keras_serializable(package="tests")
class Shift(TensorTransform):
    def apply(self, weight):
        return weight + 1.0


def chain(*transforms: TensorTransform) -> Chain:
    result = Chain("kernel", transforms)
    result.build((3,))
    return result


W = np.float32([-5.0, 0.5, 3.0])


@given(st.lists(st.sampled_from(["scale", "shift"]), max_size=5))
def test_transforms_are_applied_first_one_first(kinds):
    expected = W
    for kind in kinds:
        expected = expected * 2 if kind == "scale" else expected + 1
    transforms = [Scale() if kind == "scale" else Shift() for kind in kinds]
    np.testing.assert_array_equal(chain(*transforms).apply(W), expected)


def test_what_a_projection_has_done_is_not_done_again():
    both = chain(Scale(), Shift())
    np.testing.assert_array_equal(both.apply(W, projected=True), W + 1)
    assert both.projects and not chain(Shift()).projects
    np.testing.assert_array_equal(both.project(W), [-2.0, 0.5, 2.0])


def test_only_scheduled_transforms_count_their_batches_and_a_trained_one_keeps_its_variables():
    scale, shift = Scale(), Shift()
    first = chain(scale, shift)
    assert int(scale.step) == 0 and not shift.variables and len(first.variables) == 1
    scale.step.assign(7)
    assert int(chain(scale).transforms[0].step) == 7


def test_a_chain_is_copied_and_serialized_with_its_settings():
    one = chain(Scale(3.0), Shift())
    other = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(one))
    for copy in (Copies().of(one), other):
        assert copy.weight == "kernel" and [type(t) for t in copy.transforms] == [Scale, Shift]
        assert copy.transforms[0].factor == 3.0 and copy.transforms[0] is not one.transforms[0]


@pytest.mark.parametrize("inner", [None, keras.constraints.NonNeg()])
def test_a_projection_applies_the_layers_own_constraint_first(inner):
    projected = Projection(chain(Scale()), inner)(keras.ops.convert_to_tensor(W))
    np.testing.assert_array_equal(projected, [-2.0 if inner is None else 0.0, 0.5, 2.0])


def test_what_a_subclass_has_to_override_is_said():
    with pytest.raises(NotImplementedError, match=r"TensorTransform must implement apply\(weight\)"):
        TensorTransform().apply(W)
    with pytest.raises(NotImplementedError, match=r"ActivationHook must implement run\(compressed, args"):
        ActivationHook().run(None, (), {}, False)
    hook = ActivationHook()
    hook.build()
    assert hook.built and not hook.freezes and hook.frozen() is False
    assert not Shift().due(-1, 0) and Shift().group is None


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_weight_of_half_precision_is_transformed_in_float32(dtype):
    seen = []

    class Third(TensorTransform):
        def apply(self, weight):
            seen.append(keras.backend.standardize_dtype(weight.dtype))
            return weight / 3.0

    weight = keras.ops.convert_to_tensor([1.0, 7.0], dtype)
    got = Chain("kernel", [Third(), Third()]).apply(weight)
    assert seen == ["float32"] * 2 and keras.backend.standardize_dtype(got.dtype) == dtype
    expected = keras.ops.cast(keras.ops.cast(weight, "float32") / 3.0 / 3.0, dtype)
    np.testing.assert_array_equal(np.asarray(got, "float32"), np.asarray(expected, "float32"))
