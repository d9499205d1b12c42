"""The ways to an export: Keras's own methods, the command, and the snippets of the guide."""

import pathlib
import re
import subprocess
import sys

import keras
import numpy as np
import pytest
from commands import assert_refused, call
from exporting import (
    CLOSE,
    converts,
    feeds,
    needs,
    outputs_of,
)
from marks import once

import kvae
from kvae.exports import FORMATS, WEIGHTS, export, worker
from kvae.model import GRAPHS, Graph

OWN = keras.backend.backend()
GUIDE = pathlib.Path(kvae.__file__).with_name("README.md")
HERE = [name for name, one in FORMATS.items() if one.backend == "tensorflow"]  # in this process


KERAS_CAN = {"tensorflow": "tf_saved_model", "jax": "tf_saved_model", "torch": "torch"}


@pytest.mark.slow
@pytest.mark.every_backend
@pytest.mark.filterwarnings("ignore")  # of the converters
@pytest.mark.parametrize("what", ["vae", "generator"])
def test_vae_and_generator_export_as_any_model_does(make_vae, in_folder, what):
    vae = make_vae()
    model = vae if what == "vae" else vae.generator()
    path = "a.pt2" if OWN == "torch" else "a"
    model.export(path, KERAS_CAN[OWN], False)
    given = feeds(vae, what, 1)
    if OWN == "torch":  # of one image, as Keras has it
        import torch

        tensors = {name: torch.as_tensor(value) for name, value in given.items()}
        program = torch.export.load(path).module()
        found = program(tensors if what == "vae" else tensors["noise"])
        found = found["reconstruction"] if what == "vae" else found
    else:
        import tensorflow as tf

        loaded = tf.saved_model.load(path)
        found = loaded.serve(given if what == "vae" else given["noise"])
        found = found["reconstruction"] if what == "vae" else found
    wanted = outputs_of(Graph(vae, what), given)[GRAPHS[what][1][0]]
    np.testing.assert_allclose(keras.ops.convert_to_numpy(found), wanted, **CLOSE)


@pytest.mark.parametrize("what", ["vae", "generator"])
def test_where_keras_cannot_export_the_error_names_what_can(fixed_vae, in_folder, what):
    model = fixed_vae if what == "vae" else fixed_vae.generator()
    if OWN == "torch":
        with pytest.raises(ImportError, match="litert-torch.* Or: .*kvae export"):
            model.export("a.tflite", format="litert")
    else:
        unable = {"tensorflow": "torch", "jax": "litert"}[OWN]
        with pytest.raises(ValueError, match=rf"to {unable} on {OWN} \(.*kvae\.export\(vae, path"):
            model.export("a.pt2", unable)
    with pytest.raises(ValueError, match="Unrecognized format=coreml"):
        model.export("a", format="coreml")


@once
def test_a_disk_that_is_full_is_not_taken_for_a_backend_that_cannot():
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        kvae.model.graph.export_or_say(full, "a")


# The command --------------------------------------------------------------------------------------


@once
def test_the_command_knows_what_kvae_has():
    from kvae_cli import export as command

    options = {option.name: option for option in command.params}
    assert tuple(options["name"].type.choices) == tuple(FORMATS)
    assert tuple(options["part"].type.choices) == tuple(GRAPHS)
    assert tuple(options["weights"].type.choices) == WEIGHTS
    module = sys.modules["kvae_cli.export"]
    assert module.FORMATS == {name: one.suffix for name, one in FORMATS.items()}


@once
def test_the_command_says_why_not_in_a_line(in_folder):
    assert_refused(["export", "mnist", "--format", "coreml"], 2, "coreml")
    assert_refused(["export", "nothing.keras", "--format", "saved-model"], 1, "nothing.keras")
    assert_refused(["export"], 1, "Run `kvae train` to train one.")
    assert_refused(["export", "mnist", "--out", "a.txt"], 1, ".onnx")
    assert_refused(
        ["export", "mnist", "--format", "saved-model", "--weights", "int8"], 1, "int8 weights"
    )


@once
def test_the_suffix_of_the_file_says_the_format():
    module = sys.modules["kvae_cli.export"]
    for name, one in FORMATS.items():
        assert module.format_of(f"a.b{one.suffix}") == (name if one.suffix else "onnx")
    assert module.format_of(None) == module.format_of("a.txt") == "onnx"
    for arguments in (["--format", "html"], ["--out", "page.html"]):
        assert_refused(["export", "mnist", *arguments], 2, "kvae explore MODEL --out explorer.html")


@once
@pytest.mark.slow
def test_the_command_exports_a_shipped_model(in_folder):
    needs("onnx")
    result = call("export", "mnist-conditional", "--part", "decoder", "--weights", "float16")
    first, last = result.stdout.splitlines()
    assert re.fullmatch(
        r"float16 weights: [\d,]+ bytes, with float32 [\d,]+; pixels in \[0, 1\] differ by "
        r"\d\.\de-\d\d at most; −ELBO by [+-]\d\.\d{3} nats per image",
        first,
    )
    assert last.startswith(
        "mnist-conditional-decoder.onnx: decoder, latents (batch, 40), classes (batch, int32) → "
        "images (batch, 28, 28, 1), "
    )
    assert "running it and comparing it" in result.stderr


# The guide ----------------------------------------------------------------------------------------

SNIPPETS = re.findall(r"```python\n(# .*?)```", GUIDE.read_text().partition("## Export")[2], re.S)


@converts
@pytest.mark.parametrize("name", FORMATS)
def test_the_snippets_of_the_guide_run_without_kvae_and_keras(in_folder, name):
    needs(name)
    (snippet,) = [one for one in SNIPPETS if re.match(f"# {name}\\b", one)]
    path = re.search(r'"(mnist[\w.-]*)"', snippet)[1]
    if name in HERE:
        worker.convert(str(kvae.shipped.path_of("mnist")), path, name, "generator")
    else:
        export("mnist", path, name)
    needed = ("saved-model", "keras")  # TensorFlow imports Keras
    blocked = ("kvae",) if name in needed else ("kvae", "keras")
    block = f"import sys; sys.modules.update(dict.fromkeys({blocked}))\n"
    shown = "\nprint(tuple(images.shape), float(images.min()) >= 0, float(images.max()) <= 1)"
    printed = subprocess.check_output([sys.executable, "-c", block + snippet + shown], text=True)
    assert printed.splitlines()[-1] == "(16, 28, 28, 1) True True"
