"""Data from folders of images: the splits that a folder holds."""

from __future__ import annotations

from pathlib import Path

from tfgreen.checks import check_option
from tfgreen.errors import FileError
from tfgreen.recipes.data.parts import SPLITS, Parts
from tfgreen.recipes.data.split import Split
from tfgreen.training.image_listing import check_image_size, class_folders, folders, list_images
from tfgreen.typing import FilePath


def read_image_folder(path: FilePath, image_size: tuple[int, int] | None, channels: int) -> Parts:
    """The splits of a folder, see :meth:`tg.Data.from_image_folder`."""
    check_option("channels", channels, (1, 3))
    if image_size is not None:
        check_image_size(image_size)
    folder = Path(path)
    if not folder.is_dir():
        what = "received a file" if folder.exists() else "but there is no such folder"
        raise FileError(f"{folder}: expected a folder of images, {what}.")
    given = {SPLITS[item.name]: item for item in folders(folder) if item.name in SPLITS}
    source, how = folder.name or str(folder), f"Add a folder {{name}} beside {folder / 'train'}."
    if "train" not in given:
        given, how = {"train": folder}, f"Put the classes into {folder / 'train'}, those of {{name}} beside it."
    classes = class_folders(given["train"])
    splits = {}
    for name, place in given.items():
        listing, left_out = list_images(place, classes, image_size, channels)
        others = f", {left_out} files that are no images left out" if left_out else ""
        splits[name] = Split(listing, name=name, source=f"{place.name if place != folder else source}{others}")
    return Parts(splits, source, how, classes)
