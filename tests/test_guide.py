"""The snippets of kvae/README.md, read out of it and run."""

import concurrent.futures
import contextlib
import http.server
import importlib.util
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import threading
import zipfile
from unittest import mock

import keras
import numpy as np
import pytest
from exporting import CLOSE, converts, feeds, ladder, moved, needs, outputs_of, own_model, small
from fresh_process import NAMES, run
from marks import once

import kvae
from kvae.exports import FORMATS, keras_format
from kvae.exports.worker import write_and_check
from kvae.model import GRAPHS, Graph

GUIDE = pathlib.Path(kvae.__file__).with_name("README.md").read_text()
FENCES = re.findall(r"^```(\w*)\n(.*?)^```", GUIDE, re.S | re.M)


def snippet(language, holds):
    """The one snippet of the guide in a language that has this text in it."""
    (found,) = [text for kind, text in FENCES if kind == language and holds in text]
    return found


def installed(*modules):
    """Skips where a package is missing, and fails where .ci/run has installed all."""
    missing = [one for one in modules if importlib.util.find_spec(one) is None]
    if missing and os.environ.get("KVAE_RUNTIMES") == "all":
        pytest.fail(f"{', '.join(missing)} should be installed")
    if missing:
        pytest.skip(f"{missing[0]} is not installed: pip install 'keras-vae[guide]'")


@pytest.fixture(scope="module")
def as_mnist():
    """A model of the shapes that the snippets name, and quicker to convert than `mnist`."""
    return moved(kvae.VAE.from_preset("mlp-400", (28, 28, 1), latent_dim=40))


def made(vae, path, name, part="generator"):
    """Writes an export in this process, beside nothing else, and gives what it said of it."""
    folder = pathlib.Path("made")
    folder.mkdir()
    result = write_and_check(vae, folder / pathlib.Path(path).name, name, part, "float32")
    pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
    (folder / pathlib.Path(path).name).rename(path)
    return result


def generated(vae, noise):
    return outputs_of(Graph(vae, "generator"), {"noise": np.asarray(noise, "float32")})["images"]


# Other languages ----------------------------------------------------------------------------------

JAVASCRIPT = snippet("javascript", "InferenceSession")
SHOWN = "JSON.stringify({ noise: [...noise.data], images: [...images.data], dims: images.dims })"


def web_runtime():
    """The folder of the packages of Node.js where onnxruntime-web is one of them."""
    for folder in os.environ.get("NODE_PATH", "").split(os.pathsep):
        if folder and pathlib.Path(folder, "onnxruntime-web").is_dir():
            return pathlib.Path(folder)
    if "NODE_PATH" in os.environ and os.environ.get("KVAE_RUNTIMES") == "all":
        pytest.fail("onnxruntime-web should be in a folder that NODE_PATH names")
    pytest.skip("npm install onnxruntime-web, and set NODE_PATH to its node_modules")


def assert_said_as_the_model_has_it(said, vae):
    noise = np.reshape(said["noise"], (16, 40))
    assert said["dims"] == [16, 28, 28, 1] and 0.8 < noise.std() < 1.2
    np.testing.assert_allclose(
        np.reshape(said["images"], said["dims"]), generated(vae, noise), **CLOSE
    )


@converts
def test_javascript_runs_in_node(as_mnist, in_folder):
    needs("onnx")
    if shutil.which("node") is None:
        pytest.skip("There is no Node.js")
    pathlib.Path("node_modules").symlink_to(web_runtime())
    made(as_mnist, "mnist.onnx", "onnx")
    pathlib.Path("a.mjs").write_text(f"{JAVASCRIPT}\nconsole.log({SHOWN});")
    printed = subprocess.check_output(["node", "a.mjs"], text=True)
    assert_said_as_the_model_has_it(json.loads(printed), as_mnist)


PAGE = """<!doctype html>
<script type="importmap">{"imports": {"onnxruntime-web":
  "./node_modules/onnxruntime-web/dist/ort.min.mjs"}}</script>
<script type="module">%s
document.title = %s;</script>"""


