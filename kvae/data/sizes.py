"""Images of one size to images of another."""

import numpy as np

from kvae.data.arrays import resized_images

__all__ = ["fitted"]


def fitted(images: np.ndarray, image_shape: tuple[int, int, int]) -> np.ndarray:
    """Images as a model takes them: resized where they have another size, bilinearly.

    Grey images become RGB for a model of colour, and RGB images whose channels are equal grey for a
    grey one; neither loses anything.

    Args:
        images: (count, height, width, channels), uint8 in 0…255 or float in [0, 1].
        image_shape: (height, width, channels) of the model.

    Returns:
        (count, *image_shape), of the same dtype.

    Raises:
        ValueError: If the number of channels differs otherwise.
    """
    height, width, channels = image_shape
    if images.shape[-1] == 1 and channels == 3:
        images = images.repeat(3, axis=-1)
    elif images.shape[-1] == 3 and channels == 1 and (images == images[..., :1]).all():
        images = images[..., :1]
    if images.shape[-1] != channels:
        kinds = {1: "grey", 3: "colour (RGB)"}
        came, expected = (kinds.get(n, f"{n} channels") for n in (images.shape[-1], channels))
        raise ValueError(f"The model takes images of {expected}. Received: images of {came}")
    return resized_images(images, height, width)
