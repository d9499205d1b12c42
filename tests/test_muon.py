"""Muon: what its steps are, which weights have them, and that training and files know it."""

import keras
import numpy as np
import pytest
from keras import ops

import kvae
from kvae.data.values import as_array
from kvae.muon import COEFFICIENTS, PASSES, orthogonal
from kvae.training.settings import precision

pytestmark = pytest.mark.every_backend


def by_singular_values(matrix):
    """The same polynomial, of the singular values themselves, in float64."""
    u, values, v = np.linalg.svd(matrix.astype("float64"), full_matrices=False)
    values = values / np.linalg.norm(values)
    one, three, five = COEFFICIENTS
    for _ in range(sum(PASSES)):
        values = one * values + three * values**3 + five * values**5
    return values, u @ np.diag(values) @ v


@pytest.mark.parametrize("shape", [(8, 8), (30, 12), (12, 30), (288, 32)])
def test_a_matrix_becomes_nearly_orthogonal(shape):
    matrix = np.random.default_rng(0).normal(size=shape).astype("float32")
    found = as_array(orthogonal(ops.convert_to_tensor(matrix)))
    values, expected = by_singular_values(matrix)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    np.testing.assert_allclose(
        np.linalg.svd(found, compute_uv=False), sorted(values, reverse=True), atol=1e-3
    )
    large = np.linalg.svd(matrix, compute_uv=False) > 0.01 * np.linalg.norm(matrix)
    assert values[large].min() > 0.65 and values.max() < 1.25


def test_no_gradient_makes_no_step_and_one_of_a_single_direction_none_of_others():
    assert not as_array(orthogonal(ops.zeros((9, 8)))).any()
    rank_1 = np.outer(np.arange(9.0), np.arange(8.0)).astype("float32")
    values = np.linalg.svd(as_array(orthogonal(ops.convert_to_tensor(rank_1))), compute_uv=False)
    assert 0.65 < values[0] < 1.25 and values[1:].max() < 0.01


def variables():
    """A kernel of a convolution, one of a dense layer, a small one, and a bias."""
    shapes = [(3, 3, 4, 16), (20, 12), (40, 4), (12,)]
    rng = np.random.default_rng(1)
    values = [rng.normal(size=shape).astype("float32") for shape in shapes]
    made = [keras.Variable(value, name=f"weight_{i}") for i, value in enumerate(values)]
    gradients = [rng.normal(size=shape).astype("float32") for shape in shapes]
    return made, values, gradients


def applied(optimizer, made, gradients, times=1):
    """What the steps have changed."""
    before = [as_array(variable.value).copy() for variable in made]
    for _ in range(times):
        optimizer.apply([ops.convert_to_tensor(gradient) for gradient in gradients], made)
    return [as_array(variable.value) - old for variable, old in zip(made, before, strict=True)]


def test_matrices_have_orthogonal_steps_and_the_rest_has_adams():
    made, _, gradients = variables()
    steps = applied(kvae.Muon(0.01), made, gradients)
    for step, gradient in zip(steps[:2], gradients[:2], strict=True):
        flat = gradient.reshape(-1, gradient.shape[-1])
        _, expected = by_singular_values(flat)
        expected *= -0.01 * 0.2 * np.sqrt(max(flat.shape))
        np.testing.assert_allclose(step.reshape(flat.shape), expected, atol=1e-5)
        # As large as Adam's, so that one learning rate fits both.
        assert 0.1 < np.sqrt((step**2).mean()) / 0.01 < 0.3
    made, _, gradients = variables()
    adams = applied(keras.optimizers.Adam(0.01), made, gradients)
    for step, other in zip(steps[2:], adams[2:], strict=True):
        np.testing.assert_allclose(step, other, atol=1e-7)


def test_momentum_is_nesterovs():
    made, _, gradients = variables()
    optimizer = kvae.Muon(0.01, momentum=0.5)
    applied(optimizer, made, gradients)
    others = [gradient[::-1].copy() for gradient in gradients]
    step = applied(optimizer, made, others)[1]
    average = 0.5 * gradients[1] + others[1]
    _, expected = by_singular_values(others[1] + 0.5 * average)
    np.testing.assert_allclose(step, -0.01 * 0.2 * np.sqrt(20) * expected, atol=1e-5)


def test_only_what_needs_one_has_a_mean_of_squares():
    made, _, gradients = variables()
    optimizer = kvae.Muon(0.01)
    applied(optimizer, made, gradients)
    assert [one is None for one in optimizer._velocities] == [True, True, False, False]
    assert len(optimizer.variables) == 2 + 4 + 2  # iterations and rate, momenta, velocities


