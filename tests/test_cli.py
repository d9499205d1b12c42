import contextlib
import dataclasses
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

import click
import keras
import numpy as np
import pytest
from commands import COMMAND, assert_refused, call
from marks import not_on_jax
from matplotlib.image import imread
from test_training import interrupt_in_epoch

import kvae
from kvae.shipped import SHIPPED

ROOT = pathlib.Path(__file__).parents[1]
START = "import importlib.metadata as m; m.entry_points(group='console_scripts')['kvae'].load()()"


@pytest.fixture(scope="module", autouse=True)
def small():
    """The default preset, with less of everything: its size is not what is tested here."""
    with pytest.MonkeyPatch.context() as patch:
        less = {
            "network_arguments": {"width": 16, "depth": 1},
            "couplings": 2,
        }
        preset = dataclasses.replace(kvae.presets.PRESETS["mlp"], **less)
        patch.setitem(kvae.presets.PRESETS, "mlp", preset)
        yield


@pytest.fixture(scope="module")
def trained(images, tmp_path_factory):
    """The folder of a finished run of the command, and what it printed."""
    folder = tmp_path_factory.mktemp("trained")
    np.savez(folder / "bars.npz", images)
    with contextlib.chdir(folder):
        settings = ("--epochs", 2, "--latent-dim", 3, "--seed", 4)
        return folder, call("train", "--dataset", "bars.npz", *settings)


@pytest.fixture
def model(trained, in_folder):
    """A copy of that run in the folder of the test."""
    shutil.copytree(trained[0], in_folder, dirs_exist_ok=True)
    return "saved_models/vae.keras"


@pytest.fixture
def bars(images, in_folder):
    np.savez(in_folder / "bars.npz", images)
    return "bars.npz"


PATHS = [(), *((name,) for name in COMMAND.commands)]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: " ".join(path) or "kvae")
def test_every_command_has_help_with_an_example_and_stands_in_the_guide(path):
    text = " ".join(call(*path, "--help").output.split())
    assert f"Example: kvae {' '.join(path)}".strip() in text
    assert " ".join(("kvae", *path)) in (ROOT / "cli" / "README.md").read_text()


@pytest.mark.parametrize("name", list(COMMAND.commands))
def test_every_option_says_what_it_is_and_what_its_default_is(name):
    for option in COMMAND.commands[name].params:
        if isinstance(option, click.Argument):
            continue
        assert option.help, option.name
        free = option.is_flag or option.name in ("rows", "columns")
        assert free or option.show_default or "[default: " in option.help, option.name


@pytest.mark.parametrize("name", list(COMMAND.commands))
def test_options_stand_in_help_once_each_under_a_title(name):
    command = COMMAND.commands[name]
    lines = call(name, "--help").stdout.splitlines()
    for option in command.params:
        if isinstance(option, click.Option):
            row = re.compile(rf"  (-\w, )?{option.opts[0]}( |$)")
            rows = [line for line in lines if row.match(line)]
            assert len(rows) == 1, option.opts[0]
    grouped = [one for names in command.groups.values() for one in names]
    assert len(set(grouped)) == len(grouped) and set(grouped) <= {
        one.name for one in command.params
    }
    titles = [line[:-1] for line in lines if line.endswith(":") and not line.startswith(" ")]
    assert titles == ([*command.groups, "Other options"] if grouped else ["Options"])


def test_the_options_of_train_are_in_groups_and_those_used_most_are_first():
    groups = COMMAND.commands["train"].groups
    assert list(groups) == [
        "Most used options", "Data", "Model", "Objective", "Training", "Output"
    ]  # fmt: skip
    assert len(groups["Most used options"]) == 5
    every = {one.name for one in COMMAND.commands["train"].params}
    assert every == {one for names in groups.values() for one in names}


@pytest.mark.parametrize("path", PATHS, ids=lambda path: " ".join(path) or "kvae")
def test_help_imports_neither_keras_nor_numpy(path):
    code = (
        f"import sys; sys.argv = ['kvae', *{path!r}, '--help']\n"
        f"try:\n    {START}\n"
        "except SystemExit:\n    print({'keras', 'numpy', 'kvae'} & set(sys.modules))"
    )
    printed = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert printed.splitlines()[-1] == "set()"


