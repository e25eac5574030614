"""Data: train, validation and test of any task, read from arrays, files, folders or a function."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from typing_extensions import Unpack

from tfgreen.config import check_options
from tfgreen.errors import FileError, invalid_value
from tfgreen.files import check_path
from tfgreen.recipes.data.csv_table import Columns, read_csv
from tfgreen.recipes.data.draw import SplitOptions
from tfgreen.recipes.data.from_python import FUNCTION, as_split, call, splits_of
from tfgreen.recipes.data.image_folder import read_image_folder
from tfgreen.recipes.data.npz import read_npz
from tfgreen.recipes.data.parts import Parts, naming
from tfgreen.recipes.data.records import Files, read_tfrecord
from tfgreen.recipes.data.split import Split
from tfgreen.recipes.data.splits import NAMES, Splits
from tfgreen.typing import FilePath, PlainDict


class Data(Splits):
    """Train, validation and test of any task, kept apart: train is learned from, choices are made on validation, and
    test is measured once, at the end.

    A class method reads each form: :meth:`from_arrays`, :meth:`from_npz`, :meth:`from_image_folder`, :meth:`from_csv`,
    :meth:`from_tfrecord`, :meth:`from_function`; :meth:`load` picks one by the name of the file. Nothing is unpickled,
    and neither Keras nor TensorFlow is imported before samples of files are asked for.

    Each takes ``validation_share=0.1``, ``test_share=0.0`` and ``seed=0``: what was not given is drawn from the
    training samples, by class where each has one integer as its target or is one-hot. Classes of one sample stay in
    train. The ``source`` of a split says what was drawn.

    Args:
        train: The training split.
        validation: The validation split, None to draw it.
        test: The test split, None for none, or to draw it.
        source: Where the data is from.
        how: How to give a split that is missing, a sentence with ``{name}`` in place of its name.
        class_names: The names of the classes in the order of their numbers, where they have any.
        options: ``validation_share``, ``test_share``, ``seed``.

    Attributes:
        source: Where the data is from.
        class_names: The names of the classes in the order of their numbers, or ().

    Raises:
        TypeError: A split is something else, or an option does not exist.
        ValueError: The splits differ in their inputs or targets, or there are too few samples to draw from.

    Example:
        >>> import numpy as np, tfgreen as tg
        >>> x, y = np.zeros((50, 4), "float32"), np.arange(50) % 2
        >>> data = tg.Data.from_arrays(x, y, test=(x[:5], y[:5]))
        >>> data
        <Data arrays: train 45, validation 5, test 5>
        >>> data.validation.source
        'arrays: 10% of the training samples, drawn by class with seed 0'
    """

    @classmethod
    def from_arrays(
        cls,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        validation: Any = None,
        test: Any = None,
        source: str = "arrays",
        **options: Unpack[SplitOptions],
    ) -> Data:
        """Data in memory.

        Args:
            x: An array of shape ``(samples, ...)``, or for several inputs a dict or a list of them; or a
                ``tf.data.Dataset`` of batches.
            y: Targets in the same forms, None without.
            sample_weight: An array of shape ``(samples,)``, or None.
            validation, test: ``(x, y)``, ``(x, y, sample_weight)``, ``x`` alone where there are no targets, a
                ``tf.data.Dataset`` of batches, or a :class:`tg.Split`.
            source: Where the data is from, for reports.
            options: See :class:`tg.Data`.

        Example:
            >>> import numpy as np, tfgreen as tg
            >>> x = {"image": np.zeros((20, 8, 8, 1)), "size": np.zeros((20, 2))}
            >>> tg.Data.from_arrays(x, {"price": np.zeros(20)}, validation_share=0.25)
            <Data arrays: train 15, validation 5>
        """
        given = {"validation": validation, "test": test}
        splits = {name: as_split(name, split, source) for name, split in given.items() if split is not None}
        splits["train"] = Split(x, y, sample_weight, source=source)
        return cls._of(None, Parts(splits, source, "Pass {name}=(x, y)."), options)

    @classmethod
    def from_npz(cls, path: FilePath, **options: Unpack[SplitOptions]) -> Data:
        """Data of an ``.npz`` file, which is read into memory.

        Its arrays are ``x_train`` (or ``x``), ``y_train``, ``sample_weight_train``, and the same with ``validation``
        (or ``val``) and ``test``; several inputs or targets are ``x_train/image``, ``x_train/size``, ``y_train/price``,
        which become dicts. Arrays of other names are left alone.

        Args:
            path: The file.
            options: See :class:`tg.Data`.

        Raises:
            FileError: The file is missing, none, damaged, or holds Python objects, which are never loaded.
            ValueError: An array is missing, or does not fit; the text names file and array.

        Example:
            >>> import numpy as np, tfgreen as tg
            >>> np.savez("task.npz", x_train=np.zeros((20, 4)), y_train=np.arange(20) % 2, x_test=np.zeros((6, 4)),
            ...          y_test=np.arange(6) % 2)
            >>> tg.Data.from_npz("task.npz")
            <Data task.npz: train 18, validation 2, test 6>
        """
        return cls._of(path, read_npz(path), options)

    @classmethod
    def from_image_folder(
        cls,
        path: FilePath,
        *,
        image_size: tuple[int, int] | None = None,
        channels: int = 3,
        **options: Unpack[SplitOptions],
    ) -> Data:
        """Data of a folder of images (JPEG, PNG, BMP, GIF), which are decoded when they are needed.

        The folder holds the folders ``train``, ``validation`` (or ``val``) and ``test``, each with a folder of images
        for each class; or the folders of the classes themselves. Batches hold float32 images of 0 to 255, shape
        ``(batch, height, width, channels)``, and class numbers in the order of the names of the training classes.

        Args:
            path: The folder.
            image_size: Height and width to which images are resized; None leaves it to ``with_image_size``.
            channels: 3, or 1 for gray images.
            options: See :class:`tg.Data`.

        Raises:
            FileError: The folder is missing or holds no images, a file is no image, or a class is new in a split.

        Example:
            >>> import keras, numpy as np, tfgreen as tg
            >>> from pathlib import Path
            >>> for name in ("cat", "dog"):
            ...     Path("pets", name).mkdir(parents=True)
            ...     for number in range(5):
            ...         keras.utils.save_img(f"pets/{name}/{number}.png", np.full((8, 8, 3), number * 9.0), scale=False)
            >>> data = tg.Data.from_image_folder("pets", image_size=(16, 16), validation_share=0.2)
            >>> data, data.class_names, data.train.samples(4).shape
            (<Data pets: train 8, validation 2>, ('cat', 'dog'), (4, 16, 16, 3))
        """
        return cls._of(None, read_image_folder(path, image_size, channels), options)

    @classmethod
    def from_csv(
        cls,
        path: FilePath,
        targets: Columns | None = None,
        *,
        features: Columns | None = None,
        validation: FilePath | None = None,
        test: FilePath | None = None,
        delimiter: str = ",",
        **options: Unpack[SplitOptions],
    ) -> Data:
        """Data of CSV files in UTF-8 with names of columns in the first line and numbers below.

        Args:
            path: The file of the training split.
            targets: The column of the targets, an array of shape ``(rows,)``, int64 where all numbers are whole and
                otherwise float32; a list of columns, float32 of shape ``(rows, columns)``; a dict of these by output;
                () for none.
            features: The same for the inputs; None for a list of all other columns.
            validation, test: The files of the other splits, None for none.
            delimiter: What is between the cells.
            options: See :class:`tg.Data`.

        Raises:
            FileError: A file is missing, not CSV, or a line has more or fewer cells than the first.
            ValueError: There is no such column, or a cell holds no number; the text names file, line and column.

        Example:
            >>> import tfgreen as tg
            >>> from pathlib import Path
            >>> _ = Path("houses.csv").write_text("area,rooms,price\\n50,2,100\\n90,3,180\\n120,4,250\\n")
            >>> data = tg.Data.from_csv("houses.csv", "price", validation_share=0)
            >>> data.train.x.tolist(), data.train.y.tolist()
            ([[50.0, 2.0], [90.0, 3.0], [120.0, 4.0]], [100, 180, 250])
        """
        if targets is None:
            raise invalid_value("targets", expected="the name of a column, or several", received=None)
        others = {"validation": validation, "test": test}
        return cls._of(None, read_csv(path, targets, features, others, delimiter), options)

    @classmethod
    def from_tfrecord(
        cls,
        files: Files,
        schema: PlainDict | FilePath | None = None,
        *,
        validation: Files | None = None,
        test: Files | None = None,
        **options: Unpack[SplitOptions],
    ) -> Data:
        """Data of TFRecord files of ``tf.train.Example``; each record is checked at once, and parsed when needed.

        Args:
            files: Those of the training split: a path, a pattern with ``*``, or a list of paths.
            schema: ``{"inputs": {feature: how}, "targets": {feature: how}, "sample_weight": {feature: how}}``, the last
                two where there are any, or a JSON file of it; None for ``schema.json`` beside the files. ``how`` holds
                ``"dtype"``, ``"shape"`` (of one sample, ``[]`` if left out) and ``"encoding"``: ``"raw"`` for the bytes
                of an array, ``"jpeg"`` or ``"png"`` for an image, left out for plain numbers and for strings. One input
                is an array, several are a dict; so are targets.
            validation, test: Files of the other splits, None for none.
            options: See :class:`tg.Data`.

        Raises:
            FileError: A file is missing, damaged, compressed or something else.
            ValueError: The schema is wrong, or a record is not as it says; the text names file, record and feature.

        Example:
            >>> import tensorflow as tf, tfgreen as tg
            >>> with tf.io.TFRecordWriter("train.tfrecord") as writer:
            ...     for number in range(10):
            ...         x = tf.train.Feature(float_list=tf.train.FloatList(value=[number, 1]))
            ...         y = tf.train.Feature(int64_list=tf.train.Int64List(value=[number % 2]))
            ...         example = tf.train.Example(features=tf.train.Features(feature={"x": x, "y": y}))
            ...         writer.write(example.SerializeToString())
            >>> schema = {"inputs": {"x": {"dtype": "float32", "shape": [2]}}, "targets": {"y": {"dtype": "int64"}}}
            >>> data = tg.Data.from_tfrecord("train.tfrecord", schema, validation_share=0.2)
            >>> data, data.train.samples(3)[:, 1].tolist()
            (<Data train.tfrecord: train 8, validation 2>, [1.0, 1.0, 1.0])
        """
        parts = read_tfrecord({"train": files, "validation": validation, "test": test}, schema)
        return cls._of(None, parts, options)

    @classmethod
    def from_function(cls, function: str, **options: Unpack[SplitOptions]) -> Data:
        """Data that a function of the user's returns.

        Args:
            function: ``"module:function"``, which takes no arguments and returns ``(x, y)``, ``(x, y, sample_weight)``,
                a ``tf.data.Dataset`` of batches, a dict with ``"train"``, ``"validation"`` and ``"test"`` of these, or
                a ``tg.Data``. The module is looked for in the current folder too.
            options: See :class:`tg.Data`; of a ``tg.Data``, nothing is drawn any more.

        Raises:
            FileError: There is no such module or function, or it takes arguments.
            TypeError, ValueError: It returns something else.

        Example:
            >>> import tfgreen as tg
            >>> from pathlib import Path
            >>> _ = Path("my_task.py").write_text(
            ...     "import numpy as np\\ndef data():\\n    return np.zeros((20, 4)), np.arange(20) % 2"
            ... )
            >>> tg.Data.from_function("my_task:data")
            <Data my_task:data: train 18, validation 2>
        """
        returned = call(function)
        return returned if isinstance(returned, cls) else cls._of(None, splits_of(returned, function), options)

    @classmethod
    def load(cls, text: FilePath, **options: Any) -> Data:
        """Data by its name: ``.npz``, ``.csv``, ``.tsv`` or ``.tfrecord`` files, a folder of images, or
        ``module:function``.

        Files are checked before Keras and TensorFlow are imported.

        Args:
            text: The path, or the function.
            options: Those of the form, such as ``targets`` or ``image_size``, and of :class:`tg.Data`.

        Raises:
            FileError, TypeError, ValueError: See the form; or there is none of this name.

        Example:
            >>> import numpy as np, tfgreen as tg
            >>> np.savez("task.npz", x_train=np.zeros((20, 4)), y_train=np.arange(20) % 2)
            >>> tg.Data.load("task.npz", seed=1).validation
            <Split validation: 2 samples, task.npz: 10% of the training samples, drawn by class with seed 1>
        """
        check_path(text)
        path = Path(text)
        forms: dict[str, Callable[..., Data]] = {
            ".npz": cls.from_npz,
            ".csv": cls.from_csv,
            ".tsv": cls.from_csv,
            ".tfrecord": cls.from_tfrecord,
            ".tfrecords": cls.from_tfrecord,
        }
        read = forms.get(path.suffix.lower())
        if path.suffix.lower() == ".tsv":
            options = {"delimiter": "\t", **options}
        if path.is_dir():
            read = cls.from_image_folder
        elif read is None and not path.exists() and FUNCTION.fullmatch(str(text)):
            read = cls.from_function
        if read is None:
            expected = "expected .npz, .csv, .tsv or .tfrecord, a folder of images or module:function"
            raise FileError(f"{text}: {expected}, {'received another file' if path.exists() else 'there is no such'}.")
        names = [*list(inspect.signature(read).parameters)[1:-1], *SplitOptions.__annotations__]
        check_options(options, names, f"option of tg.Data.{read.__name__}")
        return read(text, **options)

    @classmethod
    def _of(cls, path: FilePath | None, parts: Parts, options: SplitOptions) -> Data:
        with naming(path) if path is not None else contextlib.nullcontext():
            splits = [parts.splits.get(name) for name in NAMES]
            return cls(*splits, source=parts.source, how=parts.how, class_names=parts.class_names, **options)
