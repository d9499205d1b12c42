import contextlib
import gc
import os
import pathlib
import shutil
import signal

import numpy as np
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
if "PYTEST_XDIST_WORKER" in os.environ:  # one core each
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
# Small models take longer to compile than to run.
os.environ.setdefault(
    "XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
)

USUAL_SIGNALS = {
    "SIGINT": signal.default_int_handler,
    "SIGTERM": signal.SIG_DFL,
    "SIGHUP": signal.SIG_DFL,
}
# Files that take a minute or more begin first: a file is one worker's, and what begins last is what
# all others wait for.
LONGEST = ("devices", "export_formats", "resume", "stream", "ladder", "fuzz", "shipped", "guide")
SHARED = pathlib.Path(__file__).parents[1].parent / "shared" / "data" / "tfds"


def pytest_configure(config):
    """Lets JAX keep what it compiled, for all tests of all processes; and lets signals arrive.

    A process that a script starts in the background ignores some, and kvae lets that be so.
    """
    for name, usual in USUAL_SIGNALS.items():
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, usual)
    if getattr(config, "cache", None) is not None:
        os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", str(config.cache.mkdir("hypothesis")))
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(config.cache.mkdir("jax")))
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")


def pytest_collection_modifyitems(items):
    """Skips what knows no backend under all but TensorFlow, and begins with the longest files."""
    import keras

    places = {f"test_{name}": i for i, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))

    if keras.backend.backend() != "tensorflow":
        elsewhere = pytest.mark.skip(reason="knows no backend: tested under TensorFlow")
        for item in items:
            if item.get_closest_marker("once"):
                item.add_marker(elsewhere)


def pytest_collection_finish(session):
    """Spares the collector of garbage what the imports made: it stays as long as the process."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def seeded():
    """The same initial weights in every run, whatever ran before."""
    import keras

    keras.utils.set_random_seed(0)


@pytest.fixture(scope="module", autouse=True)
def eager(request):
    """TensorFlow step by step: to trace and compile these models takes longer than to run them.

    With graphs and XLA, as a user has them, are the tests of the step, those that are marked slow
    and whatever runs in a process of its own. This is what such a test puts back.
    """
    import keras

    if keras.backend.backend() != "tensorflow" or request.module.__name__ == "test_steps":
        yield {}
        return
    always = {"run_eagerly": True, "jit_compile": False}
    own = {name: getattr(keras.Model, name) for name in always}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in always.items():
            same = property(lambda self, value=value: value, lambda self, _: None)
            patch.setattr(keras.Model, name, same)
        yield own


@pytest.fixture(scope="module")
def with_graphs(eager):
    """A context in which TensorFlow has its graphs after all: for what a file's tests share."""
    import keras

    @contextlib.contextmanager
    def context():
        with pytest.MonkeyPatch.context() as patch:
            for name in set(eager) & {"run_eagerly"}:
                patch.setattr(keras.Model, name, eager[name])
            yield

    return context


@pytest.fixture
def graphs(with_graphs):
    """That context, for a test that makes many steps or is about graphs."""
    with with_graphs():
        yield


@pytest.fixture(autouse=True)
def graphs_and_xla(request, eager, monkeypatch):
    """Both, for tests that are marked slow."""
    import keras

    if request.node.get_closest_marker("slow"):
        for name, own in eager.items():
            monkeypatch.setattr(keras.Model, name, own)


@pytest.fixture
def in_folder(tmp_path, monkeypatch):
    """A folder of the test's own, which is the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def images():
    """64 grey images of 8×8 with something to learn: bars of random place and brightness."""
    rng = np.random.default_rng(0)
    images = np.zeros((64, 8, 8, 1), "uint8")
    for image in images:
        image[:, rng.integers(8)] = rng.integers(100, 256)
    return images


@pytest.fixture(scope="session")
def make_vae():
    """A small model: 8×8 grey images, 3 latents.

    It learns by plain descent: to make two moments for each weight takes longer than a step.
    """
    import keras

    import kvae
    from kvae import objectives

    own = ("beta", "warmup_steps", "free_bits", "samples", "mean_of_draws")

    def make(
        image_shape=(8, 8, 1),
        latent_dim=3,
        likelihood=None,
        optimizer=None,
        objective="elbo",
        **arguments,
    ):
        keras.utils.set_random_seed(1)
        likelihood = likelihood or kvae.Bernoulli()
        if isinstance(objective, str):
            given = {name: arguments.pop(name) for name in own if name in arguments}
            objective = objectives.get(objective, **given)
        each = likelihood.parameters_per_value
        vae = kvae.VAE(
            kvae.build_encoder(image_shape, latent_dim, width=16, depth=1),
            kvae.build_decoder(image_shape, latent_dim, "mlp", each, width=16, depth=1),
            likelihood,
            objective=objective,
            seed=2,
            **arguments,
        )
        vae.compile(optimizer or keras.optimizers.SGD(1e-3))
        return vae

    return make


@pytest.fixture(scope="module")
def one_vae(make_vae):
    """What `fixed_vae` hands to the tests of a file."""
    return make_vae()


@pytest.fixture
def fixed_vae(one_vae):
    """That of `make_vae()`, made once for all tests of a file that leave it as it is."""
    from keras import ops

    def state():
        settings = (one_vae.step, one_vae.beta, one_vae.warmup_steps)
        trained = [weight.trainable for weight in one_vae.weights]
        numbers = [np.array(ops.convert_to_numpy(v)) for v in (*one_vae.weights, *settings)]
        return numbers, (trained, dict(one_vae.card), one_vae.compiled)

    one_vae.seed_generator.state.assign([2, 0])  # as in `make_vae`, whoever drew before
    numbers, others = state()
    yield one_vae
    numbers_after, others_after = state()
    assert others_after == others, "a test changed the model that others share"
    for before, after in zip(numbers, numbers_after, strict=True):
        np.testing.assert_array_equal(after, before, "a test changed the model that others share")


@pytest.fixture(scope="module")
def used(make_vae):
    """A model that many tests of a file train, one after the other: after any, it is as good."""
    import kvae

    return make_vae(likelihood=kvae.Bernoulli("threshold"))


@pytest.fixture(scope="session")
def make_flow():
    """A flow as training might leave it, far from the identity."""
    from flows import flow

    return flow


@pytest.fixture(scope="module")
def browser():
    """A Chromium without a window; a test is skipped, with a word on how to get one, without."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("There is no Chromium: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture
def opened(browser, tmp_path):
    """Opens an explorer; what it complains of, or asks the network for, fails the test."""
    from explorers import settled

    contexts, complaints = [], []

    def open_page(explorer, where="", before="", **settings):
        path = tmp_path / "explorer.html"
        explorer.save(path)
        contexts.append(browser.new_context(viewport={"width": 1200, "height": 1000}, **settings))
        page = contexts[-1].new_page()
        page.add_init_script(before)
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
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture(scope="session")
def mnist_dir():
    """Where TensorFlow Datasets has MNIST prepared; the test is skipped where it is not."""
    folder = pathlib.Path(os.environ.get("TFDS_DATA_DIR") or SHARED)
    if not list(folder.glob("mnist/**/dataset_info.json")):
        pytest.skip("MNIST is not at hand: set TFDS_DATA_DIR to where it is prepared")
    return folder


@pytest.fixture(scope="session")
def mnist(mnist_dir):
    """The default data set where MNIST is at hand, read once."""
    import kvae

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TFDS_DATA_DIR", str(mnist_dir))
        return kvae.data.load()
