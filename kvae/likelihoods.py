"""Likelihoods p(x|z): how images are observed, scored, averaged, sampled; in nats per image."""

import inspect
import math
import numbers

import keras
import numpy as np
from keras import ops

from kvae.noise import uniform

__all__ = [
    "LIKELIHOODS",
    "Bernoulli",
    "ContinuousBernoulli",
    "DiscretizedLogistic",
    "Gaussian",
    "Likelihood",
    "bits_per_dimension",
]

BINARIZATIONS = ("dynamic", "threshold", "none")
FACTORS = 16  # of one product: each is at most 2, so it stays far below float32's limit
NEAR_ZERO = 0.4  # logits below it: series, which keep the digits that differences lose


class Likelihood(keras.layers.Layer):
    """What all likelihoods share; one of your own defines `log_prob`, `mean` and `sample`.

    And `observe` and `observe_once`, if it draws what it observes, and `measure`.

    Attributes:
        parameters_per_value: How many raw parameters the decoder gives for each value. They lie
            along the last axis: first the `channels` locations (or logits), then the scales.
        support: The images that `check` lets pass, in words.
        protocol: How images are observed and scored, in words, for a model's card.
        measure: What `log_prob` is the logarithm of: "probability", "density", "neither", or, if a
            likelihood of your own does not define it, "unstated". Only figures of the same are
            comparable, and of the last two none.
    """

    parameters_per_value = 1
    support = "bool, integers in 0…255 or floats in [0, 1]"

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.built = True

    @property
    def protocol(self) -> str:
        """How images are observed and scored, in words."""
        return f"grey values, {type(self).__name__}"

    @property
    def measure(self) -> str:
        """What `log_prob` is the logarithm of."""
        return "unstated"

    def check(self, images, image_shape: tuple[int, int, int]) -> np.ndarray:
        """Images as an array, or a ValueError that says what they should be.

        Args:
            images: (count, height, width, channels), integers in 0…255 or floats in [0, 1].
            image_shape: (height, width, channels) that the model expects.
        """
        array = np.asarray(ops.convert_to_numpy(images))
        if array.ndim != 4 or tuple(array.shape[1:]) != tuple(image_shape) or not len(array):
            raise ValueError(
                f"Images must have shape (count, {', '.join(map(str, image_shape))}). "
                f"Received: shape {array.shape}"
            )
        if array.dtype.kind not in "buif":
            raise ValueError(f"Images must be {self.support}. Received: dtype {array.dtype}")
        if array.dtype in (np.uint8, np.bool_):
            return array
        low, high = array.min(), array.max()
        limit = 1 if array.dtype.kind == "f" else 255
        if not (low >= 0 and high <= limit):  # so written, NaN is refused too
            hint = " Divide them by 255." if limit == 1 and low >= 0 and 1 < high <= 255 else ""
            raise ValueError(
                f"Images must be {self.support}. Received: {array.dtype} from {low:g} to {high:g}."
                f"{hint}"
            )
        return array

    def observe(self, images, seed=None):
        """What the model sees and is scored on: here the grey values as they are.

        Args:
            images: (batch, height, width, channels), uint8 in 0…255 or float in [0, 1].
            seed: For likelihoods that draw what they observe.

        Returns:
            (batch, height, width, channels), float32 in [0, 1].
        """
        return scaled(images)

    def observe_once(self, images, generator: np.random.Generator) -> np.ndarray:
        """As `observe`; what is drawn comes from NumPy, so that each backend sees the same.

        Args:
            images: (batch, height, width, channels), uint8 in 0…255 or float in [0, 1].
            generator: NumPy's random numbers.
        """
        return ops.convert_to_numpy(self.observe(images))

    def log_prob_of_draws(self, observed, parameters, draws: int):
        """`log_prob` of each image under each of its draws of z; for evaluation, not for training.

        Args:
            observed: (batch, height, width, channels), float in [0, 1].
            parameters: (batch · draws, height, width, channels · parameters_per_value); an image's
                draws follow each other.
            draws: How many draws an image has.

        Returns:
            (batch, draws), float32, nats.
        """
        # Broadcast, not repeated: compilers then need no copy for each draw.
        size = (-1, draws, *observed.shape[1:])
        same = ops.broadcast_to(observed[:, None], (ops.shape(observed)[0], *size[1:]))
        same = ops.reshape(same, (-1, *observed.shape[1:]))
        return ops.reshape(self.log_prob(same, parameters), (-1, draws))

    def log_prob(self, observed, parameters):
        """Log-probability, or log-density, of each image, with all constants.

        Args:
            observed: (batch, height, width, channels), float in [0, 1].
            parameters: (batch, height, width, channels · parameters_per_value).

        Returns:
            (batch,), float32, nats, summed over height, width and channels.
        """
        raise NotImplementedError

    def mean(self, parameters):
        """The expected image, (batch, height, width, channels), float32 in [0, 1]."""
        raise NotImplementedError

    def sample(self, parameters, seed=None):
        """One draw of each image, (batch, height, width, channels), float32."""
        raise NotImplementedError

    def parameters_of(self, mean: np.ndarray) -> np.ndarray:
        """Raw parameters whose `mean` is this, for a decoder to begin with.

        By bisection of each location in ±8, with the scales at 0; grey values are cut to
        0.001…0.999, and to what such locations can give.

        Args:
            mean: (batch, height, width, channels), float in [0, 1].

        Returns:
            (batch, height, width, channels · parameters_per_value), float32.
        """
        mean = np.clip(np.asarray(mean, "float32"), 1e-3, 1 - 1e-3)
        rest = np.zeros((*mean.shape[:3], mean.shape[3] * (self.parameters_per_value - 1)))
        low, high = np.full(mean.shape, -8.0), np.full(mean.shape, 8.0)
        for _ in range(30):
            middle = (low + high) / 2
            parameters = np.concatenate([middle, rest], axis=-1).astype("float32")
            below = ops.convert_to_numpy(self.mean(parameters)) < mean
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        return parameters


