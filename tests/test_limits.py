"""What is too much: refused in one line, before anything is allocated."""

import pathlib
import re

import click
import numpy as np
import pytest
from click.testing import CliRunner
from kvae_cli import main
from kvae_cli.command import Command

import kvae
from kvae import limits
from kvae.networks import NETWORKS, fewest_weights


def test_available_memory_is_what_the_machine_says(tmp_path, monkeypatch):
    file = tmp_path / "meminfo"
    file.write_text("MemTotal: 9 kB\nMemAvailable: 3 kB\n")
    monkeypatch.setattr(limits, "MEMINFO", file)
    monkeypatch.setattr(limits, "GROUPS", ())
    assert limits.available_memory() == 3 * 1024
    file.write_text("MemTotal: 9 kB\n")
    assert limits.available_memory() > 2**20  # from sysconf, or no limit


@pytest.mark.parametrize("limit, least", [("5000", 3100), ("900", 0), ("max", 3 * 2**20)])
def test_a_lower_limit_of_a_control_group_counts(limit, least, tmp_path, monkeypatch):
    (tmp_path / "meminfo").write_text("MemAvailable: 3072 kB\n")
    (tmp_path / "memory.max").write_text(f"{limit}\n")
    (tmp_path / "memory.current").write_text("2000\n")
    (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 100\n")
    monkeypatch.setattr(limits, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(limits, "GROUPS", ((tmp_path, *limits.GROUPS[0][1:]),))
    assert limits.available_memory() == least


def test_what_does_not_fit_is_refused_with_its_size(monkeypatch):
    monkeypatch.setattr(limits, "available_memory", lambda: 2**30)
    limits.check_memory(2**30, "It", "Less.")
    with pytest.raises(ValueError, match=r"It would need 1\.5 GiB of memory, and 1\.0 GiB are .*L"):
        limits.check_memory(3 * 2**29, "It", "Less.")
    assert limits.described(10**40) == "more than 1,000 TiB"


@pytest.mark.parametrize(
    ("preset", "shape"),
    [(name, (28, 28, 1)) for name in ("mlp", "conv", "mlp-400", "conv-pooled", "resnet", "ladder")]
    + [("mlp", (1, 1, 3)), ("conv-pooled", (1, 1, 3)), ("ladder", (1, 1, 3))],
)
def test_a_model_has_no_fewer_weights_than_were_counted_before(preset, shape):
    recipe = kvae.presets.get(preset)
    vae = kvae.VAE.from_preset(preset, shape)
    built = vae.encoder.count_params() + vae.decoder.count_params()
    arguments = recipe.network_arguments
    count = fewest_weights(recipe.network, shape, vae.latent_dim, **arguments)
    assert (0.2 if shape[0] > 1 else 0) * built < count <= built


@pytest.mark.parametrize(
    "arguments",
    [
        {"width": 10**7},
        {"squeeze": 10**9, "groups": ((1, 4), (8, 1))},
        {"depth": 10**9},
        {"groups": ((1, 10**10), (8, 1))},
    ],
)
def test_a_ladder_that_no_machine_can_train_is_refused(arguments):
    recipe = kvae.Recipe(network="ladder", network_arguments=arguments)
    with pytest.raises(ValueError, match=r"TiB of memory, "):
        kvae.VAE.from_preset(recipe, (28, 28, 1))


@pytest.mark.parametrize("network", [name for name in NETWORKS if name != "ladder"])
def test_a_model_that_no_machine_can_train_is_refused(network):
    recipe = kvae.Recipe(network=network, latent_dim=10**9)
    with pytest.raises(ValueError, match=r"1,000,000,000 latents .* TiB of memory, .*`latent_dim`"):
        kvae.VAE.from_preset(recipe, (28, 28, 1))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"width": 10**9}, "would need more than 1,000 TiB"),
        ({"depth": 10**9}, "would need more than 1,000 TiB"),
        ({"width": "wide"}, "`width` of the network 'mlp' must be such as 512"),
        ({"width": -1}, "`width` of the network 'mlp' must be such as 512"),
        ({"wide": 1}, "has no argument `wide`; it has width, depth"),
    ],
)
def test_arguments_of_a_network_are_looked_at(arguments, message):
    with pytest.raises(ValueError, match=message):
        kvae.VAE.from_preset(kvae.Recipe(network_arguments=arguments), (8, 8, 1))


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"epochs": 10**30}, "at most 1000000000000. Received: epochs=1000"),
        ({"epochs": 10**400}, "at most 1000000000000. Received: epochs=1000.*…$"),
        ({"beta": 10**400}, r"at most 1e\+30"),
        ({"beta": 1e300}, r"at most 1e\+30. Received: beta=1e\+300"),
        ({"learning_rate": 1e300}, r"above 0 and at most 1e\+30"),
        ({"free_bits": float("nan")}, "a finite number of at least 0"),
        ({"scale": 1e-300}, "a finite number above 1e-06"),
        ({"likelihood": np.ones(3)}, "one of 'auto', 'bernoulli'"),
        ({"start_at_mean": "yes"}, "True or False"),
    ],
)
def test_settings_that_no_arithmetic_can_carry_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        kvae.Recipe(**settings)


