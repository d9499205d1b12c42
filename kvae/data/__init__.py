"""Data: a data set's name or path to images in three splits, of any size and kind."""

import dataclasses
import os
import pathlib
import re
from typing import Any

from kvae.data.arrays import CHOICES, Dataset, from_arrays, reduced, resized
from kvae.data.decoding import PICTURES
from kvae.data.fitting import Fitting
from kvae.data.guarded import shown
from kvae.data.idx import is_idx_folder, read_digits, read_idx_folder
from kvae.data.known_factors import known_factors
from kvae.data.numpy_files import NUMPY, read_numpy_file
from kvae.data.objects import is_a_data_set, read_objects
from kvae.data.pictures import Progress, look, read_pictures, read_pictures_of
from kvae.data.shapes import read_shapes
from kvae.data.sizes import fitted, refitted
from kvae.data.sources import ARCHIVES, TABLES
from kvae.data.tfds import read_tfds

__all__ = [
    "PICTURES",
    "Dataset",
    "Fitting",
    "fitted",
    "from_arrays",
    "known_factors",
    "load",
    "look",
    "read_pictures",
    "reduced",
    "refitted",
    "resized",
]

TFDS_NAME = re.compile(r"[\w-]+(/[\w.-]+)?(:[\d.*]+)?")
BUNDLED = {"digits": read_digits, "shapes": read_shapes}


def load(
    dataset: Any = None,
    data_dir: str | os.PathLike | None = None,
    download: bool = True,
    *,
    image_size: int | tuple[int, int] | None = None,
    fit: str | None = None,
    channels: str | None = None,
    background: str | None = None,
    flat: bool = False,
    skip_bad: bool = False,
    cache_dir: str | os.PathLike | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """Reads a data set: by its name, from a file or folder, or from a sequence of images.

    Args:
        dataset: One of these. A file or folder of that name goes before TensorFlow Datasets.
            `None`: MNIST if it is at hand or can be downloaded, else `"digits"`, with a notice.
            `"digits"`: scikit-learn's 1,797 images of 8×8, which need no network.
            `"shapes"`: 7,500 images of 64×64 in colour, drawn by kvae in two seconds: one of six
            shapes each, of any size, angle, place and hue; see `kvae.data.shapes` for these. A
            folder of that name is `"./shapes"`.
            A folder or an archive (`.zip`, `.tar`, packed or not) of images: PNG, JPEG, WebP, GIF,
            BMP, TIFF, AVIF, of any size and mode. A folder in it is a class, with all that is in
            it; or they are in `train`, `validation` and `test`. What is hidden is passed over. Of
            training images in a folder `unlabelled` (or unlabeled) the class is not known.
            A table, `.csv` or `.jsonl`, with columns `file`, and if you like `label` and `split`;
            or a folder with one.
            An `.npz` file: `x_train`, `y_train`, `x_test`, `y_test`, `x_val`, `y_val` (all but the
            first can be missing), or a single array. An `.npy` file.
            A folder with MNIST's four IDX files, gzipped or not; all but `train-images` can be
            missing.
            A TensorFlow Datasets name, as `"mnist"`, `"name/config"` or `"name:version"`.
            A sequence of images, of (image, label), or of dicts with both, as the data sets of
            Hugging Face and torchvision are; or a mapping with one for each split.
        data_dir: Where TensorFlow Datasets keeps its data; `TFDS_DATA_DIR`, or
            `~/tensorflow_datasets`, where it is not given.
        download: Whether TensorFlow Datasets may download what is not prepared there.
        image_size: A side in pixels, or (height, width). None: the size that most images have, or
            else a square of up to 64 pixels; arrays keep theirs.
        fit: What is done where the shape differs: "crop" (where it is not given), "pad" or
            "stretch".
        channels: "grey", "rgb" or "rgba". None: grey where all images are, else RGB.
        background: What transparency is laid over: "white", "black" or "#rrggbb". None: white, or
            black where what is drawn is nearly white.
        flat: Whether folders and tables have no say, so that all images are one set without
            classes.
        skip_bad: Whether files that cannot be read are left out, and named in the notice.
        cache_dir: Where decoded images are kept, to be read again at once, and arrays that do not
            fit in memory. None: only what does not fit is kept, in `~/.cache/kvae`.
        progress: Called with how many pictures are done and how many there are.

    Returns:
        Images in three splits; see `from_arrays` for how missing splits are made. Its `notice` says
        what was chosen, its `fitting` how it was done.

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
        >>> load("digits", image_size=16, channels="rgb").image_shape
        (16, 16, 3)
    """
    fitting = Fitting(
        image_size=image_size, fit=fit or "crop", channels=channels, background=background
    )
    reading: dict[str, Any] = {
        "flat": flat, "skip_bad": skip_bad, "cache_dir": cache_dir, "progress": progress
    }  # fmt: skip
    if dataset is None:
        dataset, notice = mnist_or_digits(data_dir, download)
        return refitted(dataclasses.replace(dataset, notice=notice), fitting)
    if is_a_data_set(dataset):
        return refitted(read_objects(dataset, fitting, progress), fitting)
    if not isinstance(dataset, (str, os.PathLike)):
        raise ValueError(
            "A data set must be a name, a path, or a sequence of images with a length; of what "
            f"can only be iterated over, list(…) makes one. Received: {type(dataset).__name__}"
        )
    name = os.fspath(dataset)
    origin = name
    if name not in BUNDLED and path_of(name).exists():
        origin = os.path.realpath(path_of(name))
    found = read(name, data_dir, download, fitting, reading)
    return dataclasses.replace(refitted(found, fitting), origin=origin)


def mnist_or_digits(data_dir: str | os.PathLike | None, download: bool) -> tuple[Dataset, str]:
    """MNIST, or if it is not to be had digits, with a notice."""
    try:
        return load("mnist", data_dir, download), ""
    except (ImportError, OSError) as error:
        notice = f"{error} Until then, scikit-learn's digits of 8×8 pixels stand in for MNIST."
        return load("digits"), notice


def read(
    name: str,
    data_dir: str | os.PathLike | None,
    download: bool,
    fitting: Fitting,
    reading: dict[str, Any],
) -> Dataset:
    """Picks the reader for a name or path."""
    if name in BUNDLED:
        return BUNDLED[name]()
    path = path_of(name)
    if path.is_dir() and not (path / "history.csv").exists():  # else it is what training left
        if is_idx_folder(path):
            return read_idx_folder(path)
        return read_pictures_of(path, fitting, **reading)
    if path.exists() and not path.is_dir():
        if path.name.lower().endswith((*ARCHIVES, *TABLES)):
            return read_pictures_of(path, fitting, **reading)
        return read_numpy_file(path, reading["cache_dir"])
    if TFDS_NAME.fullmatch(name) and path.suffix not in (*NUMPY, *PICTURES, *ARCHIVES, *TABLES):
        return read_tfds(
            name, data_dir, download, fitting, reading["progress"], reading["cache_dir"]
        )
    raise FileNotFoundError(f"There is no file or folder {shown(path)}. {CHOICES}")


def path_of(name: str) -> pathlib.Path:
    """A path, `~` as the home folder; `~nobody`, of a user that there is not, stays as it is."""
    return pathlib.Path(os.path.expanduser(name))
