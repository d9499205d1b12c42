"""A model that several threads use at once."""

from faults.threads import ask

import kvae


def test_eight_threads_get_the_answers_that_one_would_get(make_vae, images):
    vae = make_vae(likelihood=kvae.Gaussian(0.1))
    assert ask(vae, images[:5], calls=12) == []
