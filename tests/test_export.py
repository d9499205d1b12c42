"""Each format is run by its own runtime in these tests too, beside what the model gives."""

import importlib.util
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
import zipfile

import keras
import numpy as np
import pytest
from commands import assert_refused, call
from flows import flow
from marks import once

import kvae
from kvae.exports import FORMATS, WEIGHTS, export, worker
from kvae.exports.check import LARGEST, check_close, differences
from kvae.exports.placing import check_place
from kvae.exports.rounding import as_int8, cost_in_nats, rounded
from kvae.model import GRAPHS, Graph

OWN = keras.backend.backend()
EXPORT = sys.modules["kvae.exports.export"]  # of which the package shows the function
GUIDE = pathlib.Path(kvae.__file__).with_name("README.md")
CLOSE = {"rtol": 1e-4, "atol": 1e-4}
HERE = [name for name, one in FORMATS.items() if one.backend == "tensorflow"]  # in this process


@pytest.fixture
def in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def needs(name):
    """Skips where a runtime is missing, and fails where .ci/run has installed all."""
    missing = [one for one in FORMATS[name].modules if importlib.util.find_spec(one) is None]
    if missing and os.environ.get("KVAE_RUNTIMES") == "all":
        pytest.fail(f"{', '.join(missing)} should be installed")
    if missing:
        pytest.skip(f"{missing[0]} is not installed: pip install 'keras-vae[export,torch]'")


def converts(test):
    """A test that writes exports in this process: converters have warnings of their own."""
    for mark in (once, pytest.mark.slow, pytest.mark.filterwarnings("ignore")):
        test = mark(test)
    return test


def path_of(name, stem="a"):
    return pathlib.Path(stem + FORMATS[name].suffix)


def moved(vae, by=0.1):
    """The same model, no weight of it where it began, so that none is 0."""
    random = np.random.default_rng(0)
    for weight in vae.weights:
        if weight.dtype == "float32" and "moving" not in weight.path:
            noise = by * random.standard_normal(weight.shape)
            weight.assign(keras.ops.convert_to_numpy(weight) + noise.astype("float32"))
    return vae


def small(preset="mlp-400", shape=(8, 8, 1), latent_dim=3, **arguments):
    return moved(kvae.VAE.from_preset(preset, shape, latent_dim=latent_dim, **arguments))


def ladder(classes=None):
    shape = {"groups": ((1, 3), (2, 2)), "channels": 4, "width": 16, "context_dim": classes}
    count = 3 + 2 * 4
    encoder = kvae.build_encoder((8, 8, 1), count, "ladder", **shape)
    decoder = kvae.build_decoder((8, 8, 1), count, "ladder", 1, **shape)
    return moved(kvae.VAE(encoder, decoder, classes=classes))


def sharp():
    """A model whose logistics are so narrow that exp(x / scale) is infinite."""
    vae = small(likelihood=kvae.DiscretizedLogistic())
    vae.decoder.weights[-1].assign(np.tile(np.array([0.2, -30], "float32"), 64))
    return vae


KINDS = {
    "plain": small,
    "binarised": lambda: small(likelihood=kvae.Bernoulli("threshold")),
    "classes": lambda: small(classes=3),
    "partly labelled": lambda: small(classes=3, partly_labelled=True),
    "numbers": lambda: small(context_dim=2),
    "flow": lambda: small(prior=flow()),
    "conv": lambda: small("conv"),
    "ladder": ladder,
    "ladder of classes": lambda: ladder(3),
    "continuous": lambda: small(likelihood=kvae.ContinuousBernoulli()),
    "gaussian": lambda: small(likelihood=kvae.Gaussian()),
    "mixture": lambda: small(shape=(8, 8, 3), likelihood=kvae.LogisticMixture()),
    "sharp": sharp,
}


def feeds(vae, part, count=3):
    """Inputs of a graph by name, in its order."""
    random = np.random.default_rng(1)
    found = {
        "images": np.rint(255 * random.random((count, *vae.image_shape))).astype("float32") / 255,
        "noise": random.standard_normal((count, vae.latent_dim), "float32"),
        "classes": classes_of(vae, count),
    }
    found["latents"] = found["noise"]
    return {name: found[name] for name in Graph(vae, part).input_specs}