def test_a_model_learns_with_it_and_its_file_goes_on(images, tmp_path):
    recipe = kvae.presets.get("conv").replaced(latent_dim=4, couplings=2)
    vae = kvae.VAE.from_preset(recipe, (8, 8, 1), seed=0)
    several = {"gradient_accumulation_steps": 2, "use_ema": True, "ema_momentum": 0.9}
    vae.compile(kvae.Muon(3e-3, global_clipnorm=200.0, **several))
    losses = vae.fit(images, epochs=6, batch_size=16, verbose=0).history["loss"]
    assert losses[-1] < 0.9 * losses[0]
    vae.save(tmp_path / "vae.keras")
    loaded = keras.saving.load_model(tmp_path / "vae.keras")
    assert type(loaded.optimizer) is kvae.Muon and loaded.optimizer.momentum == 0.95
    for one, other in zip(vae.optimizer.variables, loaded.optimizer.variables, strict=True):
        np.testing.assert_array_equal(as_array(one.value), as_array(other.value))
    later = [one.fit(images, batch_size=16, verbose=0).history["loss"] for one in (vae, loaded)]
    np.testing.assert_allclose(*later, rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("largest", [1e-6, 1.0, 3e4])
def test_small_singular_values_stay_small_in_any_precision(dtype, largest):
    """Rounding makes eigenvalues of the gram matrix negative, which grow at each iteration."""
    rng = np.random.default_rng(0)
    u, _ = np.linalg.qr(rng.normal(size=(576, 64)))
    v, _ = np.linalg.qr(rng.normal(size=(64, 64)))
    matrix = u @ np.diag(np.geomspace(largest, 1e-5 * largest, 64)) @ v
    found = as_array(orthogonal(ops.cast(ops.convert_to_tensor(matrix.astype("float32")), dtype)))
    assert found.dtype == "float32"
    values = np.linalg.svd(found.astype("float64"), compute_uv=False)
    assert 1.0 < values.max() < 1.25
    if dtype == "float32":
        np.testing.assert_allclose(found, by_singular_values(matrix)[1], atol=2e-3)


@pytest.mark.parametrize(
    "arguments", [{"weight_decay": 0.01}, {"clipnorm": 1.0}, {"global_clipnorm": 1.0}]
)
@pytest.mark.parametrize("quick", [False, True])
def test_what_every_optimizer_of_keras_does_it_does(arguments, quick):
    """Weights shrink by the rate times the decay; clipping changes no step of this kind."""
    if quick and keras.backend.backend() != "torch":
        pytest.skip("only PyTorch has a quick way")
    made, values, gradients = variables()
    optimizer = kvae.Muon(0.01, **arguments)
    if quick:
        from kvae.steps.torch_adam import quicken

        quicken(optimizer)
        assert "_backend_update_step" in vars(optimizer)
    steps = applied(optimizer, made, gradients)
    made, _, _ = variables()
    plain = applied(kvae.Muon(0.01), made, gradients)
    decay = 0.01 * arguments.get("weight_decay", 0.0)
    for step, other, value in zip(steps, plain, values, strict=True):
        np.testing.assert_allclose(step, other - decay * value, atol=1e-4)


def test_one_derived_from_it_has_its_own_step_on_every_backend(images):
    @keras.saving.register_keras_serializable("muon_tests")
    class Still(kvae.Muon):
        def update_step(self, gradient, variable, learning_rate):
            pass

    vae = kvae.VAE.from_preset("conv", (8, 8, 1), latent_dim=4, seed=0)
    vae.compile(Still(0.1))
    before = [as_array(weight.value).copy() for weight in vae.trainable_weights]
    vae.fit(images, batch_size=16, verbose=0)
    for weight, value in zip(vae.trainable_weights, before, strict=True):
        np.testing.assert_array_equal(as_array(weight.value), value)


def test_amsgrad_is_refused():
    with pytest.raises(ValueError, match="no `amsgrad`"):
        kvae.Muon(amsgrad=True)


def test_mixed_precision_and_a_frozen_part(images):
    with precision("mixed_float16"):
        vae = kvae.VAE.from_preset("conv", (8, 8, 1), latent_dim=4, seed=0)
    vae.encoder.trainable = False
    vae.compile(keras.optimizers.LossScaleOptimizer(kvae.Muon(3e-3), initial_scale=64.0))
    frozen = [as_array(weight.value).copy() for weight in vae.encoder.weights]
    losses = vae.fit(images, epochs=3, batch_size=16, verbose=0).history["loss"]
    assert np.isfinite(losses).all() and losses[-1] < losses[0]
    for weight, value in zip(vae.encoder.weights, frozen, strict=True):
        np.testing.assert_array_equal(as_array(weight.value), value)


def test_a_recipe_asks_for_it(tmp_path, images):
    data = kvae.data.from_arrays(images)
    vae = kvae.train(
        data, "conv", optimizer="muon", epochs=1, latent_dim=4, out=tmp_path / "a.keras", verbose=0
    )
    assert type(vae.optimizer) is kvae.Muon
    assert kvae.Recipe.from_card(vae.card).optimizer == "muon"
    with pytest.raises(ValueError, match="optimizer"):
        kvae.train(data, optimizer="sgd", out=tmp_path / "b.keras", verbose=0)
