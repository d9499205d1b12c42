"""Distances between two sets of rows: Fréchet, kernel, and mutual coverage; plain NumPy."""

import numpy as np

from kvae.evaluation.neighbours import blocks, checked, squared_distances

__all__ = ["NEIGHBOURS", "frechet_distance", "kernel_distance", "precision_recall_density_coverage"]

NEIGHBOURS = 5


def frechet_distance(real: np.ndarray, generated: np.ndarray) -> float:
    r"""Computes the Fréchet distance between Gaussians with the moments of two sets.

    $$d^2 = |m_r - m_g|^2 + \mathrm{tr}\big(C_r + C_g - 2 (C_r C_g)^{1/2}\big)$$

    It is biased upwards, more so with fewer images: compare it only at the same numbers of images.

    Args:
        real: (count, features), at least 2 rows.
        generated: (another count, features), at least 2 rows.

    Returns:
        d², at least 0; in squared units of the features.

    References:
        Dowson and Landau (1982), "The Fréchet distance between multivariate normal distributions".
        Heusel et al. (2017), "GANs trained by a two time-scale update rule converge to a local Nash
        equilibrium", arXiv:1706.08500 (in the features of a classifier, another than ours).
    """
    real, generated = checked(real, generated, least=2)
    roots = [root(np.cov(rows, rowvar=False)) for rows in (real, generated)]
    shift = real.mean(axis=0) - generated.mean(axis=0)
    # The trace of the root of the product, in a form that stays exact for low ranks.
    common = np.linalg.svd(roots[0] @ roots[1], compute_uv=False).sum()
    spread = sum(np.square(one).sum() for one in roots)
    return max(0.0, float(shift @ shift + spread - 2 * common))


def root(covariance: np.ndarray) -> np.ndarray:
    """The symmetric square root of a covariance, (features, features)."""
    values, vectors = np.linalg.eigh(np.atleast_2d(covariance))
    return (vectors * np.sqrt(values.clip(0))) @ vectors.T


def kernel_distance(real: np.ndarray, generated: np.ndarray) -> float:
    r"""Computes the squared maximum mean discrepancy of two sets, with a cubic kernel.

    $$\mathrm{MMD}^2 = \overline{k(x, x')} + \overline{k(y, y')} - 2\, \overline{k(x, y)}, \quad
    k(x, y) = (x \cdot y / \text{features} + 1)^3$$

    The means are over all pairs of different rows; in the paper, over those of random subsets. The
    estimate is unbiased: its expectation does not depend on the number of images. It is 0 for sets
    of the same distribution, so an estimate may be slightly negative.

    Args:
        real: (count, features), at least 2 rows.
        generated: (another count, features), at least 2 rows.

    References:
        Bińkowski et al. (2018), "Demystifying MMD GANs", arXiv:1801.01401 (in the features of
        another classifier than ours).
    """
    real, generated = checked(real, generated, least=2)
    both = kernel_sum(real, generated) / (len(real) * len(generated))
    own = [
        (kernel_sum(rows, rows) - kernel(np.square(rows).mean(axis=1)).sum())
        / (len(rows) * (len(rows) - 1))
        for rows in (real, generated)
    ]
    return float(sum(own) - 2 * both)


def kernel_sum(first: np.ndarray, second: np.ndarray) -> float:
    """The sum of the kernel over all pairs of rows."""
    width = first.shape[1]
    return sum(
        float(kernel(first[part] @ second.T / width).sum())
        for part in blocks(len(first), len(second))
    )


def kernel(mean_product: np.ndarray) -> np.ndarray:
    """The cubic kernel of mean products of features."""
    return (mean_product + 1) ** 3


def precision_recall_density_coverage(
    real: np.ndarray, generated: np.ndarray, neighbours: int = NEIGHBOURS
) -> dict[str, float]:
    r"""Computes how much of each set lies near the other, with balls around rows.

    The radius of the ball around a row is the distance to its k-th nearest neighbour in its own
    set. With n real rows x_i, m generated rows y_j, and their balls B:

    $$\text{precision} = \frac1m \sum_j 1[y_j \in \cup_i B(x_i)], \quad
    \text{recall} = \frac1n \sum_i 1[x_i \in \cup_j B(y_j)]$$
    $$\text{density} = \frac1{km} \sum_{ij} 1[y_j \in B(x_i)], \quad
    \text{coverage} = \frac1n \sum_i 1[\exists j: y_j \in B(x_i)]$$

    Two large sets of the same distribution have a density near 1 and a coverage near 1 − 2⁻ᵏ.

    Args:
        real: (count, features), more than `neighbours` rows.
        generated: (another count, features), more than `neighbours` rows.
        neighbours: k.

    Returns:
        `precision`, `recall` and `coverage`, from 0 to 1, and `density`, which may exceed 1.

    References:
        Kynkäänniemi et al. (2019), "Improved precision and recall metric for assessing generative
        models", arXiv:1904.06991. Naeem et al. (2020), "Reliable fidelity and diversity metrics for
        generative models", arXiv:2002.09797 (density and coverage).
    """
    real, generated = checked(real, generated, least=neighbours + 1)
    reach_of_real, reach_of_generated = (reach(rows, neighbours) for rows in (real, generated))
    precise, inside = np.zeros(len(generated), bool), 0
    recalled, covered = [], []
    for part in blocks(len(real), len(generated)):
        squares = squared_distances(real[part], generated)
        within = squares <= reach_of_real[part, np.newaxis]
        inside += int(np.count_nonzero(within))
        precise |= within.any(axis=0)
        covered.append(within.any(axis=1))
        recalled.append((squares <= reach_of_generated).any(axis=1))
    return {
        "precision": float(precise.mean()),
        "recall": float(np.concatenate(recalled).mean()),
        "density": inside / (neighbours * len(generated)),
        "coverage": float(np.concatenate(covered).mean()),
    }


def reach(rows: np.ndarray, neighbours: int) -> np.ndarray:
    """The squared distance of each row to its k-th nearest neighbour: (count,)."""
    found = []
    for part in blocks(len(rows), len(rows)):
        squares = squared_distances(rows[part], rows)
        squares[np.arange(len(squares)), np.arange(part.start, part.stop)] = np.inf
        found.append(np.partition(squares, neighbours - 1, axis=1)[:, neighbours - 1])
    return np.concatenate(found)
