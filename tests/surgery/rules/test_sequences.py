from __future__ import annotations

import pytest
from keras import layers

from tests.surgery.cases import PARTS, STEPS, between, check_part
from tfgreen.surgery.channel_groups import channel_groups


@pytest.mark.parametrize("name", PARTS["sequences"])
def test_channels_go_where_they_can_and_nothing_else_changes(name, tmp_path):
    check_part("sequences", name, tmp_path)


def test_both_directions_lose_the_same_units():
    model = between(layers.Bidirectional(layers.LSTM(4), name="both"), *STEPS)
    (units,) = [group for group in channel_groups(model) if group.name.startswith("both")]
    assert units.size == 4 and {edge.layer.split("/")[1] for edge in units.edges if "/" in edge.layer} == {
        "forward_layer", "backward_layer",
    }  # fmt: skip
