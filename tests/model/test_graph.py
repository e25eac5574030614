from __future__ import annotations

import keras
import pytest
from keras import layers

from tests import zoo
from tfgreen.model.graph import LayerGraph
from tfgreen.model.paths import replaceable_layers, walk


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
