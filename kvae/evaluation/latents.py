"""Latents: how much of an image they hold, how far they are from the prior, what they are good for.

They look at posteriors, the means and log-variances that `VAE.encode` gives, and at the prior.
"""

import math

import numpy as np
from keras import ops
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from kvae.priors import Prior, StandardNormal, given

__all__ = [
    "ACTIVE",
    "active_units",
    "aggregate_log_prob",
    "beyond_chance",
    "linear_probe_accuracy",
    "moment_gap",
    "mutual_information",
    "neighbour_accuracy",
    "prior_gap_at_least",
]

ACTIVE = 0.01
VALUES_AT_A_TIME = 10_000_000  # 80 MB


def active_units(mean: np.ndarray, threshold: float = ACTIVE) -> np.ndarray:
    r"""Which latents are in use: $\operatorname{Var}_x(\mathbb{E}_{q(z|x)}[z_j])$ above 0.01.

    Args:
        mean: (count, latent), posterior means.
        threshold: Of the variance over images.

    Returns:
        (latent,), bool.

    References:
        Burda, Grosse and Salakhutdinov (2016), "Importance weighted autoencoders",
        arXiv:1509.00519, section 5.2.

    Example:
        >>> import numpy as np
        >>> from kvae.evaluation.latents import active_units
        >>> mean = np.array([[1.0, 0.0], [-1.0, 0.05]])
        >>> active_units(mean).tolist()
        [True, False]
    """
    return np.var(mean, axis=0) > threshold


