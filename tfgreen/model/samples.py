"""The one reader of representative data: samples in any form, checked against what the model is called with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from tfgreen.errors import invalid_state, invalid_type, invalid_value
from tfgreen.structure import CallSpec, InputSpec, match
from tfgreen.typing import Samples

_FORMS = (
    "Pass an array, a list or dict of arrays as the model takes them, or batches of these: a tf.data.Dataset, a "
    "keras.utils.PyDataset or a generator."
)

# What sparse and ragged tensors have, of which NumPy makes an array of one object, and how to make an array of them.
_TO_ARRAY = {"dense_shape": "tf.sparse.to_dense(x)", "to_tensor": "x.to_tensor()", "toarray": "x.toarray()"}

_FILLED = "Pass x.filled(number), with the number that training had in their place."


def sample_batches(
    data: Samples, spec: CallSpec, batch_size: int | None = 32, subject: str = "calibration_data", finite: bool = True
) -> Iterator[dict[str, np.ndarray]]:
    """Yield the samples batch by batch, as one checked array of shape ``(batch, *input shape)`` for each input.

    ``data`` is an array, or a list or dict of arrays in the structure of the model's inputs, which are cut into batches
    of ``batch_size`` samples, or of the size that the model fixes (None leaves them whole). Or batches of such arrays,
    which stay as they are: a ``tf.data.Dataset``, a ``keras.utils.PyDataset``, a generator or a list of them; of a
    tuple ``(inputs, targets)`` the first part counts. Errors call it ``subject``.

    Raises:
        ValueError: There is no sample, or no end of them; an input is missing, of another shape, or has another number
            of samples; a number does not fit its dtype, or is not finite and ``finite`` holds.
        TypeError: The data is of another form, or an input does not hold numbers.

    Example:
        >>> from tfgreen.structure import CallSpec, InputSpec
        >>> spec = CallSpec("x", (InputSpec("x", (2,), "float32"),))
        >>> [batch["x"].shape for batch in sample_batches(np.ones((5, 2)), spec, batch_size=3)]
        [(3, 2), (2, 2)]
    """
    return (batch for batch, _ in labelled_batches(data, spec, batch_size, subject, finite))


def labelled_batches(
    data: Samples, spec: CallSpec, batch_size: int | None = None, subject: str = "x", finite: bool = False
) -> Iterator[tuple[dict[str, np.ndarray], Any]]:
    """The batches of :func:`sample_batches`, each with its targets as they come, or None where there are none."""
    batches: Iterable[tuple[dict[str, Any], Any]]
    if comes_in_batches(data, spec, subject):
        numbered = enumerate(_read(data, subject))
        batches = ((_parts(inputs, spec, subject, f", batch {i}"), targets) for i, (inputs, targets) in numbered)
    else:
        whole = _parts(data, spec, subject)
        parts = [whole] if batch_size is None else _cut(whole, spec.slices(_count(whole, subject), batch_size))
        batches = ((part, None) for part in parts)
    found = False
    for batch, targets in batches:
        if _count(batch, subject):
            found = True
            yield {item.name: _numbers(batch[item.name], item, subject, finite) for item in spec.inputs}, targets
    if not found:
        raise invalid_value(subject, expected="at least one sample", received=0)


def sample_arrays(
    data: Samples, spec: CallSpec, subject: str = "calibration_data", finite: bool = True
) -> dict[str, np.ndarray]:
    """All the samples: one checked array of shape ``(samples, *input shape)`` and the input's dtype for each input.

    Takes and raises what :func:`sample_batches` does; batches of different shapes are a ValueError too. Arrays that
    have the dtype of the input are not copied.
    """
    batches = list(sample_batches(data, spec, None, subject, finite))
    return {
        item.name: joined([batch.pop(item.name) for batch in batches], f"{subject} of input '{item.name}'")
        for item in spec.inputs
    }


def joined(batches: list[Any], subject: str) -> np.ndarray:
    """The arrays of all batches as one, which a single one already is."""
    arrays = [_array(batch, subject) for batch in batches]
    if not all(array.ndim for array in arrays):
        raise invalid_type(subject, expected="an array of samples", received=batches[0])
    shapes = sorted({array.shape[1:] for array in arrays})
    if len(shapes) > 1:
        raise invalid_value(subject, expected="batches of one shape", received=shapes)
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def comes_in_batches(data: Samples, spec: CallSpec, subject: str = "calibration_data") -> bool:
    """Whether data is an iterable of batches, not arrays to be cut into them; a TypeError if it is neither."""
    if isinstance(data, list) and data and not isinstance(spec.structure, list):
        return all(isinstance(item, (tuple, Mapping)) for item in data)  # of (inputs, targets), or of inputs by name
    if isinstance(data, (list, tuple, Mapping)) or hasattr(data, "shape") or hasattr(data, "__array__"):
        return False
    if isinstance(data, (str, bytes, type)) or not (hasattr(data, "__iter__") or hasattr(data, "__getitem__")):
        fix = "Load the file first, for instance with numpy.load." if isinstance(data, (str, bytes)) else _FORMS
        fix = "Call it: pass what the function returns." if callable(data) and not isinstance(data, type) else fix
        raise invalid_type(subject, expected="arrays, or an iterable of batches", received=data, fix=fix)
    if not callable(getattr(data, "cardinality", int)):  # that of a strategy, whose batches lie on its replicas
        fix = "Pass the tf.data.Dataset that was distributed."
        raise invalid_type(subject, expected="whole batches", received=data, fix=fix)
    return True


def random_samples(spec: CallSpec, count: int, open_size: int = 1) -> dict[str, np.ndarray]:
    """Samples at random for each input, by name: normal numbers, and 0 and 1 where it takes integers.

    Example:
        >>> from tfgreen.structure import CallSpec, InputSpec
        >>> spec = CallSpec("x", (InputSpec("x", (2, None), "float32"),))
        >>> random_samples(spec, 3, open_size=5)["x"].shape
        (3, 2, 5)
    """
    rng, count = np.random.default_rng(0), spec.batch or count
    shapes = {item.name: (count, *(size or open_size for size in item.shape)) for item in spec.inputs}
    return {
        item.name: (rng.normal(size=shapes[item.name]) if item.dtype.startswith(("float", "bfloat"))
                    else rng.integers(0, 2, shapes[item.name])).astype(item.dtype)
        for item in spec.inputs
    }  # fmt: skip


def _cut(parts: Mapping[str, Any], slices: Iterable[slice]) -> Iterator[dict[str, Any]]:
    for some in slices:
        yield {name: part[some] for name, part in parts.items()}


def _read(batches: Any, subject: str) -> Iterator[tuple[Any, Any]]:
    """The inputs and the targets of each batch."""
    endless = hasattr(batches, "cardinality") and int(batches.cardinality()) == -1  # a tf.data.Dataset
    if endless or getattr(batches, "num_batches", 0) is None:  # a PyDataset
        raise invalid_state(f"{subject} never ends.", "Pass a part of it, such as dataset.take(16).")
    for batch in batches if hasattr(batches, "__iter__") else (batches[number] for number in range(len(batches))):
        parts = batch if isinstance(batch, tuple) else (batch,)
        yield parts[0], parts[1] if len(parts) > 1 else None


def _parts(data: Samples, spec: CallSpec, subject: str, batch: str = "") -> dict[str, Any]:
    """The array of each input, with its shape checked but its numbers not yet read."""
    parts = match(spec.structure, data, subject + batch)
    return {item.name: _shaped(parts[item.name], item, subject, batched=bool(batch)) for item in spec.inputs}


def _shaped(value: Any, item: InputSpec, subject: str, batched: bool) -> Any:
    rank, of_input = len(item.shape) + 1, f"{subject} of input '{item.name}'"
    if isinstance(value, (list, tuple)) and any(hasattr(part, "shape") for part in value):
        if len(value) != 1 or len(value[0].shape) != rank:
            fix = "Pass the inputs without their targets." if isinstance(value, tuple) else ""
            received = f"a {type(value).__name__} of {len(value)} arrays"
            raise invalid_value(subject, expected=f"one array (input '{item.name}')", received=received, fix=fix)
        (value,) = value
    _check_dense(value, of_input)
    if not hasattr(value, "shape"):
        value = _array(value, of_input)
    shape = tuple(value.shape)
    if len(shape) == rank and all(want in (None, have) for want, have in zip(item.shape, shape[1:])):
        return value
    fix = "Batch the dataset: dataset.batch(32)." if batched and len(shape) == rank - 1 else ""
    raise invalid_value(of_input, expected=f"shape {('samples', *item.shape)}", received=shape, fix=fix)


def _count(parts: Mapping[str, Any], subject: str) -> int:
    """How many samples there are."""
    counts = {name: int(part.shape[0]) for name, part in parts.items()}
    if len(set(counts.values())) > 1:
        raise invalid_value(subject, expected="as many samples for every input", received=counts)
    return next(iter(counts.values()))


def _numbers(value: object, item: InputSpec, subject: str, finite: bool) -> np.ndarray:
    """The samples of one input as an array of its dtype."""
    subject = f"{subject} of input '{item.name}'"
    array = _array(value, subject)
    if item.dtype == "string":
        if array.dtype.kind not in "SUO":
            raise invalid_type(f"{subject} (dtype {array.dtype})", expected="an array of texts", received=value)
        return array
    if array.dtype.kind not in "fiub" and array.dtype.name != "bfloat16":
        words = array.dtype.kind in "SUO"
        fix = "Turn words into numbers first, as for training." if words else "Pass real numbers."
        fix = "Pass x.astype('float32'), with numbers for words, as for training." if array.dtype.kind == "O" else fix
        raise invalid_type(f"{subject} (dtype {array.dtype})", expected="an array of numbers", received=value, fix=fix)
    _check_integers(array, item.dtype, subject)
    array = array.astype(item.dtype, copy=False)
    if finite and array.dtype.kind in "fV" and not (good := np.isfinite(array)).all():
        raise invalid_value(
            subject, expected="finite numbers", received=f"{int((~good).sum())} NaN or infinite values",
            fix="Look for NaN in the samples, and scale them as for training.",
        )
    return array


def _check_integers(array: np.ndarray, dtype: str, subject: str) -> None:
    """Raise where a cast to integers would change a number without a word."""
    if not array.size or not (dtype == "bool" or dtype.startswith(("int", "uint"))):
        return
    if array.dtype.kind not in "iub" and (array.astype("float64") % 1 != 0).any():  # NaN too
        fix = "Scale or look the values up as for training, where they were integers."
        raise invalid_value(subject, expected=f"whole numbers ({dtype})", received="fractions or NaN", fix=fix)
    least, most = (0, 1) if dtype == "bool" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    if array.min() < least or array.max() > most:
        received = f"{array.min()}..{array.max()}"
        raise invalid_value(subject, expected=f"numbers from {least} to {most} ({dtype})", received=received)


def _check_dense(value: object, subject: str) -> None:
    """Raise unless a value has numbers to be sliced, which no symbolic, sparse or ragged tensor has."""
    how = next((f"Pass {call}." for name, call in _TO_ARRAY.items() if hasattr(value, name)), "")
    if np.ma.is_masked(value):  # an array would hold whatever is stored behind the mask
        raise invalid_type(subject, expected="an array without masked values", received=value, fix=_FILLED)
    if how or tuple(getattr(value, "shape", None) or ())[:1] == (None,):
        raise invalid_type(subject, expected="an array of numbers", received=value, fix=how or _FORMS)


def _array(value: object, subject: str) -> np.ndarray:
    _check_dense(value, subject)
    try:
        return np.asarray(value)
    except ValueError as error:  # NumPy's for rows of different lengths, TensorFlow's for a ragged tensor
        sentence = f"{subject} has rows of different lengths, which are no array."
        raise invalid_state(sentence, "Pad them to one length.") from error
