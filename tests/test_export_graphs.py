"""Graphs of a model's parts, their weights rounded, and the check of an export."""

import importlib
import importlib.util
import json
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
from exporting import (
    CLOSE,
    KINDS,
    classes_of,
    feeds,
    outputs_of,
    small,
)
from marks import once

import kvae
from kvae.exports import WEIGHTS, export, worker
from kvae.exports.check import LARGEST, check_close, differences
from kvae.exports.rounding import as_int8, cost_in_nats, rounded
from kvae.model import GRAPHS, Graph

EXPORT = sys.modules["kvae.exports.export"]  # of which the package shows the function


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
