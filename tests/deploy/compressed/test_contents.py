from __future__ import annotations

import keras
import numpy as np
import pytest

from tfgreen.deploy.compressed.contents import Reader, Writer


def test_arrays_and_files_come_back_in_their_order():
    half = keras.ops.convert_to_numpy(keras.Variable([1.5, 2.0], dtype="bfloat16"))
    arrays = [np.arange(6, dtype="int16").reshape(2, 3), np.zeros((0, 4), "float32"), np.array(True), half]
    writer = Writer()
    forms = [*map(writer.add, arrays), writer.add_file(b"words\n"), writer.add_file(b"")]
    reader = Reader("m.npz", b"".join(writer.parts))
    for array, form in zip(arrays, forms):
        taken = reader.take("a", form)
        assert taken.dtype == array.dtype and taken.shape == array.shape and taken.tobytes() == array.tobytes()
    assert [reader.take("f", form).tobytes() for form in forms[4:]] == [b"words\n", b""]
    with pytest.raises(ValueError, match="m.npz.*'more' described by"):
        reader.take("more", forms[0])
