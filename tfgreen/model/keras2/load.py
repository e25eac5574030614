"""Load a model: ``.keras``, and the ``.h5`` files of Keras 2 that Keras 3 refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import keras

from tfgreen.checks import check_bool
from tfgreen.errors import FileError, InvalidValueError, invalid_type
from tfgreen.files import folder_kind, reading
from tfgreen.model.internals import running_code_of_files
from tfgreen.model.keras2.config import TRUST, missing_name, one_line, refuses_code
from tfgreen.model.keras2.graph import model_from_keras2, unwrap
from tfgreen.model.keras2.tfmot import WRAPPERS, unwrapped
from tfgreen.model.keras2.weights import load_keras2_weights

_EXPECTED = "expected a Keras model saved as .keras or .h5"
_SECONDS = 30
# Read all that an HDF5 file holds.
_READ = """
import h5py, sys
def read(name, item):
    dict(item.attrs)
    if isinstance(item, h5py.Dataset):
        item[()]
with h5py.File(sys.argv[1], "r") as archive:
    try:
        read("", archive)
        archive.visititems(read)
    except Exception as error:
        sys.exit(f"damaged: {error}")
"""


def load_model(
    path: str | os.PathLike[str], custom_objects: Mapping[str, Any] | None = None, safe_mode: bool = True
) -> keras.Model:
    """Load a Keras model from a ``.keras`` file or an ``.h5`` file of Keras 2 or 3.

    The model is not compiled: what the file says about optimizers, losses and metrics is not needed to compress it and
    is often what cannot be loaded. Compile it before training.

    A Keras 2 file is rebuilt from its own config: settings that Keras 3 does not know are translated or, where they
    change nothing, dropped. ``x + y``, ``tf.nn.relu(x)`` and ``x[:, 0]`` become ``keras.ops``. Layer names and weights
    are those of the file (``/`` in a name becomes ``_``). A single input or output is a tensor, not a list of one.

    Args:
        path: The file. Its content decides how it is read, not its name.
        custom_objects: Name -> class or function, for layers that are neither Keras's nor registered.
        safe_mode: Whether to refuse Python code in the file (a Lambda layer), which would be run.

    Returns:
        The model, uncompiled, with the weights of the file.

    Raises:
        OSError: The file is missing, unreadable or holds no Keras model.
        ValueError: A layer cannot be built; the message names the layer and the way out.
        TypeError: ``path`` is not a path, or ``custom_objects`` no dict of names.

    Example:
        >>> import tempfile
        >>> source = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="head")])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     source.save(f"{folder}/model.keras")
        ...     load_model(f"{folder}/model.keras").layers[-1].name
        'head'
    """
    file = _checked(path)
    check_custom_objects(custom_objects)
    check_bool("safe_mode", safe_mode)
    objects = dict(custom_objects or {})
    with running_code_of_files(not safe_mode):
        if h5py.is_hdf5(file):
            return _load_h5(file, objects, safe_mode)
        if zipfile.is_zipfile(file):
            return _load_keras(file, objects, safe_mode)
    raise FileError(f"{file}: {_EXPECTED}, received {_kind(file)}.")


def _kind(file: Path) -> str:
    with open(file, "rb") as opened:
        if opened.read(4) == b"PK\x03\x04":  # the end of a zip archive says what is in it
            return "a damaged zip archive, which may have been cut short: copy or save it again"
    return "a file that is neither a zip archive nor HDF5"


def _checked(path: str | os.PathLike[str]) -> Path:
    if not isinstance(path, (str, os.PathLike)):
        raise invalid_type("path", expected="the path of a model file", received=path)
    file = Path(path)
    if file.is_dir():
        raise FileError(f"{file}: {_EXPECTED}, received {folder_kind(file)}")
    if not file.exists():
        raise FileError(f"{file}: {_EXPECTED}, but there is no such file.")
    with reading(file):
        file.open("rb").close()
    return file


def check_custom_objects(custom_objects: object) -> None:
    """Raise unless these are named classes and functions, or None."""
    names = {} if custom_objects is None else custom_objects
    if not isinstance(names, Mapping) or not all(isinstance(name, str) for name in names):
        expected = "a dict of name -> class or function"
        raise invalid_type("custom_objects", expected=expected, received=custom_objects, fix="{'Mine': Mine}, for one.")


def _load_keras(file: Path, custom_objects: dict[str, Any], safe_mode: bool) -> keras.Model:
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
            if "config.json" not in names:
                raise FileError(f"{file}: {_EXPECTED}, received a zip archive without config.json.")
            broken = archive.testzip()
            metadata = json.loads(archive.read("metadata.json")) if "metadata.json" in names else {}
            text = archive.read("config.json").decode()
        version = str(metadata.get("keras_version", "3"))
    except FileError:
        raise
    except Exception as error:  # damaged bytes raise anything: BadZipFile, zlib.error, RuntimeError, UnicodeError, ...
        raise _damaged(file, ".keras", error) from error
    if broken is not None:
        raise _damaged(file, ".keras", broken)
    if version.startswith("2") and any(f'"{name}"' in text for name in WRAPPERS):
        raise FileError(
            f"{file}: expected a .keras file of Keras 3, received one of Keras {version} with layers that TFMOT has "
            "wrapped. Load it where TFMOT is installed, in tfmot.sparsity.keras.prune_scope(), "
            "tfmot.clustering.keras.cluster_scope() or tfmot.quantization.keras.quantize_scope(), and save it as .h5, "
            "which tfgreen loads."
        )
    if version.startswith("2"):
        raise FileError(
            f"{file}: expected a .keras file of Keras 3, received one of Keras {version}. Save it as .h5, which "
            "tfgreen loads: pip install tf_keras, then python -c \"import tf_keras; "
            f"tf_keras.models.load_model('{file}', compile=False).save('{file.stem}.h5')\"."
        )
    if file.suffix != ".keras":
        raise FileError(f"{file}: expected the suffix .keras for a Keras 3 archive, received '{file.suffix}'.")
    return _keras_load(file, custom_objects, safe_mode)


def _keras_load(file: Path, custom_objects: dict[str, Any], safe_mode: bool, fix: str = "") -> keras.Model:
    try:
        return keras.saving.load_model(file, custom_objects=custom_objects, compile=False, safe_mode=safe_mode)
    except Exception as error:  # whatever Keras, or a custom class of the user's, raises over this file
        raise FileError(f"{file}: Keras cannot load this model: {load_reason(error)} {fix}".rstrip()) from error


def _load_h5(file: Path, custom_objects: dict[str, Any], safe_mode: bool) -> keras.Model:
    try:
        with h5py.File(file, "r") as archive:
            _check_apart(file)
            text = archive.attrs.get("model_config")
            if text is None or "model_weights" not in archive:
                raise FileError(
                    f"{file}: {_EXPECTED}, received an HDF5 file without a model config (weights only?). Build the "
                    "model, call model.load_weights(path) and save it whole with model.save('model.keras')."
                )
            if _version(archive).startswith(("0", "1")):
                raise FileError(
                    f"{file}: expected a file of Keras 2 or 3, received one of Keras {_version(archive)}. Load it with "
                    "Keras 2.2.4, which reads such files, and save it again."
                )
            config = json.loads(text)
            if _version(archive).startswith("3"):
                fix = "A .keras file holds more than an .h5."
                return _single_tensors(_keras_load(file, custom_objects, safe_mode, fix))
            wrapped: dict[str, str] = {}
            model = model_from_keras2(unwrapped(config, wrapped), custom_objects)
            load_keras2_weights(model, archive["model_weights"], wrapped)
            if wrapped:
                warnings.warn(
                    f"{file}: TFMOT has wrapped layers of this model ({', '.join(wrapped)}). They are read as its "
                    "strip functions leave them: zeros and shared values are in the weights; masks, schedules and "
                    "ranges are gone. Go on with tg.prune, tg.cluster or tg.quantize, which has preserve_sparsity and "
                    "preserve_clusters.",
                    stacklevel=3,
                )
            return model
    except (InvalidValueError, FileError) as error:
        raise error if str(file) in str(error) else type(error)(f"{file}: {error}") from error
    except Exception as error:  # damaged bytes raise anything: OSError, KeyError, RuntimeError, UnicodeError, ...
        raise _damaged(file, "HDF5", error) from error


def _check_apart(file: Path) -> None:
    """Read an HDF5 file in another process: on some that are damaged libhdf5 crashes, or never ends."""
    if not sys.executable or getattr(sys, "frozen", False):  # it would start another program than Python
        return
    command, home = [sys.executable, "-c", _READ, str(file.resolve())], Path(__file__).parents[3]
    try:
        limit = _SECONDS + file.stat().st_size / 1e6  # of a slow disk
        ended = subprocess.run(command, cwd=home, capture_output=True, text=True, errors="replace", timeout=limit)
    except subprocess.TimeoutExpired as error:
        raise _damaged(file, "HDF5", "reading it does not end") from error
    if not 0 <= ended.returncode <= 255:
        raise _damaged(file, "HDF5", "the HDF5 library crashes on it")
    if ended.stderr.startswith("damaged: "):
        raise _damaged(file, "HDF5", ended.stderr.removeprefix("damaged: "))


def _damaged(file: Path, kind: str, reason: object) -> FileError:
    return FileError(f"{file}: the {kind} file is damaged: {one_line(str(reason))}. Copy it, or save the model, again.")


def _version(archive: h5py.File) -> str:
    version = archive.attrs.get("keras_version", "2")
    return version.decode() if isinstance(version, bytes) else str(version)


def _single_tensors(model: keras.Model) -> keras.Model:
    """Undo what Keras does to a functional model in ``.h5``: a single input or output comes back as a list of one."""
    if isinstance(model, keras.Sequential):
        return model
    ends = (model.input, model.output)
    inputs, outputs = map(unwrap, ends)
    return model if (inputs, outputs) == ends else type(model)(inputs=inputs, outputs=outputs, name=model.name)


def load_reason(error: Exception) -> str:
    """One line of Keras's message, and what to do about the two refusals that people meet."""
    name = missing_name(error)
    if name:
        return f"'{name}' is not known. Pass custom_objects={{'{name}': {name}}}."
    if refuses_code(error):
        return f"it holds Python code (a Lambda layer), which is not run by default. {TRUST}"
    if isinstance(error, KeyError):
        return f"it lacks {one_line(str(error))}."
    return f"{one_line(str(error)) or type(error).__name__}."