def classes_of(vae, count=3):
    if vae.condition is None:
        return None
    if vae.condition.classes:
        return (np.arange(count) % vae.condition.classes).astype("int32")
    return np.random.default_rng(2).standard_normal((count, vae.condition.size), "float32")


def outputs_of(graph, inputs):
    return {name: keras.ops.convert_to_numpy(value) for name, value in graph(inputs).items()}


# The graph ----------------------------------------------------------------------------------------


QUICK = ("classes", "ladder")  # on every backend


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=() if kind in QUICK else once) for kind in KINDS]
)
def test_a_graph_gives_what_the_verbs_give(kind):
    vae = KINDS[kind]()
    classes = classes_of(vae)
    told = {} if classes is None else {"classes": classes}
    given = feeds(vae, "vae")
    mean, log_variance = vae.encode(given["images"], **told)

    middle = outputs_of(Graph(vae, "vae"), {**given, "noise": 0 * given["noise"]})
    assert tuple(middle) == GRAPHS["vae"][1]
    np.testing.assert_allclose(middle["mean"], mean, **CLOSE)
    np.testing.assert_allclose(middle["log_variance"], log_variance, **CLOSE)
    reconstructed = vae.reconstruct(given["images"], **told)
    np.testing.assert_allclose(middle["reconstruction"], reconstructed, **CLOSE)
    found = outputs_of(Graph(vae, "encoder"), feeds(vae, "encoder"))
    np.testing.assert_allclose(found["mean"], mean, **CLOSE)
    if vae.hierarchy is None:
        found = outputs_of(Graph(vae, "vae"), given)["reconstruction"]
        drawn = mean + np.exp(log_variance / 2) * given["noise"]
        np.testing.assert_allclose(found, vae.decode(drawn, **told), **CLOSE)

    found = outputs_of(Graph(vae, "decoder"), feeds(vae, "decoder"))["images"]
    np.testing.assert_allclose(found, vae.decode(given["noise"], **told), **CLOSE)
    rows = [] if classes is None else [vae.rows(classes, 3)]
    stock = vae.generator()([given["noise"], *rows] if rows else given["noise"])
    found = outputs_of(Graph(vae, "generator"), feeds(vae, "generator"))["images"]
    np.testing.assert_allclose(found, keras.ops.convert_to_numpy(stock), **CLOSE)


def test_a_graph_hears_of_classes_which_come_last():
    vae = small(classes=2)
    for part, (names, _) in GRAPHS.items():
        graph, given = Graph(vae, part), feeds(vae, part)
        assert list(graph.input_specs) == [*names, "classes"]
        last = graph.output_names[0]
        others = {**given, "classes": 1 - given["classes"]}
        apart = outputs_of(graph, given)[last] - outputs_of(graph, others)[last]
        assert np.abs(apart).max() > 1e-3


def test_a_graph_has_the_weights_of_its_part_alone(fixed_vae):
    of = {part: Graph(fixed_vae, part).weights for part in GRAPHS}
    assert len(of["encoder"]) == len(fixed_vae.encoder.weights)
    assert len(of["decoder"]) == len(fixed_vae.decoder.weights)
    assert len(of["vae"]) == len(of["encoder"]) + len(of["decoder"])


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_a_model_of_mixed_precision_becomes_one_of_float32(policy):
    with kvae.training.settings.precision(policy):
        vae = small()
    full = vae.in_float32()
    assert {layer.compute_dtype for layer in vae.encoder.layers} > {"float32"}
    for part in (full, full.encoder, full.decoder):
        for layer in part._flatten_layers():
            assert layer.compute_dtype == "float32", layer.path
    for own, other in zip(full.weights, vae.weights, strict=True):
        np.testing.assert_array_equal(*map(keras.ops.convert_to_numpy, (own, other)))
    latents = np.ones((2, 3), "float32")
    assert 0 < np.abs(full.decode(latents) - vae.decode(latents)).max() < 0.05
    assert full.in_float32() is full


