"""Where Keras works with JAX or PyTorch, TensorFlow stays out of the process."""

import keras
import numpy as np
import pytest
from fresh_process import run

import kvae

BACKEND = keras.backend.backend()
pytestmark = [
    pytest.mark.every_backend,
    pytest.mark.skipif(BACKEND == "tensorflow", reason="TensorFlow is the backend"),
]


@pytest.mark.slow
def test_mnist_is_read_without_it_to_the_same_arrays(mnist_dir, tmp_path):
    pytest.importorskip("tensorflow")
    code = """
import sys
import numpy as np
import kvae
dataset = kvae.data.load("mnist", sys.argv[1])
np.savez(sys.argv[2], test=dataset.test, labels=dataset.test_labels, train=dataset.train)
print("tensorflow" in sys.modules, dataset.source)
"""
    printed = run(code, BACKEND, mnist_dir, tmp_path / "plain.npz")
    own = kvae.data.load("mnist", mnist_dir)  # TensorFlow is imported here: it reads
    assert printed.strip() == f"False {own.source}"
    with np.load(tmp_path / "plain.npz") as arrays:
        np.testing.assert_array_equal(arrays["train"], own.train)
        np.testing.assert_array_equal(arrays["test"], own.test)
        np.testing.assert_array_equal(arrays["labels"], own.test_labels)


@pytest.mark.slow
def test_a_file_that_ends_too_soon_is_said_to_be_damaged(mnist_dir, tmp_path):
    folders = tmp_path / "after it", tmp_path / "within it"
    for folder, less in zip(folders, (0, 9), strict=True):
        for path in mnist_dir.glob("mnist/**/*.*"):
            if path.is_file():
                copy = folder / path.relative_to(mnist_dir)
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_bytes(path.read_bytes())
        (test,) = folder.glob("mnist/**/*test.tfrecord*")
        whole = test.read_bytes()
        first = int.from_bytes(whole[:8], "little") + 16
        test.write_bytes(whole[: first - less])
    code = """
import sys
import kvae
for folder in sys.argv[1:]:
    try:
        kvae.data.load("mnist", folder)
    except ValueError as error:
        print(error)
"""
    after, within = run(code, BACKEND, *folders).splitlines()
    assert "1 of 10000 images are there" in after
    for line in (after, within):
        assert "cannot be read" in line and "Remove that folder" in line


@pytest.mark.slow
def test_the_command_does_without_it_until_it_has_ended(images, tmp_path):
    pytest.importorskip("tensorflow")
    np.savez(tmp_path / "bars.npz", images)
    code = """
import importlib.metadata, sys
sys.argv[1:] = ["train", "--dataset", "bars.npz", "--epochs", "1", "--quiet"]
kvae = importlib.metadata.entry_points(group="console_scripts")["kvae"].load()
try:
    kvae()
finally:
    print("tensorflow" in sys.modules)
    import tensorflow
"""
    assert run(code, BACKEND, cwd=tmp_path).splitlines()[-1] == "False"
    assert (tmp_path / "saved_models" / "vae.keras").is_file()


@pytest.mark.slow
def test_who_keeps_it_out_lets_it_in_where_it_is_needed():
    pytest.importorskip("tensorflow")
    code = """
import sys
import warnings
from kvae.data import tfds
from kvae_cli.command import KeptOut
sys.meta_path.insert(0, KeptOut("tensorflow"))
with warnings.catch_warnings():
    warnings.simplefilter("error")
    try:
        import tensorflow
    except ModuleNotFoundError as error:
        print(error.name)
tfds.import_tensorflow()
print("tensorflow" in sys.modules)
"""
    assert run(code, BACKEND).split() == ["tensorflow", "True"]