def test_train_then_generate(trained, model):
    _, result = trained
    assert "Data: bars.npz" in result.stderr
    assert f"Training: 2 epochs on {keras.backend.backend()}" in result.stderr
    assert "Epoch 2/2" in result.stderr
    training, first, fit, *files = result.stdout.splitlines()
    assert fit.startswith("Fit: 2 epochs in ")
    assert training.startswith("Train: -ELBO ") and "last epoch" in training
    assert first.startswith("Test: -ELBO ") and "nats per image" in first
    assert files == [
        "Model: saved_models/vae.keras",
        "History, curves and grids: saved_models/vae/",
    ]
    vae = kvae.load("saved_models/vae.keras")
    assert vae.latent_dim == 3 and kvae.Recipe.from_card(vae.card).seed == 4
    assert f"-ELBO {-vae.card['test']['elbo']:.2f}" in first

    result = call("generate", "--rows", 2, "--columns", 3, "--seed", 1)
    assert result.stdout == "grid.png: 6 new images from saved_models/vae.keras, seed 1\n"
    picture = np.rint(imread("grid.png")[..., :3] * 255)
    np.testing.assert_array_equal(picture, kvae.plots.grid(vae.generate(6, seed=1), columns=3))


@pytest.mark.parametrize("devices", [0, "some", 1.5])
def test_devices_are_a_number_or_auto(in_folder, devices):
    assert_refused(["train", "--dataset", "digits", "--devices", devices], 2, "--devices")


def test_devices_that_are_not_there_are_refused(in_folder):
    assert_refused(["train", "--dataset", "digits", "--devices", 7], 1, "7")


@pytest.mark.parametrize("devices", ["auto", 1])
def test_the_number_of_devices_is_that_of_training(in_folder, monkeypatch, devices):
    told = {}

    def train(*given, **settings):
        told.update(settings)
        raise ValueError("enough")

    monkeypatch.setattr(kvae, "train", train)
    call("train", "--dataset", "digits", "--devices", devices, code=1)
    assert told["devices"] == devices


def test_the_options_of_train_are_the_fields_of_the_recipe():
    """Each setting that has an option, once, with its default, its range and its line of help."""
    options = {option.name: option for option in COMMAND.commands["train"].params}
    others = {"dataset", "data_dir", "preset", "backend", "out", "keep_optimizer", "quiet"}
    others |= {"resume", "checkpoint_minutes", "cache_dir", "devices"}
    fields = {field.name: field for field in dataclasses.fields(kvae.Recipe)}
    wanted = {name for name, field in fields.items() if field.metadata["option"]}
    given = COMMAND.commands["train"].make_context("train", [], resilient_parsing=True).params
    assert options.keys() - others == wanted
    for name in wanted:
        rules = fields[name].metadata
        assert given[name] is None, name  # what is not given the preset decides
        assert options[name].help.startswith(rules["help"]), name
        if rules["kind"] is bool:
            assert options[name].is_flag
            continue
        shown = rules.get("shown", fields[name].default)
        shown = f"{shown:g}" if isinstance(shown, float) else str(shown)
        assert f"[default: {shown}" in options[name].help, name
        if "choices" in rules:
            assert tuple(options[name].type.choices) == rules["choices"]
        for bound, rule in (("min", "least"), ("max", "most")):
            if rule in rules and rules["kind"] is int:
                assert getattr(options[name].type, bound) == rules[rule], name


def test_what_presets_differ_in_is_said():
    presets = kvae.presets.PRESETS.values()
    for field in dataclasses.fields(kvae.Recipe):
        if field.metadata["option"]:
            found = {getattr(preset, field.name) for preset in presets}
            assert field.metadata.get("varies", False) == (len(found) > 1), field.name


def test_choices_are_those_that_kvae_has():
    options = {option.name: option for option in COMMAND.commands["train"].params}
    assert list(options["preset"].type.choices) == ["auto", *kvae.presets.PRESETS]
    assert list(options["likelihood"].type.choices) == ["auto", *kvae.likelihoods.LIKELIHOODS]
    assert list(options["prior"].type.choices) == list(kvae.priors.PRIORS)
    assert list(options["objective"].type.choices) == list(kvae.objectives.OBJECTIVES)
    network = {field.name: field for field in dataclasses.fields(kvae.Recipe)}["network"]
    assert list(network.metadata["choices"]) == list(kvae.networks.NETWORKS)
    assert all(name in COMMAND.commands["generate"].params[1].help for name in SHIPPED)


@pytest.mark.slow
def test_presets_lists_every_preset_with_its_settings():
    lines = call("presets").stdout.splitlines()
    for name, preset in kvae.presets.PRESETS.items():
        (at,) = (i for i, line in enumerate(lines) if line.startswith(f"{name}: "))
        assert preset.summary in lines[at]
        if preset.network == "ladder":
            groups = len(preset.network_arguments["groups"])
            assert f" latents in {min(groups, 6)} groups" in lines[at + 1]  # at 28×28
        else:
            assert f" {preset.latent_dim or 40} latents, " in lines[at + 1]
        assert f"batch {preset.batch_size}, {preset.optimizer.capitalize()}, " in lines[at + 1]
        if preset.epochs is None:
            assert f"{preset.least_epochs} epochs or {preset.least_updates:,} upd" in lines[at + 1]