# Smaller weights ----------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [0, -1])
def test_int8_weights_are_within_half_a_step_of_each_place_of_an_axis(axis):
    values = np.random.default_rng(0).normal(size=(6, 5, 3, 7)).astype("float32")
    values = np.moveaxis(values * np.arange(7, dtype="float32"), -1, axis)
    codes, scales = as_int8(values, axis % 4)
    assert codes.dtype == np.int8 and scales.shape == (7,)
    steps = np.moveaxis(np.broadcast_to(scales, (6, 5, 3, 7)), -1, axis)
    assert (np.abs(codes * steps - values) <= steps / 2 + 1e-6).all()


def test_a_vector_is_not_made_int8_for_which_it_would_grow():
    values = np.linspace(0, 1, 784, dtype="float32")
    assert rounded(values, "int8") is values
    assert 0 < np.abs(rounded(values, "float16") - values).max() < 1e-3


@pytest.mark.parametrize("weights", WEIGHTS[1:])
def test_the_cost_in_nats_is_that_of_a_model_with_such_weights(images, weights):
    vae = small()
    other = vae.uncompiled()
    for weight in other.decoder.weights:
        weight.assign(rounded(keras.ops.convert_to_numpy(weight), weights))
    before = [keras.ops.convert_to_numpy(weight).copy() for weight in vae.weights]
    cost = cost_in_nats(vae, [vae.decoder], weights, images, None)
    wanted = np.mean(vae.score(images, 10, 0).elbo - other.score(images, 10, 0).elbo)
    np.testing.assert_allclose(cost, wanted, atol=1e-3)
    assert cost != 0
    for weight, values in zip(vae.weights, before, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(weight), values)


# What is refused ----------------------------------------------------------------------------------


def fake(monkeypatch, run):
    """Lets a format write nothing, and be run by a function of the inputs."""
    monkeypatch.setattr(kvae.exports.formats.Format, "load", lambda _: Fake)

    class Fake:
        @staticmethod
        def write(graph, path, metadata, weights):
            path.write_text(metadata)
            Fake.weights = weights

        @staticmethod
        def run(path, inputs):
            return run(inputs, Fake.weights)


