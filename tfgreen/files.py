"""Write files so that an interrupted run leaves either the whole file or none."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from tfgreen.errors import FileError


def write_atomic(path: str | os.PathLike[str], data: bytes | str) -> Path:
    """Write ``data`` beside ``path`` and rename it into place.

    Args:
        path: Target file; its folder must exist. An existing file is replaced only once the new one is complete.
        data: Bytes, or text to be encoded as UTF-8.

    Returns:
        The path written.

    Raises:
        OSError: The folder is missing or cannot be written, or the disk is full; nothing is left behind.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_atomic(pathlib.Path(folder) / "a.txt", "whole").read_text()
        'whole'
    """
    target = Path(path)
    payload = data.encode("utf-8") if isinstance(data, str) else data
    temporary: str | None = None
    try:
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(payload)
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, target)
    except OSError as error:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)
        raise FileError(f"{target}: cannot be written: {error.strerror or error}.") from error
    return target
