"""Stream: batches of whatever gives them, each looked at as it comes."""

import contextlib
from collections.abc import Iterator
from typing import Any, Protocol

import keras
import numpy as np
from keras import ops, tree
from keras.src.trainers.data_adapters.data_adapter import DataAdapter  # here and in feed.py
from keras.src.trainers.data_adapters.py_dataset_adapter import PyDatasetAdapter

__all__ = ["Look", "Numbered", "Stream"]

EMPTY = "`{}` is a data set without a batch."


class Look(Protocol):
    """What looks at each batch."""

    name: str
    class_weight: Any

    def __call__(self, number: int, batch: Any) -> tuple:
        """A batch, counted from 1, as a tuple for Keras; raises a ValueError that names it."""

    def settles(self, spec: Any) -> bool:
        """Whether every batch of such shapes and dtypes is let in, whatever its values."""

    def wants_unit(self, spec: Any) -> bool:
        """Whether every batch of such shapes and dtypes is, if its images are in [0, 1]."""

    def arranged(self, batch: Any, as_given: bool = False) -> tuple:
        """What a call makes of a batch, of tensors whose values are not yet known.

        Args:
            batch: As the data set has it.
            as_given: Whether labels that are looked at stay what they are.
        """


class Stream(DataAdapter):
    """A data set, a loader or a generator, looked at batch by batch, as `fit` takes it.

    The first batch is looked at when it is made, so that `fit` refuses it before it begins; the
    iterator that gave it is the one of the first epoch. What cannot begin anew, such as a
    generator, goes on where the last epoch ended.

    Args:
        data: What gives batches.
        look: Looks at each.
        shuffle: Whether the batches of a `keras.utils.PyDataset` come in any order.

    Attributes:
        fault: The exception that ended the last iteration, if one did.
    """

    def __init__(self, data: Any, look: Look, shuffle: Any = False) -> None:
        self.data = data
        self.look = look
        self.fault: Exception | None = None
        self.begun: Iterator | None = None
        self.ahead: list = []  # what was taken of it
        self.indexed: PyDatasetAdapter | None = None
        if isinstance(data, keras.utils.PyDataset):
            if data.num_batches == 0:
                raise ValueError(EMPTY.format(look.name))
            self.first = look(1, data[0])
            self.indexed = PyDatasetAdapter(Numbered(data), shuffle=bool(shuffle))
        else:
            self.begun = iter(data)
            self.ahead = [next(self.begun, self)]
            if self.ahead[0] is self:
                raise ValueError(EMPTY.format(look.name))
            self.first = look(1, self.ahead[0])

    def numbered(self) -> Iterator[tuple[int, Any]]:
        """The batches of one epoch as they are given, counted from 1."""
        if self.indexed is not None:
            for pair in self.indexed.get_numpy_iterator():
                yield int(pair["number"]), pair["batch"]
            return
        if not self.ahead or self.begun is None:
            self.begun = iter(self.data)
        number = 0
        for number, batch in enumerate(list(self.ahead), 1):
            yield number, batch  # and once more, if nobody asks for the next
        self.ahead = []
        yield from enumerate(self.begun, number + 1)

    def get_numpy_iterator(self) -> Iterator[tuple]:
        """The batches of one epoch."""
        self.fault = None
        try:
            for number, batch in self.numbered():
                yield self.look(number, batch)
        except Exception as error:
            self.fault = error  # TensorFlow would hide it in one of its own
            enqueuer = getattr(self.indexed, "enqueuer", None)
            with contextlib.suppress(Exception):  # what its workers still come to
                if enqueuer is not None:
                    enqueuer.stop()
            raise

    get_jax_iterator = get_numpy_iterator

    def get_torch_dataloader(self) -> Iterator[tuple]:
        """The batches of one epoch, on the device."""
        for batch in self.get_numpy_iterator():
            yield tree.map_structure(on_device, batch)

    @property
    def num_batches(self) -> int | None:
        """Of an epoch, None where that is not known or there is no end."""
        if self.indexed is not None:
            return self.indexed.num_batches
        try:
            return len(self.data)
        except TypeError:
            return None

    @property
    def batch_size(self) -> int:
        """Of the first batch."""
        return int(self.first[0].shape[0])

    @property
    def has_partial_batch(self) -> bool | None:
        """Whether the last one is short: not known."""
        return None

    @property
    def partial_batch_size(self) -> int | None:
        """The size of the last one, where it is short: not known."""
        return None

    def on_epoch_begin(self) -> None:
        """Hands on."""
        if self.indexed is not None:
            self.indexed.on_epoch_begin()

    def on_epoch_end(self) -> None:
        """Hands on."""
        if self.indexed is not None:
            self.indexed.on_epoch_end()


class Numbered(keras.utils.PyDataset):
    """A data set that gives each batch with its number, whatever the batch is.

    Keras takes a dict as it is, where it wants a tuple of arrays otherwise.
    """

    def __init__(self, data: keras.utils.PyDataset) -> None:
        super().__init__(data.workers, data.use_multiprocessing, data.max_queue_size)
        self.data = data

    @property
    def num_batches(self) -> int | None:
        """The number of batches, None where there is no end."""
        return self.data.num_batches

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One batch."""
        return {"number": index + 1, "batch": self.data[index]}

    def on_epoch_begin(self) -> None:
        """Hands on."""
        self.data.on_epoch_begin()

    def on_epoch_end(self) -> None:
        """Hands on."""
        self.data.on_epoch_end()


def on_device(part: Any) -> Any:
    """An array as a tensor of the backend."""
    if isinstance(part, np.ndarray):
        part = np.require(part, requirements="W")  # PyTorch warns of what cannot be written
    return part if part is None else ops.convert_to_tensor(part)
