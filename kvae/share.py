"""Share: the part of a batch on one of several devices."""

from typing import Any

from keras import ops

__all__ = ["Share"]


class Share:
    """The part of a batch on one device, if several devices train one model.

    Every device computes the loss of the whole batch, and the gradient of its own part of it. The
    sum of these gradients over devices is the gradient.

    Args:
        images: Number of images in this share, an int32 scalar. It may be 0; then the batch is
            empty, or has one placeholder image.
        before: Number of images in the shares of the devices before this one.
        total: Number of images in the batch.
        devices: Number of devices that share the batch.
    """

    def __init__(self, images: Any, before: Any, total: Any, devices: int) -> None:
        self.images = images
        self.before = before
        self.total = total
        self.devices = devices

    @property
    def here(self) -> Any:
        """1.0, or 0.0 if the share is empty, so that a placeholder image does not count."""
        return ops.cast(ops.minimum(self.images, 1), "float32")

    def sum(self, value: Any) -> Any:
        """The sum of a value over all devices, float32; its gradient is that of the own part."""
        raise NotImplementedError

    def mean(self, values: Any) -> Any:
        """The mean of (images, …) over the images of all devices: (…)."""
        return self.sum(self.here * ops.sum(values, axis=0)) / ops.cast(self.total, "float32")

    def once(self, value: Any) -> Any:
        """A value that all devices have, with a gradient that counts once."""
        own = value / self.devices
        return own + ops.stop_gradient(value - own)