@converts
def test_javascript_runs_in_a_browser(as_mnist, in_folder, browser):
    needs("onnx")
    pathlib.Path("node_modules").symlink_to(web_runtime())
    made(as_mnist, "mnist.onnx", "onnx")
    pathlib.Path("index.html").write_text(PAGE % (JAVASCRIPT, SHOWN))
    with served(QuietFiles) as port:
        page = browser.new_page()
        page.goto(f"http://localhost:{port}/index.html")
        page.wait_for_function("document.title", timeout=60_000)
        said = json.loads(page.title())
        page.close()
    assert_said_as_the_model_has_it(said, as_mnist)


@converts
def test_csharp_and_kotlin_name_what_the_files_have(as_mnist, in_folder):
    needs("onnx")
    ports = made(as_mnist, "mnist.onnx", "onnx")
    csharp, kotlin = snippet("csharp", "InferenceSession"), snippet("kotlin", "Interpreter")
    assert re.findall(r'CreateFromTensor\("(\w+)"', csharp) == list(ports["inputs"])
    assert re.findall(r'Name == "(\w+)"', csharp) == list(ports["outputs"])
    assert [16, *ports["inputs"]["noise"][1:]] == sizes(re.search(r"\{ ([\d, ]+) \}", csharp)[1])
    assert re.findall(r'mapOf\("(\w+)"', kotlin) == [*ports["inputs"], *ports["outputs"]]
    for name, shape in (ports["inputs"] | ports["outputs"]).items():
        (line,) = re.findall(rf"val {name} = (.*)", kotlin)
        assert [int(one) for one in re.findall(r"Array\((\d+)\)", line)] == [16, *shape[1:]]
    for text in (csharp, kotlin):
        assert len(text.splitlines()) <= 8


def sizes(text):
    return [int(one) for one in text.split(",")]


# Behind a server ----------------------------------------------------------------------------------


