"""Terms: the results of one pass of a batch, and their costs in nats per image."""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from keras import ops

from kvae.priors.prior import log_normal

__all__ = ["Terms", "averaged", "repeated"]


class Terms:
    """The terms from which an objective computes the loss of a batch.

    Args:
        outputs: The outputs of `VAE.call`.
        likelihood: p(x|z).
        prior: p(z).
        decode: A function from z, (batch · samples, latent), to the parameters of the likelihood,
            float32.
        samples: Number of draws of z per image.
        weight: Sample weights, (batch,), float32; 1.0 if there are none.
        groups: Number of latents in each group. With several groups, each draw has a mean and a
            log-variance of its own, because the posterior of a group depends on the draw of the
            group before.
        share: The `kvae.share.Share` of the batch on this device. None: this device has all of it.

    Attributes:
        observed: (batch · samples, height, width, channels), float32 in [0, 1]. The samples of an
            image follow each other, here and below.
        mean: (batch · samples, latent), float32, of the posterior q(z|x).
        log_variance: (batch · samples, latent), float32, the natural log of its variance.
        z: (batch · samples, latent), float32, the draws.
        parameters: (batch · samples, height, width, channels · parameters_per_value), float32.
        shares: (batch, samples), float32, if the samples of an image are its possible classes: the
            probability of each, 1 for a known class. Else None.
        given: Keyword arguments of the prior: `context`, (batch · samples, context), float32, for a
            conditional model; else empty.
        shown: Figures that the objective shows as metrics, by name. Each is a scalar, the mean over
            the images of the batch.
    """

    def __init__(
        self,
        outputs: Mapping[str, Any],
        likelihood: Any,
        prior: Any,
        decode: Callable[[Any], Any],
        samples: int = 1,
        weight: Any = 1.0,
        groups: Sequence[int] = (),
        share: Any = None,
    ) -> None:
        self.outputs = outputs
        self.likelihood = likelihood
        self.prior = prior
        self.decode = decode
        self.samples = samples
        self.weight = weight
        self.groups = tuple(groups)
        self.share = share
        self.known = outputs.get("known")
        self.of_draws = len(self.groups) > 1 or self.known is not None
        self.observed = repeated(outputs["observed"], samples)
        self.mean, self.log_variance = (
            repeated(outputs[name], 1 if self.of_draws else samples)
            for name in ("mean", "log_variance")
        )
        self.given = {}
        if outputs.get("context") is not None:
            each = 1 if self.known is not None else samples
            self.given["context"] = repeated(outputs["context"], each)
        self.z = outputs["z"]
        self.parameters = outputs["parameters"]
        self.shown: dict[str, Any] = {}

    @functools.cached_property
    def reconstruction(self) -> Any:
        """−log p(x|z) of each image, averaged over its samples: (batch,), float32."""
        return self.averaged(self.costs[0])

    @functools.cached_property
    def kl(self) -> Any:
        """The KL of each posterior from the prior, averaged over samples: (batch,), float32.

        If the class of an image is not known, this includes the KL of its classes from equally
        likely ones.
        """
        kl = self.averaged(self.costs[1])
        if self.shares is None:
            return kl
        alike = math.log(self.samples)
        nats = ops.sum(self.shares * (ops.log(self.shares + 1e-30) + alike), axis=1)
        return kl + nats * (1 - ops.sum(self.known, axis=1))

    @functools.cached_property
    def costs(self) -> tuple[Any, Any]:
        """−log p(x|z) and the KL of each sample: two of (batch · samples,), float32."""
        log_prob = self.likelihood.log_prob(self.observed, self.parameters)
        return -log_prob, self.prior.kl(self.mean, self.log_variance, self.z, **self.given)

    @functools.cached_property
    def shares(self) -> Any:
        """The posterior over classes, as described for the attribute `shares`.

        It makes the bound highest: q(c|x) ∝ exp(ELBO of c).

        References:
            Kingma et al. (2014), "Semi-supervised learning with deep generative models",
            arXiv:1406.5298, equation 7.
        """
        if self.known is None:
            return None
        costs = ops.reshape(self.costs[0] + self.costs[1], (-1, self.samples))
        likely = ops.stop_gradient(ops.softmax(-costs, axis=-1))
        return self.known + (1 - ops.sum(self.known, axis=1, keepdims=True)) * likely

    def averaged(self, values: Any) -> Any:
        """The mean over an image's samples, weighted by `shares` if there are any: (batch,)."""
        if self.shares is None:
            return averaged(values, self.samples)
        return ops.sum(self.shares * ops.reshape(values, (-1, self.samples)), axis=1)

    @functools.cached_property
    def kl_by_group(self) -> list[Any]:
        """The KL of each group of latents: a list of (batch,), float32.

        The KL of unknown classes is not included.
        """
        parts = (self.mean, self.log_variance, self.z, self.groups)
        kl = self.prior.kl_by_group(*parts, **self.given)
        return [self.averaged(one) for one in kl]

    def mean_of(self, values: Any) -> Any:
        """The weighted mean of (batch, …) over all images: (…).

        This includes the images on all devices that share the batch. An objective must average over
        images with this method only, so that it works on several devices.
        """
        shape = (-1, *[1] * (len(values.shape) - 1))
        weighted = values * (self.weight if self.is_plain else ops.reshape(self.weight, shape))
        return ops.mean(weighted, axis=0) if self.share is None else self.share.mean(weighted)

    @property
    def is_plain(self) -> bool:
        """Whether there are no sample weights."""
        return isinstance(self.weight, float)

    @functools.cached_property
    def mean_weight(self) -> Any:
        """The mean of the images' weights: a scalar."""
        return 1.0 if self.is_plain else self.mean_of(ops.ones_like(self.weight))

    def log_weights(self, beta: Any, z: Any = None, parameters: Any = None) -> Any:
        r"""The log of each draw's importance weight: (batch, samples), float32.

        $$\log p(x|z) + \beta \, (\log p(z) - \log q(z|x))$$

        Args:
            beta: Weight of the second part.
            z: Other draws than those of the pass, (batch · samples, latent). None: those of the
                pass.
            parameters: The outputs of the decoder for these draws.
        """
        z = self.z if z is None else z
        parameters = self.parameters if parameters is None else parameters
        if self.of_draws:  # the gradient goes through mean and log-variance too
            log_posterior = log_normal(z, self.mean, self.log_variance)
            log_ratio = log_posterior - self.prior.log_prob(z, **self.given)
        else:
            log_ratio = self.prior.log_ratio(self.mean, self.log_variance, z, **self.given)
        log_prob = self.likelihood.log_prob(self.observed, parameters)
        return ops.reshape(log_prob - beta * log_ratio, (-1, self.samples))


def repeated(tensor: Any, samples: int) -> Any:
    """Repeats each row `samples` times: (batch, …) to (batch · samples, …)."""
    return tensor if samples == 1 else ops.repeat(tensor, samples, axis=0)


def averaged(values: Any, samples: int) -> Any:
    """Averages over the samples of each image: (batch · samples, …) to (batch, …)."""
    if samples == 1:
        return values
    return ops.mean(ops.reshape(values, (-1, samples, *values.shape[1:])), axis=1)