def aggregate_log_prob(z: np.ndarray, mean: np.ndarray, log_variance: np.ndarray) -> np.ndarray:
    r"""Log-density of the aggregate posterior, $\log \frac1N \sum_n q(z|x_n)$.

    Args:
        z: (rows, latent).
        mean: (count, latent).
        log_variance: (count, latent), the natural log of a variance.

    Returns:
        (rows,), float64, nats.
    """
    mean, precision = mean.astype("float64"), np.exp(-log_variance.astype("float64"))
    constant = np.sum(mean**2 * precision + log_variance, axis=1)
    results = []
    step = max(1, VALUES_AT_A_TIME // len(mean))
    for start in range(0, len(z), step):
        rows = z[start : start + step].astype("float64")
        # Σ (z - μ)² / σ², multiplied out: two matrix products.
        exponents = -0.5 * (rows**2 @ precision.T - 2 * rows @ (mean * precision).T + constant)
        highest = exponents.max(axis=1, keepdims=True)
        sums = np.exp((exponents - highest).astype("float32")).mean(axis=1, dtype="float64")
        results.append(highest[:, 0] + np.log(sums))
    return np.concatenate(results) - 0.5 * mean.shape[1] * math.log(2 * math.pi)


def drawn(mean: np.ndarray, log_variance: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """One z from each posterior, (count, latent), and its log-density there, (count,)."""
    noise = np.random.default_rng(seed).standard_normal(mean.shape)
    z = mean + np.exp(0.5 * log_variance) * noise
    return z, -0.5 * np.sum(noise**2 + log_variance + math.log(2 * math.pi), axis=1)


def mutual_information(mean: np.ndarray, log_variance: np.ndarray, seed: int = 0) -> float:
    r"""Mutual information of z and the place of an image among these N, in nats.

    $$I(z; n) = \mathbb{E}_n \mathbb{E}_{q(z|x_n)} \log \frac{q(z|x_n)}{\frac1N \sum_m q(z|x_m)}
    \le \log N$$

    One z is drawn for each image. Where it comes near log N the images, and not the latents, set
    it: it is then a lower bound of the mutual information of z and all images that there could be.
    It is never below 0, where draws would bring the estimate.

    Args:
        mean: (count, latent).
        log_variance: (count, latent), the natural log of a variance.
        seed: Of the draws.

    References:
        Hoffman and Johnson (2016), "ELBO surgery", Advances in Approximate Bayesian Inference.
    """
    z, log_posterior = drawn(mean, log_variance, seed)
    return max(0.0, float(np.mean(log_posterior - aggregate_log_prob(z, mean, log_variance))))


def information_within(
    mean: np.ndarray, log_variance: np.ndarray, seed: int = 0, rows: np.ndarray | None = None
) -> tuple[float | None, float | None]:
    """`mutual_information`, and the most that so many images can show.

    Of a model of classes it is that of the images of each class among themselves, I(x; z|c),
    averaged over images: what all of them together show is of the class as well. None, None of a
    model of other numbers.

    Args:
        mean: (count, latent).
        log_variance: (count, latent), the natural log of a variance.
        seed: Of the draws.
        rows: (count, context), of a conditional model; see `VAE.rows`.
    """
    if rows is None:
        return mutual_information(mean, log_variance, seed), math.log(len(mean))
    if not np.isin(rows, (0, 1)).all() or not (rows.sum(axis=1) == 1).all():
        return None, None
    found = most = 0.0
    for number in np.unique(rows.argmax(axis=1)):
        own = rows[:, number] == 1
        share = own.mean()
        found += share * mutual_information(mean[own], log_variance[own], seed)
        most += share * math.log(own.sum())
    return float(found), float(most)


def beyond_chance(gap: float, images: int, latents: int) -> float:
    """A gap by moments, less what so many draws from the prior itself would show."""
    return max(0.0, gap - latents * (latents + 3) / (4 * images))


def moment_gap(mean: np.ndarray, log_variance: np.ndarray) -> float:
    r"""The divergence of the aggregate posterior from N(0, I) that its first two moments show.

    $$\tfrac12 \left( \operatorname{tr} S + m^\top m - d - \log \det S \right) \le
    D_{KL}\left(\tfrac1N \textstyle\sum_n q(z|x_n) \,\|\, N(0, I)\right)$$

    with m and S the mean and covariance of the aggregate posterior. It is a lower bound of the
    whole gap, and equal to it if the aggregate posterior is Gaussian.

    Args:
        mean: (count, latent).
        log_variance: (count, latent), the natural log of a variance.

    Returns:
        Nats.
    """
    mean = mean.astype("float64")
    covariance = np.atleast_2d(np.cov(mean.T, bias=True))
    covariance = covariance + np.diag(np.exp(log_variance.astype("float64")).mean(axis=0))
    middle = mean.mean(axis=0)
    _, log_determinant = np.linalg.slogdet(covariance)
    return float(0.5 * (np.trace(covariance) + middle @ middle - len(middle) - log_determinant))


def prior_gap_at_least(
    prior: Prior,
    mean: np.ndarray,
    log_variance: np.ndarray,
    seed: int = 0,
    rows: np.ndarray | None = None,
) -> float | None:
    """`moment_gap` where the prior is standard normal: in the noise that it makes latents of.

    That noise and the latents are one change of variables apart, which leaves a divergence as it
    is. One z is drawn for each image, unless the prior is N(0, I) itself.

    Args:
        prior: p(z).
        mean: (count, latent).
        log_variance: (count, latent), the natural log of a variance.
        seed: Of the draws.
        rows: (count, context), of a conditional prior; see `VAE.rows`.

    Returns:
        Nats; None under another prior where there are not more than 2 images for each latent: of so
        few draws the covariance is all but singular, and the figure would be its own chance.
    """
    if isinstance(prior, StandardNormal):
        return moment_gap(mean, log_variance)
    if len(mean) <= 2 * mean.shape[1]:
        return None
    z, _ = drawn(mean, log_variance, seed)
    noise = ops.convert_to_numpy(prior.to_noise(z.astype("float32"), **given(rows)))
    return moment_gap(noise, np.full_like(noise, -np.inf))


def neighbour_accuracy(
    mean: np.ndarray,
    labels: np.ndarray,
    test_mean: np.ndarray,
    test_labels: np.ndarray,
    neighbours: int = 5,
) -> float:
    """How many test images the nearest training images put into the right class: a share.

    Args:
        mean: (count, latent), posterior means of training images.
        labels: (count,), their classes.
        test_mean: (count, latent), posterior means of the images to classify.
        test_labels: (count,), their classes.
        neighbours: How many vote, by Euclidean distance of means.
    """
    classifier = KNeighborsClassifier(min(neighbours, len(mean)), algorithm="brute")
    return float(classifier.fit(mean, labels).score(test_mean, test_labels))


def linear_probe_accuracy(
    mean: np.ndarray, labels: np.ndarray, test_mean: np.ndarray, test_labels: np.ndarray
) -> float:
    """How many test images logistic regression on the means puts into the right class: a share.

    The means are standardised; the penalty is scikit-learn's own, `C` = 1.

    Args:
        mean: (count, latent), posterior means of training images.
        labels: (count,), their classes.
        test_mean: (count, latent), posterior means of the images to classify.
        test_labels: (count,), their classes.
    """
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    return float(probe.fit(mean, labels).score(test_mean, test_labels))
