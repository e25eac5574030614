"""Listening to the calls of layers: all of them, in each thread its own, and nothing left behind."""

from __future__ import annotations

import concurrent.futures
import sys
import threading

import keras
import numpy as np
import pytest
from keras import layers

import tfgreen as tg
from tests import zoo
from tfgreen.model.call_spec import symbolic_inputs
from tfgreen.model.layer_calls import LayerCalls, around_calls, every_operation, listening, trace_calls
from tfgreen.model.paths import walk
from tfgreen.model.rebuild import rebuild


def test_trace_sees_every_call_with_its_shapes():
    model = zoo.shared_layer()
    inputs, named = symbolic_inputs(model)
    calls = trace_calls(model, *inputs, **named)
    assert [(type(c.layer).__name__, c.output, c.depth) for c in calls] == [
        ("Functional", (1, 4), 0),
        ("Dense", (1, 8), 1),
        ("Dense", (1, 8), 1),
        ("Concatenate", (1, 16), 1),
        ("Dense", (1, 4), 1),
    ]
    assert calls[3].inputs == ((1, 8), (1, 8))


def test_tracing_leaves_keras_and_the_model_as_they_were():
    before = keras.Layer.__call__
    model = zoo.functional()
    inputs, named = symbolic_inputs(model)
    trace_calls(model, *inputs, **named)
    with pytest.raises(Exception, match="shape"):
        trace_calls(model, keras.KerasTensor((1, 5)))
    assert keras.Layer.__call__ is before
    assert not any("call" in vars(layer) for _, layer in walk(model))


def test_a_mask_that_keras_passes_on_is_no_input():
    inputs = keras.Input((5,))
    x = layers.Embedding(10, 4, mask_zero=True)(inputs)
    model = keras.Model(inputs, layers.Attention()([x, x]))
    args, _ = symbolic_inputs(model)
    (call,) = (call for call in trace_calls(model, *args) if isinstance(call.layer, layers.Attention))
    assert call.inputs == ((1, 5, 4), (1, 5, 4))


@pytest.mark.parametrize("name", zoo.ZOO)
def test_every_operation_of_a_model_is_one_that_it_calls(name):
    model = zoo.ZOO[name]()
    called = []

    def around(operation, call, /, *args, **kwargs):
        called.append(operation)
        return call(*args, **kwargs)

    with around_calls(every_operation(model), around):
        model(zoo.sample(name))
    assert set(dict.fromkeys(called)) <= set(every_operation(model))
    direct = {id(operation) for operation in getattr(model, "operations", model.layers)}
    inputs = {id(layer) for layer in model.layers if isinstance(layer, layers.InputLayer)}
    assert direct - inputs <= {id(operation) for operation in called}


def test_of_nested_listeners_the_inner_one_is_called_first_and_may_change_what_it_passes_on():
    dense, heard = layers.Dense(2, kernel_initializer="ones"), []

    def around(name):
        def listener(layer, call, /, x):
            heard.append(name)
            return call(x + 1.0)

        return around_calls([dense], listener)

    with around("outer"), around("inner"):
        y = dense(np.zeros((1, 3), "float32"))
    assert heard == ["inner", "outer"] and np.asarray(y).tolist() == [[6.0, 6.0]]
    assert np.asarray(dense(np.zeros((1, 3), "float32"))).tolist() == [[0.0, 0.0]]


def test_an_attribute_of_the_layers_own_is_put_back_even_after_an_error():
    dense = layers.Dense(2, activation="relu")
    own = vars(dense)["activation"]

    def fails(layer, activation, /, x):
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        with listening({(dense, "activation"): fails}):
            dense(np.ones((1, 3), "float32"))
    assert vars(dense)["activation"] is own
    dense(np.ones((1, 3), "float32"))


def overlapping(*works):
    """Run each in a thread of its own, so that it starts before any other has ended, and ends before the last has."""
    started, ended = threading.Barrier(len(works)), threading.Barrier(len(works))
    results, errors = [None] * len(works), []

    def run(index, work):
        try:
            results[index] = work(lambda: started.wait(60), lambda: ended.wait(60))
        except Exception as error:
            errors.append(error)
            started.abort()
            ended.abort()

    threads = [threading.Thread(target=run, args=(index, work)) for index, work in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, errors
    return results


def test_two_threads_that_run_one_model_at_once_hear_their_own_calls():
    model = zoo.functional()
    plain = keras.Layer.__call__

    def listener(size):
        def work(start, end):
            heard = []

            def around(layer, call, /, x, **kwargs):
                heard.append((layer.name, x.shape[0]))
                return call(x, **kwargs)

            with around_calls([model.get_layer("hidden"), model.get_layer("probabilities")], around):
                start()  # both listen
                for _ in range(20):
                    model(np.ones((size, 12), "float32"))
            end()
            return heard

        return work

    for size, heard in zip((2, 3), overlapping(listener(2), listener(3))):
        assert heard == [("hidden", size), ("probabilities", size)] * 20
    assert keras.Layer.__call__ is plain and not any("call" in vars(layer) for _, layer in walk(model))


def test_a_thread_that_does_not_listen_runs_the_model_as_it_is():
    model, x = zoo.functional(), zoo.sample("functional")
    expected = np.asarray(model(x))

    def listens(start, end):
        with around_calls([model.get_layer("hidden")], lambda layer, call, /, x, **kwargs: call(x * 0.0, **kwargs)):
            start()
            end()

    def runs(start, end):
        start()
        found = np.asarray(model(x))
        end()
        return found

    np.testing.assert_array_equal(overlapping(listens, runs)[1], expected)


def test_profiles_that_overlap_count_their_own_model():
    models = [zoo.functional(), zoo.residual()]
    alone = [tg.profile(model).to_dict() for model in models]

    def profiles(model):
        def work(start, end):
            start()
            return [tg.profile(model).to_dict() for _ in range(4)]

        return work

    for found, expected in zip(overlapping(*map(profiles, models)), alone):
        assert found == [expected] * 4


def test_layer_calls_hold_paths_and_outputs_in_the_order_of_the_calls():
    model, x = zoo.shared_layer(), zoo.sample("shared_layer")
    scopes = []

    class Scope:
        def __init__(self, number):
            self.number = number

        def __enter__(self):
            scopes.append(self.number)

        def __exit__(self, *error):
            pass

    calls = LayerCalls(model, Scope)
    with calls.listen():
        outputs = model(x)
    assert calls.paths[:3] == ["shared", "shared", "concatenate"] and scopes == [0, 1, 2, 3]
    assert calls.outputs[-1] is outputs
    np.testing.assert_array_equal(np.concatenate(calls.outputs[:2], axis=1), calls.outputs[2])


def test_a_copy_made_while_a_thread_listens_has_the_plain_attributes():
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2, activation="relu", name="dense")])
    dense = model.get_layer("dense")

    def around(operation, call, *args, **kwargs):
        return call(*args, **kwargs)

    arounds = {(dense, name): around for name in ("call", "activation")}
    with listening(arounds):
        copy = rebuild(model, lambda path, layer: layer).get_layer("dense")
    assert "call" not in vars(copy) and copy.activation is keras.activations.relu and copy is not dense


def test_one_model_may_be_converted_in_several_threads():
    interval = sys.getswitchinterval()
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    try:
        sys.setswitchinterval(1e-5)
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            assert len(set(pool.map(lambda _: tg.convert(model).content, range(8)))) == 1
    finally:
        sys.setswitchinterval(interval)
    assert "call" not in vars(model.layers[0])
