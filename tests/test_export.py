"""Each format is run by its own runtime in these tests too, beside what the model gives."""

import importlib.util
import json
import pathlib
import re
import subprocess
import sys

import keras
import numpy as np
import pytest
from commands import assert_refused, call

import kvae
from kvae.exports import FORMATS, export, runtimes, worker
from kvae.exports.onnx_file import coded
from kvae.model import GRAPHS, Graph

OWN = keras.backend.backend()
GUIDE = pathlib.Path(kvae.__file__).with_name("README.md")
CLOSE = {"rtol": 1e-4, "atol": 1e-4}


def format_marks(name):
    """One format is quick, and needs no other package where that is TensorFlow's own."""
    return () if name == "saved-model" and OWN == "tensorflow" else (pytest.mark.slow,)


ALL = [pytest.param(name, marks=format_marks(name)) for name in FORMATS]


@pytest.fixture
def in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def needs(name):
    """Skips where a runtime is missing."""
    for module in FORMATS[name].modules:
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed: pip install 'keras-vae[export,torch]'")


def path_of(name, stem="made"):
    return stem + FORMATS[name].suffix


def moved(vae):
    """The same model, no weight of it where it began, so that none is 0."""
    random = np.random.default_rng(0)
    for weight in vae.weights:
        if weight.dtype == "float32":
            noise = 0.1 * random.standard_normal(weight.shape)
            weight.assign(keras.ops.convert_to_numpy(weight) + noise.astype("float32"))
    return vae


def feeds(vae, part, count=3):
    random = np.random.default_rng(1)
    made = {
        "images": random.random((count, *vae.image_shape), "float32"),
        "noise": random.standard_normal((count, vae.latent_dim), "float32"),
        "classes": (np.arange(count) % 2).astype("int32"),
    }
    made["latents"] = made["noise"]
    return {name: made[name] for name in Graph(vae, part).input_specs}


# The graph ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", GRAPHS)
def test_a_graph_gives_what_the_verbs_give(fixed_vae, part):
    vae, given = fixed_vae, feeds(fixed_vae, part)
    found = {k: keras.ops.convert_to_numpy(v) for k, v in Graph(vae, part)(given).items()}
    assert tuple(given) == GRAPHS[part][0] and tuple(found) == GRAPHS[part][1]
    if part in ("encoder", "vae"):
        mean, log_variance = vae.encode(given["images"])
        np.testing.assert_allclose(found["mean"], mean, **CLOSE)
        np.testing.assert_allclose(found["log_variance"], log_variance, **CLOSE)
    if part == "vae":
        latents = mean + np.exp(log_variance / 2) * given["noise"]
        np.testing.assert_allclose(found["reconstruction"], vae.decode(latents), **CLOSE)
    if part in ("decoder", "generator"):
        latents = given.get("latents", given.get("noise"))
        if part == "generator":
            latents = vae.prior.from_noise(latents)
        np.testing.assert_allclose(found["images"], vae.decode(latents), **CLOSE)


def test_a_conditional_graph_is_told_of_classes():
    vae = moved(kvae.VAE.from_preset("mlp-400", (8, 8, 1), latent_dim=3, classes=2))
    graph, given = Graph(vae, "decoder"), feeds(vae, "decoder")
    assert list(graph.input_specs) == ["latents", "classes"]
    found = keras.ops.convert_to_numpy(graph(given)["images"])
    wanted = vae.decode(given["latents"], classes=given["classes"])
    np.testing.assert_allclose(found, wanted, **CLOSE)
    others = vae.decode(given["latents"], classes=1 - given["classes"])
    assert np.abs(found - others).max() > 1e-3


def test_a_graph_has_the_weights_of_its_part_alone(fixed_vae):
    of = {part: Graph(fixed_vae, part).weights for part in GRAPHS}
    assert len(of["encoder"]) == len(fixed_vae.encoder.weights)
    assert len(of["decoder"]) == len(fixed_vae.decoder.weights)
    assert len(of["vae"]) == len(of["encoder"]) + len(of["decoder"])