def test_a_batch_larger_than_the_data_is_fine(make_vae, images):
    make_vae().fit(images[:4], batch_size=10**12, verbose=0)


def test_a_step_that_does_not_fit_is_refused(make_vae, images):
    vae = make_vae(samples=10**10)
    if "cpu" not in str(vae.step.value.device).lower():
        pytest.skip("a GPU has a memory of its own")
    with pytest.raises(ValueError, match="A step on 4 images, 10,000,000,000 draws .*`samples`"):
        vae.fit(images[:4], verbose=0)


MANY = 10**11


@pytest.mark.parametrize(
    "verb, message",
    [
        (lambda vae, x: vae.generate(MANY), "images of 8×8×1 would need .* TiB"),
        (lambda vae, x: vae.generate(2, seed="a"), "`seed` must be an integer"),
        (lambda vae, x: vae.generate(2, seed=10**40), "`seed` must be an integer"),
        (lambda vae, x: vae.generate(2, temperature="hot"), "`temperature` must be finite"),
        (lambda vae, x: vae.generate(2, temperature=1e300), "`temperature` .* 1,000,000 at most"),
        (lambda vae, x: kvae.like(vae, x[0], MANY), "images of 8×8×1 would need"),
        (lambda vae, x: kvae.like(vae, x[0], 2, seed=-1), "`seed` must be an integer"),
        (lambda vae, x: kvae.interpolate(vae, x[:1], x[:1], MANY), "would need"),
        (lambda vae, x: kvae.interpolate(vae, x[:1], x[:1], 2.5), "`steps` must be"),
        (lambda vae, x: kvae.manifold(vae, x, MANY), "would need"),
        (lambda vae, x: kvae.traversals(vae, x, steps=MANY), "would need"),
        (lambda vae, x: kvae.reconstruct(vae, x, columns=-1), "`columns` must be an integer"),
        (lambda vae, x: kvae.plots.grid(x, columns="a"), "`columns` must be an integer"),
        (lambda vae, x: kvae.plots.grid(x, scale=10**7), "A picture of .* would need"),
        (lambda vae, x: kvae.evaluation.importance_weighted(
            vae, kvae.evaluation.posterior(vae, x), (10**12,)), "draws of z for an image"),
    ],
)  # fmt: skip
def test_verbs_refuse_what_cannot_be(verb, message, fixed_vae, images):
    with pytest.raises(ValueError, match=message):
        verb(fixed_vae, images[:3])


