"""The table of all Keras layers, and the errors of conversion that it led to."""

import importlib
import json
import subprocess
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

from tfgreen.deploy.conversion.translate import reason_by_layer
from tfgreen.deploy.convert import convert
from tfgreen.errors import ConversionError


@pytest.fixture(scope="module")
def script():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[2] / "scripts")
        yield importlib.import_module("layer_table")


def test_the_table_has_a_row_for_every_layer_and_none_crashes(script):
    found = script.read(script.TABLE.read_text())
    assert set(found) == {(name, mode) for name in script.layer_classes() for mode in script.MODES}
    assert not [cell for cell, text in found.items() if text.startswith("crash")]


def test_aliases_are_one_row(script):
    classes = script.layer_classes()
    assert classes["MaxPooling2D"] == ["MaxPool2D"] and "MaxPool2D" not in classes
    exported = {v for v in vars(layers).values() if isinstance(v, type) and issubclass(v, layers.Layer)}
    assert {getattr(layers, name) for name in classes} == exported


@pytest.mark.parametrize(
    "name, mode, text",
    [
        ("Dense", "int8", "works"),
        ("Dense", "int4", "works"),
        ("Add", "int4", "as int8"),
        ("ELU", "int8", "float: ELU"),
        ("MaxPooling3D", "float32", "refused: layers ['max_pooling3d'] need MaxPool3D, for which LiteRT has no"),
        ("StringLookup", "float32", "refused: layers ['string_lookup'] look words or numbers up in a table"),
        ("TorchModuleWrapper", "int8", "refused by Keras: "),
    ],
)
def test_a_cell_says_what_became_of_the_layer(script, name, mode, text):
    assert script.cell(name, mode).startswith(text)


def test_a_wrong_result_and_a_raw_error_are_told(script, monkeypatch):
    cases = importlib.import_module("layer_cases")
    monkeypatch.setitem(cases.CASES, "Twice", cases.Case("Lambda(lambda x: x * 2)"))
    right = script.tg.convert
    for_other = keras.Sequential([keras.Input((4,)), layers.Rescaling(3.0)])
    monkeypatch.setattr(script.tg, "convert", lambda model, config: right(for_other, config))
    assert script.cell("Twice", "float32").startswith("works, but off by ")
    monkeypatch.setattr(script.tg, "convert", lambda model, config: {}["raw"])
    assert script.cell("Twice", "float32") == "crash: KeyError: 'raw'"


def test_a_process_that_dies_costs_one_cell(script, monkeypatch):
    cells = [(name, "int8") for name in ("First", "Deadly", "Last")]
    started = []

    def dies_at_deadly(command, input, **_):
        started.append(json.loads(input))
        lines = [json.dumps([name, mode, "works"]) for name, mode in started[-1]]
        living = lines[: next((i for i, line in enumerate(lines) if "Deadly" in line), None)]
        with Path(command[-1]).open("a") as results:
            results.writelines(f"{line}\n" for line in living)
        return subprocess.CompletedProcess(command, 0 if living == lines else -11)

    monkeypatch.setattr(script.subprocess, "run", dies_at_deadly)
    assert [*script.run(cells).items()] == [
        (cells[0], "works"), (cells[1], "crash: the process ended with -11"), (cells[2], "works"),
    ]  # fmt: skip
    assert [len(pending) for pending in started] == [3, 1]


def test_a_written_table_is_read_back(script):
    found = {(name, mode): f"refused: {name} has no {mode}" for name in ("Add", "Conv2D") for mode in script.MODES}
    assert script.read(script.table(found)) == found


def test_random_augmentation_is_left_out_and_the_note_says_so():
    model = keras.Sequential([keras.Input((8, 8, 3)), layers.RandomFlip(), layers.CenterCrop(4, 4), layers.Flatten()])
    lite = convert(model)
    assert set(lite.operators) <= {"SLICE", "STRIDED_SLICE", "RESHAPE"}
    assert [note for note in lite.notes if "inference" in note] == [
        "Image layers that do nothing in inference, left out: ['random_flip']."
    ]


def test_a_reason_that_leads_to_no_layer_stays_as_it_is():
    assert reason_by_layer("out of memory", ["stem"]) == "out of memory"
    assert reason_by_layer("bad net/call.1/x and call.7/y", ["stem", "head"]).startswith("layers ['head']: bad")
    lacking = "loc(net/call.0/stem/Erf)\nTF Select ops: Erf, Cholesky\nCustom ops: Erf"
    found = reason_by_layer(lacking, ["stem"])
    assert found.startswith("layers ['stem'] need Cholesky, Erf, for which LiteRT has no operator. Compute it outside")
    assert reason_by_layer("Custom ops: Erf", []).startswith("it needs Erf, for which LiteRT has no operator. Compute")


def test_a_layer_that_draws_numbers_in_inference_leaves_its_seed_out_of_the_file():
    model = keras.Sequential([keras.Input((4, 4, 3)), layers.MixUp(), layers.Flatten()])
    seeds = [np.array(v) for v in model.variables]
    lite = convert(model)
    assert seeds and lite.operators == {"RESHAPE": 1}
    for before, after in zip(seeds, model.variables):
        np.testing.assert_array_equal(before, after)


def test_a_variable_written_in_inference_is_named():
    model = keras.Sequential([keras.Input((3, 4), batch_size=1), layers.GRU(2, stateful=True, name="memory")])
    with pytest.raises(ConversionError, match=r"writes to a variable during inference .*\['memory'\]"):
        convert(model)
