import csv
import os
import shutil
import signal
import stat
import sys

import keras
import numpy as np
import pytest
from fresh_process import run
from marks import once
from matplotlib.image import imread
from PIL import Image

import kvae
from kvae.training import default_epochs, optimizer
from kvae.training.callbacks import BetaLogger
from kvae.training.run import Run


@pytest.fixture(scope="module")
def dataset(images):
    # 48 to train on, in batches of 16: a short last one would be compiled too.
    return kvae.data.from_arrays(images[:58], name="bars", class_names=["bar"])


@pytest.fixture(scope="module")
def small():
    """The default preset, with less of everything."""
    preset = kvae.presets.Preset(
        preset="small",
        summary="",
        network_arguments={"width": 16, "depth": 1},
        latent_dim=3,
        batch_size=16,
        averaged=0.05,
        prior="standard-normal",
        couplings=None,
        start_at_mean=False,
        learning_rate=2e-3,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(kvae.presets.PRESETS, "small", preset)
        yield


def train(dataset, out, **settings):
    return kvae.train(dataset, "small", out=out, verbose=0, **{"epochs": 3, **settings})


@pytest.fixture(scope="module")
def finished(dataset, small, tmp_path_factory):
    """A run that no test changes: its model and its folder."""
    folder = tmp_path_factory.mktemp("finished") / "new"
    return train(dataset, folder / "vae.keras", beta=2.0, seed=5), folder


@pytest.fixture(scope="module")
def of_two_draws(dataset, small, tmp_path_factory):
    """Another, of the mean of two draws."""
    folder = tmp_path_factory.mktemp("of_two_draws")
    return train(dataset, folder / "vae.keras", mean_of_draws=2, epochs=2), folder


def test_a_run_leaves_a_model_a_history_curves_and_grids(finished):
    vae, tmp_path = finished
    folder = tmp_path / "vae"
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.*"))
    grids = [
        f"{kind}/epoch-000{i}.png" for kind in ("reconstructions", "samples") for i in (1, 2, 3)
    ]
    own = ["checkpoint.npz", "curves.png", "history.csv", "latents.csv", "samples.gif"]
    assert files == sorted([*own, *grids])
    with (folder / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert [row["updates"] for row in rows] == ["3", "6", "9"]  # 48 images in batches of 16
    for row in rows:
        assert np.isfinite([float(value) for value in row.values()]).all()
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])
    again = kvae.load(tmp_path / "vae.keras")
    np.testing.assert_allclose(again.generate(4, seed=0), vae.generate(4, seed=0), atol=1e-6)
    assert imread(folder / "samples" / "epoch-0003.png").shape[2] in (3, 4)


def copied(finished, target):
    """A finished run under another name: a model's file without its suffix."""
    shutil.copy(finished[1] / "vae.keras", target.with_name(f"{target.name}.keras"))
    shutil.copytree(finished[1] / "vae", target)


@once
def test_a_run_ends_with_its_sample_grids_as_an_animation(finished):
    _, tmp_path = finished
    with Image.open(tmp_path / "vae" / "samples.gif") as animation:
        assert animation.n_frames == 3
        animation.seek(2)
        last = np.asarray(animation.convert("RGB"))
    grid = imread(tmp_path / "vae" / "samples" / "epoch-0003.png")[..., :3]
    np.testing.assert_array_equal(last, np.rint(grid * 255))