@keras.saving.register_keras_serializable(package="kvae")
class Bernoulli(Likelihood):
    r"""Independent Bernoulli pixels, for images that are black and white or are made so.

    $$\log p(x|z) = \sum_j x_j \log p_j + (1 - x_j) \log(1 - p_j), \quad p_j = \sigma(l_j)$$

    The decoder gives the logits l, one a value. The sum is over height, width and channels.

    Args:
        binarize: How grey values in [0, 1] become observations. "dynamic" draws each pixel anew at
            every step, white with the grey value as probability; "threshold" is white from one half
            on; "none" keeps the grey values as soft targets, which is common but is no likelihood
            of any data set: compare such figures only with each other.

    References:
        Salakhutdinov and Murray (2008), "On the quantitative analysis of deep belief networks"
        (dynamic binarisation of MNIST).

    Example:
        >>> import numpy as np
        >>> from kvae.likelihoods import Bernoulli
        >>> white = np.ones((1, 2, 2, 1), "float32")
        >>> print(round(float(Bernoulli().log_prob(white, 0 * white)[0]), 4))  # 4 log(1/2)
        -2.7726
    """

    def __init__(self, binarize: str = "dynamic", **kwargs):
        super().__init__(**kwargs)
        if binarize not in BINARIZATIONS:
            raise ValueError(
                f"`binarize` must be one of {', '.join(map(repr, BINARIZATIONS))}. "
                f"Received: binarize={binarize!r}"
            )
        self.binarize = binarize

    @property
    def measure(self) -> str:
        """What `log_prob` is the logarithm of: with soft targets of nothing."""
        return "neither" if self.binarize == "none" else "probability"

    @property
    def protocol(self) -> str:
        """How grey values become observations."""
        return f"binarize {self.binarize}"

    def observe(self, images, seed=None):
        """What the model sees and is scored on.

        Args:
            images: (batch, height, width, channels), uint8 in 0…255 or float in [0, 1].
            seed: An integer or a `keras.random.SeedGenerator`, for dynamic binarisation. Without
                one, "dynamic" thresholds at one half, so that the answer is always the same.

        Returns:
            (batch, height, width, channels), float32 in [0, 1]; 0 or 1 unless `binarize` is "none".
        """
        images = scaled(images)
        if self.binarize == "none":
            return images
        if self.binarize == "threshold" or seed is None:
            return ops.cast(images >= 0.5, "float32")
        return ops.cast(uniform(ops.shape(images), seed) < images, "float32")

    def observe_once(self, images, generator: np.random.Generator) -> np.ndarray:
        """As `observe`; what is drawn comes from NumPy, so that each backend sees the same."""
        if self.binarize != "dynamic":
            return super().observe_once(images, generator)
        grey = np.asarray(images, "float32") / (1 if images.dtype.kind == "f" else 255)
        return (generator.random(grey.shape, dtype="float32") < grey).astype("float32")

    def log_prob_of_draws(self, observed, parameters, draws: int):
        """`log_prob` of each image under each of its draws of z; for evaluation, not for training.

        The sum of softplus(l) = max(l, 0) + log(1 + exp(-|l|)) is taken in groups, as the logarithm
        of a product, which saves most of the logarithms; its gradient would be slow.

        Args:
            observed: (batch, height, width, channels), float in [0, 1].
            parameters: (batch · draws, height, width, channels), logits.
            draws: How many draws an image has.

        Returns:
            (batch, draws), float32, nats.
        """
        if type(self).log_prob is not Bernoulli.log_prob:  # of a class derived from this one
            return super().log_prob_of_draws(observed, parameters, draws)
        values = math.prod(observed.shape[1:])
        group = max(size for size in range(1, FACTORS + 1) if values % size == 0)
        # Groups lie across the last axis, so that neighbours are reduced side by side.
        size = (group, values // group)
        x = ops.reshape(ops.cast(observed, "float32"), (-1, 1, *size))
        logits = ops.reshape(ops.cast(parameters, "float32"), (-1, draws, *size))
        linear = ops.sum(x * logits - ops.maximum(logits, 0.0), axis=2)
        products = ops.prod(1 + ops.exp(-ops.abs(logits)), axis=2)
        return ops.sum(linear - ops.log(products), axis=2)

    def log_prob(self, observed, parameters):
        """Log-probability of each image.

        Args:
            observed: (batch, height, width, channels), float in [0, 1].
            parameters: (batch, height, width, channels), logits.

        Returns:
            (batch,), float32, nats.
        """
        x, logits = flat(observed), flat(parameters)
        return ops.sum(x * logits - ops.softplus(logits), axis=1)

    def mean(self, parameters):
        """The expected image, (batch, height, width, channels), float32 in [0, 1]."""
        return ops.sigmoid(ops.cast(parameters, "float32"))

    def sample(self, parameters, seed=None):
        """One draw of each image, (batch, height, width, channels), float32, 0 or 1."""
        mean = self.mean(parameters)
        return ops.cast(uniform_like(mean, seed) < mean, "float32")

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {**super().get_config(), "binarize": self.binarize}


@keras.saving.register_keras_serializable(package="kvae")
class ContinuousBernoulli(Likelihood):
    r"""Independent continuous Bernoulli values: a density over [0, 1], for grey values as they are.

    $$\log p(x|z) = \sum_j x_j \log p_j + (1 - x_j) \log(1 - p_j) + \log C(l_j), \quad
    p_j = \sigma(l_j), \quad C(l) = \frac{l}{\tanh(l / 2)}$$

    It is the Bernoulli loss on soft targets made a likelihood: C is what makes it integrate to one.
    The decoder gives the logits l, one a value; the mean is not p but lies nearer to one half.
    A density may exceed one, so the nats may have either sign, and are not comparable with those
    of a probability, such as `Bernoulli` or `DiscretizedLogistic` gives.

    References:
        Loaiza-Ganem and Cunningham (2019), "The continuous Bernoulli: fixing a pervasive error in
        variational autoencoders", arXiv:1907.06845.

    Example:
        >>> import numpy as np
        >>> from kvae.likelihoods import ContinuousBernoulli
        >>> white = np.ones((1, 2, 2, 1), "float32")
        >>> likelihood = ContinuousBernoulli()
        >>> nats = likelihood.log_prob(white, 2 * white)
        >>> print(round(float(nats[0]), 3))  # 4 log(2 e² / (e² - 1))
        3.354
    """

    @property
    def protocol(self) -> str:
        """How images are observed and scored, in words."""
        return "grey values, continuous Bernoulli"

    @property
    def measure(self) -> str:
        """What `log_prob` is the logarithm of."""
        return "density"

    def log_prob(self, observed, parameters):
        """Log-density of each image over [0, 1] for each value: (batch,), float32, nats."""
        x, logits = flat(observed), flat(parameters)
        small, square = ops.abs(logits) < NEAR_ZERO, ops.square(logits)
        size = ops.where(small, 1.0, ops.abs(logits))  # no 0/0, whose gradient `where` lets through
        series = math.log(2) + square * (1 / 12 - square * (7 / 1440 - square * (31 / 90720)))
        log_c = ops.where(small, series, ops.log(size) - ops.log(ops.tanh(size / 2)))
        return ops.sum(x * logits - ops.softplus(logits) + log_c, axis=1)

    def mean(self, parameters):
        """The expected image, (batch, height, width, channels), float32 in [0, 1]."""
        logits = ops.cast(parameters, "float32")
        small, square = ops.abs(logits) < NEAR_ZERO, ops.square(logits)
        safe = ops.where(small, 1.0, logits)
        series = logits * (1 / 12 - square * (1 / 720 - square / 30240))
        return 0.5 + ops.where(small, series, 0.5 / ops.tanh(safe / 2) - 1 / safe)

    def sample(self, parameters, seed=None):
        """One draw of each image, (batch, height, width, channels), float32 in [0, 1]."""
        logits = ops.cast(parameters, "float32")
        size = ops.maximum(ops.abs(logits), 1e-6)  # where it is uniform in all digits
        darker = -ops.log1p(uniform_like(logits, seed) * ops.expm1(-size)) / size
        return ops.clip(ops.where(logits > 0, 1 - darker, darker), 0.0, 1.0)


@keras.saving.register_keras_serializable(package="kvae")
class Gaussian(Likelihood):
    r"""Independent Gaussian values: a density over the real line, for grey values and colours.

    $$\log p(x|z) = -\sum_j \frac{(x_j - \mu_j)^2}{2 \sigma_j^2} + \log \sigma_j
    + \tfrac12 \log 2 \pi$$

    The decoder's locations are μ as they stand, not squashed, so that black and white can be met
    exactly. A learned scale is σ = softplus(raw − 1) + `min_scale`, about 0.3 at first. Images lie
    in [0, 1], the density everywhere: `sample` may leave [0, 1], `mean` is cut to it for pictures.
    A density may exceed one, so the nats may have either sign; where pixels never change it is
    `min_scale` that sets them. They are not comparable with those of a probability.

    Args:
        scale: "pixel" learns σ for each value of each image (two parameters a value); "shared"
            learns one σ for all, a variable of this layer; a number fixes σ, and the loss is the
            squared error over 2σ², and a constant.
        min_scale: A learned σ stays above it; the default is about one step of 8-bit images.

    References:
        Rybkin et al. (2021), "Simple and effective VAE training with calibrated decoders",
        arXiv:2006.13202 (the shared scale).

    Example:
        >>> import numpy as np
        >>> from kvae.likelihoods import Gaussian
        >>> black = np.zeros((1, 2, 2, 1), "float32")
        >>> likelihood = Gaussian(scale=0.1)
        >>> print(round(float(likelihood.log_prob(black, black)[0]), 3))  # -4 log(0.1 √(2π))
        5.535
    """

    def __init__(self, scale: str | float = "pixel", min_scale: float = 1 / 256, **kwargs):
        super().__init__(**kwargs)
        if scale not in ("pixel", "shared") and not is_positive(scale):
            raise ValueError(
                f"`scale` must be 'pixel', 'shared' or a positive number. Received: scale={scale!r}"
            )
        self.scale = scale if isinstance(scale, str) else float(scale)
        self.min_scale = checked_min_scale(min_scale)
        self.parameters_per_value = 2 if scale == "pixel" else 1
        if scale == "shared":
            self.raw_scale = self.add_weight(
                name="raw_scale", shape=(), initializer="zeros", dtype="float32", autocast=False
            )

    @property
    def protocol(self) -> str:
        """How images are observed and scored, in words."""
        kinds = {"pixel": "a learned scale a value", "shared": "one learned scale"}
        return f"grey values, Gaussian with {kinds.get(str(self.scale), f'scale {self.scale}')}"

    @property
    def measure(self) -> str:
        """What `log_prob` is the logarithm of."""
        return "density"

    def location_and_scale(self, parameters):
        """μ, (batch, height, width, channels), and σ, of that shape or a scalar; float32."""
        parameters = ops.cast(parameters, "float32")
        if self.scale == "shared":
            return parameters, bounded_scale(ops.cast(self.raw_scale, "float32"), self.min_scale)
        if self.scale != "pixel":
            return parameters, ops.cast(self.scale, "float32")
        location, raw_scale = ops.split(parameters, 2, axis=-1)
        return location, bounded_scale(raw_scale, self.min_scale)

    def log_prob(self, observed, parameters):
        """Log-density of each image, over the reals for each value: (batch,), float32, nats."""
        location, scale = map(flat, self.location_and_scale(parameters))
        error = (flat(observed) - location) / scale
        constant = 0.5 * math.log(2 * math.pi)
        return -ops.sum(0.5 * ops.square(error) + ops.log(scale) + constant, axis=1)

    def mean(self, parameters):
        """The locations cut to [0, 1]: (batch, height, width, channels), float32."""
        return ops.clip(self.location_and_scale(parameters)[0], 0.0, 1.0)

    def sample(self, parameters, seed=None):
        """One draw of each image, (batch, height, width, channels), float32, of any size."""
        location, scale = self.location_and_scale(parameters)
        noise = keras.random.normal(ops.shape(location), seed=seed, dtype="float32")
        return location + scale * noise

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {**super().get_config(), "scale": self.scale, "min_scale": self.min_scale}


@keras.saving.register_keras_serializable(package="kvae")
class DiscretizedLogistic(Likelihood):
    r"""Independent logistic values in 256 bins: probabilities of 8-bit images, grey or in colour.

    $$p(x = k/255) = \sigma(b_k) - \sigma(a_k), \quad
    a_k = \frac{(k - \tfrac12) / 255 - \mu}{s}, \quad b_k = \frac{(k + \tfrac12) / 255 - \mu}{s}$$

    with a = −∞ for black and b = +∞ for white, so that the levels' probabilities sum to one. The
    decoder gives two parameters a value: μ = ½ + the first, s = softplus(the second − 1) +
    `min_scale`. Only multiples of 1/255 have a probability; see `bits_per_dimension` for its unit.

    Args:
        min_scale: s stays above it; with the default, an eighth of a bin, the likeliest level can
            have a probability of up to 0.96 (black and white: of 1).

    References:
        Kingma et al. (2016), "Improving variational inference with inverse autoregressive flow",
        arXiv:1606.04934, appendix. Salimans et al. (2017), "PixelCNN++", arXiv:1701.05517.

    Example:
        >>> import keras, numpy as np
        >>> from kvae.likelihoods import DiscretizedLogistic
        >>> likelihood = DiscretizedLogistic()
        >>> levels = likelihood.observe(np.arange(256, dtype="uint8").reshape(256, 1, 1, 1))
        >>> nats = likelihood.log_prob(levels, np.zeros((256, 1, 1, 2), "float32"))
        >>> print(round(float(keras.ops.sum(keras.ops.exp(nats))), 4))
        1.0
    """

    parameters_per_value = 2
    support = "bool, integers in 0…255 or floats that are multiples of 1/255"

    def __init__(self, min_scale: float = 1 / 2048, **kwargs):
        super().__init__(**kwargs)
        self.min_scale = checked_min_scale(min_scale)

    @property
    def protocol(self) -> str:
        """How images are observed and scored, in words."""
        return "8-bit values, discretised logistic"

    @property
    def measure(self) -> str:
        """What `log_prob` is the logarithm of."""
        return "probability"

    def check(self, images, image_shape: tuple[int, int, int]) -> np.ndarray:
        """As for every likelihood; floats between the 256 levels are refused too."""
        array = super().check(images, image_shape)
        if array.dtype.kind == "f":
            between = array[np.abs(255 * array - np.rint(255 * array)) > 1e-3]
            if len(between):
                raise ValueError(
                    f"Images must be {self.support}. Received: {array.dtype} with {between[0]:g}. "
                    "Pass them as uint8, or take another likelihood."
                )
        return array

    def location_and_scale(self, parameters):
        """μ and s, both (batch, height, width, channels), float32, in levels: times 255."""
        location, raw_scale = ops.split(ops.cast(parameters, "float32"), 2, axis=-1)
        return 127.5 + 255 * location, 255 * bounded_scale(raw_scale, self.min_scale)

    def log_prob(self, observed, parameters):
        """Log-probability of each image: (batch,), float32, nats."""
        location, scale = map(flat, self.location_and_scale(parameters))
        level = ops.round(255 * flat(observed))  # whole, so differences keep digits
        above, below = (level - location + 0.5) / scale, (level - location - 0.5) / scale
        # σ(b) - σ(a) = σ(b) σ(-a) (1 - exp(a - b)): a product, of which no factor cancels.
        under_upper_edge = ops.where(level < 255, -ops.softplus(-above), 0.0)
        over_lower_edge = ops.where(level > 0, -ops.softplus(below), 0.0)
        inside = ops.logical_and(level > 0, level < 255)
        overlap = ops.where(inside, ops.log(-ops.expm1(-1 / scale)), 0.0)
        return ops.sum(under_upper_edge + over_lower_edge + overlap, axis=1)

    def mean(self, parameters):
        """The expected image, (batch, height, width, channels), float32 in [0, 1].

        It is that of the logistic cut to [0, 1] before it is rounded to levels, in closed form;
        rounding moves it by half a level at the most, by nothing visible from s of one level on.
        """
        location, scale = self.location_and_scale(parameters)
        offset = location - 127.5
        far, near = 127.5 + ops.abs(offset), 127.5 - ops.abs(offset)
        gap = scale * (ops.softplus(near / scale) - ops.softplus(-far / scale))
        return ops.clip((127.5 + ops.sign(offset) * (127.5 - gap)) / 255, 0.0, 1.0)

    def sample(self, parameters, seed=None):
        """One draw of each image, (batch, height, width, channels), float32, multiples of 1/255."""
        location, scale = self.location_and_scale(parameters)
        noise = uniform_like(location, seed)
        logistic = ops.log(noise) - ops.log1p(-noise)
        return ops.clip(ops.round(location + scale * logistic), 0.0, 255.0) / 255.0

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {**super().get_config(), "min_scale": self.min_scale}


LIKELIHOODS: dict[str, type[Likelihood]] = {
    "bernoulli": Bernoulli,
    "continuous-bernoulli": ContinuousBernoulli,
    "gaussian": Gaussian,
    "discretized-logistic": DiscretizedLogistic,
}


def get(name: str, **arguments) -> Likelihood:
    """The likelihood of this name, a key of `LIKELIHOODS`.

    Raises:
        ValueError: If there is none of this name, or it has no such argument.

    Example:
        >>> from kvae import likelihoods
        >>> likelihoods.get("gaussian", scale=0.1).protocol
        'grey values, Gaussian with scale 0.1'
    """
    if name not in LIKELIHOODS:
        names = ", ".join(map(repr, LIKELIHOODS))
        raise ValueError(f"There is no likelihood {name!r}; there are {names}.")
    taken = inspect.signature(LIKELIHOODS[name].__init__).parameters
    for argument in arguments:
        if argument not in taken:
            raise ValueError(f"The likelihood {name!r} has no argument `{argument}`.")
    return LIKELIHOODS[name](**arguments)


def bits_per_dimension(nats, image_shape: tuple[int, int, int]):
    """Nats per image as bits per value: nats / (height · width · channels · ln 2).

    It is comparable between models where the nats are of a probability of 8-bit levels, as
    `DiscretizedLogistic` gives: 8 bits are then what a uniform guess costs. Of a density it is not.

    Args:
        nats: −log p of an image, a number or an array of them.
        image_shape: (height, width, channels).

    Example:
        >>> import math
        >>> from kvae.likelihoods import bits_per_dimension
        >>> print(round(bits_per_dimension(32 * 32 * 3 * math.log(256), (32, 32, 3)), 6))
        8.0
    """
    return nats / (math.prod(image_shape) * math.log(2))


def flat(values):
    """(batch, …) as (batch, values), float32; a scalar as it is.

    XLA sums a row several times as fast as three axes, if it is one before anything is done to it.
    """
    values = ops.cast(values, "float32")
    return ops.reshape(values, (ops.shape(values)[0], -1)) if len(values.shape) else values


def scaled(images):
    """Images as float32 in [0, 1]; integers are divided by 255."""
    images = ops.convert_to_tensor(images)
    if "int" in keras.backend.standardize_dtype(images.dtype):
        return ops.cast(images, "float32") / 255.0
    return ops.cast(images, "float32")


def uniform_like(values, seed=None):
    """Uniform noise of that shape, float32, strictly between 0 and 1: its logit is finite."""
    noise = keras.random.uniform(ops.shape(values), seed=seed, dtype="float32")
    return ops.clip(noise, 1e-7, 1 - 1e-7)


def bounded_scale(raw_scale, min_scale: float):
    """Scales of a density, above `min_scale`; about 0.3, the spread of grey values, at raw 0."""
    return ops.softplus(raw_scale - 1) + min_scale


def is_positive(value) -> bool:
    """Whether the value is a positive and finite number."""
    return isinstance(value, numbers.Real) and value is not True and 0 < float(value) < math.inf


def checked_min_scale(min_scale) -> float:
    """`min_scale` as a float, or a ValueError."""
    if not is_positive(min_scale):
        raise ValueError(
            f"`min_scale` must be a positive number. Received: min_scale={min_scale!r}"
        )
    return float(min_scale)
