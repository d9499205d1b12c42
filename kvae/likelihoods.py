"""Likelihoods p(x|z): how images are observed, scored, averaged, sampled; in nats per image."""

import keras
import numpy as np
from keras import ops

__all__ = ["Bernoulli"]

BINARIZATIONS = ("dynamic", "threshold", "none")


@keras.saving.register_keras_serializable(package="kvae")
class Bernoulli(keras.layers.Layer):
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

    parameters_per_value = 1

    def __init__(self, binarize: str = "dynamic", **kwargs):
        super().__init__(**kwargs)
        if binarize not in BINARIZATIONS:
            raise ValueError(
                f"`binarize` must be one of {', '.join(map(repr, BINARIZATIONS))}. "
                f"Received: binarize={binarize!r}"
            )
        self.binarize = binarize
        self.built = True

    def check(self, images, image_shape: tuple[int, int, int]) -> np.ndarray:
        """Images as an array, or a ValueError that says what they should be.

        Args:
            images: (count, height, width, channels), integers in 0…255 or floats in [0, 1].
            image_shape: (height, width, channels) that the model expects.
        """
        array = np.asarray(ops.convert_to_numpy(images))
        expected = "integers in 0…255 or floats in [0, 1]"
        if array.ndim != 4 or tuple(array.shape[1:]) != tuple(image_shape) or not len(array):
            raise ValueError(
                f"Images must have shape (count, {', '.join(map(str, image_shape))}). "
                f"Received: shape {array.shape}"
            )
        if array.dtype.kind not in "uif":
            raise ValueError(f"Images must be {expected}. Received: dtype {array.dtype}")
        if array.dtype == np.uint8:
            return array
        low, high = array.min(), array.max()
        limit = 1 if array.dtype.kind == "f" else 255
        if not (low >= 0 and high <= limit):  # so written, NaN is refused too
            hint = " Divide them by 255." if limit == 1 and low >= 0 and 1 < high <= 255 else ""
            raise ValueError(
                f"Images must be {expected}. Received: {array.dtype} from {low:g} to {high:g}."
                f"{hint}"
            )
        return array

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
        noise = keras.random.uniform(ops.shape(images), seed=seed, dtype="float32")
        return ops.cast(noise < images, "float32")

    def log_prob(self, observed, parameters):
        """Log-probability of each image.

        Args:
            observed: (batch, height, width, channels), float in [0, 1].
            parameters: (batch, height, width, channels), logits.

        Returns:
            (batch,), float32, nats.
        """
        logits = ops.cast(parameters, "float32")
        return ops.sum(observed * logits - ops.softplus(logits), axis=(1, 2, 3))

    def mean(self, parameters):
        """The expected image, (batch, height, width, channels), float32 in [0, 1]."""
        return ops.sigmoid(ops.cast(parameters, "float32"))

    def sample(self, parameters, seed=None):
        """One draw of each image, (batch, height, width, channels), float32, 0 or 1."""
        mean = self.mean(parameters)
        noise = keras.random.uniform(ops.shape(mean), seed=seed, dtype="float32")
        return ops.cast(noise < mean, "float32")

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {**super().get_config(), "binarize": self.binarize}


def scaled(images):
    """Images as float32 in [0, 1]; integers are divided by 255."""
    images = ops.convert_to_tensor(images)
    if "int" in keras.backend.standardize_dtype(images.dtype):
        return ops.cast(images, "float32") / 255.0
    return ops.cast(images, "float32")