def test_the_kl_of_each_latent_is_kept_and_drawn(dataset, finished):
    vae, tmp_path = finished
    with (tmp_path / "vae" / "latents.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    expected = vae.kl_per_latent(dataset.validation)
    np.testing.assert_allclose([float(rows[-1][str(i)]) for i in (1, 2, 3)], expected, rtol=1e-4)
    assert len(kvae.curves(tmp_path / "vae").axes) == 4


def test_the_card_says_what_the_model_is_and_its_figures_can_be_had_again(dataset, finished):
    vae, tmp_path = finished
    card = kvae.load(tmp_path / "vae.keras").card
    assert card == vae.card
    expected = {
        "dataset": "bars",
        "origin": "",
        "image_shape": [8, 8, 1],
        "class_names": ["bar"],
        "images": {"train": 48, "validation": 5, "test": 5},
        "protocol": "binarize dynamic",
        "latent_dim": 3,
        "preset": "small",
        "epochs": 3,
        "backend": keras.backend.backend(),
    }
    assert {name: card[name] for name in expected} == expected
    recipe = kvae.Recipe.from_card(card)
    assert (recipe.preset, recipe.seed, recipe.beta, recipe.epochs) == ("small", 5, 2.0, 3)
    assert recipe.precision == "float32"
    assert card["versions"]["kvae"] == kvae.__version__
    test = card["test"]
    protocol = test["protocol"]
    assert protocol["unit"] == "nats per image" and protocol["images"] == 5
    assert abs(test["elbo"] + test["reconstruction"] + test["kl"]) < 0.01
    again = kvae.evaluation.test_figures(vae, dataset.test, seed=5)
    assert again == test


@pytest.mark.slow
def test_the_same_seed_gives_the_same_run(dataset, finished, tmp_path):
    first = finished[0]
    second, other = (
        train(dataset, tmp_path / f"{seed}.keras", beta=2.0, seed=seed) for seed in (5, 2)
    )
    np.testing.assert_allclose(first.generate(4, seed=0), second.generate(4, seed=0), atol=1e-4)
    assert abs(first.generate(4, seed=0) - other.generate(4, seed=0)).max() > 1e-3


@once
def test_a_former_run_is_moved_aside(dataset, finished, tmp_path):
    for former in ("my.vae", "my.vae-1"):
        copied(finished, tmp_path / former)
    train(dataset, tmp_path / "my.vae.keras", epochs=1)
    names = sorted(path.name for path in tmp_path.iterdir())
    runs = ["my.vae", "my.vae-1", "my.vae-2"]
    assert names == sorted([*runs, *(f"{run}.keras" for run in runs)])
    epochs = [kvae.load(tmp_path / f"{name}.keras").card["epochs"] for name in runs]
    assert epochs == [1, 3, 3]


def test_a_folder_that_is_no_run_is_left_alone(dataset, small, tmp_path):
    (tmp_path / "vae").mkdir()
    (tmp_path / "vae" / "photo.png").write_bytes(b"mine")
    with pytest.raises(ValueError, match="is in the way"):
        train(dataset, tmp_path / "vae.keras")
    assert [path.name for path in tmp_path.rglob("*")] == ["vae", "photo.png"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize("name", ["vae.keras", "vae"])
def test_what_is_no_file_is_not_moved_aside(tmp_path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(ValueError, match=f"{name} is in the way"):
        Run(tmp_path / "vae.keras").__enter__()
    assert stat.S_ISFIFO((tmp_path / name).stat().st_mode)
    assert list(tmp_path.iterdir()) == [tmp_path / name]


@pytest.mark.parametrize(
    "settings, what",
    [
        ({"epochs": 0}, "epochs"),
        ({"epochs": -1}, "epochs"),
        ({"batch_size": 0}, "batch_size"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"learning_rate": float("inf")}, "learning_rate"),
        ({"likelihood": "bernoulli", "scale": 0.1}, "'bernoulli' has no argument `scale`"),
        ({"likelihood": "poisson"}, "poisson"),
    ],
)
def test_nonsense_is_refused_and_nothing_is_written(dataset, small, tmp_path, settings, what):
    with pytest.raises(ValueError, match=what):
        train(dataset, tmp_path / "vae.keras", **settings)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_data_set_or_says_nothing_is_refused(dataset, small, tmp_path):
    out = tmp_path / "vae.keras"
    for given in (dataset.train, None, {"train": dataset.train}):
        with pytest.raises(ValueError, match="`dataset` must be what kvae.data.load"):
            kvae.train(given, "small", out=out)
    with pytest.raises(ValueError, match="There is no preset {}"):
        kvae.train(dataset, {}, out=out)
    with pytest.raises(ValueError, match="`verbose` must be"):
        kvae.train(dataset, "small", out=out, verbose=7)
    assert list(tmp_path.iterdir()) == []


# Each learns in test_likelihoods; a density, without bits, has a test below.
LIKELIHOODS = [
    pytest.param(name, marks=[] if name == "discretized-logistic" else pytest.mark.slow)
    for name in kvae.likelihoods.LIKELIHOODS
]


@pytest.mark.slow
@once  # with XLA, which would have to know what each of them draws
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_every_likelihood_trains_and_says_its_figures(dataset, small, tmp_path, likelihood):
    vae = train(dataset, tmp_path / "vae.keras", likelihood=likelihood, samples=2)
    test = kvae.load(tmp_path / "vae.keras").card["test"]
    assert test == vae.card["test"]
    assert test["protocol"]["observation"] == vae.likelihood.protocol
    assert ("bits_per_dimension" in test) == (vae.likelihood.measure == "probability")


@pytest.mark.slow
def test_a_gaussian_of_one_scale_says_its_squared_error(dataset, small, tmp_path):
    vae = train(dataset, tmp_path / "vae.keras", likelihood="gaussian", scale=0.5, epochs=1)
    test = vae.card["test"]
    assert "bits_per_dimension" not in test
    draws = [keras.ops.convert_to_numpy(vae(dataset.test)["parameters"]) for _ in range(50)]
    errors = [((draw - dataset.test / 255) ** 2).mean() for draw in draws]
    assert abs(test["mean_squared_error"] - np.mean(errors)) < 5 * np.std(errors)
    for figures in (test, vae.card["train"]):
        figure = (65025 * figures["mean_squared_error"] + figures["kl"]) / 400
        assert abs(figures["squared_error_figure"] - figure) < 1e-3


def test_the_train_figures_are_those_of_the_last_epoch(of_two_draws):
    _, tmp_path = of_two_draws
    last = (tmp_path / "vae" / "history.csv").read_text().splitlines()
    row = dict(zip(last[0].split(","), last[-1].split(","), strict=True))
    train_figures = kvae.load(tmp_path / "vae.keras").card["train"]
    assert abs(train_figures["elbo"] - float(row["elbo"])) < 1e-3
    assert "mean of 2 draws: no bound" in train_figures["protocol"]


@pytest.mark.slow
def test_a_plateau_halves_the_learning_rate(dataset, tmp_path):
    halving = {"schedule": "plateau", "learning_rate": 1e-9, "batch_size": 16}
    vae = kvae.train(dataset, "mlp-200", epochs=8, out=tmp_path / "vae.keras", verbose=0, **halving)
    assert float(vae.optimizer.learning_rate) < 1e-9
    assert "use_ema" not in str(vae.card) and not vae.optimizer.use_ema


@once
def test_a_recipe_may_shrink_images_and_take_fewer(small, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (90, 12, 8, 1), "uint8")
    dataset = kvae.data.from_arrays(images, train_labels=np.arange(90) % 3)
    vae = train(dataset, tmp_path / "vae.keras", epochs=1, largest=6, per_class=7)
    assert vae.image_shape == (6, 4, 1)
    assert vae.card["images"] == {"train": 21, "validation": 7, "test": 7}


def test_a_mean_of_draws_is_said_to_be_no_bound(of_two_draws):
    test = of_two_draws[0].card["test"]
    assert test["mean_of_draws"]["protocol"] == "z the mean of 2 draws: no bound"
    assert test["protocol"]["draws_of_z"] == 1


@pytest.mark.slow
def test_images_of_any_number_of_channels_train(small, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (60, 6, 5, 4), "uint8")
    train(kvae.data.from_arrays(images), tmp_path / "vae.keras", epochs=1)
    assert (tmp_path / "vae" / "samples" / "epoch-0001.png").exists()


@once
def test_a_disk_that_fills_up_is_named_with_what_is_kept(dataset, small, tmp_path, monkeypatch):
    real, calls = kvae.VAE.save, []

    def save(self, path, *args, **kwargs):
        calls.append(path)
        if len(calls) > 1:
            raise OSError(28, "No space left on device")
        real(self, path, *args, **kwargs)

    monkeypatch.setattr(kvae.VAE, "save", save)
    with pytest.raises(OSError, match=r"vae.keras cannot be written: No space.* Epoch 1 is kept"):
        train(dataset, tmp_path / "vae.keras", epochs=2)
    assert kvae.load(tmp_path / "vae.keras").card["epochs"] == 1


@once
def test_pictures_that_cannot_be_written_do_not_stop_training(
    dataset, small, tmp_path, monkeypatch
):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(kvae.plots, "save_picture", full)
    with pytest.warns(UserWarning, match="No space left"):
        vae = train(dataset, tmp_path / "vae.keras", epochs=1)
    assert vae.card["epochs"] == 1


def interrupt_in_epoch(monkeypatch, epoch):
    """Presses Ctrl-C in the middle of an epoch, counted from 0."""

    class Interrupt(BetaLogger):
        def on_epoch_begin(self, now, logs=None):
            if now == epoch:
                os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(sys.modules["kvae.training.watch"], "BetaLogger", Interrupt)


@pytest.mark.slow
@pytest.mark.every_backend
def test_control_c_keeps_the_last_finished_epoch_on_disk(dataset, small, tmp_path, monkeypatch):
    interrupt_in_epoch(monkeypatch, 2)
    out = tmp_path / "vae.keras"
    with pytest.raises(KeyboardInterrupt, match="Epoch 2 is kept in"):
        train(dataset, out, epochs=9)
    vae = kvae.load(out)
    assert vae.card["epochs"] == 2
    assert len((tmp_path / "vae" / "history.csv").read_text().splitlines()) == 3
    vae.fit(dataset.train, epochs=1, verbose=0)


@once
def test_control_c_in_the_first_epoch_leaves_everything_as_it_was(
    dataset, finished, tmp_path, monkeypatch
):
    copied(finished, tmp_path / "vae")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()}
    interrupt_in_epoch(monkeypatch, 0)
    with pytest.raises(KeyboardInterrupt, match="No model was saved yet"):
        train(dataset, tmp_path / "vae.keras")
    after = {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()}
    hidden = tmp_path / ".vae.new" / "checkpoint.npz"  # to go on from
    assert after.keys() - before.keys() == {hidden} and hidden.is_file()
    assert {path: after[path] for path in before} == before


def test_a_loss_that_is_not_finite_says_which_term_and_what_to_do(
    dataset, small, tmp_path, monkeypatch
):
    class Break(BetaLogger):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                self.model.decoder.get_layer("values").bias.assign(np.full(64, np.nan))

    monkeypatch.setattr(sys.modules["kvae.training.watch"], "BetaLogger", Break)
    with pytest.raises(FloatingPointError, match="reconstruction.*learning rate.*Epoch 1 is kept"):
        train(dataset, tmp_path / "vae.keras")
    assert np.isfinite(kvae.load(tmp_path / "vae.keras").generate(3, seed=0)).all()


@once
def test_a_full_disk_is_found_before_training(dataset, small, tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("kvae.training.run.shutil.disk_usage", lambda path: usage)
    with pytest.raises(OSError, match="0 MB are free"):
        train(dataset, tmp_path / "vae.keras")
    assert list(tmp_path.iterdir()) == []


def test_the_file_must_be_called_keras(tmp_path):
    with pytest.raises(ValueError, match="must end in .keras"):
        Run(tmp_path / "vae.h5")


@pytest.mark.parametrize(
    "images, batch_size, epochs", [(55_000, 64, 10), (1_437, 64, 131), (9, 64, 3000)]
)
def test_small_data_sets_get_more_epochs(images, batch_size, epochs):
    recipe = kvae.Recipe(batch_size=batch_size)
    assert default_epochs(images, recipe) == epochs
    half = default_epochs(images, recipe.replaced(least_updates=1_500))
    assert half == max(10, -(-1_500 * epochs // 3_000))
    fewer = default_epochs(images, recipe.replaced(least_epochs=7, least_updates=1))
    assert fewer == 7


@pytest.mark.parametrize("updates, highest", [(2_000, 100), (400, 60), (50, 25)])
def test_a_rate_rises_for_so_many_updates_or_half_of_a_short_run(updates, highest):
    adam = optimizer(kvae.Recipe(learning_rate=1.0, least_warmup=60), updates)
    steps = [0, highest // 2, highest - 1, highest, highest + 1, updates // 2, updates - 1]
    rates = [float(adam._learning_rate(step)) for step in steps]
    assert steps[int(np.argmax(rates))] == highest
    assert rates[0] < rates[1] < rates[2] and rates[4] > rates[6]


@pytest.mark.parametrize("updates", [1, 2, 20, 10_000])
def test_the_learning_rate_rises_then_falls_to_zero_for_runs_of_any_length(updates):
    adam = optimizer(kvae.Recipe(learning_rate=1e-3, averaged=0.05), updates)
    steps = {*range(min(updates, 25)), *range(0, updates, 500), updates}
    rates = [float(adam._learning_rate(step)) for step in sorted(steps)]
    assert max(rates) <= 1e-3 * (1 + 1e-6)
    assert rates[-1] < 1e-5 or updates == 1
    assert adam.use_ema and 0 <= adam.ema_momentum < 1


@pytest.mark.slow
def test_training_runs_where_tensorflow_is_not_installed(small, dataset, tmp_path):
    if keras.backend.backend() == "tensorflow":
        pytest.skip("TensorFlow is the backend")
    np.savez(tmp_path / "bars.npz", dataset.train)
    code = """
import sys
import kvae
dataset = kvae.data.load(sys.argv[1])
recipe = kvae.Recipe(network_arguments={"width": 16, "depth": 1}, latent_dim=3)
kvae.train(dataset, recipe, epochs=1, out=sys.argv[2], verbose=0)
print(kvae.load(sys.argv[2]).generate(3, seed=0).shape)
"""
    blocked = ("tensorflow", "tensorflow_datasets")
    files = (tmp_path / "bars.npz", tmp_path / "vae.keras")
    assert run(code, keras.backend.backend(), *files, blocked=blocked).strip() == "(3, 8, 8, 1)"


@pytest.mark.slow
@pytest.mark.every_backend
def test_mixed_precision_trains(dataset, small, tmp_path):
    former = keras.config.dtype_policy().name
    vae = train(dataset, tmp_path / "vae.keras", precision="mixed_bfloat16", epochs=1)
    assert keras.config.dtype_policy().name == former
    assert kvae.Recipe.from_card(vae.card).precision == "mixed_bfloat16"
    assert vae.encoder.get_layer("stem").dtype_policy.name == "mixed_bfloat16"
    assert np.isfinite(vae.card["test"]["elbo"])
