"""Fits a learned prior to a trained model, whose encoder and decoder stay the same."""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from kvae.data import Dataset, fitted
from kvae.evaluation import test_figures
from kvae.model import VAE, in_batches
from kvae.model.bounds import posteriors
from kvae.parts import check_seed, checked_integer
from kvae.priors import PRIORS, Prior, RealNVP, get, given

__all__ = ["fit_prior", "prior_to_fit"]

COUPLINGS = 10


def fit_prior(
    vae: VAE,
    dataset: Dataset,
    prior: Prior | None = None,
    *,
    epochs: int = 30,
    batch_size: int = 256,
    learning_rate: float = 2e-3,
    seed: int = 0,
    verbose: str | int = 0,
) -> VAE:
    r"""Fits a prior to the latents of a trained model, and returns a copy of the model with it.

    $$\max_p \; \tfrac1N \textstyle\sum_n \mathbb{E}_{q(z|x_n)} \log p(z)$$

    Encoder, decoder and likelihood stay the same, and so do all reconstructions. New images and the
    bound improve as far as the old prior differed from the aggregate posterior. Each epoch uses new
    draws of z. The epoch with the lowest validation loss is kept.

    Args:
        vae: A trained model whose latents are in one group.
        dataset: The images that it was trained on, of any size.
        prior: An untrained prior. Defaults to a `RealNVP` of ten couplings.
        epochs: Number of epochs.
        batch_size: Number of images per update.
        learning_rate: Peak learning rate of Adam, with cosine decay to 0.
        seed: Random seed of the weights, the draws and the order of images.
        verbose: As for `keras.Model.fit`.

    Returns:
        A new model, not compiled. Its card has the figures of the test images. Its entry
        `fitted_prior` says how the prior was fitted, and has −log p(z) of validation images before
        and after.

    Raises:
        ValueError: If latents come in groups, the prior has no weights, or an argument is invalid.

    References:
        Ghosh et al. (2020), "From variational to deterministic autoencoders", arXiv:1903.12436
        (density estimation ex post). Hoffman and Johnson (2016), "ELBO surgery" (the gap between
        prior and aggregate posterior).

    Example:
        >>> import kvae
        >>> data = kvae.data.load("digits")
        >>> vae = kvae.VAE.from_preset("mlp-400", data.image_shape, latent_dim=2)
        >>> better = kvae.fit_prior(vae, data, epochs=1)
        >>> type(better.prior).__name__
        'RealNVP'
    """
    if len(vae.groups) > 1:
        raise ValueError(
            "A prior is fitted to latents in one group, and this model has "
            f"{len(vae.groups)}: train with --prior real-nvp, which learns that of the first."
        )
    epochs, batch_size = (
        checked_integer("epochs", epochs),
        checked_integer("batch_size", batch_size),
    )
    check_seed(seed)
    keras.utils.set_random_seed(seed)
    if prior is None:
        prior = prior_to_fit(vae)
    if not prior.trainable_weights:
        raise ValueError(f"`prior` must have weights to fit. Received: {type(prior).__name__}")
    made = vae.uncompiled(prior=prior)
    train, validation = (encoded(vae, dataset, part, seed) for part in ("train", "validation"))
    before = nats(vae.prior, validation, seed)
    density = Density(made.prior, seed)
    steps = epochs * math.ceil(len(train[0]) / batch_size)
    rate = keras.optimizers.schedules.CosineDecay(learning_rate, steps)
    density.compile(keras.optimizers.Adam(rate, global_clipnorm=200.0), jit_compile="auto")
    best = keras.callbacks.EarlyStopping("val_loss", patience=epochs, restore_best_weights=True)
    density.fit(
        train,
        epochs=epochs,
        batch_size=batch_size,
        validation_data=(validation,),
        callbacks=[best],
        verbose=verbose,
    )
    figures = {"before": before, "after": nats(made.prior, validation, seed)}
    made.card.pop("train", None)  # of the former prior
    made.card["fitted_prior"] = {
        "prior": type(prior).__name__,
        "epochs": epochs,
        "seed": seed,
        "nats_of_validation": figures,
    }
    if "recipe" in made.card:
        made.card["recipe"] = {**made.card["recipe"], **settings_of(prior)}
    test = fitted(dataset.test, vae.image_shape, vae.fitting)
    known = made.known(dataset.test_labels, dataset.class_names)
    made.card["test"] = test_figures(made, test, seed, made.filled(known, test))
    return made


def prior_to_fit(vae: VAE, name: str = "real-nvp", **settings: int) -> Prior:
    """An untrained prior for the latents of a model; by default a flow of ten couplings.

    Raises:
        ValueError: If there is no prior of this name, or it has no such setting.
    """
    if name == "real-nvp":
        settings.setdefault("couplings", COUPLINGS)
    if vae.condition is not None:
        settings["context_dim"] = vae.condition.size
    return get(name, vae.latent_dim, **settings)


def settings_of(prior: Prior) -> dict[str, Any]:
    """The settings of a recipe that make such a prior; none for a class of the user's."""
    names = {kind: name for name, kind in PRIORS.items()}
    if type(prior) not in names:
        return {}
    settings = {name: getattr(prior, name, None) for name in ("couplings", "components")}
    if isinstance(prior, RealNVP):
        settings["couplings"] = len(prior.couplings)
    return {"prior": names[type(prior)], **settings}


def encoded(vae: VAE, dataset: Dataset, part: str, seed: int) -> tuple[np.ndarray, ...]:
    """Means and log-variances of the posteriors, (count, latent), and their context."""
    images = fitted(getattr(dataset, part), vae.image_shape, vae.fitting)
    labels = getattr(dataset, f"{part}_labels")
    classes = vae.filled(vae.known(labels, dataset.class_names), images)
    found = list(posteriors(vae, images, seed, classes))
    arrays = [[of.mean for of in found], [of.log_variance for of in found]]
    if vae.condition is not None:
        arrays.append([of.rows for of in found if of.rows is not None])
    return tuple(map(np.concatenate, arrays))


def nats(prior: Prior, posterior: tuple[np.ndarray, ...], seed: int) -> float:
    """−log p(z), averaged over images, with one draw of z per image from NumPy."""
    mean, log_variance, *rows = posterior
    noise = np.random.default_rng(seed).standard_normal(mean.shape, dtype="float32")
    z = mean + np.exp(0.5 * log_variance) * noise

    def log_prob(z: np.ndarray, rows: np.ndarray | None) -> np.ndarray:
        return ops.convert_to_numpy(prior.log_prob(ops.convert_to_tensor(z), **given(rows)))

    found = in_batches(log_prob, z, 1000, rows[0] if rows else None)
    return round(-float(found.astype("float64").mean()), 4)


class Density(keras.Model):
    """A model with the loss −log p(z) of draws of z from posteriors.

    Args:
        prior: p(z).
        seed: Random seed of the draws.
    """

    def __init__(self, prior: Prior, seed: int) -> None:
        super().__init__()
        self.prior = prior
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.autocast = False
        self.built = True

    def call(self, posterior: Any) -> Any:
        """Computes −log p(z) of a draw from each posterior: (batch,), nats.

        Args:
            posterior: `mean` and `log_variance`, (batch, latent), and for a conditional model the
                context, (batch, context).
        """
        mean, log_variance, *context = posterior
        noise = keras.random.normal(ops.shape(mean), seed=self.seed_generator, dtype="float32")
        cost = -self.prior.log_prob(mean + ops.exp(0.5 * log_variance) * noise, *context)
        self.add_loss(ops.mean(cost))
        return cost