FAULTS = {
    "fine": None,
    "numbers": "its images differ from the model's by 0.0002, and may by 0.0001",
    "names": "it gives pictures where images should be",
    "shape": r"its images have the shape \(5, 64\)",
    "nan": "its images are not finite numbers",
    "nan of float16": "its images with float16 weights are not finite numbers",
    "far off in int8": "its images with int8 weights differ from the model's by 0.3, and may by",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_an_export_that_differs_is_refused(make_vae, in_folder, monkeypatch, fault):
    vae = make_vae(card={"mine": float("nan"), "of": {"numpy": np.float32(1.5)}})
    vae.save("vae.keras")

    def run(inputs, weights):
        found = outputs_of(Graph(vae, "decoder"), inputs)["images"].copy()
        if weights == {"nan of float16": "float16", "far off in int8": "int8"}.get(fault, weights):
            found[0, 0, 0] += {"numbers": 2e-4, "nan": np.nan, "nan of float16": np.nan}.get(
                fault, 0.3 if fault == "far off in int8" else 0
            )
        found = found.reshape(-1, 64) if fault == "shape" else found
        return {"pictures" if fault == "names" else "images": found}

    fake(monkeypatch, run)
    weights = {"nan of float16": "float16", "far off in int8": "int8"}.get(fault, "float32")
    (in_folder / "made").mkdir()
    arguments = ("vae.keras", "made/a.onnx", "onnx", "decoder", weights)
    if FAULTS[fault]:
        with pytest.raises(ValueError, match=FAULTS[fault]):
            worker.convert(*arguments)
        return
    result = worker.convert(*arguments)
    assert result["difference"]["images"] < 1e-6 and result["nats"] is None
    said = json.loads(pathlib.Path("made/a.onnx").read_text())
    assert said["card"]["mine"] is None and said["card"]["of"] == {"numpy": 1.5}
    assert result["bytes"] == pathlib.Path("made/a.onnx").stat().st_size


@once
def test_values_above_one_are_compared_by_their_ratio(monkeypatch):
    fake(monkeypatch, lambda inputs, _: {"mean": 1.00005 * inputs["x"]})
    kvae.exports.formats.Format.load(None).weights = "float32"
    inputs = {"x": np.full((5, 3), 100, "float32")}
    apart = differences("onnx", pathlib.Path(), inputs, {"mean": inputs["x"]})
    np.testing.assert_allclose(apart["mean"], 5e-5, rtol=0.01)
    check_close(apart, "float32")
    assert set(LARGEST) == set(WEIGHTS)


@once
def test_what_is_asked_for_is_checked_first(fixed_vae, in_folder, monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", None)
    for arguments, what in [
        (("a.onnx", "coreml"), "`format` must be one of onnx, saved-model"),
        (("a.onnx", "onnx", "head"), "`part` must be one of encoder, decoder"),
        (("a.onnx", "onnx", "vae", "int4"), "`weights` must be one of"),
        (("a.pt2", "torch", "vae", "int8"), "torch cannot have int8 weights; onnx and litert can"),
        (("a.bin", "onnx"), r"ends in \.onnx: a\.bin"),
    ]:
        with pytest.raises(ValueError, match=what):
            export(fixed_vae, *arguments)
    with pytest.raises(ValueError, match="`vae` must be a kvae.VAE, or the path"):
        export(keras.Sequential(), "a.onnx")
    with pytest.raises(FileNotFoundError, match="There is no model at nothing.keras"):
        export("nothing.keras", "new/a.onnx")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if "onnx" in name else 1)
    with pytest.raises(ImportError, match=r"needs onnx, .*pip install 'keras-vae\[export\]'"):
        export(fixed_vae, "c.onnx")
    assert not list(in_folder.iterdir())


# The process --------------------------------------------------------------------------------------


@pytest.fixture
def process(in_folder, monkeypatch):
    """Lets Python code be the process that does the work; what it is asked for comes back."""
    monkeypatch.setattr(kvae.exports.formats.Format, "check_installed", lambda _: None)
    start, asked = subprocess.Popen, []
    temporary = in_folder / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))

    def let(code):
        def popen(command, **settings):
            asked.append((command, settings["env"], json.loads(task_of(command).read_text())))
            return start([sys.executable, "-S", "-c", code, command[-1]], **settings)

        monkeypatch.setattr(EXPORT.subprocess, "Popen", popen)
        return asked

    yield let
    assert not list(temporary.iterdir())
    temporary.rmdir()
    assert not list(in_folder.iterdir())


def task_of(command):
    return pathlib.Path(command[-1], "task.json")


RESULT = "import sys; open(sys.argv[1] + '/result.json', 'w').write('%s')"
ENDS = {
    "print('INFO: hi'); raise RuntimeError('no way')": (ValueError, "1: RuntimeError: no way"),
    "raise SystemExit(3)": (ValueError, "the process ended with 3: it said nothing"),
    "import os; os.kill(os.getpid(), 9)": (ValueError, "perhaps because memory was short"),
    RESULT % '{"error": "disk full", "kind": "OSError"}': (OSError, "was written: disk full"),
    RESULT % '{"error": "no onnx", "kind": "ImportError"}': (ImportError, "written: no onnx"),
    RESULT % '{"error": "it differs", "kind": "ValueError"}': (ValueError, "written: it differs"),
}


@once
@pytest.mark.parametrize("code", ENDS, ids=lambda code: code[:20])
def test_nothing_is_left_where_a_process_fails(fixed_vae, process, code):
    process(code)
    kind, what = ENDS[code]
    with pytest.raises(kind, match=what):
        export(fixed_vae, "new/a.onnx")


@once
def test_a_shipped_model_is_meant_where_a_folder_has_its_name(process, in_folder):
    asked = process("raise SystemExit(1)")
    (in_folder / "mnist").mkdir()
    with pytest.raises(ValueError, match="ended with 1"):
        export("mnist", "a.onnx")
    (in_folder / "mnist").rmdir()
    ((command, settings, task),) = asked
    assert task["model"] == str(kvae.shipped.path_of("mnist")) and task["safe_mode"]
    assert settings["KERAS_BACKEND"] == "tensorflow" and "-P" in command


