from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from tests import zoo
from tfgreen.model.graph import LayerGraph
from tfgreen.model.paths import (
    check_built_model,
    own_parameters,
    own_weights,
    replaceable_layers,
    walk,
    weights_by_path,
)


class Block(layers.Layer):
    """Sublayers in attributes, lists and dicts, under private names too; built by its first call."""

    def __init__(self):
        super().__init__(name="block")
        self.steps = [layers.Dense(3), layers.Dense(3)]
        self.by_name = {"a": layers.Dense(3)}
        self._hidden = layers.Dense(3)

    def call(self, x):
        for step in [*self.steps, self.by_name["a"], self._hidden]:
            x = step(x)
        return x


def test_sublayers_go_by_attribute_names_that_do_not_depend_on_the_process():
    layers.Dense(1)  # shifts Keras's automatic names
    block = Block()
    block(np.zeros((1, 3), "float32"))
    assert [path for path, _ in walk(block)] == ["steps/0", "steps/1", "by_name/a", "hidden"]
    assert set(weights_by_path(block)) == {
        f"{path}/{name}" for path in ("steps/0", "steps/1", "by_name/a", "hidden") for name in ("kernel", "bias")
    }


@pytest.mark.parametrize("name", zoo.ZOO)
def test_weights_by_path_holds_each_weight_of_the_model_once(name):
    model = zoo.ZOO[name]()
    found = [id(variable) for variable in weights_by_path(model).values()]
    assert len(found) == len(set(found))
    assert set(found) == {id(variable) for variable in model.weights}


def test_paths_of_nested_recurrent_and_attention_layers():
    assert [path for path, _ in replaceable_layers(zoo.nested())] == [
        "features/conv2d",
        "features/global_average_pooling2d",
        "head/logits",
    ]
    lstm = dict(replaceable_layers(zoo.lstm()))["lstm"]
    assert set(weights_by_path(lstm)) == {"cell/kernel", "cell/recurrent_kernel", "cell/bias"}
    attention = dict(replaceable_layers(zoo.attention()))["multi_head_attention"]
    assert "query_dense/kernel" in weights_by_path(attention)


def test_frozen_weights_are_still_parameters_and_statistics_never_are():
    norm = layers.BatchNormalization()
    norm.build((None, 3))
    norm.trainable = False
    assert set(own_weights(norm)) == {"gamma", "beta", "moving_mean", "moving_variance"}
    assert set(own_parameters(norm)) == {"gamma", "beta"}


def test_a_subclassed_model_that_was_never_called_is_not_built():
    with pytest.raises(ValueError, match="'two_layer_net'.*built model.*call it once"):
        check_built_model(zoo.TwoLayerNet())
    with pytest.raises(TypeError, match="teacher.*received Dense"):
        check_built_model(layers.Dense(2), "teacher")


def edges(graph: LayerGraph) -> dict[str, list[str]]:
    return {node.path: [producer.path for producer in node.producers] for node in graph.nodes}


@pytest.mark.parametrize("name", [name for name in zoo.ZOO if name != "subclassed"])
def test_layer_graph_holds_every_layer_once_per_call_between_inputs_and_outputs(name):
    model = zoo.ZOO[name]()
    graph = LayerGraph(model)
    layers_of = {node.path: node.layer for node in graph.nodes if isinstance(node.layer, keras.Layer)}
    assert layers_of == dict(replaceable_layers(model)) | {node.path: node.layer for node in graph.inputs}
    assert [node.output_shapes for node in graph.inputs] == [(tuple(t.shape),) for t in model.inputs]
    assert [node.output_shapes for node in graph.outputs] == [(tuple(t.shape),) for t in model.outputs]
    for position, node in enumerate(graph.nodes):
        assert len(node.input_shapes) == len(node.producers)
        assert all(graph.nodes.index(producer) < position for producer in node.producers)
        assert all(node in producer.consumers for producer in node.producers)
        assert all(node in consumer.producers for consumer in node.consumers)
        assert bool(node.producers) == (node not in graph.inputs)
        assert bool(node.consumers) or node in graph.outputs


