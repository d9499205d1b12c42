"""Stream: batches of any iterable, each checked as it comes."""

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
    """A check of each batch."""

    name: str
    class_weight: Any

    def __call__(self, number: int, batch: Any) -> tuple:
        """Returns a batch, counted from 1, as a tuple for Keras; errors name the batch."""

    def settles(self, spec: Any) -> bool:
        """Whether every batch with these shapes and dtypes is accepted, whatever its values."""

    def wants_unit(self, spec: Any) -> bool:
        """Whether every batch with these shapes and dtypes is accepted if it is in [0, 1]."""

    def arranged(self, batch: Any, as_given: bool = False) -> tuple:
        """The result of a call for symbolic tensors, whose values are not known yet.

        Args:
            batch: A batch as the data set has it.
            as_given: Whether checked labels stay as they are.
        """


class Stream(DataAdapter):
    """A data set, a loader or a generator for `fit`, checked batch by batch.

    The first batch is checked when the stream is made, so that `fit` refuses it before it begins;
    the same iterator then gives the first epoch. Iterables that cannot restart, such as generators,
    continue where the last epoch ended.

    Args:
        data: An iterable of batches.
        look: The check of each batch.
        shuffle: Whether to shuffle the batches of a `keras.utils.PyDataset`.

    Attributes:
        fault: The exception that ended the last iteration, if one did.
    """

    def __init__(self, data: Any, look: Look, shuffle: Any = False) -> None:
        self.data = data
        self.look = look
        self.fault: Exception | None = None
        self.begun: Iterator | None = None
        self.ahead: list = []  # batches taken ahead
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
        """The batches of one epoch as given, counted from 1."""
        if self.indexed is not None:
            for pair in self.indexed.get_numpy_iterator():
                yield int(pair["number"]), pair["batch"]
            return
        if not self.ahead or self.begun is None:
            self.begun = iter(self.data)
        number = 0
        for number, batch in enumerate(list(self.ahead), 1):
            yield number, batch  # yielded again if nobody asks for the next
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
            with contextlib.suppress(Exception):  # its workers may still fail
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
        """The number of batches of an epoch; None if it is unknown or infinite."""
        if self.indexed is not None:
            return self.indexed.num_batches
        try:
            return len(self.data)
        except TypeError:
            return None

    @property
    def batch_size(self) -> int:
        """The size of the first batch."""
        return int(self.first[0].shape[0])

    @property
    def has_partial_batch(self) -> bool | None:
        """Whether the last batch is short: not known."""
        return None

    @property
    def partial_batch_size(self) -> int | None:
        """The size of the last batch if it is short: not known."""
        return None

    def on_epoch_begin(self) -> None:
        """Passes the call on to the data."""
        if self.indexed is not None:
            self.indexed.on_epoch_begin()

    def on_epoch_end(self) -> None:
        """Passes the call on to the data."""
        if self.indexed is not None:
            self.indexed.on_epoch_end()


class Numbered(keras.utils.PyDataset):
    """A data set that returns each batch with its number.

    Keras passes dicts on unchanged; otherwise it expects a tuple of arrays.
    """

    def __init__(self, data: keras.utils.PyDataset) -> None:
        super().__init__(data.workers, data.use_multiprocessing, data.max_queue_size)
        self.data = data

    @property
    def num_batches(self) -> int | None:
        """The number of batches; None if there is no end."""
        return self.data.num_batches

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One batch."""
        return {"number": index + 1, "batch": self.data[index]}

    def on_epoch_begin(self) -> None:
        """Passes the call on to the data."""
        self.data.on_epoch_begin()

    def on_epoch_end(self) -> None:
        """Passes the call on to the data."""
        self.data.on_epoch_end()


def on_device(part: Any) -> Any:
    """Converts an array to a tensor of the backend."""
    if isinstance(part, np.ndarray):
        part = np.require(part, requirements="W")  # PyTorch warns of what cannot be written
    return part if part is None else ops.convert_to_tensor(part)
