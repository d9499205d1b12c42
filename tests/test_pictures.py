import numpy as np
import pytest
from keras import ops
from matplotlib.figure import Figure

import kvae
from kvae.drawing import paths, pictures

CLOSE = {"rtol": 0, "atol": 1e-5}


@pytest.fixture
def coloured():
    """60 images of 32×32×3: circles, squares and bars, each shape in a colour of its own."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:32, :32]
    images, labels = np.zeros((60, 32, 32, 3), "uint8"), np.arange(60) % 3
    for image, label in zip(images, labels, strict=True):
        row, column, size = *rng.integers(10, 22, 2), rng.integers(4, 9)
        masks = (
            (y - row) ** 2 + (x - column) ** 2 < size**2,
            np.maximum(abs(y - row), abs(x - column)) < size,
            abs(x - column) < size // 2,
        )
        image[masks[label]] = np.roll([220, 60, 20], label) + rng.integers(-20, 20)
    return images, labels


def title(figure):
    texts = [text.get_text() for text in figure.texts] + [axes.get_title() for axes in figure.axes]
    return " ".join(" ".join(texts).split())


def picture(figure):
    """The pixels of a framed picture."""
    return np.asarray(figure.axes[0].images[0].get_array())


@pytest.fixture
def decoded(monkeypatch):
    """Spies on a model: the latents that it decodes."""

    def spy(vae):
        seen, decode = [], vae.decode_told
        monkeypatch.setattr(
            vae,
            "decode_told",
            lambda latents, rows: (seen.append(latents), decode(latents, rows))[1],
        )
        return seen

    return spy


def test_reconstruct_puts_images_over_their_reconstructions(fixed_vae, images):
    figure = kvae.reconstruct(fixed_vae, images[:6], columns=3, what="bars")
    expected = kvae.plots.stacked_pairs(images[:6], fixed_vae.reconstruct(images[:6]), 3)
    np.testing.assert_array_equal(picture(figure), expected)
    assert title(figure) == "6 bars, each over its reconstruction"


@pytest.mark.parametrize("path", paths.PATHS)
def test_both_ends_of_a_path_are_the_reconstructions(fixed_vae, images, path):
    found = kvae.interpolate(fixed_vae, images[:4], images[4:8], steps=5, path=path)
    assert found.shape == (4, 5, 8, 8, 1)
    np.testing.assert_allclose(found[:, 0], fixed_vae.reconstruct(images[:4]), **CLOSE)
    np.testing.assert_allclose(found[:, -1], fixed_vae.reconstruct(images[4:8]), **CLOSE)


def test_the_middle_of_a_straight_path_decodes_the_middle(fixed_vae, images):
    means, _ = fixed_vae.encode(images[:2])
    found = kvae.interpolate(fixed_vae, images[:1], images[1:2], steps=3)
    np.testing.assert_allclose(
        found[0, 1:2], fixed_vae.decode(means.mean(0, keepdims=True)), **CLOSE
    )


def test_an_end_of_several_images_is_their_average(fixed_vae, images):
    means, _ = fixed_vae.encode(images)
    found = kvae.interpolate(fixed_vae, [images[:5]], [images[5:]], steps=2)
    ends = np.stack([means[:5].mean(0), means[5:].mean(0)])
    np.testing.assert_allclose(found[0], fixed_vae.decode(ends), **CLOSE)


def test_a_spherical_path_keeps_the_length_between_those_of_its_ends():
    rng = np.random.default_rng(0)
    first, last = rng.normal(size=(2, 100, 4))
    last[0], last[1], last[2] = 2 * first[0], -first[1], 0
    lengths = np.linalg.norm([first, last], axis=-1)
    for share in np.linspace(0, 1, 7):
        point = paths.spherical(first, last, share)
        length = np.linalg.norm(point, axis=-1)
        assert (length <= lengths.max(0) + 1e-9).all()
        assert (length[3:] >= lengths.min(0)[3:] - 1e-9).all()
        for row in (0, 1, 2):  # on a line through the origin: straight
            expected = paths.straight(first[row], last[row], share)
            np.testing.assert_allclose(point[row], expected, **CLOSE)


@pytest.mark.parametrize(
    "settings, what", [({"steps": 1}, "at least 2"), ({"path": "round"}, "linear, spherical")]
)
def test_no_path_at_all_is_refused(fixed_vae, images, settings, what):
    with pytest.raises(ValueError, match=what):
        kvae.interpolate(fixed_vae, images[:1], images[:1], **settings)
    with pytest.raises(ValueError, match="one entry for each path"):
        kvae.interpolate(fixed_vae, images[:1], images[:2])


def test_like_without_temperature_is_the_reconstruction(fixed_vae, images):
    found = kvae.like(fixed_vae, images[0], count=3, temperature=0)
    np.testing.assert_allclose(found, fixed_vae.reconstruct(images[:1]).repeat(3, 0), **CLOSE)


def test_like_draws_around_the_average_posterior(fixed_vae, images, monkeypatch):
    mean, log_variance = fixed_vae.encode(images)
    monkeypatch.setattr(fixed_vae, "decode_told", lambda latents, rows: latents)
    draws = kvae.like(fixed_vae, images, count=20_000, seed=0)
    np.testing.assert_allclose(draws.mean(0), mean.mean(0), atol=0.05)
    np.testing.assert_allclose(draws.var(0), np.exp(log_variance).mean(0), rtol=0.05)


def test_like_gives_the_same_images_for_the_same_seed(fixed_vae, images):
    one, same, other, free = (kvae.like(fixed_vae, images[0], 2, seed) for seed in (1, 1, 2, None))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any() and (one != free).any()


@pytest.mark.parametrize("settings", [{"count": 0}, {"temperature": -1}, {"temperature": np.nan}])
def test_like_refuses_what_cannot_be_drawn(fixed_vae, images, settings):
    with pytest.raises(ValueError, match="must be"):
        kvae.like(fixed_vae, images[0], **settings)


@pytest.mark.parametrize("method, latent_dim", [("tsne", 3), ("tsne", 1), ("pca", 3), ("plane", 2)])
def test_latent_shows_every_image_in_the_colour_of_its_class(make_vae, images, method, latent_dim):
    labels = np.arange(64) % 4
    vae = make_vae(latent_dim=latent_dim)
    figure = kvae.latent(vae, images, labels, ["a", "b", "c", "d"], method, what="bars")
    groups = figure.axes[0].collections
    assert [len(group.get_offsets()) for group in groups] == [16] * 4
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b", "c", "d"]
    assert "64 bars" in title(figure) and f"{latent_dim} latents" in title(figure)
    if method == "plane":
        np.testing.assert_allclose(groups[1].get_offsets(), vae.encode(images)[0][1::4], **CLOSE)


def test_principal_components_are_uncorrelated_and_ordered_by_variance():
    points = np.random.default_rng(0).normal(size=(200, 4)) @ np.diag([1, 5, 2, 3])
    directions, coordinates = pictures.principal(points)
    np.testing.assert_allclose(coordinates @ directions, points - points.mean(0), atol=1e-9)
    covariance = np.cov(coordinates.T)
    np.testing.assert_allclose(covariance, np.diag(np.diag(covariance)), atol=1e-9)
    assert (np.diff(np.diag(covariance)) < 0).all()


@pytest.mark.parametrize(
    "count, method, what", [(9, "plane", "The plane needs 2 latents"), (9, "umap", "tsne, pca"),
                            (2, "pca", "at least 3 images")]
)  # fmt: skip
def test_latent_refuses_what_it_cannot_draw(fixed_vae, images, count, method, what):
    with pytest.raises(ValueError, match=what):
        kvae.latent(fixed_vae, images[:count], method=method)


def test_the_manifold_of_two_latents_is_the_plane_of_the_prior(make_vae, images):
    vae = make_vae(latent_dim=2)
    figure = kvae.manifold(vae, images, size=3)
    q = 0.96742  # the normal quantile of 5/6
    points = [(x, y) for y in (q, 0, -q) for x in (-q, 0, q)]
    np.testing.assert_array_equal(picture(figure), kvae.plots.grid(vae.decode(points), 3))
    assert title(figure).startswith("3 × 3 points")


@pytest.mark.parametrize("latent_dim", [1, 5])
def test_the_manifold_of_more_latents_has_the_centre_and_spread_of_the_means(
    make_vae, images, latent_dim, decoded
):
    vae = make_vae(latent_dim=latent_dim)
    means, _ = vae.encode(images)
    seen = decoded(vae)
    kvae.manifold(vae, images, size=15)
    (points,) = seen
    assert points.shape == (225, latent_dim)
    np.testing.assert_allclose(points.mean(0), means.mean(0), **CLOSE)
    spread = np.linalg.norm(points[7 * 15 + 12] - points[7 * 15 + 2])
    widest = pictures.principal(means)[1][:, 0].std()
    np.testing.assert_allclose(spread, 2 * 0.96742 * widest, rtol=1e-4)


def test_traversals_are_ordered_by_kl_and_move_one_latent(fixed_vae, images, decoded):
    kl = fixed_vae.kl_per_latent(images)
    seen = decoded(fixed_vae)
    figure = kvae.traversals(fixed_vae, images, latents=2, steps=5)
    order = np.argsort(-kl)[:2]
    labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert labels == [f"latent {i + 1}: {kl[i]:.2f}" for i in order]
    (points,) = seen
    expected = np.tile(fixed_vae.encode(images[:1])[0], (2, 5, 1))
    for row, i in enumerate(order):
        expected[row, :, i] = [-3, -1.5, 0, 1.5, 3]
    np.testing.assert_allclose(points.reshape(2, 5, 3), expected, **CLOSE)
    assert "2 of 3 latents" in title(figure) and "nats" in title(figure)


def test_a_spherical_path_of_a_flow_is_one_of_its_noise(make_vae, make_flow, images, decoded):
    vae = make_vae(prior=make_flow())
    means, _ = vae.encode(images[:2])
    seen = decoded(vae)
    kvae.interpolate(vae, images[:1], images[1:2], steps=3, path="spherical")
    (points,) = seen
    np.testing.assert_allclose(points[[0, 2]], means, atol=1e-4)
    start, middle, end = ops.convert_to_numpy(vae.prior.to_noise(points))
    expected = paths.spherical(start[None], end[None], 0.5)[0]
    np.testing.assert_allclose(middle, expected, atol=1e-3)
    assert abs(points[1] - means.mean(0)).max() > 0.01


def test_the_manifold_of_two_latents_of_a_flow_is_the_plane_of_its_noise(
    make_vae, make_flow, images
):
    vae = make_vae(latent_dim=2, prior=make_flow(2))
    figure = kvae.manifold(vae, images, size=3)
    q = 0.96742
    noise = np.array([(x, y) for y in (q, 0, -q) for x in (-q, 0, q)], "float32")
    expected = vae.generator().predict(noise, verbose=0)
    np.testing.assert_allclose(picture(figure), kvae.plots.grid(expected, 3), atol=1)


def test_traversals_of_a_flow_move_a_latent_over_its_own_spread(
    make_vae, make_flow, images, decoded
):
    vae = make_vae(prior=make_flow())
    means, log_variances = vae.encode(images)
    seen = decoded(vae)
    figure = kvae.traversals(vae, images, latents=1, steps=3)
    (points,) = seen
    (moved,) = np.flatnonzero(np.ptp(points, axis=0) > 1e-6)
    assert moved == vae.kl_per_latent(images).argmax()
    spread = np.sqrt(means.var(0) + np.exp(log_variances).mean(0))[moved]
    expected = means[:, moved].mean() + spread * np.array([-3, 0, 3])
    np.testing.assert_allclose(points[:, moved], expected, rtol=1e-4)
    assert "deviations" in title(figure)


@pytest.mark.slow
def test_colour_needs_no_special_treatment(coloured, tmp_path):
    images, labels = coloured
    names = ["circle", "square", "bar"]
    data = kvae.data.from_arrays(images, train_labels=labels, class_names=names)
    recipe = kvae.Recipe(
        network_arguments={"width": 16, "depth": 1}, latent_dim=4, batch_size=16, epochs=1
    )
    vae = kvae.train(data, recipe, out=tmp_path / "vae.keras", verbose=0)
    assert vae.generate(4, seed=0).shape == (4, 32, 32, 3)
    assert kvae.like(vae, images[labels == 1], 4, seed=0).shape == (4, 32, 32, 3)
    assert kvae.interpolate(vae, images[:3], images[3:6], steps=4).shape == (3, 4, 32, 32, 3)
    figures = [
        kvae.reconstruct(vae, data.train[:6]),
        kvae.latent(vae, data.train, data.train_labels, names),
        kvae.latent(vae, data.train, data.train_labels, names, "pca"),
        kvae.manifold(vae, data.train, 4),
        kvae.traversals(vae, data.train),
        kvae.curves(tmp_path / "vae"),
    ]
    for i, figure in enumerate(figures):
        assert isinstance(figure, Figure)
        kvae.plots.save_picture(figure, tmp_path / f"{i}.png")
