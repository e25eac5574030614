from __future__ import annotations

import pytest
from keras import ops

from tests.surgery.cases import FLAT, PARTS, between, check_part
from tfgreen.surgery.channel_groups import channel_groups


@pytest.mark.parametrize("name", PARTS["operations"])
def test_channels_go_where_they_can_and_nothing_else_changes(name, tmp_path):
    check_part("operations", name, tmp_path)


def test_an_operation_without_a_rule_keeps_the_channels():
    group = channel_groups(between(lambda x: ops.fft((x, x))[0], *FLAT))[0]
    assert group.removable == 0 and "cannot be traced" in group.reason
