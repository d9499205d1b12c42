"""TensorFlow Datasets. TensorFlow is imported only once there is something to read.

Where Keras works with another framework that is done in a process of its own: TensorFlow takes
seconds to import and hundreds of MiB, which training then does not hold.
"""

import contextlib
import difflib
import fnmatch
import os
import pathlib
import pickle
import re
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Iterable
from typing import Any

from kvae.data.arrays import CHOICES, SPLITS, Dataset, from_arrays, one_line

TFDS_HOST = "https://storage.googleapis.com"


# `import kvae` would import Keras and its backend too.
READ = """
import sys, types
package = sys.modules["kvae"] = types.ModuleType("kvae")
package.__path__ = [sys.argv[1]]
from kvae.data import tfds
tfds.answer(*sys.argv[2:])
"""


def read_tfds(name: str, data_dir: str | os.PathLike | None) -> Dataset:
    """A data set of TensorFlow Datasets, downloaded and prepared where that is not yet done."""
    data_dir = data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    home = pathlib.Path(data_dir).expanduser()
    return read_elsewhere(name, home) if elsewhere() else read_here(name, home)


def elsewhere() -> bool:
    """Whether TensorFlow is not what Keras works with, and nobody else has imported it."""
    keras = sys.modules.get("keras")
    others = keras is not None and keras.backend.backend() != "tensorflow"
    return others and sys.modules.get("tensorflow") is None and bool(sys.executable)


def read_elsewhere(name: str, home: pathlib.Path) -> Dataset:
    """`read_here` in a process of its own."""
    package = str(pathlib.Path(__file__).parents[1])
    environment = {
        **os.environ,
        "CUDA_VISIBLE_DEVICES": "-1",
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    # Only a download has something to say; otherwise there are TensorFlow's start-up notices.
    stderr = subprocess.DEVNULL if prepared(name, home) else None
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "answer"
        command = [sys.executable, "-c", READ, package, name, str(home), str(file)]
        ended = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, stderr=stderr)
        if not file.exists():
            raise OSError(
                f"{name!r} could not be read from {home}: the process that read it ended with "
                f"code {ended.returncode}."
            )
        with file.open("rb") as stream:
            found = pickle.load(stream)
    if isinstance(found, BaseException):
        raise found
    return found


def answer(name: str, home: str, path: str) -> None:
    """Writes to a file what `read_here` returns or raises."""
    try:
        found: Dataset | Exception = read_here(name, pathlib.Path(home))
    except (ValueError, OSError, ImportError) as error:
        found = error
    except KeyboardInterrupt:
        sys.exit(130)
    with open(f"{path}.part", "wb") as file:
        pickle.dump(found, file, protocol=pickle.HIGHEST_PROTOCOL)
    os.replace(f"{path}.part", path)


def read_here(name: str, home: pathlib.Path) -> Dataset:
    """A data set of TensorFlow Datasets in a folder.

    TensorFlow is not imported before it is known that there is something to read.
    """
    folder = prepared(name, home)
    try:
        import tensorflow_datasets as tfds

        if folder is None:
            check_downloadable(name, home, tfds.list_builders(with_community_datasets=False))
        import tensorflow as tf
    except ImportError as error:
        raise ImportError(
            f"{name!r} is read by TensorFlow Datasets, which cannot be imported "
            f"({one_line(error)}). Install it: pip install tensorflow tensorflow-datasets "
            f"importlib_resources. {CHOICES}"
        ) from None
    keras = sys.modules.get("keras")
    if keras is None or keras.backend.backend() != "tensorflow":
        with contextlib.suppress(RuntimeError):  # where TensorFlow has begun to use them
            tf.config.set_visible_devices([], "GPU")  # they are for JAX or torch
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
            f"TensorFlow Datasets could not prepare {name!r} in {home}. ({one_line(error)}) "
            f"{CHOICES}"
        ) from None
    info, features = builder.info, dict(builder.info.features.items())
    splits = [split for split in SPLITS if split in info.splits]
    if None in getattr(features.get("image"), "shape", [None]) or "train" not in splits:
        raise ValueError(
            f"{name!r} of TensorFlow Datasets must have a feature 'image' of one size and a split "
            f"'train'. Found: {one_line(features)} in {', '.join(info.splits) or 'no split'}"
        )
    classes = isinstance(features.get("label"), tfds.features.ClassLabel)
    wanted = tfds.decode.PartialDecoding({"image": True} | ({"label": True} if classes else {}))
    try:
        parts = tfds.as_numpy(builder.as_dataset(split=splits, batch_size=-1, decoders=wanted))
    except Exception as error:  # TensorFlow's errors are of many kinds
        raise ValueError(
            f"{name!r} of TensorFlow Datasets cannot be read from {builder.data_dir}. Remove that "
            f"folder, so that it is prepared anew. ({one_line(error)})"
        ) from None
    arrays: dict[str, Any] = {}
    for split, part in zip(splits, parts, strict=True):
        arrays[split], arrays[f"{split}_labels"] = part["image"], part.get("label")
    class_names = features["label"].names if classes else ()
    source = f"TensorFlow Datasets {info.full_name}"
    return from_arrays(**arrays, class_names=class_names, name=info.name, source=source)


def prepared(name: str, home: pathlib.Path) -> pathlib.Path | None:
    """The folder in which TensorFlow Datasets keeps the newest version that the name allows."""
    name, _, version = name.partition(":")
    folders = [
        info.parent
        for info in (home / name).glob("**/dataset_info.json")
        if re.fullmatch(r"\d+\.\d+\.\d+", info.parent.name)
        and fnmatch.fnmatch(info.parent.name, version or "*")
    ]
    configs = sorted({folder.parent.relative_to(home).as_posix() for folder in folders})
    if len(configs) > 1 and name not in configs:
        raise ValueError(f"{name!r} must be one of those prepared in {home}: {', '.join(configs)}")
    return max(folders, key=lambda folder: [*map(int, folder.name.split("."))], default=None)


def check_downloadable(name: str, home: pathlib.Path, known: Iterable[str]) -> None:
    """Says in seconds what TensorFlow Datasets would say after minutes, or not clearly."""
    stem = re.split("[/:]", name)[0]
    if stem not in known:
        if "/" in name:
            raise FileNotFoundError(f"There is no file or folder {name}. {CHOICES}")
        near = difflib.get_close_matches(stem.lower(), known)
        meant = f" Did you mean {' or '.join(near)}?" if near else ""
        raise ValueError(f"{name!r} is no file, folder or known data set.{meant} {CHOICES}")
    if not reachable():
        raise ConnectionError(
            f"{name!r} is not prepared in {home}, and there is no network to download it. Run it "
            "once where there is one; or set TFDS_DATA_DIR (--data-dir) to a folder where it is "
            "prepared; or pass the path of a folder with its IDX files, or of an .npz file; or "
            "pass 'digits'."
        )


def reachable(seconds: float = 4.0) -> bool:
    """Whether the host that serves the data answers within so many seconds, with any status."""
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

    # In a thread, because looking up a name can take longer than any timeout of a socket.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    return bool(answers)