def test_a_mean_is_right_where_softplus_would_overflow():
    likelihood = kvae.DiscretizedLogistic()
    sharp = np.tile(np.array([0.2, -30], "float32"), (1, 2, 2, 1))  # 152.5 of 255, of no width
    found = keras.ops.convert_to_numpy(likelihood.mean(sharp - [0, 0]))
    np.testing.assert_allclose(found, (127.5 + 51) / 255, atol=1e-4)


# The way out --------------------------------------------------------------------------------------


@pytest.mark.every_backend
@pytest.mark.parametrize("name", ALL)
def test_a_model_of_any_backend_is_exported_and_gives_what_it_gave(make_vae, in_folder, name):
    needs(name)
    vae = moved(make_vae())
    made = export(vae, path_of(name), name, "vae")
    assert max(made.difference.values()) <= worker.LARGEST
    assert list(made.inputs) == ["images", "noise"] and made.bytes > 1_000
    assert made.inputs["noise"] == [None, 3] and made.outputs["reconstruction"] == [None, 8, 8, 1]
    given = feeds(vae, "vae", 7)
    wanted = {k: keras.ops.convert_to_numpy(v) for k, v in Graph(vae, "vae")(given).items()}
    if name != "torch" or OWN == "torch":  # JAX and PyTorch in a process: each has its threads
        found = runtimes.run(name, pathlib.Path(path_of(name)), given)
        for output, values in wanted.items():
            np.testing.assert_allclose(found[output], values, rtol=1e-3, atol=1e-3)
    left = {path.name for path in in_folder.iterdir()}
    assert left == {path_of(name), *(["made.bin"] if name == "openvino" else [])}


@pytest.mark.slow
@pytest.mark.parametrize("name", list(FORMATS))
def test_names_order_batch_and_card_are_in_the_file(make_vae, in_folder, name):
    needs(name)
    vae = make_vae(card={"dataset": "bars"})
    path = str(export(vae, path_of(name), name, "encoder").path)
    if name == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(path)
        ports = [(one.name, one.shape[0]) for one in session.get_outputs()]
        text = session.get_modelmeta().custom_metadata_map["kvae"]
    elif name == "saved-model":
        ports = [("mean", "batch"), ("log_variance", "batch")]  # a dict has no order
        text = pathlib.Path(path, "assets.extra", "kvae.json").read_text()
    elif name == "litert":
        from ai_edge_litert.interpreter import Interpreter
        from tensorflow.lite.tools import flatbuffer_utils

        reader = Interpreter(path)
        details = reader.get_output_details()
        assert [tuple(one["shape_signature"])[0] for one in details] == [-1, -1]
        ports = [(one["name"], "batch") for one in details]
        model = flatbuffer_utils.read_model(path)
        (entry,) = [one for one in model.metadata if one.name == b"kvae"]
        text = bytes(model.buffers[entry.buffer].data).decode()
    elif name == "openvino":
        import openvino

        model = openvino.Core().read_model(path)
        ports = [
            (one.any_name, "batch") for one in model.outputs if one.partial_shape[0].is_dynamic
        ]
        text = model.get_rt_info("kvae").value
    else:
        import torch

        files = {"kvae.json": ""}
        program = torch.export.load(path, extra_files=files)
        ports = [(one, "batch") for one in ("mean", "log_variance")]
        assert list(program.call_spec.in_spec.child(1).context) == ["images"]
        text = files["kvae.json"]
    assert ports == [("mean", "batch"), ("log_variance", "batch")]
    said = json.loads(text)
    assert said["card"]["dataset"] == "bars" and said["inputs"] == {"images": [None, 8, 8, 1]}


@pytest.mark.slow
@pytest.mark.parametrize("weights", ["float16", "int8"])
@pytest.mark.parametrize("name", [name for name in FORMATS if len(FORMATS[name].weights) > 1])
def test_smaller_weights_are_smaller_and_their_cost_is_said(in_folder, name, weights):
    needs(name)
    if weights not in FORMATS[name].weights:
        pytest.skip(f"{name} has none")
    made = export("mnist", path_of(name), name, "decoder", weights)
    assert made.bytes < (0.65 if weights == "float16" else 0.45) * made.bytes_of_float32
    assert 1e-5 < made.difference["images"] < (0.01 if weights == "float16" else 0.2)


