"""Reads TensorFlow Datasets, without importing TensorFlow if possible.

Importing TensorFlow takes seconds and 400 MiB, which training with another backend would then keep.
"""

import contextlib
import dataclasses
import difflib
import fnmatch
import functools
import json
import math
import os
import pathlib
import re
import struct
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from kvae.data.arrays import CHOICES, SPLITS, Dataset, from_arrays, with_factors
from kvae.data.fitting import Fitting
from kvae.data.guarded import fits_copied, opened, shown
from kvae.data.large import Stream, stored
from kvae.data.listing import Picture
from kvae.data.pictures import Progress, Reader, as_dataset
from kvae.data.sources import Spool
from kvae.data.store import Cache, default_cache, key_of
from kvae.printable import printable

CLASS_KEYS = {"type", "pythonClassName", "python_class_name"}  # of features.json
MOST_BYTES = 2**24  # of features.json
FACTOR = "label_"  # how the names of features begin that are factors
IN_ZERO_AND_ONE = ("dsprites",)  # whose images are black and white, of 0 and 1
TFDS_HOST = "https://storage.googleapis.com"


def read_tfds(
    name: str,
    data_dir: str | os.PathLike | None,
    download: bool = True,
    fitting: Fitting | None = None,
    progress: Progress | None = None,
    cache_dir: str | os.PathLike | None = None,
) -> Dataset:
    """Reads a data set of TensorFlow Datasets; downloads and prepares it if necessary.

    If images have no label, but several features `label_…`, as in dsprites and shapes3d, these
    features are their factors.

    TensorFlow is imported to prepare a data set, and to read one that is not stored plainly.
    """
    data_dir = data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    home = pathlib.Path(os.path.expanduser(data_dir))
    folder = prepared(name, home)
    if folder is None and not download:
        raise FileNotFoundError(
            f"{printable(name)!r} is not in {shown(home)}, and is not downloaded unasked."
        )
    if folder is not None:
        check_features(folder / "features.json")
    try:
        import tensorflow_datasets as tfds

        if folder is None:
            check_downloadable(name, home, tfds.list_builders(with_community_datasets=False))
            import_tensorflow()
    except ImportError as error:
        raise not_installed(name, error) from None
    try:
        if folder is None:
            home.mkdir(parents=True, exist_ok=True)
            builder = tfds.builder(name, data_dir=home)
            config = tfds.download.DownloadConfig(manual_dir=home / "downloads" / "manual")
            # It prints to stdout, and would leave what it did not download to the end.
            with (
                tempfile.TemporaryDirectory(dir=home) as new,
                contextlib.redirect_stdout(sys.stderr),
            ):
                builder.download_and_prepare(download_dir=new, download_config=config)
        else:
            builder = tfds.builder_from_directory(folder)
    except Exception as error:  # each data set has its own code, which can raise anything
        raise OSError(
            f"TensorFlow Datasets could not prepare {name!r} in {shown(home)}. "
            f"({printable(error)}) {CHOICES}"
        ) from None
    info, features = builder.info, dict(builder.info.features.items())
    splits = [split for split in SPLITS if split in info.splits]
    if not isinstance(features.get("image"), tfds.features.Image) or "train" not in splits:
        raise ValueError(
            f"{name!r} of TensorFlow Datasets must have a feature 'image' and a split 'train'. "
            f"Found: {printable(features)} in "
            f"{printable(', '.join(info.splits)) or 'no split'}"
        )
    classes = isinstance(features.get("label"), tfds.features.ClassLabel)
    factors = factors_of(features)
    wanted = {key: features[key] for key in ("image", *(["label"] if classes else []), *factors)}
    names = tuple(key.removeprefix(FACTOR) for key in factors)
    if None in features["image"].shape:
        return of_any_size(builder, splits, wanted, fitting or Fitting(), progress, cache_dir)
    class_names = tuple(features["label"].names) if classes else ()
    source = f"TensorFlow Datasets {info.full_name}"
    counts = {split: info.splits[split].num_examples for split in splits}
    each = math.prod(wanted["image"].shape) * np.dtype(wanted["image"].np_dtype).itemsize
    large = not fits_copied(sum(counts.values()) * each)
    try:
        if "tensorflow" not in sys.modules and all(
            plain(builder, split, features["image"]) for split in splits
        ):
            own = tfds.features.FeaturesDict(wanted)
            batches = [examples(builder, split, own) for split in splits]
        else:
            import_tensorflow()
            partly = tfds.decode.PartialDecoding(dict.fromkeys(wanted, True))
            once = tfds.ReadConfig(try_autocache=False)  # it would stay in memory
            batches = tfds.as_numpy(
                builder.as_dataset(split=splits, batch_size=1000, decoders=partly, read_config=once)
            )
        if info.name in IN_ZERO_AND_ONE:
            batches = [map(with_white, of) for of in batches]
        if large:
            key = key_of(str(builder.data_dir), counts, *factors)
            cache = Cache(cache_dir or default_cache(), info.name, key)
            by_split = dict(zip(splits, batches, strict=True))
            streams, labels, rows = streamed(by_split, wanted, counts, factors)
            return stored(
                streams, labels, cache, name=info.name, source=source, class_names=class_names,
                factors=rows, factor_names=names,
            )  # fmt: skip
        parts = [
            gathered(of, wanted, counts[split]) for split, of in zip(splits, batches, strict=True)
        ]
    except ImportError as error:
        raise not_installed(name, error) from None
    except Exception as error:  # TensorFlow's errors are of many kinds
        raise ValueError(
            f"{name!r} of TensorFlow Datasets cannot be read from {shown(builder.data_dir)}. "
            f"Remove that folder, so that it is prepared anew. ({printable(error)})"
        ) from None
    arrays: dict[str, Any] = {}
    for split, part in zip(splits, parts, strict=True):
        arrays[split], arrays[f"{split}_labels"] = part["image"], part.get("label")
    found = from_arrays(**arrays, class_names=class_names, name=info.name, source=source)
    if not factors:
        return found
    parted = zip(splits, parts, strict=True)
    own = {split: np.stack([part[key] for key in factors], axis=1) for split, part in parted}
    return with_factors(found, own, names)


