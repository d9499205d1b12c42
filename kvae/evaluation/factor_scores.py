"""Disentanglement scores of arrays of latents and of the factors of images.

Each score follows its paper and `disentanglement_lib` (Locatello et al. 2019, "Challenging common
assumptions in the unsupervised learning of disentangled representations", arXiv:1811.12359), with
the exceptions in its docstring. Here `codes` are the latents, (count, latent), and `classes` the
factors, (count, factor), as integers from 0 on.
"""

from typing import Any

import numpy as np
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from kvae.evaluation.outliers import auroc

__all__ = [
    "beta_vae_score",
    "completeness",
    "disentanglement",
    "explicitness",
    "factor_vae_score",
    "importances",
    "modularity",
    "mutual_information_gap",
    "mutual_informations",
    "separated_predictability",
]

BINS = 20  # of a latent, as in disentanglement_lib
TREES, LEAF = 30, 10
GROUP = 64  # images per vote
VOTES = (1_000, 500)  # for training and for testing
DEAD = 0.05  # latents with a smaller deviation are left out of FactorVAE's votes


def mutual_informations(codes: np.ndarray, classes: np.ndarray, bins: int = BINS) -> np.ndarray:
    """Computes the mutual information of each binned latent with each factor.

    Args:
        codes: (count, latent).
        classes: (count, factor), integers from 0 on.
        bins: Number of bins of equal width between the smallest and the largest value of a latent.
            More bins and fewer images increase all values; published figures differ most in this
            choice.

    Returns:
        (latent, factor), float64, nats.
    """
    low, high = codes.min(axis=0), codes.max(axis=0)
    width = np.maximum(high - low, 1e-12)
    binned = np.minimum((bins * (codes - low) / width).astype(int), bins - 1)
    found = np.empty((codes.shape[1], classes.shape[1]))
    for j, factor in enumerate(classes.T):
        count = int(factor.max()) + 1
        for i, code in enumerate(binned.T):
            cells = np.bincount(code * count + factor, minlength=bins * count)
            both = cells.reshape(bins, count) / len(codes)
            found[i, j] = entropy(both.sum(0)) + entropy(both.sum(1)) - entropy(both.ravel())
    return np.maximum(found, 0)


def entropy(shares: np.ndarray) -> float:
    """The entropy of shares that add up to 1, nats."""
    shares = shares[shares > 0]
    return float(-np.sum(shares * np.log(shares)))


def entropies(classes: np.ndarray) -> np.ndarray:
    """The entropy of each factor: (factor,), nats."""
    return np.array([entropy(np.bincount(factor) / len(factor)) for factor in classes.T])


def mutual_information_gap(informations: np.ndarray, classes: np.ndarray) -> float:
    r"""Computes MIG: the gap between the two most informative latents of each factor.

    $$\frac1K \sum_k \frac{1}{H(v_k)} \left(I(z_{j_k}; v_k) - \max_{j \ne j_k} I(z_j; v_k)\right)$$

    It is 1 if one latent, and no other, has all information about each factor. With a single
    latent, the second counts as 0.

    Args:
        informations: (latent, factor), from `mutual_informations`.
        classes: (count, factor), integers from 0 on.

    References:
        Chen et al. (2018), arXiv:1802.04942, equation 6. In the paper, I is that of draws of z;
        here, as in disentanglement_lib, it is that of the binned posterior means.
    """
    return float(np.mean(top_gap(informations) / entropies(classes)))


def top_gap(table: np.ndarray) -> np.ndarray:
    """The gap between the two greatest values of each column: (columns,)."""
    ordered = np.sort(np.concatenate([table, np.zeros((1, table.shape[1]))]), axis=0)
    return ordered[-1] - ordered[-2]


def modularity(informations: np.ndarray) -> float:
    r"""Computes the modularity: how close each latent is to informing about one factor only.

    $$1 - \frac{\sum_{k \ne k_j} I(z_j; v_k)^2}{(K - 1) \max_k I(z_j; v_k)^2}$$

    A latent without information counts as 0. An unused latent still has a little information by
    chance, and counts as whatever that gives, so the score depends on the number of latents.

    Args:
        informations: (latent, factor), from `mutual_informations`.

    References:
        Ridgeway and Mozer (2018), "Learning deep disentangled embeddings with the F-statistic
        loss", arXiv:1802.05312, section 3.
    """
    squares = informations**2
    most = squares.max(axis=1)
    others = (squares.sum(axis=1) - most) / np.maximum(most * (squares.shape[1] - 1), 1e-300)
    return float(np.mean(np.where(most > 0, 1 - others, 0)))