@pytest.mark.parametrize("backend", ["theano", "openvino"])
def test_a_backend_that_kvae_does_not_know_is_named(in_folder, monkeypatch, backend):
    monkeypatch.setenv("KERAS_BACKEND", backend)
    result = call("train", "--dataset", "digits", code=1)
    assert result.stderr.strip() == (
        f"Error: KERAS_BACKEND is {backend!r}; kvae runs on tensorflow, jax, torch."
    )


def test_a_runs_folder_does_not_shadow_a_data_set(model, in_folder):
    pathlib.Path(model).rename("digits.keras")
    pathlib.Path("saved_models/vae").rename("digits")
    result = call("reconstruct", "--model", "digits.keras", "--dataset", "digits", "--count", 2)
    assert "2 digits test images" in result.stdout


@pytest.mark.slow
def test_quiet_shows_no_progress(bars):
    result = call("train", "--dataset", bars, "--epochs", 1, "--quiet")
    assert result.stderr == ""
    assert len(result.stdout.splitlines()) == 5


def test_generate_takes_a_shipped_model_by_name_or_where_nothing_was_trained(in_folder):
    result = call("generate", "--seed", 0, "--count", 3, "--out", "a.npz")
    assert "There is no saved_models/vae.keras yet: using the model mnist" in result.stderr
    assert "a.npz: 3 new images from mnist, seed 0" in result.stdout
    result = call("generate", "--seed", 0, "--count", 3, "--out", "b.npz", "--model", "mnist")
    assert result.stderr == ""
    assert "b.npz: 3 new images from mnist, seed 0" in result.stdout
    np.testing.assert_array_equal(np.load("a.npz")["images"], np.load("b.npz")["images"])


@pytest.mark.slow
def test_models_stand_side_by_side(in_folder, monkeypatch):
    seen, framed = [], kvae.plots.framed
    monkeypatch.setattr(
        kvae.plots,
        "framed",
        lambda picture, *rest, **more: (seen.append(picture), framed(picture, *rest, **more))[1],
    )
    call("generate", "--model", "mnist", "--beside", "mnist-ladder", "--count", 4, "--seed", 0)
    grids = [kvae.plots.grid(kvae.load(n).generate(4, seed=0)) for n in ("mnist", "mnist-ladder")]
    np.testing.assert_array_equal(seen[0], kvae.plots.side_by_side(grids))
    assert (in_folder / "grid.png").stat().st_size > 0
    call("generate", "--beside", "mnist", "--out", "grid.npz", code=2)


@pytest.mark.slow
def test_the_card_has_the_command_that_makes_the_model(bars, in_folder):
    call("train", "--dataset", bars, "--epochs", 1, "--out", "m.keras", "--drop-optimizer")
    vae = kvae.load("m.keras")
    command = f"kvae train --epochs 1 --dataset {bars} --drop-optimizer --backend "
    assert vae.card["command"] == command + keras.backend.backend()
    assert not vae.compiled
    call("train", "--dataset", bars, "--epochs", 1, "--out", "n.keras")
    assert kvae.load("n.keras").compiled
    sizes = [(in_folder / name).stat().st_size for name in ("m.keras", "n.keras")]
    assert sizes[0] < 0.75 * sizes[1]
    np.testing.assert_array_equal(vae.generate(2, seed=0), kvae.load("n.keras").generate(2, seed=0))


@pytest.mark.slow
def test_objective_prior_and_free_bits_reach_the_model(bars, in_folder):
    common = ("train", "--dataset", bars, "--epochs", 1, "--quiet")
    call(*common, "--prior", "standard-normal", "--objective", "iwae", "--samples", 3)
    vae = kvae.load("saved_models/vae.keras")
    names = (type(vae.objective).__name__, type(vae.prior).__name__)
    assert names == ("ImportanceWeighted", "StandardNormal") and vae.samples == 3
    call(*common, "--free-bits", 0.25, "--out", "b.keras")
    vae = kvae.load("b.keras")
    assert (vae.objective.free_bits, type(vae.prior).__name__) == (0.25, "RealNVP")


