"""Data: reads data sets by name or path as images in three splits."""

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
    """Loads a data set by name, from a file or folder, or from a sequence of images.

    Args:
        dataset: One of the following. A file or folder of that name takes precedence over
            TensorFlow Datasets.
            `None`: MNIST if it is on disk or can be downloaded, else `"digits"`, with a notice.
            `"digits"`: scikit-learn's 1,797 images of 8×8, which need no network.
            `"shapes"`: 7,500 colour images of 64×64, which kvae draws in two seconds. Each shows
            one of six shapes, of any size, angle, place and hue; see `kvae.data.shapes`. A folder
            of that name is `"./shapes"`.
            A folder or an archive (`.zip`, `.tar`, also compressed) of images of any size and mode:
            PNG, JPEG, WebP, GIF, BMP, TIFF or AVIF. Each folder in it is a class, with all images
            below it. The images may also be in folders `train`, `validation` and `test`. Hidden
            files are skipped. Training images in a folder `unlabelled` (or unlabeled) have an
            unknown class.
            A table, `.csv` or `.jsonl`, with a column `file`, and optionally `label` and `split`;
            or a folder with such a table.
            An `.npz` file with `x_train`, `y_train`, `x_test`, `y_test`, `x_val`, `y_val` (all but
            the first are optional), or with a single array. An `.npy` file.
            A folder with MNIST's four IDX files, gzipped or not; all but `train-images` are
            optional.
            A TensorFlow Datasets name: `"mnist"`, `"name/config"` or `"name:version"`.
            A sequence of images, of (image, label), or of dicts with both, such as the data sets of
            Hugging Face and torchvision; or a mapping with one sequence for each split.
        data_dir: Folder of TensorFlow Datasets. Defaults to `TFDS_DATA_DIR`, or
            `~/tensorflow_datasets`.
        download: Whether TensorFlow Datasets may download data that are not prepared there.
        image_size: A side in pixels, or (height, width). None: the most common size of the images,
            or else a square of up to 64 pixels; arrays keep their size.
        fit: How images of another aspect ratio are fitted: "crop" (the default), "pad" or
            "stretch".
        channels: "grey", "rgb" or "rgba". None: grey if all images are grey, else RGB.
        background: Background of transparent images: "white", "black" or "#rrggbb". None: white, or
            black if the drawing is nearly white.
        flat: Whether to ignore folder names and tables, so that all images are one set without
            classes.
        skip_bad: Whether to skip files that cannot be read; the notice names them.
        cache_dir: Folder for decoded images, so that the next call is fast, and for arrays that do
            not fit in memory. None: only data that do not fit are kept, in `~/.cache/kvae`.
        progress: Called with the number of pictures that are done, and the number of all.

    Returns:
        A `Dataset` with images in three splits; see `from_arrays` for how missing splits are made.
        Its `notice` says what was chosen, and its `fitting` how pictures were fitted.

    Raises:
        ValueError: If the name is not known, the data are invalid, or they would not fit in the
            available memory.
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
    """Returns MNIST, or the digits with a notice if MNIST is not available."""
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
    """Returns a path, with `~` as the home folder; `~nobody` of an unknown user stays."""
    return pathlib.Path(os.path.expanduser(name))