def test_int8_weights_are_within_half_a_step_of_each_column():
    values = np.random.default_rng(0).normal(size=(50, 7)).astype("float32") * np.arange(7)
    codes, scales = coded(values.astype("float32"))
    assert codes.dtype == np.int8 and scales.shape == (7,)
    assert (np.abs(codes * scales - values) <= scales / 2 + 1e-6).all()


# What cannot be -----------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["numbers", "names", "nan"])
def test_an_export_that_differs_is_refused(make_vae, in_folder, monkeypatch, fault):
    vae = make_vae()
    vae.save("vae.keras")
    given = {}

    def run(name, path, inputs):
        graph = Graph(vae, "decoder")
        found = {k: keras.ops.convert_to_numpy(v) for k, v in graph(inputs).items()}
        images = found["images"].copy()
        images[0, 0, 0] += {"numbers": 2e-4, "nan": np.nan}.get(fault, given.get("ok", 0))
        return {"pictures" if fault == "names" else "images": images}

    monkeypatch.setattr("kvae.exports.check.run", run)
    monkeypatch.setattr(worker, "write", lambda *_: pathlib.Path("a.onnx").write_bytes(b"1"))
    what = {"numbers": "differ from the model's by 0.0002", "names": "pictures", "nan": "by inf"}
    with pytest.raises(ValueError, match=what[fault]):
        worker.made("vae.keras", "a.onnx", "onnx", "decoder", "float32", [])


def test_nothing_is_left_where_a_process_fails(fixed_vae, in_folder, monkeypatch):
    monkeypatch.setattr(kvae.exports.formats.Format, "check_installed", lambda _: None)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(ValueError, match="nothing was written: the process ended with 1"):
        export(fixed_vae, "a.onnx")
    assert not list(in_folder.iterdir())


def test_what_is_asked_for_is_checked_first(fixed_vae, in_folder, monkeypatch):
    monkeypatch.setattr(subprocess, "run", None)
    for arguments, what in [
        (("a.onnx", "coreml"), "`format` must be one of onnx, saved-model"),
        (("a.onnx", "onnx", "head"), "`part` must be one of encoder, decoder"),
        (("a.onnx", "onnx", "vae", "int4"), "`weights` must be one of"),
        (("a.pt2", "torch", "vae", "int8"), "torch cannot have int8 weights; onnx and litert can"),
        (("a.bin", "onnx"), r"ends in \.onnx: a\.bin"),
    ]:
        with pytest.raises(ValueError, match=what):
            export(fixed_vae, *arguments)
    (in_folder / "a.onnx").mkdir()
    (in_folder / "b").mkdir()
    with pytest.raises(ValueError, match="a.onnx exists, and is no file"):
        export(fixed_vae, "a.onnx")
    with pytest.raises(ValueError, match="b exists, and is no folder that holds a SavedModel"):
        export(fixed_vae, "b", "saved-model")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if "onnx" in name else 1)
    with pytest.raises(ImportError, match=r"needs onnx, .*pip install 'keras-vae\[export\]'"):
        export(fixed_vae, "c.onnx")


def test_a_folder_that_cannot_be_written_is_said(fixed_vae, in_folder, monkeypatch):
    monkeypatch.setattr(kvae.exports.formats.Format, "check_installed", lambda _: None)
    (in_folder / "file").write_text("")
    with pytest.raises(OSError, match=r"file/a\.onnx cannot be written"):
        export(fixed_vae, "file/a.onnx")