def test_layer_graph_of_branches_that_join():
    assert edges(LayerGraph(zoo.residual()))["add"] == ["conv2d_1", "image"]
    concat = next(n for n in LayerGraph(zoo.concat()).nodes if isinstance(n.layer, layers.Concatenate))
    assert [producer.layer.kernel_size for producer in concat.producers] == [(1, 1), (3, 3), (5, 5)]
    assert concat.input_shapes == ((None, 8, 8, 4),) * 3 and concat.output_shapes == ((None, 8, 8, 12),)


def test_layer_graph_puts_nested_models_in_their_place():
    graph = LayerGraph(zoo.nested())
    assert edges(graph) == {
        "input_layer_2": [],
        "features/conv2d": ["input_layer_2"],
        "features/global_average_pooling2d": ["features/conv2d"],
        "head/logits": ["features/global_average_pooling2d"],
    }


def test_layer_graph_has_one_node_per_call_of_a_shared_layer():
    graph = LayerGraph(zoo.shared_layer())
    assert [(n.path, n.producers[0].path) for n in graph.nodes if n.path == "shared"] == [
        ("shared", "left"),
        ("shared", "right"),
    ]
    (concat,) = {consumer for node in graph.nodes if node.path == "shared" for consumer in node.consumers}
    assert concat.layer.name == "concatenate"


def test_layer_graph_of_several_inputs_and_outputs_in_the_order_of_the_model():
    graph = LayerGraph(zoo.multi_io())
    assert [node.path for node in graph.inputs] == ["image", "meta"]
    assert [node.path for node in graph.outputs] == ["label", "size"]


def test_layer_graph_sees_raw_operations_and_tensors_passed_twice():
    graph = LayerGraph(zoo.attention())
    add, attention = (next(n for n in graph.nodes if n.path == path) for path in ("add", "multi_head_attention"))
    assert type(add.layer).__name__ == "Add" and not isinstance(add.layer, keras.Layer)
    assert [producer.path for producer in add.producers] == ["embedding", "multi_head_attention"]
    assert [producer.path for producer in attention.producers] == ["embedding", "embedding"]
    assert graph.nodes[1].consumers == [attention, add]


def test_layer_graph_of_a_nested_model_called_twice_by_input_names_and_on_a_constant():
    a, b = keras.Input((3,), name="a"), keras.Input((3,), name="b")
    inner = keras.Model([a, b], layers.Dense(3, name="dense")(a) + b, name="inner")
    p, q = keras.Input((3,), name="p"), keras.Input((3,), name="q")
    outputs = [inner({"b": q, "a": p}), inner([q, keras.ops.ones((1, 3))])]
    first, second = LayerGraph(keras.Model([p, q], outputs)).outputs
    assert first.path == second.path == "inner/add" and first is not second
    assert [producer.path for producer in first.producers] == ["inner/dense", "q"]
    assert [producer.path for producer in second.producers] == ["inner/dense"]
    assert [node.producers[0].producers[0].path for node in (first, second)] == ["p", "q"]
    assert second.input_shapes == ((None, 3),)


def test_layer_graph_leaves_the_model_as_it_was():
    model = zoo.nested()
    counts = [len(layer._inbound_nodes) for _, layer in walk(model)]
    LayerGraph(model)
    assert [len(layer._inbound_nodes) for _, layer in walk(model)] == counts


def test_layer_graph_wants_a_graph():
    with pytest.raises(ValueError, match=r"model 'subclassed_net' \(TwoLayerNet\).*keras.Model\(inputs, outputs\)"):
        LayerGraph(zoo.subclassed())
    with pytest.raises(ValueError, match="a built model"):
        LayerGraph(keras.Sequential([layers.Dense(2)]))
    with pytest.raises(TypeError, match="keras.Model"):
        LayerGraph(layers.Dense(2))
