"""The explorer: what becomes part of a page, and what a page says that it leaves out."""

import dataclasses
import html
import json
import re

import keras
import numpy as np
import pytest
from commands import assert_refused, call
from explorers import NAMES, bars, vae_of
from keras import layers, ops

import kvae
from kvae.explorer import Tensors, Unrunnable, graph_of, runnable
from kvae.explorer.scene import Scene, plain


def content(explorer):
    """What the page holds as JSON."""
    return json.loads(re.search('id="data">(.*)</script>', explorer.page)[1])


@pytest.fixture(scope="module")
def vae():
    return vae_of("mlp-400")


@pytest.fixture(scope="module")
def told():
    return vae_of("mlp-400", classes=3)


def decoder_of(make):
    """A decoder of 4 latents, of what this makes of them and of eight features."""
    z = keras.Input((4,))
    return keras.Model(z, make(z, layers.Dense(8)(z)))


def own(x):
    return x / (1 + ops.exp(-x))


own.__name__ = "silu"


@keras.saving.register_keras_serializable("test_explorer")
class Twice(layers.Layer):
    """A layer that graphs do not know."""

    def call(self, x):
        return 2 * x


class Doubled(keras.Model):
    """A Functional model that does more than its layers."""

    def call(self, x):
        return 2 * super().call(x)


UNKNOWN = {
    "twice is a Twice": lambda z, x: Twice(name="twice")(x),
    "is a Add": lambda z, x: x + x,
    "is a Relu": lambda z, x: ops.relu(x),
    "several shapes": lambda z, x: layers.Multiply()([x, layers.Dense(1)(x)]),
    "the activation .silu": lambda z, x: layers.Activation(own, name="own")(x),
    "is no Functional": lambda z, x: Doubled(i := keras.Input((8,)), layers.Dense(2)(i))(x),
    "a LayerNormalization": lambda z, x: keras.Sequential([layers.LayerNormalization()])(x),
}


@pytest.mark.parametrize("words", UNKNOWN)
def test_what_graphs_do_not_know_is_refused_by_name(words):
    with pytest.raises(Unrunnable, match=words):
        graph_of(decoder_of(UNKNOWN[words]), Tensors())


def test_a_graph_that_is_refused_leaves_no_weights(vae):
    tensors = Tensors()
    decoder = keras.Model(vae.decoder.inputs, Twice()(vae.decoder.outputs[0]))
    model, notes = runnable(kvae.VAE(vae.encoder, decoder), tensors)
    alone = Tensors()
    graph_of(vae.encoder, alone)
    assert "a Twice" in notes[0] and [*model["graphs"]] == ["encoder"]
    assert len(tensors.bytes) == len(alone.bytes)


def test_int8_halves_the_weights_and_stays_near():
    array = np.random.default_rng(0).standard_normal((64, 32)).astype("float32")
    sizes = {}
    for kind, error in {"int16": 1e-4, "int8": 2e-2}.items():
        tensors = Tensors(kind)
        number = tensors.add(array)
        assert 0 < np.abs(tensors.array(number) - array).max() < error
        sizes[kind] = len(tensors.bytes)
    assert sizes["int8"] < 0.6 * sizes["int16"]


class Rounded(kvae.Likelihood):
    """A likelihood of one's own, of which a page knows nothing."""

    def observe(self, images, seed=None):
        return ops.round(super().observe(images, seed))

    def log_prob(self, observed, parameters):
        return -ops.sum(ops.square(observed - parameters), axis=(1, 2, 3))

    def mean(self, parameters):
        return ops.sigmoid(parameters)


def test_of_a_likelihood_of_ones_own_nothing_is_run():
    vae = vae_of("mlp-400", likelihood=Rounded())
    explorer = kvae.explore(vae, bars())
    assert content(explorer)["model"]["graphs"] == {} and content(explorer)["made"]
    assert [note.count("Rounded") for note in explorer.notes] == [1, 1, 0]


def test_of_a_model_conditional_on_numbers_nothing_is_run():
    data = bars()
    data = dataclasses.replace(data, test_labels=data.test_labels.astype("float32"))
    explorer = kvae.explore(vae_of("mlp-400", context_dim=1), data)
    assert content(explorer)["model"]["graphs"] == {} and content(explorer)["made"]
    assert "conditional on numbers" in explorer.notes[0]


def test_the_classes_are_called_as_the_model_calls_them(told):
    """Though the data set has but two of them, in another order."""
    told.card = {**told.card, "class_names": list(NAMES)}
    data = bars(names=("right", "left"))
    shown = content(kvae.explore(told, data))
    assert shown["model_classes"] == list(NAMES) and shown["class_names"] == ["right", "left"]
    assert shown["classes"] == [{0: 2, 1: 0}[label] for label in shown["labels"]]


def test_classes_that_nobody_names_are_numbers(told):
    told.card = {}
    assert Scene(told, bars(labels=False), 5, 0).model_classes == ["0", "1", "2"]


def test_without_labels_the_score_is_that_of_the_likeliest_class(told):
    scene = Scene(told, bars(labels=False), 20, 0)
    each = told.score_of_each(scene.images, 1, 0)
    classes = told.classify(scene.images)
    expected = [-each[label].elbo[i] for i, label in enumerate(classes)]
    np.testing.assert_array_equal(scene.classes, classes)
    np.testing.assert_allclose(scene.scores, expected, rtol=1e-5)


