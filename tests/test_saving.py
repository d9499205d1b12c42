import json
import zipfile

import keras
import numpy as np
import pytest
from fresh_process import BACKENDS, run
from keras import ops

import kvae

# Terms of the loss for given images and z: nothing is drawn, so backends can be compared.
TERMS = """
import sys
import keras, numpy as np
import kvae

def terms(vae, images, z):
    observed = vae.likelihood.observe(images)
    mean, log_variance = vae.encoder(observed)
    parts = {
        "mean": mean,
        "log_variance": log_variance,
        "kl": vae.prior.kl(mean, log_variance, z),
        "prior": vae.prior.log_prob(z),
        "log_prob": vae.likelihood.log_prob(observed, vae.decoder(z)),
        "images": vae.decode(z),
    }
    return {name: keras.ops.convert_to_numpy(part) for name, part in parts.items()}
"""

LOAD_AND_TRAIN = (
    TERMS
    + """
vae = keras.saving.load_model(sys.argv[1])
given = np.load(sys.argv[2])
for name, part in terms(vae, given["x"], given["z"]).items():
    difference = abs(part - given[name]).max()
    assert difference < 1e-4, (name, difference)
assert vae.card["dataset"] == "bars"
assert keras.backend.backend() != "torch" or not vae.jit_compile
before = int(keras.ops.convert_to_numpy(vae.optimizer.iterations))
moments = sum(float(abs(keras.ops.convert_to_numpy(v)).sum()) for v in vae.optimizer.variables)
vae.fit(given["x"], epochs=1, verbose=0, batch_size=32)
after = int(keras.ops.convert_to_numpy(vae.optimizer.iterations))
print(before, after, moments > 0, float(keras.ops.convert_to_numpy(vae.step)))
"""
)

OPEN_PARTS = """
import sys
import keras, numpy as np
encoder, decoder, generator = (keras.saving.load_model(path) for path in sys.argv[1:4])
given = np.load(sys.argv[4])
mean, _ = encoder.predict(given["observed"], verbose=0)
logits = decoder.predict(given["z"], verbose=0)
assert abs(mean - given["mean"]).max() < 1e-4
assert abs(1 / (1 + np.exp(-logits)) - given["images"]).max() < 1e-4
drawn = generator.predict(given["noise"], verbose=0)
assert abs(drawn - given["drawn"]).max() < 1e-4
try:
    import kvae
except ImportError:
    print("without kvae")
"""


@pytest.fixture(scope="module")
def trained(make_vae, make_flow, images, tmp_path_factory):
    """A trained model, its file, and its terms on given images and latents, in another file."""
    tmp_path = tmp_path_factory.mktemp("trained")
    vae = make_vae(card={"dataset": "bars"}, warmup_steps=10, prior=make_flow(couplings=2))
    vae.compile("adam", jit_compile=vae.best_jit_compile())
    vae.fit(images, epochs=2, batch_size=32, verbose=0)
    vae.save(tmp_path / "vae.keras")
    scope = {}
    exec(TERMS, scope)
    z = np.random.default_rng(0).normal(size=(64, 3)).astype("float32")
    observed = ops.convert_to_numpy(vae.likelihood.observe(images))
    terms = scope["terms"](vae, images, z)
    drawn = {"noise": z, "drawn": vae.generator().predict(z, verbose=0)}
    np.savez(tmp_path / "terms.npz", x=images, z=z, observed=observed, **terms, **drawn)
    return vae, tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_saved_model_answers_alike_and_trains_on_in_a_fresh_process(trained, backend):
    _, folder = trained
    printed = run(LOAD_AND_TRAIN, backend, folder / "vae.keras", folder / "terms.npz")
    assert printed.split() == ["4", "6", "True", "6.0"]


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_encoder_decoder_and_generator_open_where_kvae_is_not_installed(trained, backend):
    vae, folder = trained
    vae.encoder.save(folder / "encoder.keras")
    vae.decoder.save(folder / "decoder.keras")
    vae.generator().save(folder / "generator.keras")
    parts = [folder / f"{name}.keras" for name in ("encoder", "decoder", "generator")]
    files = [*parts, folder / "terms.npz"]
    assert run(OPEN_PARTS, backend, *files, blocked=("kvae",)).strip() == "without kvae"


def test_the_card_can_be_read_from_the_file_without_keras(trained):
    _, folder = trained
    with zipfile.ZipFile(folder / "vae.keras") as archive:
        assert json.loads(archive.read("config.json"))["config"]["card"]["dataset"] == "bars"


def test_schedule_beta_and_random_state_are_saved(trained, tmp_path):
    vae = kvae.load(trained[1] / "vae.keras")
    vae.beta = 4.0
    vae.save(tmp_path / "vae.keras")
    again = kvae.load(tmp_path / "vae.keras")
    for name in ("beta", "step", "warmup_steps"):
        assert float(ops.convert_to_numpy(getattr(again, name))) == float(
            ops.convert_to_numpy(getattr(vae, name))
        )
    np.testing.assert_array_equal(
        ops.convert_to_numpy(again.seed_generator.state),
        ops.convert_to_numpy(vae.seed_generator.state),
    )


def test_a_resumed_run_equals_the_uninterrupted_one(make_vae, images, tmp_path):
    settings = {"batch_size": 16, "shuffle": False, "verbose": 0}
    straight = make_vae(warmup_steps=10, optimizer="adam")
    straight.fit(images, epochs=2, **settings)
    first = make_vae(warmup_steps=10, optimizer="adam")
    first.fit(images, epochs=1, **settings)
    first.save(tmp_path / "half.keras")
    second = keras.saving.load_model(tmp_path / "half.keras")
    second.fit(images, epochs=1, **settings)
    for a, b in zip(straight.trainable_variables, second.trainable_variables, strict=True):
        np.testing.assert_allclose(
            ops.convert_to_numpy(a), ops.convert_to_numpy(b), rtol=1e-5, atol=1e-6
        )


@pytest.mark.parametrize(
    "policy", [pytest.param("mixed_bfloat16", marks=pytest.mark.slow), "mixed_float16"]
)
def test_a_mixed_precision_model_survives_saving(make_vae, images, tmp_path, policy):
    former = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        vae = make_vae()
        vae.fit(images, epochs=1, verbose=0)
    finally:
        keras.config.set_dtype_policy(former)
    vae.save(tmp_path / "vae.keras")
    again = kvae.load(tmp_path / "vae.keras")
    np.testing.assert_allclose(again.generate(3, seed=0), vae.generate(3, seed=0), atol=1e-3)
    again.fit(images, epochs=1, verbose=0)


def test_loading_says_in_one_line_what_is_wrong(tmp_path, trained):
    folder = tmp_path
    whole = (trained[1] / "vae.keras").read_bytes()
    (folder / "half.keras").write_bytes(whole[: len(whole) // 2])
    (folder / "text.keras").write_text("hello")
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).save(folder / "other.keras")
    for name, what in {
        "missing.keras": "There is no model at",
        "half.keras": "is damaged",
        "text.keras": "is not a .keras file",
        "other.keras": "is not a model of kvae",
    }.items():
        with pytest.raises((ValueError, FileNotFoundError), match=what) as caught:
            kvae.load(folder / name)
        assert "\n" not in str(caught.value)
