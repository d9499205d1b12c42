"""Figures of latents: their information, their distance from the prior, and their use.

They are computed from posteriors, the means and log-variances that `VAE.encode` returns, and from
the prior.
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
    r"""Finds the latents in use: $\operatorname{Var}_x(\mathbb{E}_{q(z|x)}[z_j])$ above 0.01.

    Args:
        mean: (count, latent), posterior means.
        threshold: Threshold of the variance over images.

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
    r"""Computes the log-density of the aggregate posterior, $\log \frac1N \sum_n q(z|x_n)$.

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
        # Σ (z - μ)² / σ², expanded into two matrix products.
        exponents = -0.5 * (rows**2 @ precision.T - 2 * rows @ (mean * precision).T + constant)
        highest = exponents.max(axis=1, keepdims=True)
        sums = np.exp((exponents - highest).astype("float32")).mean(axis=1, dtype="float64")
        results.append(highest[:, 0] + np.log(sums))
    return np.concatenate(results) - 0.5 * mean.shape[1] * math.log(2 * math.pi)


def drawn(mean: np.ndarray, log_variance: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws one z from each posterior, (count, latent), with its log-density there, (count,)."""
    noise = np.random.default_rng(seed).standard_normal(mean.shape)
    z = mean + np.exp(0.5 * log_variance) * noise
    return z, -0.5 * np.sum(noise**2 + log_variance + math.log(2 * math.pi), axis=1)


def mutual_information(mean: np.ndarray, log_variance: np.ndarray, seed: int = 0) -> float:
    r"""Estimates the mutual information of z and the index of an image among N, in nats.

    $$I(z; n) = \mathbb{E}_n \mathbb{E}_{q(z|x_n)} \log \frac{q(z|x_n)}{\frac1N \sum_m q(z|x_m)}
    \le \log N$$

    One z is drawn for each image. If the estimate comes close to log N, it is limited by the number
    of images: it is then a lower bound of the mutual information of z and all possible images.
    Negative estimates, which draws can cause, are set to 0.

    Args:
        mean: (count, latent).
        log_variance: (count, latent), the natural log of a variance.
        seed: Random seed of the draws.

    References:
        Hoffman and Johnson (2016), "ELBO surgery", Advances in Approximate Bayesian Inference.
    """
    z, log_posterior = drawn(mean, log_variance, seed)
    return max(0.0, float(np.mean(log_posterior - aggregate_log_prob(z, mean, log_variance))))


def information_within(
    mean: np.ndarray, log_variance: np.ndarray, seed: int = 0, rows: np.ndarray | None = None
) -> tuple[float | None, float | None]:
    """Computes `mutual_information`, and the largest value that this many images can show.

    For a model of classes, this is the information within each class, I(x; z|c), averaged over
    images; otherwise the class itself would count. For a model conditional on numbers, both are
    None.

    Args:
        mean: (count, latent).
        log_variance: (count, latent), the natural log of a variance.
        seed: Random seed of the draws.
        rows: (count, context), for a conditional model; see `VAE.rows`.
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
    """A gap by moments, minus the gap that draws from the prior itself would show."""
    return max(0.0, gap - latents * (latents + 3) / (4 * images))


def moment_gap(mean: np.ndarray, log_variance: np.ndarray) -> float:
    r"""Computes a lower bound of the KL of the aggregate posterior from N(0, I), by moments.

    $$\tfrac12 \left( \operatorname{tr} S + m^\top m - d - \log \det S \right) \le
    D_{KL}\left(\tfrac1N \textstyle\sum_n q(z|x_n) \,\|\, N(0, I)\right)$$

    m and S are the mean and covariance of the aggregate posterior. This is a lower bound of the
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
    """Computes `moment_gap` in the noise that the prior maps to latents.

    A change of variables does not change the KL. A mixture, whose map is not invertible, may make
    it smaller but never larger, so this is a lower bound there too. One z is drawn for each image,
    unless the prior is N(0, I).

    Args:
        prior: p(z).
        mean: (count, latent).
        log_variance: (count, latent), the natural log of a variance.
        seed: Random seed of the draws.
        rows: (count, context), for a conditional prior; see `VAE.rows`.

    Returns:
        The gap in nats. None for a prior other than N(0, I) with at most 2 images per latent: the
        covariance of so few draws is nearly singular, and the figure would be dominated by chance.
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
    """Computes the share of test images that the nearest training images classify correctly.

    Args:
        mean: (count, latent), posterior means of training images.
        labels: (count,), their classes.
        test_mean: (count, latent), posterior means of the images to classify.
        test_labels: (count,), their classes.
        neighbours: Number of neighbours that vote, by the Euclidean distance of means.
    """
    classifier = KNeighborsClassifier(min(neighbours, len(mean)), algorithm="brute")
    return float(classifier.fit(mean, labels).score(test_mean, test_labels))


def linear_probe_accuracy(
    mean: np.ndarray, labels: np.ndarray, test_mean: np.ndarray, test_labels: np.ndarray
) -> float:
    """Computes the share of test images that a logistic regression classifies correctly.

    The inputs are the standardised posterior means. The penalty is scikit-learn's default, `C` = 1.

    Args:
        mean: (count, latent), posterior means of training images.
        labels: (count,), their classes.
        test_mean: (count, latent), posterior means of the images to classify.
        test_labels: (count,), their classes.
    """
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    return float(probe.fit(mean, labels).score(test_mean, test_labels))
