import numpy as np
import pytest
from commands import assert_refused, call
from flows import mixture
from keras import ops
from test_conditional import conditional

import kvae
from kvae.explorer.runnable import runnable
from kvae.explorer.tensors import Tensors
from kvae.priors import Blockwise, StandardNormal


def spied(vae, monkeypatch):
    """The latents that are decoded."""
    seen, decode = [], vae.decode_told
    monkeypatch.setattr(
        vae, "decode_told", lambda z, rows: (seen.append((z, rows)), decode(z, rows))[1]
    )
    return seen


def labels(figure):
    return [text.get_text() for text in figure.axes[0].get_yticklabels()]


def parts_of(prior, context=None):
    """Log-weights, means and log-variances, of the first row of a context."""
    return [np.array(ops.convert_to_numpy(part))[0] for part in prior.parameters(context)]


def test_clusters_are_the_components_by_weight_each_with_its_mean_and_draws(make_vae, monkeypatch):
    vae = make_vae(prior=mixture())
    seen = spied(vae, monkeypatch)
    figure = kvae.clusters(vae, columns=200)
    ((z, _),) = seen
    z = z.reshape(4, 200, 3)
    log_weights, means, log_variances = parts_of(vae.prior)
    order = np.argsort(-log_weights)
    np.testing.assert_allclose(z[:, 0], means[order], atol=1e-5)
    deviations = np.exp(0.5 * log_variances[order])
    np.testing.assert_allclose(z[:, 1:].std(axis=1) / deviations, 1, atol=0.2)
    away = abs(z[:, 1:].mean(axis=1) - means[order]) / deviations
    assert away.max() < 5 / np.sqrt(199)
    shown = [f"component {k + 1}: {np.exp(log_weights[k]):.1%}" for k in order]
    assert labels(figure) == shown
    assert "4 of 4 components" in figure.texts[0].get_text()


def test_of_many_components_the_heaviest_are_shown(make_vae):
    figure = kvae.clusters(make_vae(prior=mixture(components=9)), rows=2, columns=3)
    assert len(labels(figure)) == 2 and "2 of 9" in figure.texts[0].get_text()


def test_beside_a_mixture_other_groups_are_at_their_mean_or_drawn(make_vae, monkeypatch):
    vae = make_vae(latent_dim=4, prior=Blockwise([mixture(2), StandardNormal(2)]))
    seen = spied(vae, monkeypatch)
    kvae.clusters(vae, columns=3)
    z = seen[0][0].reshape(4, 3, 4)
    assert (z[:, 0, 2:] == 0).all() and (z[:, 1:, 2:] != 0).all()


def test_a_class_has_clusters_of_its_own(monkeypatch):
    vae = conditional(prior=mixture(context_dim=3))
    seen = spied(vae, monkeypatch)
    figure = kvae.clusters(vae, columns=2, of_class=2)
    z, rows = seen[0]
    context = np.eye(3, dtype="float32")[[2]]
    log_weights, means, _ = parts_of(vae.prior, context)
    np.testing.assert_allclose(z.reshape(4, 2, 3)[:, 0], means[np.argsort(-log_weights)], atol=1e-5)
    assert (rows == context).all()
    assert "of class 2" in " ".join(figure.texts[0].get_text().split())
    with pytest.raises(ValueError, match="a mixture for each class: name one, with --class"):
        kvae.clusters(vae)


@pytest.mark.parametrize(
    "arguments, what",
    [({"rows": 0}, "rows=0"), ({"columns": 0}, "columns=0"), ({"of_class": 1}, "without them")],
)
def test_clusters_that_cannot_be_are_refused(make_vae, arguments, what):
    with pytest.raises(ValueError, match=what):
        kvae.clusters(make_vae(prior=mixture()), **arguments)


def test_without_a_mixture_there_are_no_clusters(fixed_vae):
    with pytest.raises(ValueError, match="--prior mixture.* of this model is a StandardNormal"):
        kvae.clusters(fixed_vae)


def test_the_command_draws_them_or_says_why_not(make_vae, fixed_vae, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_vae(prior=mixture()).save("m.keras")
    said = call("latent", "--show", "clusters", "--latents", 2, "--model", "m.keras").stdout
    assert said == "latent.png: clusters by the prior of m.keras\n"
    assert (tmp_path / "latent.png").stat().st_size > 0
    fixed_vae.save("n.keras")
    wrong = ["latent", "--show", "clusters", "--model", "n.keras", "--out", "n.png"]
    assert_refused(wrong, 1, "train with --prior mixture")


def test_a_page_decodes_and_draws_from_a_mixture(make_vae):
    """As kvae does: test_explorer_numbers.py."""
    parts, notes = runnable(make_vae(prior=mixture()), Tensors())
    assert {"encoder", "decoder", "block_1_mixture"} == parts["graphs"].keys() and notes == []
    assert parts["prior"] == [{"size": 3, "couplings": [], "mixture": "block_1_mixture"}]
