from __future__ import annotations

import json

import pytest

import tfgreen as tg
from tests import zoo


def test_widths_reasons_and_figures_before_and_after():
    model = zoo.nested()
    slim = tg.prune_channels(model, ratio=0.5, round_to=2)
    found = tg.compare_channels(model, slim, latency=True)
    rows = {row.layer.split("/")[0]: row for row in found.layers}
    assert (rows["features"].before, rows["features"].after, rows["features"].reason) == (6, 4, "")
    assert (rows["head"].before, rows["head"].after) == (4, 4) and "may mix them" in rows["head"].reason
    assert found.parameters == (tg.profile(model).parameters, tg.profile(slim).parameters)
    assert found.macs == (tg.profile(model).macs, tg.profile(slim).macs)
    assert found.size_bytes == (tg.convert(model).size_bytes, tg.convert(slim).size_bytes)
    assert found.latency_ms[0] and found.latency_ms[1]
    assert "parameters: 196 ->" in str(found) and "1 of 2 layers narrower" in repr(found)
    assert "<table " in found._repr_html_()
    assert json.loads(json.dumps(found.to_dict()))["layers"][0]["before"] == 6


def test_layers_that_cannot_be_traced_say_so():
    model = zoo.custom_layer()
    rows = {row.layer: row.reason for row in tg.compare_channels(model, tg.strip(model)).layers}
    assert rows["scaled"] == "it cannot be traced"


def test_another_model_is_an_error():
    with pytest.raises(ValueError, match="after: expected a model with the layer"):
        tg.compare_channels(zoo.nested(), zoo.functional())
    with pytest.raises(TypeError, match="'quantisation' is no option.*'quantization'"):
        tg.compare_channels(zoo.nested(), zoo.nested(), quantisation="int8")
