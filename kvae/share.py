"""Share: what one device has of a batch that several share."""

from typing import Any

from keras import ops

__all__ = ["Share"]


class Share:
    """The part of a batch that one device has, where several train one model.

    Every device computes the loss of the whole batch, and the gradient of its own part of it: the
    sum of these over devices is the gradient.

    Args:
        images: In this share, an int32 scalar. It may be 0: then the batch is empty, or one image
            that stands in.
        before: Of the batch, in the shares of devices before this one.
        total: In the batch.
        devices: That share it.
    """

    def __init__(self, images: Any, before: Any, total: Any, devices: int) -> None:
        self.images = images
        self.before = before
        self.total = total
        self.devices = devices

    @property
    def here(self) -> Any:
        """1.0, or where the share is empty, so that what stands in for it does not count, 0.0."""
        return ops.cast(ops.minimum(self.images, 1), "float32")

    def sum(self, value: Any) -> Any:
        """The sum of a value over all devices, float32; its gradient is that of the own part."""
        raise NotImplementedError

    def mean(self, values: Any) -> Any:
        """The mean of (images, …) over the images of all devices: (…)."""
        return self.sum(self.here * ops.sum(values, axis=0)) / ops.cast(self.total, "float32")

    def once(self, value: Any) -> Any:
        """A value that all devices have, whose gradient is to count once."""
        own = value / self.devices
        return own + ops.stop_gradient(value - own)