class QuietFiles(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@contextlib.contextmanager
def served(handler):
    """The port of this machine at which a handler answers."""
    with http.server.ThreadingHTTPServer(("localhost", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


class Serving(QuietFiles):
    """What TensorFlow Serving's REST does with a request by columns, of one model."""

    def do_POST(self):
        import tensorflow as tf

        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert self.path == "/v1/models/mnist:predict"
        serve = tf.saved_model.load("models/mnist/1").signatures[body["signature_name"]]
        specs = serve.structured_input_signature[1]
        assert body["inputs"].keys() == specs.keys()
        given = {name: tf.constant(body["inputs"][name], specs[name].dtype) for name in specs}
        for name, spec in specs.items():
            assert spec.shape.is_compatible_with(given[name].shape)
        found = {name: value.numpy().tolist() for name, value in serve(**given).items()}
        answer = json.dumps({"outputs": found if len(found) > 1 else found.popitem()[1]})
        self.send_response(200)
        self.end_headers()
        self.wfile.write(answer.encode())


@converts
def test_the_request_to_tensorflow_serving_fits_the_signature(as_mnist, in_folder):
    assert "--format saved-model --out models/mnist/1\n" in snippet("", "tensorflow/serving")
    made(as_mnist, "models/mnist/1", "saved-model")
    code, found = snippet("python", "# a request to TensorFlow Serving"), {}
    with served(Serving) as port:
        assert "localhost:8501" in code
        exec(code.replace("localhost:8501", f"localhost:{port}"), found)
    np.testing.assert_allclose(found["images"], generated(as_mnist, found["noise"]), **CLOSE)


@converts
def test_a_handler_of_fastapi_answers_several_threads_at_once(as_mnist, in_folder):
    needs("onnx")
    installed("fastapi", "httpx2")
    from fastapi.testclient import TestClient

    made(as_mnist, "mnist.onnx", "onnx")
    service = {"__name__": "service"}
    exec(snippet("python", "# service.py"), service)
    with TestClient(service["app"]) as client:
        assert client.get("/images?count=101").status_code == 422
        barrier = threading.Barrier(4)

        def asked(seed):
            barrier.wait()
            return client.get(f"/images?count=3&seed={seed}").json()

        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(asked, range(12)))
    for seed, images in enumerate(answers):
        noise = np.random.default_rng(seed).standard_normal((3, 40), "float32")
        np.testing.assert_allclose(images, generated(as_mnist, noise), **CLOSE)


# Keras's own layers -------------------------------------------------------------------------------

STOCK = {"flow and classes": lambda: small(classes=3), "ladder of classes": lambda: ladder(3)}


@pytest.mark.parametrize("kind", STOCK)
def test_a_functional_model_gives_what_its_graph_gives(kind):
    vae = STOCK[kind]()
    for part in ("encoder", "vae"):
        graph = Graph(vae, part)
        model = graph.functional()
        assert list(model.input) == list(graph.input_specs)
        given = feeds(vae, part)
        for name, values in outputs_of(graph, given).items():
            found = keras.ops.convert_to_numpy(model(given)[name])
            np.testing.assert_allclose(found, values, **CLOSE)


def test_a_file_of_stock_layers_has_no_others(in_folder, monkeypatch, request):
    request.addfinalizer(lambda: sys.modules.pop("my_own_parts", None))
    vae, _ = own_model(in_folder, monkeypatch)
    with pytest.raises(ValueError, match=r"it has Scaled, mine>bent, tripled, and would open only"):
        keras_format.write(Graph(vae, "decoder"), in_folder / "a.keras", "{}", "float32")


OPENED = """
import keras, numpy as np, sys
for part in sys.argv[2:]:
    model = keras.saving.load_model(f"{sys.argv[1]}/{part}.keras")
    given = dict(np.load(f"{sys.argv[1]}/{part}.npz"))
    wanted = {name[1:]: given.pop(name) for name in list(given) if name[0] == "_"}
    found = model.predict(given, verbose=0)
    assert found.keys() == wanted.keys(), found.keys()
    print(part, max(np.abs(found[name] - wanted[name]).max() for name in wanted))
"""


@pytest.fixture(scope="module")
def stock_files(tmp_path_factory):
    """All parts of two models, of which one has a flow, one groups, and what each should give."""
    folder = tmp_path_factory.mktemp("stock")
    models = {
        "flow": small(
            "conv", (8, 8, 3), likelihood=kvae.LogisticMixture(), prior=kvae.RealNVP(3, 2, 8)
        ),
        "ladder": ladder(3),
    }
    for kind, vae in models.items():
        for part in GRAPHS:
            graph = Graph(vae, part)
            keras_format.write(graph, folder / f"{kind}-{part}.keras", '{"part": "any"}', "float32")
            given = feeds(vae, part)
            wanted = {f"_{name}": value for name, value in outputs_of(graph, given).items()}
            np.savez(folder / f"{kind}-{part}.npz", **given, **wanted)
    return folder


@converts
@pytest.mark.parametrize("backend", NAMES)
def test_a_file_of_stock_layers_opens_without_kvae_on_every_backend(stock_files, backend):
    parts = sorted(path.stem for path in stock_files.glob("*.keras"))
    assert len(parts) == 2 * len(GRAPHS)
    printed = run(OPENED, backend, stock_files, *parts, blocked=("kvae",)).split()
    assert printed[::2] == parts
    assert max(map(float, printed[1::2])) < 1e-4
    with zipfile.ZipFile(stock_files / f"{parts[0]}.keras") as archive:
        assert json.loads(archive.read("metadata.json"))["kvae"] == {"part": "any"}


# Keras's hub --------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")  # of huggingface_hub
def test_a_model_goes_to_hugging_face_and_comes_back(make_vae, images, in_folder):
    installed("huggingface_hub")
    import huggingface_hub

    vae = make_vae(card={"dataset": "bars"})
    vae.save("vae.keras")

    def upload_folder(self, *, repo_id, folder_path, **_):
        shutil.copytree(folder_path, in_folder / repo_id)

    with mock.patch.multiple(
        huggingface_hub.HfApi,
        create_repo=mock.Mock(return_value=mock.Mock(repo_id="user/digits")),
        upload_folder=mock.create_autospec(
            huggingface_hub.HfApi.upload_folder, side_effect=upload_folder
        ),
    ):
        vae.save("hf://user/digits")
        made = huggingface_hub.HfApi.create_repo
        assert made.call_args.args == ("user/digits",)
    with mock.patch("huggingface_hub.snapshot_download", autospec=True) as download:
        download.side_effect = lambda repo_id, **_: str(in_folder / repo_id)
        again = keras.saving.load_model("hf://user/digits")
        assert type(again) is kvae.VAE and again.card == vae.card and again.compiled
        np.testing.assert_allclose(again.encode(images)[0], vae.encode(images)[0], **CLOSE)
        again = kvae.load("hf://user/digits")
        assert download.call_args.kwargs == {"repo_id": "user/digits"}
        assert again.card == vae.card
        download.side_effect = OSError("no network\nat all")
        says = r"hf://user/digits cannot be downloaded: no network at all$"
        with pytest.raises(ValueError, match=says):
            kvae.load("hf://user/digits")
    for address in ("hf://user", "hf://../../x", "kaggle://user/digits", "https://x.org/a.keras"):
        with pytest.raises(ValueError, match=r"hf://user/name; download others first. Received"):
            kvae.load(address)
    with mock.patch.dict(sys.modules, {"huggingface_hub": None}):
        with pytest.raises(ValueError, match="pip install huggingface_hub"):
            kvae.load("hf://user/digits")


# In other programs --------------------------------------------------------------------------------


def test_a_decoder_is_a_layer_of_another_model(in_folder, graphs):
    digits = np.random.default_rng(0)
    found = {
        "images": digits.random((32, 28, 28, 1), "float32"),
        "labels": digits.integers(10, size=32),
    }
    exec(snippet("python", "# a decoder as a layer"), found)
    draw, shipped = found["draw"], kvae.load("mnist", compile=False)
    for mine, theirs in zip(found["vae"].decoder.weights, shipped.decoder.weights, strict=True):
        np.testing.assert_array_equal(*map(keras.ops.convert_to_numpy, (mine, theirs)))
    assert len(draw.trainable_variables) == 2
    again = keras.saving.load_model("draw.keras")
    codes = np.eye(10, dtype="float32")
    np.testing.assert_allclose(
        *(keras.ops.convert_to_numpy(one(codes)) for one in (again, draw)), **CLOSE
    )
    with zipfile.ZipFile("draw.keras") as archive:
        assert b"kvae" not in archive.read("config.json")


@pytest.mark.slow
@once
def test_a_model_is_tuned_on_other_images(in_folder):
    code, found = snippet("python", "on other digits"), {}
    exec(re.sub(r"epochs=\d+", "epochs=2", code), found)
    before, after = (
        kvae.load(one, compile=False).score(found["test"][:60], draws=2).elbo.mean()
        for one in ("mnist", "mine.keras")
    )
    assert after > before + 5


@pytest.mark.slow
@once
@pytest.mark.filterwarnings("ignore")  # of Keras Tuner
def test_a_search_finds_the_best_of_its_trials(in_folder, capsys):
    installed("keras_tuner")
    code, found = snippet("python", "# a search"), {}
    assert "epochs=5" in code and "max_trials=10" in code
    exec(
        code.replace("epochs=5", "epochs=1, verbose=0").replace("max_trials=10", "max_trials=2"),
        found,
    )
    trials = found["search"].oracle.get_best_trials(2)
    assert trials[0].score < trials[1].score
    assert found["best"] == trials[0].hyperparameters.values
    assert found["best"].keys() == {"latent_dim", "learning_rate"}
    assert len(list(pathlib.Path("search", "digits").glob("*/vae.keras"))) == 2


@pytest.mark.slow
@once
@pytest.mark.filterwarnings("ignore")  # of Jupyter
def test_a_notebook_shows_figures_and_pages(in_folder):
    installed("nbclient", "nbformat", "ipykernel")
    import nbclient
    import nbformat

    cells = snippet("python", "# a notebook").split("# %%\n")
    notebook = nbformat.v4.new_notebook(cells=list(map(nbformat.v4.new_code_cell, cells)))
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    kinds = [
        {kind for output in cell.outputs for kind in output.get("data", ())}
        for cell in notebook.cells
    ]
    assert "image/png" in kinds[1] and "text/html" in kinds[2]


@once
def test_every_format_and_every_part_is_in_the_guide():
    for name in FORMATS:
        assert re.search(rf"^# {name}\b", GUIDE, re.M) and f"`{name}`" in GUIDE
    for part in GRAPHS:
        assert f"| `{part}` |" in GUIDE
