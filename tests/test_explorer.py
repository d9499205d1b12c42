"""The explorer, in a headless Chromium where there is one: its numbers, its hands, its manners."""

import html
import json
import re
import shutil

import keras
import numpy as np
import pytest
from commands import assert_refused, call
from keras import ops
from PIL import Image

import kvae
from kvae.explorer import Tensors, graph_of, runnable
from kvae.explorer.explorer import HERE, SCRIPTS
from kvae.priors import given

HOSTILE = "<img src=x onerror=alert(1)></script><script>alert(2)</script>"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="module")
def browser():
    """A browser, or a word on how to get one."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    if CHROMIUM is None:
        pytest.skip("There is no Chromium: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture
def reader(browser):
    """A page with the interpreter alone."""
    page = browser.new_page()
    page.set_content("<!doctype html>")
    page.add_script_tag(content=(HERE / SCRIPTS[0]).read_text())
    yield page
    page.close()


@pytest.fixture
def opened(browser, tmp_path):
    """Opens an explorer; what it complains of, or asks the network for, fails the test."""
    pages, complaints = [], []

    def open_page(explorer, where="", **context):
        path = tmp_path / "explorer.html"
        explorer.save(path)
        context = {"viewport": {"width": 1200, "height": 1000}, **context}
        page = browser.new_context(**context).new_page()
        page.on(
            "console",  # of the tests' own reading a browser says that there are faster ways
            lambda message: "readback" in message.text or complaints.append(message.text),
        )
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.on(
            "request",
            lambda request: (
                request.url.startswith(("file:", "data:", "blob:"))
                or complaints.append(request.url)
            ),
        )
        page.goto(f"{path.as_uri()}{where}")
        page.evaluate("ready.then((page) => { window.page = page; })")
        settled(page)
        pages.append(page)
        return page

    yield open_page
    for page in pages:
        settled(page)
        page.context.close()
    assert complaints == []


def until(page, expression):
    """Waits until this is true; Playwright's own waiting is refused by the page's policy."""
    for _ in range(400):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(25)
    pytest.fail(f"never true: {expression}")


def settled(page):
    """Waits until all that was asked for is drawn, and the link tells it."""
    until(page, "!page.waiting && !page.working && !page.tasks.length")
    page.wait_for_timeout(300)


def digits(count=60, shape=(12, 12, 1), classes=3):
    """Bars of as many places as there are classes."""
    rng = np.random.default_rng(0)
    labels = np.arange(count) % classes
    images = np.zeros((count, *shape), "uint8")
    for image, label in zip(images, labels, strict=True):
        image[:, 2 + 3 * label : 4 + 3 * label] = rng.integers(150, 256, shape[2])
    return images, labels


def bars(shape=(12, 12, 1), names=("left", "middle", "right")):
    images, labels = digits(300, shape)
    return kvae.data.from_arrays(images, train_labels=labels, class_names=list(names), name="bars")


def vae_of(preset="conv", shape=(12, 12, 1), latent_dim=4, **arguments):
    return kvae.VAE.from_preset(preset, shape, latent_dim=latent_dim, **arguments)


@pytest.fixture(scope="module")
def explorer():
    return kvae.explore(vae_of(), bars(), count=30, history={"loss": [3.0, 2.0, float("nan")]})


def described(vae, kind="float16"):
    tensors = Tensors(kind)
    model, left_out = runnable(vae, tensors)
    return {**model, "tensors": tensors.entries}, tensors.text(), left_out


PRESETS = {
    "mlp": {},
    "mlp-400": {"likelihood": kvae.ContinuousBernoulli},
    "conv": {"likelihood": lambda: kvae.Bernoulli("none")},
    "conv-pooled": {"likelihood": kvae.Gaussian},
    "resnet": {"likelihood": kvae.DiscretizedLogistic},
    "conv-colour": {"shape": (16, 12, 3)},
    "ladder": {"latent_dim": None},
    "ladder-colour": {"shape": (16, 16, 3), "latent_dim": None},
}


@pytest.mark.parametrize("preset", PRESETS)
def test_a_page_decodes_encodes_and_draws_as_keras_does(reader, preset):
    """Of every network and likelihood, at random weights of a size that shows mistakes."""
    arguments = dict(PRESETS[preset])
    if "likelihood" in arguments:
        arguments["likelihood"] = arguments["likelihood"]()
    if arguments.get("latent_dim", 4) is None:
        del arguments["latent_dim"]
        vae = kvae.VAE.from_preset(preset, arguments.get("shape", (16, 16, 1)))
    else:
        vae = vae_of(preset, **arguments)
    compare(reader, vae)


@pytest.mark.parametrize("preset", ["conv", "ladder"])
def test_a_page_tells_the_parts_of_a_conditional_model_its_class(reader, preset):
    compare(reader, kvae.VAE.from_preset(preset, (16, 16, 1), classes=3))


def compare(reader, vae, at_most=1e-3):
    """Asserts that pixels, posteriors and draws of the prior agree."""
    rng = np.random.default_rng(0)
    for weight in vae.prior.weights:  # a flow begins as the identity
        weight.assign(0.1 * rng.standard_normal(weight.shape))
    rows = None if vae.condition is None else np.eye(vae.condition.size, dtype="float32")[[1, 2]]
    z = rng.standard_normal((2, vae.latent_dim)).astype("float32")
    images = rng.integers(0, 256, (2, *vae.image_shape)).astype("uint8")
    want = {
        "decode": vae.decode_told(z, rows),
        "encode": np.stack(vae.encode_told(images, rows), axis=1),
        "fromNoise": ops.convert_to_numpy(vae.prior.from_noise(z, **given(rows))),
    }
    model, weights, left_out = described(vae)
    assert left_out == []
    told = [[], []] if rows is None else rows.tolist()
    inputs = {"decode": z, "encode": images.reshape(2, -1) / 255, "fromNoise": z}
    for verb, expected in want.items():
        found = reader.evaluate(
            """([description, weights, verb, rows, told]) => {
                const model = new Model(description, fromBase64(weights));
                return rows.map((row, i) => {
                    const found = model[verb](Float32Array.from(row), Float32Array.from(told[i]));
                    return (verb === "encode" ? found : [found]).map((part) => Array.from(part));
                });
            }""",
            [model, weights, verb, inputs[verb].tolist(), told],
        )
        expected = np.ravel(expected)
        error = np.abs(np.ravel(found) - expected).max() / max(1, abs(expected).max())
        assert error < (at_most if verb == "decode" else 5 * at_most), (verb, error)


@pytest.mark.parametrize("part", ["encoder", "decoder"])
@pytest.mark.parametrize("preset", ["mlp", "conv", "conv-pooled", "resnet"])
def test_each_layer_gives_what_keras_gives(reader, preset, part):
    """With weights as float32 numbers, one by one: an error says which layer it comes from."""
    model = getattr(vae_of(preset), part)
    tensors = Tensors()
    tensors.add = lambda array, exact=False: tensors.packed(np.asarray(array, "float32"))
    graph = graph_of(model, tensors)
    names = [node["layer"] for node in graph["nodes"]]
    last = {name: i for i, name in enumerate(names)}
    given = np.random.default_rng(0).random((1, *model.input.shape[1:]), "float32")
    inner = keras.Model(model.inputs, [model.get_layer(name).output for name in last])
    expected = inner([given])
    found = reader.evaluate(
        """([graph, entries, weights, row]) => {
            const made = new Graph(graph, new Tensors(entries, fromBase64(weights)));
            made.run(Float32Array.from(row));
            return made.values.slice(1).map((values) => Array.from(values));
        }""",
        [graph, tensors.entries, tensors.text(), given.ravel().tolist()],
    )
    for (name, i), values in zip(last.items(), expected, strict=True):
        values = ops.convert_to_numpy(values).ravel()
        assert np.abs(np.array(found[i]) - values).max() < 1e-3 * max(1, abs(values).max()), name


def test_int8_halves_the_weights_and_stays_near():
    array = np.random.default_rng(0).standard_normal((64, 32)).astype("float32")
    sizes = {}
    for kind, error in {"float16": 2e-3, "int8": 2e-2}.items():
        tensors = Tensors(kind)
        number = tensors.add(array)
        assert np.abs(tensors.array(number) - array).max() < error
        sizes[kind] = len(tensors.bytes)
    assert sizes["int8"] < 0.6 * sizes["float16"]


def link(page):
    """The state, as the link tells it."""
    return dict(part.split("=", 1) for part in page.evaluate("location.hash")[1:].split("&"))


def pixels(page, name):
    """What a canvas shows, red alone."""
    return np.array(
        page.evaluate(
            """(name) => {
                const { width, height } = by(name), context = by(name).getContext("2d");
                const { data } = context.getImageData(0, 0, width, height);
                return Array.from(data).filter((_, i) => i % 4 === 0);
            }""",
            name,
        )
    )


def test_the_image_under_the_finger_changes_and_is_what_keras_decodes(opened):
    vae = vae_of()
    page = opened(kvae.explore(vae, bars(), count=30))
    before = pixels(page, "picture")
    box = page.locator("#plane").bounding_box()
    page.mouse.move(box["x"] + 30, box["y"] + 30)
    page.mouse.down()
    page.mouse.move(box["x"] + 200, box["y"] + 150, steps=5)
    page.mouse.up()
    settled(page)
    z = np.array([page.evaluate("Array.from(page.state.z)")], "float32")
    expected = 255 * vae.decode(z).ravel()
    assert not np.array_equal(pixels(page, "picture"), before)
    assert np.abs(pixels(page, "picture") - expected).max() < 1


@pytest.mark.parametrize("plane", [1, 2])
def test_the_finger_lies_where_the_latents_are_in_planes_with_axes(opened, explorer, plane):
    page = opened(explorer, f"#plane={plane}")
    box = page.locator("#plane").bounding_box()
    page.mouse.move(box["x"] + 100, box["y"] + 100)
    page.mouse.down()
    page.mouse.move(box["x"] + 180, box["y"] + 120, steps=3)
    page.mouse.up()
    settled(page)
    finger, place = page.evaluate("[page.map.finger, page.plane.placeOf(page.state.z)]")
    np.testing.assert_allclose(finger, place, atol=1e-3)


def test_keys_move_the_finger_and_pick_the_nearest_image(opened, explorer):
    page = opened(explorer)
    page.locator("#plane").focus()
    before = page.evaluate("page.map.finger[0]")
    page.keyboard.press("Shift+ArrowRight")
    settled(page)
    assert page.evaluate("page.map.finger[0]") > before
    page.keyboard.press("Enter")
    settled(page)
    assert re.match(r"Test image \d+, (left|middle|right), .* nats", page.inner_text("#status"))
    assert page.inner_text("#caption").startswith("the reconstruction of test image")


def test_a_point_that_is_hovered_shows_its_image_and_two_that_are_clicked_a_way(opened, explorer):
    page = opened(explorer)
    box = page.locator("#plane").bounding_box()
    picked = []
    for number in (7, 11):
        x, y = page.evaluate("(number) => page.map.pixel(page.plane.places[number])", number)
        page.mouse.move(box["x"] + x, box["y"] + y)
        picked.append(page.evaluate("page.map.hovered"))
        settled(page)
        assert "nats" in page.inner_text("#near-score")
        assert page.locator("#neighbours canvas").count() == 5
        page.mouse.click(box["x"] + x, box["y"] + y)
        settled(page)
    assert page.evaluate("page.state.marks") == picked[::-1]
    page.locator("#slide").focus()
    page.keyboard.press("End")
    settled(page)
    z, last = page.evaluate(
        "[Array.from(page.state.z), Array.from(page.means[page.state.marks[1]])]"
    )
    np.testing.assert_allclose(z, last, atol=1e-6)
    assert page.locator("#way canvas").count() == 9


def test_a_slider_moves_its_latent_and_the_first_says_most(opened, explorer):
    page = opened(explorer)
    sliders = page.locator("#sliders input")
    first = page.evaluate("page.data.kl.indexOf(Math.max(...page.data.kl))")
    assert sliders.nth(0).get_attribute("id") == f"latent-{first}"
    before = page.evaluate("Array.from(page.state.z)")
    sliders.nth(0).focus()
    page.keyboard.press("Home")
    settled(page)
    after = page.evaluate("Array.from(page.state.z)")
    assert [i for i in range(4) if before[i] != after[i]] == [first] and after[first] < -3


def test_a_link_holds_what_is_shown(opened, explorer):
    page = opened(explorer)
    page.locator("#temperature").focus()
    page.keyboard.press("ArrowLeft")
    page.locator("#again").click()
    page.locator("#sliders input").first.focus()
    page.keyboard.press("Home")
    settled(page)
    shown = pixels(page, "picture"), page.evaluate("location.hash"), link(page)
    assert shown[2]["temperature"] == "0.95" and shown[2]["seed"] == "2"
    again = opened(explorer, shown[1])
    assert np.abs(pixels(again, "picture") - shown[0]).max() <= 2
    assert again.evaluate("location.hash") == shown[1]


@pytest.mark.parametrize(
    "where", ["#plane=9&z=a,b&marks=7,x&t=NaN&class=1e9", "#%", "#z=1&pair=9,9"]
)
def test_a_damaged_link_is_as_none(opened, explorer, where):
    assert opened(explorer, where).evaluate("page.state.plane") == 0


def test_what_is_drawn_is_encoded_and_decoded(opened, explorer):
    page = opened(explorer)
    page.locator("#paper").scroll_into_view_if_needed()
    box = page.locator("#paper").bounding_box()
    page.mouse.move(box["x"] + 60, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + 60, box["y"] + 240, steps=5)
    page.mouse.up()
    settled(page)
    seen = pixels(page, "seen").reshape(12, 12)
    assert seen[:, 2].max() == 255 and seen[:, 8:].max() == 0
    assert page.locator("#own-near canvas").count() == 5
    assert page.inner_text("#caption") == "the reconstruction of your image"


def test_a_file_that_is_dropped_or_chosen_is_encoded(opened, explorer, tmp_path):
    page = opened(explorer)
    Image.fromarray(digits()[0][1, ..., 0]).resize((120, 120), 0).save(tmp_path / "bar.png")
    page.set_input_files("#file", tmp_path / "bar.png")
    until(page, "by('seen').clientWidth > 0")
    settled(page)
    chosen = pixels(page, "seen").reshape(12, 12)
    assert chosen[:, 5:7].min() == 255 and chosen[:, 8:].max() == 0
    page.locator("#clear").click()
    settled(page)
    assert pixels(page, "seen").max() == 0
    page.evaluate(
        """async (numbers) => {
            const dataTransfer = new DataTransfer(), bytes = new Uint8Array(numbers);
            dataTransfer.items.add(new File([bytes], "bar.png", { type: "image/png" }));
            by("own").dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true }));
        }""",
        list((tmp_path / "bar.png").read_bytes()),
    )
    page.wait_for_timeout(300)
    settled(page)
    assert np.array_equal(pixels(page, "seen").reshape(12, 12), chosen)
    (tmp_path / "no.png").write_text("no picture")
    page.set_input_files("#file", tmp_path / "no.png")
    until(page, "by('status').textContent.includes('no picture')")


def test_a_conditional_model_has_a_slider_for_the_class(opened):
    vae = vae_of(classes=3)
    page = opened(kvae.explore(vae, bars(), count=30))
    page.locator("#class").focus()
    page.keyboard.press("End")
    settled(page)
    assert page.inner_text("#class-name") == "right"
    z = np.array([page.evaluate("Array.from(page.state.z)")], "float32")
    expected = 255 * vae.decode(z, classes=[2]).ravel()
    assert np.abs(pixels(page, "picture") - expected).max() < 1
    page.keyboard.press("ArrowLeft")
    assert "middle 5 %, right 95 %" in page.locator("#class").get_attribute("aria-valuetext")


def test_names_of_strangers_are_text(opened):
    names = [HOSTILE, "שלום עולם", "‮txt"]
    vae = vae_of()
    vae.card = {**vae.card, HOSTILE: HOSTILE, "nested": {HOSTILE: [HOSTILE]}}
    page = opened(kvae.explore(vae, bars(names=names), count=30, title=HOSTILE))
    assert page.inner_text("#title") == HOSTILE
    assert page.locator("main img, main script").count() == 0
    assert HOSTILE in page.locator("#card").text_content()
    assert HOSTILE in page.locator("#legend").text_content()


def test_what_asks_the_network_or_runs_a_text_is_refused(browser, explorer, tmp_path):
    explorer.save(tmp_path / "explorer.html")
    page = browser.new_page()
    page.goto((tmp_path / "explorer.html").as_uri())
    refused = page.evaluate(
        """async () => {
            const failed = [];
            try { await fetch("http://127.0.0.1:9/"); } catch { failed.push("fetch"); }
            const script = document.createElement("script");
            script.textContent = "window.ran = true";
            document.body.append(script);
            if (!window.ran) failed.push("script");
            return failed;
        }"""
    )
    page.close()
    assert refused == ["fetch", "script"]
    source = "".join((HERE / name).read_text() for name in SCRIPTS)
    for word in ("eval(", "new Function", "innerHTML", "outerHTML", "document.write", "fetch("):
        assert word not in source, word


@pytest.mark.parametrize(
    "context", [{"viewport": {"width": 320, "height": 640}}, {"color_scheme": "dark"}]
)
def test_small_and_dark_screens_show_all_of_it(opened, explorer, context):
    page = opened(explorer, **context)
    widths = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert widths[0] <= widths[1]
    assert not page.evaluate(
        """Array.from(document.querySelectorAll("input, select"))
            .filter((one) => !one.labels.length && !one.ariaLabel).map((one) => one.id)"""
    )


@keras.saving.register_keras_serializable("test_explorer")
class Twice(keras.layers.Layer):
    """A layer that graphs do not know."""

    def call(self, x):
        return 2 * x


def test_what_cannot_run_is_made_beforehand_and_the_page_says_so(opened):
    vae = vae_of("mlp-400")
    inputs = keras.Input((4,))
    decoder = keras.Model(inputs, vae.decoder(Twice(name="twice")(inputs)))
    explorer = kvae.explore(kvae.VAE(vae.encoder, decoder), bars(), count=30)
    page = opened(explorer)
    assert "twice is a Twice" in page.inner_text("#notes")
    box = page.locator("#plane").bounding_box()
    page.mouse.click(box["x"] + 40, box["y"] + 40)
    settled(page)
    assert pixels(page, "picture").max() > 0
    assert not page.locator("#one-by-one").is_visible() and not page.locator("#new").is_visible()


def test_a_model_that_is_too_large_is_made_beforehand(monkeypatch):
    monkeypatch.setattr("kvae.explorer.explorer.LARGEST", 100_000)
    explorer = kvae.explore(vae_of("mlp-400"), bars(), count=30)
    assert "too large" in explorer.notes[0] and len(explorer.page) < 100_000


def test_a_notebook_has_the_page_in_a_frame_of_its_own(explorer):
    frame = explorer._repr_html_()
    assert frame.startswith('<iframe sandbox="allow-scripts"')
    assert html.unescape(re.search('srcdoc="([^"]*)"', frame)[1]) == explorer.page


def test_the_frame_of_a_notebook_works_too(browser, explorer):
    page = browser.new_page()
    complaints = []
    page.on("console", lambda message: complaints.append(message.text))
    page.set_content(explorer._repr_html_())
    frame = page.frames[1]
    frame.evaluate("ready.then((page) => { window.page = page; })")
    settled(frame)
    page.close()
    assert complaints == []


def test_the_page_is_plain_json_of_finite_numbers(explorer):
    data = json.loads(re.search('id="data">(.*)</script>', explorer.page)[1])
    assert data["history"]["loss"] == [3.0, 2.0, None]
    assert len(data["labels"]) == len(data["scores"]) == 30


def test_arguments_that_are_none_are_refused():
    with pytest.raises(ValueError, match="`weights` must be"):
        kvae.explore(vae_of(), bars(), weights="int4")
    with pytest.raises(ValueError, match="at least 3 test images"):
        kvae.explore(vae_of(), bars(), count=2)


def test_the_command_writes_a_page_or_a_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    vae = vae_of("mlp-400", (8, 8, 1))
    vae.card = {**vae.card, "dataset": "digits", "origin": "digits"}
    vae.save("vae.keras")
    said = call("explore", "vae.keras", "--count", 40)
    assert "explorer.html" in said.stdout and (tmp_path / "explorer.html").stat().st_size > 10_000
    (tmp_path / "explorer.html").unlink()
    assert_refused(["explore", "no.keras"], 1, "no.keras")
    assert_refused(["explore", "vae.keras", "--out", "page.pdf"], 2, ".html")