@pytest.mark.parametrize(
    "look, arguments",
    [
        (kvae.evaluate, {"seed": -1}),
        (kvae.evaluate, {"images": "a"}),
        (kvae.evaluate, {"samples": 1.5}),
        (kvae.diagnose, {"seed": "a"}),
        (kvae.diagnose, {"count": 0}),
    ],
)
def test_looks_name_the_argument_that_is_wrong(look, arguments, fixed_vae, images):
    (name,) = arguments
    with pytest.raises(ValueError, match=f"`{name}` must be an integer"):
        look(fixed_vae, kvae.data.from_arrays(images[:9]), **arguments)


@pytest.fixture(scope="module")
def small(make_vae, tmp_path_factory):
    """The path of a small model."""
    path = tmp_path_factory.mktemp("small") / "vae.keras"
    make_vae().uncompiled().save(path)
    return path


@pytest.mark.parametrize(
    "words",
    [
        "train --dataset digits --latent-dim 1000000000",
        "train --dataset digits --epochs 1000000000000000000000000000000",
        "train --dataset digits --seed -1",
        "train --dataset digits --free-bits nan",
        "train --dataset digits --beta inf",
        "train --dataset digits --learning-rate 1e300",
        "generate --model {small} --count 1000000000",
        "generate --model {small} --columns 1000000000",
        "generate --model {small} --temperature nan",
        "interpolate --model {small} --dataset digits --rows 1000000000",
        "latent --model {small} --dataset digits --show manifold --size 1000000",
    ],
)
def test_absurd_options_are_refused_in_one_line(words, small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = [word.format(small=small) for word in words.split()]
    result = CliRunner().invoke(main, words)
    assert isinstance(result.exception, SystemExit) and result.exit_code in (1, 2)
    (line,) = re.findall("^Error: .*", result.stderr, re.MULTILINE)
    assert "memory" in line or "must be" in line or "Invalid value" in line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [MemoryError("no"), RuntimeError("RESOURCE_EXHAUSTED: Out of m")])
def test_a_memory_that_was_too_small_is_one_line(error):
    @click.command(cls=Command)
    def greedy():
        raise error

    result = CliRunner().invoke(greedy)
    assert result.exit_code == 1 and "Out of memory: choose fewer images" in result.stderr


def test_other_errors_keep_their_traceback():
    @click.command(cls=Command)
    def wrong():
        raise RuntimeError("another")

    assert isinstance(CliRunner().invoke(wrong).exception, RuntimeError)


def of_files():
    """Bytes of mapped files that memory holds for this process."""
    status = pathlib.Path("/proc/self/status")
    if not status.exists():
        pytest.skip("this system does not say what memory holds of mapped files")
    (line,) = (line for line in status.read_text().splitlines() if line.startswith("RssFile"))
    return int(line.split()[1]) * 1024


def test_rows_of_a_mapped_file_do_not_stay_in_memory(tmp_path, monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (4_000, 64, 64, 3), "uint8")
    np.save(tmp_path / "x.npy", images)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    rows = np.random.default_rng(1).permutation(len(images))
    before = of_files()
    for some in (*np.split(rows, 8), rows):
        found = limits.read_rows(mapped, some)
        assert type(found) is np.ndarray and found.flags.writeable
        np.testing.assert_array_equal(found, images[some])
    assert of_files() - before < images.nbytes / 4
    np.testing.assert_array_equal(limits.read_rows(images, rows[:5]), images[rows[:5]])
    times, release = [], limits.release
    monkeypatch.setattr(limits, "release", lambda array: (times.append(1), release(array)))
    limits.read_rows(mapped, rows[:200])
    assert len(times) == 4, "64 rows, of which each may map 2 MiB, are not held longer"
    copied = mapped[:5].astype("float32")  # a memmap still, but of no file
    assert isinstance(copied, np.memmap) and not limits.is_mapped(copied)
    assert limits.is_mapped(mapped[5:]) and not limits.is_mapped(images)
    assert limits.read_rows(mapped, rows[:0]).shape == (0, 64, 64, 3)
