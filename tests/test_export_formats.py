"""Each format is run by its own runtime in these tests too, beside what the model gives."""

import json
import pathlib
import zipfile

import keras
import numpy as np
import pytest
from exporting import (
    KINDS,
    converts,
    feeds,
    needs,
    outputs_of,
    path_of,
    small,
)
from flows import flow
from marks import once

import kvae
from kvae.exports import FORMATS, export, worker
from kvae.exports.check import LARGEST
from kvae.exports.placing import check_place
from kvae.model import GRAPHS, Graph

OWN = keras.backend.backend()


CELLS = [
    *(("onnx", kind) for kind in ("partly labelled", "conv", "flow", "ladder", "mixture", "sharp")),
    *(("litert", kind) for kind in ("numbers", "conv", "ladder of classes", "sharp")),
    ("openvino", "binarised"),
    *(("saved-model", kind) for kind in ("numbers", "gaussian")),
]


@converts
@pytest.mark.parametrize("name, kind", CELLS)
def test_every_kind_of_model_is_exported(in_folder, name, kind):
    """All presets in all formats: tests/benchmarks/exports.py."""
    needs(name)
    vae = KINDS[kind]()
    if kind == "partly labelled":
        vae = vae.uncompiled(prior=flow())
    vae.save("vae.keras")
    (in_folder / "made").mkdir()
    result = worker.convert("vae.keras", f"made/{path_of(name)}", name, "vae")
    assert max(result["difference"].values()) <= 1e-4


def ports_of(name, path):
    """Names of inputs and outputs, each with whether a batch has any size; and the metadata."""
    if name == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(path)
        ports = [
            [(one.name, one.shape[0] == "batch") for one in some]
            for some in (session.get_inputs(), session.get_outputs())
        ]
        return *ports, session.get_modelmeta().custom_metadata_map["kvae"]
    if name == "saved-model":  # which has no order: they are called by name
        import tensorflow as tf

        serve = tf.saved_model.load(path).signatures["serving_default"]
        ports = [
            [(one, some[one].shape[0] is None) for one in sorted(some)]
            for some in (serve.structured_input_signature[1], serve.structured_outputs)
        ]
        return *ports, pathlib.Path(path, "assets.extra", "kvae.json").read_text()
    if name == "litert":
        from ai_edge_litert.interpreter import Interpreter
        from tensorflow.lite.tools import flatbuffer_utils

        reader = Interpreter(path)
        ports = [
            [(one["name"], one["shape_signature"][0] == -1) for one in some]
            for some in (reader.get_input_details(), reader.get_output_details())
        ]
        model = flatbuffer_utils.read_model(path)
        (entry,) = [one for one in model.metadata if one.name == b"kvae"]
        return *ports, bytes(model.buffers[entry.buffer].data).decode()
    if name == "openvino":
        import openvino

        model = openvino.Core().read_model(path)
        ports = [
            [(one.any_name, one.partial_shape[0].is_dynamic) for one in some]
            for some in (model.inputs, model.outputs)
        ]
        return *ports, model.get_rt_info("kvae").value
    if name == "keras":
        model = keras.saving.load_model(path)
        ports = [
            [(one, tensor.shape[0] is None) for one, tensor in some.items()]
            for some in (model.input, model.output)
        ]
        with zipfile.ZipFile(path) as archive:
            return *ports, json.dumps(json.loads(archive.read("metadata.json"))["kvae"])
    import torch

    files = {"kvae.json": ""}
    program = torch.export.load(path, extra_files=files)
    nodes = {node.name: node for node in program.graph.nodes}
    signature = program.graph_signature
    ports = [
        [
            (one, not isinstance(nodes[node].meta["val"].shape[0], int))
            for one, node in zip(names, some, strict=True)
        ]
        for names, some in (
            (program.call_spec.in_spec.child(1).context, signature.user_inputs),
            (program.call_spec.out_spec.context, signature.user_outputs),
        )
    ]
    return *ports, files["kvae.json"]