def importances(
    codes: np.ndarray, classes: np.ndarray, others: np.ndarray, known: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Computes the importance of each latent for classifying each factor, and the accuracy.

    The classifier is a forest of 30 extremely randomised trees, which consider all latents at each
    split and have at least 10 images per leaf. disentanglement_lib uses boosted trees, which take
    minutes.

    Args:
        codes: (count, latent), for training.
        classes: (count, factor), of `codes`.
        others: (more, latent), for testing.
        known: (more, factor), of `others`.
        seed: Random seed of the forest.

    Returns:
        The importances, (latent, factor), which add up to 1 over latents; and the accuracies,
        (factor,). The accuracy is the informativeness of DCI as in disentanglement_lib; the paper
        has the error.
    """
    found = np.empty((codes.shape[1], classes.shape[1]))
    right = np.empty(classes.shape[1])
    for k in range(classes.shape[1]):
        forest = ExtraTreesClassifier(
            TREES, min_samples_leaf=LEAF, max_features=None, random_state=seed
        ).fit(codes, classes[:, k])
        found[:, k] = forest.feature_importances_
        right[k] = forest.score(others, known[:, k])
    return found, right


def disentanglement(importance: np.ndarray) -> float:
    r"""Computes D of DCI, the disentanglement: whether each latent matters to one factor only.

    $$\sum_j \rho_j \left(1 - H_K(P_j)\right), \quad P_{jk} = R_{jk} / \textstyle\sum_k R_{jk},
    \quad \rho_j = \sum_k R_{jk} / \sum_{jk} R_{jk}$$

    R are the importances, and the base of the entropy H is the number K of factors.

    Args:
        importance: (latent, factor), R.

    References:
        Eastwood and Williams (2018), "A framework for the quantitative evaluation of disentangled
        representations", ICLR, section 2.
    """
    weights = importance.sum(axis=1)
    if not weights.sum() or importance.shape[1] == 1:
        return 0.0
    shares = importance / np.maximum(weights, 1e-300)[:, np.newaxis]
    each = np.array([1 - entropy(row) / np.log(importance.shape[1]) for row in shares])
    return float(np.sum(each * weights / weights.sum()))


def completeness(importance: np.ndarray) -> float:
    """Computes C of DCI, the completeness: whether one latent only matters to each factor.

    Args:
        importance: (latent, factor).
    """
    return disentanglement(importance.T)


def separated_predictability(
    codes: np.ndarray, factors: np.ndarray, categories: np.ndarray, others: Any, known: Any
) -> float:
    """Computes SAP: how much better the best latent predicts a factor than the second best.

    The score is averaged over factors. For a numeric factor, the prediction score is the squared
    correlation with the latent. For a category, it is the accuracy of a linear classifier of that
    one latent (a support vector machine with C = 0.01 and balanced classes). Chance is one over the
    number of categories, so even a perfect latent gains only the rest up to 1.

    Args:
        codes: (count, latent), for training.
        factors: (count, factor), unbinned.
        categories: (factor,), bool: which factors are categories without an order.
        others: (more, latent), for testing.
        known: (more, factor), unbinned.

    References:
        Kumar, Sattigeri and Balakrishnan (2018), arXiv:1711.00848, section 3.
    """
    centred = codes - codes.mean(axis=0)
    spread = centred.std(axis=0)
    gaps = []
    for k, values in enumerate(factors.T):
        if categories[k]:
            table = [
                LinearSVC(C=0.01, class_weight="balanced")
                .fit(centred[:, [j]], values)
                .score(others[:, [j]] - codes[:, j].mean(), known[:, k])
                for j in range(codes.shape[1])
            ]
        else:
            covariance = (centred * (values - values.mean())[:, np.newaxis]).mean(axis=0)
            table = (covariance / np.maximum(spread * values.std(), 1e-12)) ** 2
        gaps.append(top_gap(np.array(table)[:, np.newaxis])[0])
    return float(np.mean(gaps))


def explicitness(
    codes: np.ndarray, classes: np.ndarray, others: np.ndarray, known: np.ndarray
) -> float:
    """Computes the explicitness: how well all latents together predict each factor value.

    This is the mean area under the ROC curve of logistic regression on standardised latents, for
    each value against all others. 1 is perfect and ½ is chance, as in disentanglement_lib; the
    paper scales this to 0…1.

    Args:
        codes: (count, latent), for training.
        classes: (count, factor), of `codes`.
        others: (more, latent), for testing.
        known: (more, factor), of `others`.

    References:
        Ridgeway and Mozer (2018), arXiv:1802.05312, section 3.
    """
    areas = []
    for k in range(classes.shape[1]):
        probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        probe.fit(codes, classes[:, k])
        likely = probe.predict_proba(others)
        own = []
        for place, value in enumerate(probe.classes_):
            there = known[:, k] == value
            if there.any() and not there.all():
                own.append(auroc(likely[~there, place], likely[there, place]))
        areas.append(np.mean(own))
    return float(np.mean(areas))


def beta_vae_score(
    codes: np.ndarray, classes: np.ndarray, others: np.ndarray, known: np.ndarray, seed: int
) -> float:
    """Computes the score of β-VAE: the accuracy of finding the common factor of image pairs.

    Each vote is the mean absolute difference of 64 pairs of images that have the same value of a
    randomly drawn factor. The classifier, a logistic regression on standardised differences, is
    trained on 1,000 votes and tested on 500. Chance is one over the number of factors.

    Args:
        codes: (count, latent), for training.
        classes: (count, factor), of `codes`.
        others: (more, latent), for testing.
        known: (more, factor), of `others`.
        seed: Random seed.

    References:
        Higgins et al. (2017), "beta-VAE: learning basic visual concepts with a constrained
        variational framework", ICLR, section 3. The votes of disentanglement_lib are of images
        drawn anew; here they are of those that there are.
    """
    rng = np.random.default_rng(seed)
    found = []
    for rows, values, votes in ((codes, classes, VOTES[0]), (others, known, VOTES[1])):
        asked = rng.integers(classes.shape[1], size=votes)
        first = rng.integers(len(rows), size=(votes, GROUP))
        second = np.empty_like(first)
        for k in range(classes.shape[1]):
            second[asked == k] = alike(values[:, k], first[asked == k], rng)
        found += [np.abs(rows[first] - rows[second]).mean(axis=1), asked]
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    return float(probe.fit(found[0], found[1]).score(found[2], found[3]))


def factor_vae_score(
    codes: np.ndarray, classes: np.ndarray, others: np.ndarray, known: np.ndarray, seed: int
) -> float:
    """Computes the score of FactorVAE: how often the least varying latent tells the factor.

    Each vote is from 64 images that have the same value of a randomly drawn factor. The vote is for
    the latent with the smallest variance over them, relative to that over all images. A latent
    predicts the factor for which it received most votes; this is learned from 1,000 votes and
    tested on 500. Latents with a standard deviation below 0.05 over all images are left out.

    Args:
        codes: (count, latent), for training.
        classes: (count, factor), of `codes`.
        others: (more, latent), for testing.
        known: (more, factor), of `others`.
        seed: Random seed.

    References:
        Kim and Mnih (2018), "Disentangling by factorising", arXiv:1802.05983, section 4.
    """
    rng = np.random.default_rng(seed)
    variances = codes.var(axis=0, ddof=1)
    used = np.sqrt(variances) >= DEAD
    if not used.any():
        return 0.0
    tables = []
    for rows, values, votes in ((codes, classes, VOTES[0]), (others, known, VOTES[1])):
        table = np.zeros((int(used.sum()), classes.shape[1]), int)
        asked = rng.integers(classes.shape[1], size=votes)
        first = rng.integers(len(rows), size=(votes, 1)).repeat(GROUP, axis=1)
        for k in range(classes.shape[1]):
            group = rows[alike(values[:, k], first[asked == k], rng)][:, :, used]
            least = (group.var(axis=1, ddof=1) / variances[used]).argmin(axis=1)
            np.add.at(table, (least, k), 1)
        tables.append(table)
    stands_for = tables[0].argmax(axis=1)
    return float(tables[1][np.arange(len(stands_for)), stands_for].sum() / tables[1].sum())


def alike(values: np.ndarray, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draws, for each row, a random row with the same value of a factor."""
    order = np.argsort(values, kind="stable")
    ends = np.cumsum(np.bincount(values))
    high = ends[values[rows]]
    low = np.concatenate([[0], ends])[values[rows]]
    return order[rng.integers(low, high)]