OWN_PARTS = """
import keras
import kvae

class Scaled(keras.layers.Layer):
    def call(self, x):
        return 0.5 * x

@keras.saving.register_keras_serializable(package="mine")
class Moved(kvae.StandardNormal):
    def from_noise(self, noise, context=None):
        return noise + 1.0

@keras.saving.register_keras_serializable(package="mine")
def bent(x):
    return keras.ops.maximum(x, 0.1 * x)

def tripled(x):
    return 3.0 * x
"""


def own_model(folder, monkeypatch):
    """A model with a layer, a prior and activations from a module of the user's."""
    (folder / "my_own_parts.py").write_text(OWN_PARTS)
    monkeypatch.syspath_prepend(folder)
    own = importlib.import_module("my_own_parts")
    x = latents = keras.Input((3,))
    for activation in (own.bent, own.tripled):
        x = keras.layers.Dense(8, activation=activation)(x)
    x = keras.layers.Dense(64)(own.Scaled()(x))
    decoder = keras.Model(latents, keras.layers.Reshape((8, 8, 1))(x))
    encoder = kvae.build_encoder((8, 8, 1), 3, width=16, depth=1)
    return kvae.VAE(encoder, decoder, prior=own.Moved(3)), own


def test_a_model_with_a_lambda_layer_is_handed_over_with_its_optimizer(in_folder, monkeypatch):
    latents = keras.Input((3,))
    x = keras.layers.Lambda(lambda x: 2 * x)(keras.layers.Dense(64)(latents))
    decoder = keras.Model(latents, keras.layers.Reshape((8, 8, 1))(x))
    vae = kvae.VAE(kvae.build_encoder((8, 8, 1), 3, width=16, depth=1), decoder)
    EXPORT.save(vae, in_folder / "vae.keras", {})
    with pytest.raises(ValueError, match="Lambda"):
        kvae.load("vae.keras")
    assert kvae.load("vae.keras", safe_mode=False).latent_dim == 3


def test_classes_of_the_users_are_found_or_refused_in_a_line(in_folder, monkeypatch, request):
    request.addfinalizer(lambda: sys.modules.pop("my_own_parts", None))
    vae, own = own_model(in_folder, monkeypatch)
    places = EXPORT.places_of(vae, {"tripled": own.tripled})
    assert places == {
        "Scaled": ["my_own_parts", "Scaled"],
        "mine>Moved": ["my_own_parts", "Moved"],
        "mine>bent": ["my_own_parts", "bent"],
        "tripled": ["my_own_parts", "tripled"],
    }
    assert worker.located("my_own_parts", "Scaled.call") is own.Scaled.call
    assert EXPORT.places_of("mnist", {}) == {}
    for thing in (lambda x: x, type("Mine", (), {"__module__": "__main__"})):
        with pytest.raises(ValueError, match="cannot import 'mine', which is made in a script, a"):
            export(vae, "a.onnx", custom_objects={"mine": thing})


# In each format -----------------------------------------------------------------------------------

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


@once
@pytest.mark.slow
def test_a_model_of_the_users_own_classes_is_exported(in_folder, monkeypatch, request):
    request.addfinalizer(lambda: sys.modules.pop("my_own_parts", None))
    vae, own = own_model(in_folder, monkeypatch)
    vae.compile("adam")
    exported = export(vae, "a", "saved-model", custom_objects={"tripled": own.tripled})
    assert exported.difference["images"] <= 1e-4


@once
@pytest.mark.slow
@pytest.mark.skipif(not pathlib.Path("/proc/self/cmdline").exists(), reason="there is no /proc")
def test_where_the_parent_is_killed_the_process_ends_and_nothing_stays(in_folder):
    temporary = in_folder / "temporary"
    temporary.mkdir()
    parent = subprocess.Popen(
        [sys.executable, "-c", "import kvae; kvae.export('mnist', 'a', 'saved-model')"],
        env={**os.environ, "TMPDIR": str(temporary)},
    )

    def at_work():
        for line in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
            try:
                if str(temporary).encode() in line.read_bytes():
                    return True
            except OSError:  # it has ended meanwhile
                pass
        return False

    wait_until(at_work)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    wait_until(lambda: not at_work())
    assert not list(temporary.iterdir()) and list(in_folder.iterdir()) == [temporary]


def wait_until(true, seconds=90):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


# Keras's own way ----------------------------------------------------------------------------------

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