def test_generate_writes_arrays(model, in_folder):
    call("generate", "--model", model, "--count", 5, "--out", "new/x.npz", "--seed", 0)
    images = np.load(in_folder / "new" / "x.npz")["images"]
    np.testing.assert_array_equal(images, kvae.load(model).generate(5, seed=0))
    call("generate", "--model", model, "--out", "a.npz", "--count", 2)
    call("generate", "--model", model, "--out", "b.npz", "--count", 2)
    assert (np.load("a.npz")["images"] != np.load("b.npz")["images"]).any()


@pytest.mark.parametrize(
    "arguments, code, what",
    [
        (
            ["reconstruct"],
            1,
            "at saved_models/vae.keras. Those that come with kvae: mnist",
        ),
        (["evaluate"], 1, "mnist-conditional, shapes. Run `kvae train` to train one."),
        (["generate", "--model", "saved_models/vae.keras"], 1, "There is no model at saved_models"),
        (
            ["train", "--dataset", "digits", "--objective", "iwae", "--samples", "1"],
            1,
            "`samples` of at least 2",
        ),
        (["generate", "--model", "minst"], 1, "There is no model at minst. Those that come with"),
        (["generate", "--out", "grid.jpg"], 2, "must end in .png or .npz"),
        (["generate", "--temperature", "nan"], 2, "nan is not a finite number"),
        (["generate", "--count", "9", "--rows", "2", "--columns", "2"], 2, "do not fit"),
        (["generate", "--count", "0"], 2, "0 is not in the range"),
        (["generate", "--model", "text.keras"], 1, "is not a .keras file"),
        (["train", "--dataset", "nowhere.npz"], 1, "nowhere.npz"),
        (
            ["train", "--dataset", "digits", "--preset", "mpl"],
            2,
            "'mpl' is not one of 'auto', 'mlp'",
        ),
        (["train", "--dataset", "digits", "--out", "vae.h5"], 2, "must end in .keras"),
        (["train", "--dataset", "digits", "--beta", "nan"], 2, "nan is not a finite number"),
        (["train", "--dataset", "digits", "--learning-rate", "inf"], 2, "not a finite number"),
        (
            ["train", "--dataset", "digits", "--scale", "wide"],
            2,
            "pixel, shared or a number above 0",
        ),
        (
            ["train", "--dataset", "digits", "--likelihood", "bernoulli", "--scale", "0.1"],
            1,
            "has no argument `scale`",
        ),
        (["train", "--dataset", "digits", "--beta", "-1"], 2, "-1.0 is not in the range"),
        (["train", "--epochs", "ten"], 2, "'ten' is not a valid integer"),
        (["train", "--backend", "theano"], 2, "'theano' is not one of"),
    ],
)
def test_bad_input_gets_one_clear_line_and_writes_nothing(in_folder, arguments, code, what):
    (in_folder / "text.keras").write_text("hello")
    result = call(*arguments, code=code)
    assert what in result.stderr
    assert result.stdout == ""
    if code == 1:
        assert len(result.stderr.splitlines()) == 1
    assert [path.name for path in in_folder.iterdir()] == ["text.keras"]


def test_a_backend_that_is_not_installed_is_named(in_folder):
    code = (
        "import sys; sys.modules['torch'] = None; "
        f"sys.argv[1:] = ['train', '--backend', 'torch']\n{START}"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert process.returncode == 1
    assert process.stderr.startswith("Error: The backend torch is not installed: pip install torch")


@not_on_jax
def test_control_c_exits_with_130_and_says_what_is_kept_and_where_the_former_run_went(
    model, in_folder, monkeypatch
):
    interrupt_in_epoch(monkeypatch, 1)
    result = call("train", "--dataset", "bars.npz", "--epochs", 9, code=130)
    assert result.stdout == ""
    assert "The former vae was moved aside, to saved_models/vae-1" in result.stderr
    assert (in_folder / "saved_models" / "vae-1.keras").exists()
    assert "Epoch 1 is kept in saved_models/vae.keras" in result.stderr.splitlines()[-1]
    assert kvae.load("saved_models/vae.keras").card["epochs"] == 1


@pytest.mark.slow
def test_control_c_exits_with_130_and_keeps_a_whole_model(bars, in_folder):
    arguments = ["train", "--dataset", bars, "--epochs", "200"]
    code = f"import sys; sys.argv[1:] = {arguments!r}\n{START}"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    grid = in_folder / "saved_models" / "vae" / "samples" / "epoch-0010.png"
    deadline = time.monotonic() + 300
    while process.poll() is None and not grid.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert stdout == ""
    assert "is kept in saved_models/vae.keras" in stderr.splitlines()[-1]
    assert kvae.load("saved_models/vae.keras").card["epochs"] >= 10