def factors_of(features: Mapping[str, Any]) -> list[str]:
    """The features that are factors: two or more integers `label_…`, and no label.

    They are sorted by name, because files list them in any order.
    """
    found = [
        key
        for key, feature in features.items()
        if key.startswith(FACTOR)
        and feature.shape == ()
        and np.issubdtype(feature.np_dtype, np.integer)
    ]
    return sorted(found) if len(found) > 1 and "label" not in features else []


def with_white(batch: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a batch in which white is 255, not 1."""
    images = np.asarray(batch["image"])
    return {**batch, "image": images * np.uint8(255) if images.max(initial=0) == 1 else images}


def of_any_size(
    builder: Any,
    splits: list[str],
    wanted: dict,
    fitting: Fitting,
    progress: Progress | None,
    cache_dir: str | os.PathLike | None,
) -> Dataset:
    """Reads a data set with images of many sizes, whose files are decoded like pictures."""
    import_tensorflow()
    import tensorflow_datasets as tfds

    info = builder.info
    source = f"TensorFlow Datasets {info.full_name}"
    names = wanted["label"].names if "label" in wanted else ()
    partly = tfds.decode.PartialDecoding(
        dict.fromkeys(wanted, True), decoders={"image": tfds.decode.SkipDecoding()}
    )
    with contextlib.closing(Spool(source)) as spool:
        pictures = []
        for split in splits:
            read = builder.as_dataset(
                split=split, decoders=partly, read_config=tfds.ReadConfig(try_autocache=False)
            )
            for i, example in enumerate(tfds.as_numpy(read)):
                spool.add(f"{split}/{i}", example["image"])
                label = names[example["label"]] if names else None
                pictures.append(Picture(f"{split}/{i}", split, label))
        key = key_of(str(builder.data_dir), dataclasses.astuple(fitting))
        reader = Reader(spool, pictures, fitting, False, progress)
        cache = Cache(cache_dir or default_cache(), info.name, key)
        arrays, facts = reader.read(cache, keep=False)
    return as_dataset(arrays, facts, info.name, source, [], names)


def import_tensorflow() -> None:
    """Imports TensorFlow, and leaves GPUs to Keras's backend if that is another."""
    for finder in sys.meta_path[:]:  # the command keeps it out, from Keras above all
        if getattr(finder, "kept_out", None) == "tensorflow":
            sys.meta_path.remove(finder)
    import tensorflow as tf

    keras = sys.modules.get("keras")
    if keras is None or keras.backend.backend() != "tensorflow":
        with contextlib.suppress(RuntimeError):  # where TensorFlow has begun to use them
            tf.config.set_visible_devices([], "GPU")


def not_installed(name: str, error: ImportError) -> ImportError:
    """The error about a missing package."""
    return ImportError(
        f"{name!r} is read by TensorFlow Datasets, which cannot be imported ({printable(error)}). "
        f"Install it: pip install tensorflow tensorflow-datasets importlib_resources. {CHOICES}"
    )


def plain(builder: Any, split: str, image: Any) -> bool:
    """Whether a split can be read without TensorFlow, to the same pixels in the same order."""
    files = builder.info.splits[split].filepaths
    stored = builder.info.file_format.value
    return stored == "tfrecord" and len(files) == 1 and image.encoding_format in (None, "png")


def examples(builder: Any, split: str, features: Any) -> Iterator[dict[str, Any]]:
    """Reads the images and labels of a split of one TFRecord file, in batches of one."""
    with open(builder.info.splits[split].filepaths[0], "rb") as file:
        while head := file.read(12):  # the length of a record, and its checksum
            (length,) = struct.unpack("<Q4x", head)
            example = features.deserialize_example_np(file.read(length))
            yield {key: [value] for key, value in example.items()}
            file.read(4)  # the checksum of the record


def gathered(batches: Iterable, features: dict, count: int) -> dict[str, np.ndarray]:
    """Collects this many images and labels as arrays."""
    arrays = {
        key: np.empty((count, *feature.shape), feature.np_dtype)
        for key, feature in features.items()
    }
    found = 0
    for batch in batches:
        rows = slice(found, found + len(batch["image"]))
        for key, array in arrays.items():
            array[rows] = batch[key]
        found = rows.stop
    if found != count:
        raise OSError(f"{found} of {count} images are there")
    return arrays


def streamed(
    batches: Mapping[str, Iterable],
    features: dict,
    counts: Mapping[str, int],
    factors: Sequence[str] = (),
) -> tuple[dict[str, Stream], dict[str, list[int]], dict[str, list[list[int]]]]:
    """Returns images as streams, and lists of labels and factors that are filled meanwhile."""
    labels: dict[str, list[int]] = {split: [] for split in batches if "label" in features}
    rows: dict[str, list[list[int]]] = {split: [] for split in batches if factors}

    def blocks(split: str) -> Iterator[np.ndarray]:
        for batch in batches[split]:
            if split in labels:
                labels[split].extend(map(int, batch["label"]))
            if factors:
                columns = [np.asarray(batch[key]) for key in factors]
                rows[split].extend(np.stack(columns, axis=1).tolist())
            yield np.asarray(batch["image"])

    image = features["image"]
    streams = {
        split: Stream(
            (count, *image.shape), np.dtype(image.np_dtype), functools.partial(blocks, split)
        )
        for split, count in counts.items()
    }
    return streams, labels, rows


def prepared(name: str, home: pathlib.Path) -> pathlib.Path | None:
    """The folder of the newest version of a data set that the name allows."""
    name, _, version = name.partition(":")
    folders = [
        info.parent
        for info in (home / name).glob("**/dataset_info.json")
        if re.fullmatch(r"\d+\.\d+\.\d+", info.parent.name)
        and fnmatch.fnmatch(info.parent.name, version or "*")
    ]
    configs = sorted({folder.parent.relative_to(home).as_posix() for folder in folders})
    if len(configs) > 1 and name not in configs:
        raise ValueError(
            f"{name!r} must be one of those prepared in {shown(home)}: "
            f"{printable(', '.join(configs))}"
        )
    return max(folders, key=lambda folder: [*map(int, folder.name.split("."))], default=None)


def check_features(path: pathlib.Path) -> None:
    """Refuses features of other packages, whose code would be imported and run."""
    names: set[str] = set()

    def look(pairs: list[tuple[str, Any]]) -> None:
        names.update(value for key, value in pairs if key in CLASS_KEYS and isinstance(value, str))

    if not path.exists():
        return
    with opened(path, MOST_BYTES) as file:
        try:
            json.load(file, object_pairs_hook=look)
        except (ValueError, RecursionError) as error:
            raise ValueError(
                f"{shown(path)} is damaged. Remove its folder, so that it is prepared anew. "
                f"({printable(error)})"
            ) from None
    others = sorted(name for name in names if not name.startswith("tensorflow_datasets."))
    if others:
        raise ValueError(
            f"{shown(path)} must name features of TensorFlow Datasets itself. Write the images to "
            f"an .npz file instead. Found: {printable(', '.join(others))}"
        )


def check_downloadable(name: str, home: pathlib.Path, known: Iterable[str]) -> None:
    """Raises in seconds the errors that TensorFlow Datasets raises late or unclearly."""
    stem = re.split("[/:]", name)[0]
    if stem not in known:
        if "/" in name:
            raise FileNotFoundError(f"There is no file or folder {shown(name)}. {CHOICES}")
        near = difflib.get_close_matches(stem.lower(), known)
        meant = f" Did you mean {' or '.join(near)}?" if near else ""
        raise ValueError(f"{name!r} is no file, folder or known data set.{meant} {CHOICES}")
    if not reachable():
        raise ConnectionError(
            f"{name!r} is not prepared in {shown(home)}, and there is no network to download it. "
            "Run it once where there is one; or set TFDS_DATA_DIR (--data-dir) to a folder where "
            "it is prepared; or pass the path of a folder with its IDX files, or of an .npz file; "
            "or pass 'digits'."
        )


def reachable(seconds: float = 4.0) -> bool:
    """Whether the host of the data answers within this many seconds, with any status."""
    answers: list[bool] = []

    def ask() -> None:
        try:
            request = urllib.request.Request(TFDS_HOST, method="HEAD")
            urllib.request.urlopen(request, timeout=seconds).close()
        except urllib.error.HTTPError as error:
            error.close()
        except Exception:
            return
        answers.append(True)

    # In a thread, because looking up a name can take longer than the timeout of a socket.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    return bool(answers)