@pytest.mark.slow
@pytest.mark.every_backend
def test_vae_export_is_keras_s_or_says_what_is(make_vae, in_folder):
    vae = make_vae()
    if OWN == "tensorflow":
        vae.export("folder")
        given = feeds(vae, "vae")
        found = runtimes.run("saved-model", pathlib.Path("folder"), given)
        assert found["reconstruction"].shape == (3, 8, 8, 1)
        return
    with pytest.raises(ValueError, match=r"kvae\.export\(vae, path\)"):
        vae.export("a.onnx", format="openvino" if OWN == "jax" else "tf_saved_model")


# The command --------------------------------------------------------------------------------------


def test_the_command_knows_the_formats_that_kvae_has():
    from kvae_cli import export as command

    options = {option.name: option for option in command.params}
    assert tuple(options["name"].type.choices) == tuple(FORMATS)
    assert tuple(options["part"].type.choices) == tuple(GRAPHS)
    module = sys.modules["kvae_cli.export"]
    assert module.FORMATS == {name: one.suffix for name, one in FORMATS.items()}


def test_the_command_says_why_not_in_a_line(in_folder):
    assert_refused(["export", "mnist", "--format", "coreml"], 2, "coreml")
    assert_refused(["export", "nothing.keras", "--format", "saved-model"], 1, "nothing.keras")
    assert_refused(["export", "mnist", "--out", "a.txt"], 1, ".onnx")
    assert_refused(
        ["export", "mnist", "--format", "saved-model", "--weights", "int8"], 1, "int8 weights"
    )


@pytest.mark.slow
def test_the_command_exports_a_shipped_model(in_folder):
    needs("onnx")
    result = call("export", "mnist-conditional", "--part", "generator", "--weights", "float16")
    first, last = result.stdout.splitlines()
    assert re.match(r"float16 weights: [\d,]+ bytes, with float32 [\d,]+", first)
    assert last.startswith(
        "mnist-conditional-generator.onnx: generator, noise (batch, 40), classes (batch, int32) → "
        "images (batch, 28, 28, 1), "
    )


# The guide ----------------------------------------------------------------------------------------

SNIPPETS = re.findall(r"```python\n(# .*?)```", GUIDE.read_text().partition("## Export")[2], re.S)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["onnx", "saved-model", "litert", "openvino"])
def test_the_snippets_of_the_guide_run_without_kvae_and_keras(in_folder, name):
    needs(name)
    (snippet,) = [one for one in SNIPPETS if one.startswith(f"# {name}")]
    path = re.search(r'"(mnist[\w.-]*)"', snippet)[1]
    call("export", "mnist", "--format", name, "--out", path)
    block = "import sys; sys.modules['kvae'] = sys.modules['keras'] = None\n"
    block = block if name != "saved-model" else "import sys; sys.modules['kvae'] = None\n"
    shown = "\nprint(images.shape, float(images.min()) >= 0, float(images.max()) <= 1)"
    printed = subprocess.check_output([sys.executable, "-c", block + snippet + shown], text=True)
    assert printed.splitlines()[-1] == "(16, 28, 28, 1) True True"


# The matrix ---------------------------------------------------------------------------------------

CONDITIONS = {"mlp": {"classes": 3}, "conv": {"context_dim": 4}, "ladder": {"classes": 3}}


@pytest.mark.slow
@pytest.mark.skipif(OWN != "tensorflow", reason="another process does it, on TensorFlow")
@pytest.mark.parametrize("name", [name for name in FORMATS if name != "torch"])
@pytest.mark.parametrize("preset", list(kvae.presets.PRESETS))
def test_every_preset_is_exported_to_every_format(in_folder, preset, name):
    needs(name)
    colour = "colour" in preset or preset == "ladder-large"
    size = min(kvae.presets.PRESETS[preset].largest or 28, 28)
    shape = (32, 32, 3) if colour else (size, size, 1)
    likelihood = {"likelihood": kvae.LogisticMixture()} if colour else {}
    arguments = {**CONDITIONS.get(preset, {}), **likelihood}
    moved(kvae.VAE.from_preset(preset, shape, **arguments)).save("vae.keras")
    made = worker.made("vae.keras", path_of(name), name, "vae", "float32", [])
    assert max(made["difference"].values()) <= worker.LARGEST