def test_the_bar_of_a_latent_says_what_its_nats_are():
    flow = vae_of("mlp-400", prior=kvae.RealNVP(4))
    assert Scene(flow, bars(), 9, 0).described(9)["kl_of"].startswith("KL from a Gaussian fitted")
    plain_prior = vae_of("mlp-400", prior=kvae.StandardNormal(4))
    assert Scene(plain_prior, bars(), 9, 0).described(9)["kl_of"] == "KL in nats"


def test_a_page_never_exceeds_its_size(vae, monkeypatch):
    """Rather int8 than hardly any images, rather hardly any images than no model."""
    full = kvae.explore(vae, bars())
    assert len(content(full)["labels"]) == 30 and "int16" in full.notes[0]
    weights = len(content(full)["weights"])
    seen = []
    for spared in (0, 0.4, 0.55, 0.97):
        largest = int(full.size - spared * weights)
        monkeypatch.setattr("kvae.explorer.explorer.LARGEST", largest)
        explorer = kvae.explore(vae, bars())
        assert explorer.size <= largest
        seen.append((explorer.notes[0][:24], len(content(explorer)["labels"]) == 30))
    assert seen[1][0] == "The weights are int8. Th" and seen[3][0].startswith(
        "The model is too large"
    )
    with pytest.raises(ValueError, match="leave out `weights`"):
        kvae.explore(vae, bars(), weights="int16")
    monkeypatch.setattr("kvae.explorer.explorer.LARGEST", 30_000)
    with pytest.raises(ValueError, match="no room for three images"):
        kvae.explore(vae, bars())


def test_of_large_images_there_are_few_and_the_model_stays(monkeypatch):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (300, 16, 16, 3)).astype("uint8")  # which no PNG makes smaller
    vae = vae_of("mlp-400", (16, 16, 3))
    data = kvae.data.from_arrays(images)
    size = kvae.explore(vae, data, count=3).size
    monkeypatch.setattr("kvae.explorer.explorer.LARGEST", size + 10_000)
    explorer = kvae.explore(vae, data, weights="int16")
    assert 3 < len(content(explorer)["labels"]) < 20 and explorer.size <= size + 10_000
    assert "decoder" in content(explorer)["model"]["graphs"]


@pytest.mark.parametrize("channels", [2, 5])
def test_channels_that_are_no_colours_are_shown_as_some(channels):
    data = bars(shape=(12, 12, channels))
    assert content(kvae.explore(vae_of("mlp-400", (12, 12, channels)), data))["images"]


def test_t_sne_is_made_once(vae, monkeypatch):
    made = []
    tsne = kvae.explorer.scene.METHODS["tsne"]
    monkeypatch.setitem(
        kvae.explorer.scene.METHODS, "tsne", lambda *given: made.append(1) or tsne(*given)
    )
    monkeypatch.setattr("kvae.explorer.explorer.LARGEST", kvae.explore(vae, bars()).size - 2000)
    made.clear()
    kvae.explore(vae, bars())
    assert made == [1]


def test_numbers_that_are_none_do_not_stop_a_page(vae):
    vae.card = {**vae.card, "test": {"elbo": float("nan"), "kl": np.float32(2)}}
    history = keras.callbacks.History()
    history.history = {"loss": [3.0, float("inf"), 2.0], "val_loss": [None, 2.0, 1.0]}
    shown = content(kvae.explore(vae, bars(), history=history))
    assert shown["history"] == {"loss": [3.0, None, 2.0], "val_loss": [None, 2.0, 1.0]}
    assert shown["card"]["test"] == {"elbo": "nan", "kl": 2.0}
    assert plain({1: (np.arange(2), {3})}) == {"1": [[0, 1], "{3}"]}


def test_a_title_is_text(vae):
    hostile = "</title><script>alert(1)</script>{{script}}"
    page = kvae.explore(vae, bars(), title=hostile).page
    assert hostile not in page and f"<title>{html.escape(hostile)}</title>" in page


def test_a_notebook_has_the_page_in_a_frame_of_its_own(vae):
    explorer = kvae.explore(vae, bars())
    frame = explorer._repr_html_()
    assert frame.startswith('<iframe sandbox="allow-scripts"')
    assert html.unescape(re.search('srcdoc="([^"]*)"', frame)[1]) == explorer.page


def test_arguments_that_are_none_are_refused(vae):
    for words, arguments in {
        "`weights` must be": {"weights": "int4"},
        "at least 3 test images": {"count": 2},
        "at most 10,000": {"count": 20_000},
        "`history` must be": {"history": [3.0, 2.0]},
    }.items():
        with pytest.raises(ValueError, match=words):
            kvae.explore(vae, bars(), **arguments)


def test_the_command_writes_a_page_or_a_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = vae_of("mlp-400", (8, 8, 1))
    small.card = {**small.card, "dataset": "digits", "origin": "digits"}
    small.save("vae.keras")
    said = call("explore", "vae.keras", "--count", 40)
    assert "explorer.html" in said.stdout and (tmp_path / "explorer.html").stat().st_size > 10_000
    (tmp_path / "explorer.html").unlink()
    assert_refused(["explore", "no.keras"], 1, "no.keras")
    assert_refused(["explore", "vae.keras", "--out", "page.pdf"], 2, ".html")
