"""Data: a data set's name or path to images in three splits."""

import dataclasses
import os
import pathlib
import re

from kvae.data.arrays import CHOICES, Dataset, from_arrays, reduced, resized
from kvae.data.files import (
    IDX_NAME,
    PICTURES,
    read_digits,
    read_idx_folder,
    read_image_folder,
    read_pictures,
    visible,
)
from kvae.data.guarded import shown
from kvae.data.numpy_files import NUMPY, read_numpy_file
from kvae.data.sizes import fitted
from kvae.data.tfds import read_tfds

__all__ = ["Dataset", "fitted", "from_arrays", "load", "read_pictures", "reduced", "resized"]

TFDS_NAME = re.compile(r"[\w-]+(/[\w.-]+)?(:[\d.*]+)?")


def load(
    dataset: str | os.PathLike | None = None,
    data_dir: str | os.PathLike | None = None,
    download: bool = True,
) -> Dataset:
    """Reads a data set, by its name or from a file or folder.

    Args:
        dataset: One of these. A file or folder of that name goes before TensorFlow Datasets.
            `None`: MNIST if it is at hand or can be downloaded, else `"digits"`, with a notice.
            `"digits"`: scikit-learn's 1,797 images of 8×8, which need no network.
            An `.npz` file: `x_train`, `y_train`, `x_test`, `y_test`, `x_val`, `y_val` (all but the
            first can be missing), or a single array. An `.npy` file.
            A folder with MNIST's four IDX files, gzipped or not; all but `train-images` can be
            missing.
            A folder of PNG, JPEG or BMP images of one size, or with a sub-folder for each class;
            it can have them in `train`, `validation` and `test`. Transparency is dropped, and where
            some images are grey and some in colour, all become RGB.
            A TensorFlow Datasets name, as `"mnist"`, `"name/config"` or `"name:version"`.
        data_dir: Where TensorFlow Datasets keeps its data; `TFDS_DATA_DIR`, or
            `~/tensorflow_datasets`, where it is not given.
        download: Whether TensorFlow Datasets may download what is not prepared there.

    Returns:
        Images in three splits; see `from_arrays` for how missing splits are made.

    Raises:
        ValueError: If the name is not known, or the data are not what they should be, or would not
            fit the memory that is available.
        FileNotFoundError: If there is no such file or folder.
        ConnectionError: If the data must be downloaded, but there is no network.
        OSError: If the download fails.
        ImportError: If TensorFlow or TensorFlow Datasets is needed, but not installed.

    Example:
        >>> load("digits").image_shape
        (8, 8, 1)
    """
    if dataset is None:
        try:
            return load("mnist", data_dir, download)
        except (ImportError, OSError) as error:
            notice = f"{error} Until then, scikit-learn's digits of 8×8 pixels stand in for MNIST."
            return dataclasses.replace(load("digits"), notice=notice)
    name = os.fspath(dataset)
    if name != "digits" and path_of(name).exists():
        path = os.path.realpath(path_of(name))
        return dataclasses.replace(read(name, data_dir, download), origin=path)
    return dataclasses.replace(read(name, data_dir, download), origin=name)


def read(name: str, data_dir: str | os.PathLike | None, download: bool) -> Dataset:
    """Picks the reader for a name or path."""
    if name == "digits":
        return read_digits()
    path = path_of(name)
    if path.is_dir() and not (path / "history.csv").exists():  # else it is what training left
        if any(IDX_NAME.fullmatch(file.name) for file in visible(path)):
            return read_idx_folder(path)
        return read_image_folder(path)
    if path.exists() and not path.is_dir():
        return read_numpy_file(path)
    if TFDS_NAME.fullmatch(name) and path.suffix not in (*NUMPY, *PICTURES):
        return read_tfds(name, data_dir, download)
    raise FileNotFoundError(f"There is no file or folder {shown(path)}. {CHOICES}")


def path_of(name: str) -> pathlib.Path:
    """A path, `~` as the home folder; `~nobody`, of a user that there is not, stays as it is."""
    return pathlib.Path(os.path.expanduser(name))