def process_marks(name):
    """One format is quick, and needs no other package where that is TensorFlow's own."""
    if name != "saved-model":
        return (pytest.mark.slow, once)
    return () if OWN == "tensorflow" else (pytest.mark.slow, pytest.mark.every_backend)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=process_marks(name)) for name in FORMATS]
)
def test_a_model_of_any_backend_is_exported_and_gives_what_it_gave(in_folder, name):
    needs(name)
    path = path_of(name, "a model [1]" if name != "saved-model" else "a model (1)")
    for module in ("json", "keras", "onnx", "numpy"):
        (in_folder / f"{module}.py").write_text("raise SystemExit('code of the folder at hand')")
    vae = small(classes=3, prior=flow(), card={"dataset": "bars"})
    exported = export(vae, path, name, "vae")
    assert max(exported.difference.values()) <= LARGEST["float32"]
    inputs, outputs = ["images", "noise", "classes"], list(GRAPHS["vae"][1])
    assert list(exported.inputs) == inputs and list(exported.outputs) == outputs
    assert exported.inputs["classes"] == [None, "int32"] and exported.nats is None
    check_place(FORMATS[name], path)  # it may be replaced
    files = [path, *map(path.with_suffix, FORMATS[name].beside)]
    left = {one.name for one in in_folder.iterdir() if one.suffix != ".py"}
    assert left == {one.name for one in files}
    files = [one for file in files for one in ([file] if file.is_file() else file.rglob("*"))]
    assert exported.bytes == sum(one.stat().st_size for one in files if one.is_file())
    if name == "saved-model" and OWN != "tensorflow":
        return  # two frameworks in one process: each has its threads

    found = ports_of(name, str(path))
    for ports, names in zip(found[:2], (inputs, outputs), strict=True):
        names = sorted(names) if name == "saved-model" else names
        assert ports == [(one, True) for one in names]
    said = json.loads(found[2])
    assert said["card"]["dataset"] == "bars" and said["part"] == "vae"
    assert said["inputs"] == {
        "images": [None, 8, 8, 1],
        "noise": [None, 3],
        "classes": [None, "int32"],
    }
    given = feeds(vae, "vae", 7)
    found = FORMATS[name].load().run(path, given)
    for output, values in outputs_of(Graph(vae, "vae"), given).items():
        np.testing.assert_allclose(found[output], values, rtol=1e-3, atol=1e-3)


SMALLER = [(name, weights) for name, one in FORMATS.items() for weights in one.weights[1:]]


@converts
@pytest.mark.parametrize("name, weights", SMALLER)
def test_smaller_weights_are_smaller_and_their_cost_is_said(in_folder, name, weights):
    needs(name)
    preset = "conv" if name == "onnx" else "mlp-400"  # of convolutions we choose the axis
    small(preset, (28, 28, 1), 16).save("vae.keras")
    (in_folder / "made").mkdir()
    result = worker.convert("vae.keras", f"made/{path_of(name)}", name, "decoder", weights)
    assert result["bytes"] < (0.65 if weights == "float16" else 0.45) * result["bytes_of_float32"]
    assert 1e-5 < result["difference"]["images"] < (0.01 if weights == "float16" else 0.2)
    if (name, weights) == ("litert", "int8"):
        assert result["nats"] is None
    else:
        assert 0 < abs(result["nats"]) < (1 if weights == "float16" else 20)


@converts
def test_weights_that_float16_cannot_hold_are_refused(in_folder):
    needs("onnx")
    vae = small()
    kernel = vae.decoder.weights[-2]
    values = keras.ops.convert_to_numpy(kernel).copy()
    values[0, 0] = 1e5
    kernel.assign(values)
    vae.save("vae.keras")
    (in_folder / "made").mkdir()
    with pytest.raises(ValueError, match="its images with float16 weights are not finite"):
        worker.convert("vae.keras", "made/a.onnx", "onnx", "decoder", "float16")


@converts
def test_a_model_of_mixed_precision_is_exported_in_float32(in_folder):
    needs("onnx")
    with kvae.training.settings.precision("mixed_float16"):
        small("conv").save("vae.keras")
    (in_folder / "made").mkdir()
    result = worker.convert("vae.keras", "made/a.onnx", "onnx", "vae")
    assert max(result["difference"].values()) <= 1e-4
