from __future__ import annotations

import threading

import pytest

from tfgreen.transforms.exporting import exporting, is_exporting


def test_it_holds_in_the_block_only_nested_or_after_an_error():
    with exporting():
        with exporting():
            assert is_exporting()
        assert is_exporting()
    with pytest.raises(RuntimeError):
        with exporting():
            raise RuntimeError
    assert not is_exporting()


def test_it_holds_in_its_own_thread_only():
    found = []
    with exporting():
        thread = threading.Thread(target=lambda: found.append(is_exporting()))
        thread.start()
        thread.join()
    assert found == [False]
