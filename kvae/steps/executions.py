"""Runs several training steps in one dispatch, which changes nothing but the speed."""

import collections
import collections.abc
import contextlib
import inspect
import itertools
import math
import threading
import types
import weakref
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import tree

from kvae.limits import is_mapped
from kvae.share import Share
from kvae.steps.feed import Feed, arrays_of, in_floatx
from kvae.steps.fingerprint import KNOWN_PACKAGES
from kvae.steps.stream import Look, Stream

MOST_BYTES = 2**25  # bytes of images passed on at a time


class Executions(keras.Model):
    """A model whose `fit` runs several steps at a time, but shows each step by itself.

    If `compile(steps_per_execution=...)` is given, it works as in Keras. Otherwise `fit` takes some
    batches ahead, runs their steps in one dispatch, and hands out their logs one by one, so that
    callbacks get the number and the logs of each step. It runs one step at a time if the model has
    convolutions, if it must stop after a number of steps (`steps_per_epoch`), or if a callback
    looks at batches.
    """

    most_steps = 1  # useful number of steps without convolutions
    makes_several_steps = True  # whether Keras takes `steps_per_execution` above 1
    steps_per_execution: int  # as Keras has it
    train_function: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Hidden from Keras. The functions are keyed by their number of steps.
        self.executions = types.SimpleNamespace(
            ahead=1, undisturbed=False, functions={}, made=0, logs={}, batch_size=None
        )
        self.executions.of_thread = threading.local()

    def fit(self, *args: Any, **kwargs: Any) -> Any:
        """`keras.Model.fit`, with as many steps in one dispatch as are useful."""
        given = inspect.signature(super().fit).bind(*args, **kwargs).arguments
        now = self.executions
        former = (now.ahead, now.undisturbed, now.batch_size)
        now.ahead = self.best_steps(given) if self.compiled else 1
        now.undisturbed = undisturbed(given)
        try:
            given = self.fed(given, shuffle=True)
            now.batch_size = given["x"].batch_size if isinstance(given.get("x"), Feed) else None
            return super().fit(**given)
        finally:
            now.ahead, now.undisturbed, now.batch_size = former

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        """`keras.Model.evaluate`."""
        own = inspect.signature(super().evaluate).bind(*args, **kwargs).arguments
        return super().evaluate(**self.fed(own.pop("kwargs", {}) | own))

    def predict(self, *args: Any, **kwargs: Any) -> Any:
        """`keras.Model.predict`."""
        given = inspect.signature(super().predict).bind(*args, **kwargs).arguments
        return super().predict(**self.fed(given, whole=True))

    def inputs_of(self, images: Any, labels: Any) -> Any:
        """The argument of `call` for a batch: the images, unless a model needs labels too."""
        return images

    def order_key(self) -> list[int]:
        """The key from which the order of images in the next epoch is computed."""
        return [0]

    def fed(self, given: dict, shuffle: bool = False, whole: bool = False) -> dict:
        """Replaces arrays in the arguments of `fit`, `evaluate` or `predict` by a `Feed`.

        Keras handles the cases for which it has its own way: `steps_per_epoch`, class weights,
        shuffling within batches; and arrays other than NumPy's.
        """
        given = dict(given)
        if "_use_cached_eval_dataset" in given:
            return given
        given = with_validation_apart(given)
        batch_size = given.get("batch_size") or 32
        validation = given.get("validation_data")
        if validation is not None and given.get("batch_size"):
            size = given.get("validation_batch_size") or batch_size
            given["validation_batch_size"] = size  # as Keras has it, from which a feed takes ours
        if validation is not None and not given.get("validation_steps"):
            parts = validation if isinstance(validation, (tuple, list)) else (validation,)
            arrays = arrays_of(*parts)
            if arrays is not None and (self.feeds_all or not as_keras_has_them(arrays)):
                size = given.get("validation_batch_size") or batch_size
                given["validation_data"] = self.feed(arrays, size)
        shuffle = given.get("shuffle", shuffle)
        left_to_keras = any(given.get(name) for name in ("steps", "steps_per_epoch"))
        left_to_keras = left_to_keras or given.get("class_weight") is not None
        arrays = arrays_of(*map(given.get, ("x", "y", "sample_weight")))
        if arrays is None or left_to_keras or shuffle == "batch":
            return given
        if shuffle or self.feeds_all or not as_keras_has_them(arrays):
            key = self.order_key if shuffle else None
            given["x"] = self.feed(arrays, batch_size, key, whole)
            taken = ("y", "sample_weight", "batch_size")
            given = {name: value for name, value in given.items() if name not in taken}
        return given

    def feed(self, arrays: tuple, batch_size: int, key: Any = None, whole: bool = False) -> Feed:
        """Makes batches of arrays for the backend.

        Args:
            arrays: Arrays of one length.
            batch_size: Number of images in a batch, over all devices that share it.
            key: Key of the order of an epoch. None: the order of the arrays.
            whole: Whether each process gets the whole of each batch.
        """
        return Feed(arrays, batch_size, key)

    def stream(self, data: Any, look: Look, shuffle: Any = False) -> Any:
        """Wraps an iterable of batches, each of which is checked, for the backend."""
        return Stream(data, look, shuffle)

    @property
    def feeds_all(self) -> bool:
        """Whether to use a `Feed` for data without shuffling too."""
        return False

    @property
    def share(self) -> Share | None:
        """The share of this device in the batch being computed; None: the whole batch."""
        return getattr(self.executions.of_thread, "share", None)

    @contextlib.contextmanager
    def sharing(self, share: Share | None) -> Iterator[None]:
        """A context in which this device computes a share of a batch.

        Each thread has its own share: TensorFlow has one thread for each device.
        """
        self.executions.of_thread.share = share
        try:
            yield
        finally:
            self.executions.of_thread.share = None

    def alone(self) -> contextlib.AbstractContextManager[Any]:
        """A context for one thread at a time, if the backend's predictions need that."""
        return contextlib.nullcontext()

    def settle(self) -> None:
        """Writes the state of a running `fit` back to the variables, so that they can be set."""

    def make_train_function(self, force: bool = False) -> None:
        """Like Keras's, one function for each number of steps in a dispatch."""
        functions = self.executions.functions
        if force or self.train_function is None:
            functions.clear()
        steps = (self.steps_per_execution, self.executions.ahead)
        if steps not in functions:
            self.train_function = (
                self.several_steps_function(max(steps)) if max(steps) > 1 else None
            )
            super().make_train_function()
            functions[steps] = self.train_function
        self.train_function = functions[steps]
        if self.executions.made:
            self.train_function = self.without_what_is_made(functions[steps])

    def without_what_is_made(self, function: Any) -> Any:
        """Wraps a train function to skip the steps of an epoch that an earlier run has made.

        `executions.made` is their number, and `executions.logs` are their logs.
        """

        def step(*given: Any) -> Any:
            if not self.executions.made:
                return function(*given)
            self.executions.made -= 1
            *state, batches = given  # on JAX also a state; on PyTorch no iterator
            if not isinstance(batches, list):
                next(batches)
            return (self.executions.logs, *state) if state else self.executions.logs

        return step

    def several_steps_function(self, most: int) -> Any:
        """A train function of up to `most` steps in one dispatch; None: Keras's own."""
        return None

    def convolves(self) -> bool:
        """Whether the model may contain convolutions, perhaps in a layer of another package."""
        own = (type(layer) for layer in self._flatten_layers(include_self=False))
        return any(
            "conv" in kind.__name__.lower() or kind.__module__.split(".")[0] not in KNOWN_PACKAGES
            for kind in own
        )

    def best_steps(self, given: dict) -> int:
        """The number of steps that `fit` runs at a time, given its arguments."""
        x: Any = given.get("x")
        batch_size = int(given.get("batch_size") or 32)
        if self.steps_per_execution != 1:  # the user's own number
            return 1
        if self.convolves():  # in a loop, XLA's convolutions take forty times as long on a CPU
            return 1
        stops = given.get("steps_per_epoch") or keras.config.max_steps_per_epoch()
        if self.run_eagerly or stops or not undisturbed(given):
            return 1
        itemsize = getattr(getattr(x, "dtype", None), "itemsize", 4)
        batch_bytes = batch_size * math.prod(x.shape[1:]) * itemsize
        batches = math.ceil(x.shape[0] / batch_size)
        return max(1, min(self.most_steps, batches, MOST_BYTES // batch_bytes))


def as_keras_has_them(arrays: tuple) -> bool:
    """Whether Keras uses these arrays without converting them or loading a file."""
    same = all(in_floatx(array[:0]).dtype == array.dtype for array in arrays)
    return same and not any(map(is_mapped, arrays))


def with_validation_apart(given: dict) -> dict:
    """Splits off the last share of arrays as validation data, if `fit` asks for it."""
    names = ("x", "y", "sample_weight")
    arrays = arrays_of(*map(given.get, names))
    split = given.get("validation_split")
    if not split or arrays is None or given.get("validation_data") is not None:
        return given
    first = math.floor(len(arrays[0]) * (1 - split))
    if first in (0, len(arrays[0])):
        return given  # Keras says what is wrong
    parts = {name: array[:first] for name, array in zip(names, arrays, strict=False)}
    rest = tuple(array[first:] for array in arrays)
    given = {name: value for name, value in given.items() if name != "validation_split"}
    return {**given, **parts, "validation_data": rest}


# Keras callbacks that have a method for batches but need not see each batch: never, or if this
# attribute is "epoch".
BY_EPOCH: dict[type, str | None] = {
    keras.callbacks.ProgbarLogger: None,
    keras.callbacks.TerminateOnNaN: None,
    keras.callbacks.ModelCheckpoint: "save_freq",
    keras.callbacks.BackupAndRestore: "save_freq",
    keras.callbacks.TensorBoard: "update_freq",
}
BATCH_METHODS = ("on_train_batch_begin", "on_train_batch_end", "on_batch_begin", "on_batch_end")


def callbacks_in(given: dict) -> list[keras.callbacks.Callback]:
    """The callbacks among the arguments of `fit`."""
    callbacks = given.get("callbacks") or []
    return keras.tree.flatten(getattr(callbacks, "callbacks", callbacks))


def undisturbed(given: dict) -> bool:
    """Whether no user code runs between batches, given the arguments of `fit`."""
    arrays = getattr(given.get("x"), "shape", None) is not None  # otherwise perhaps a generator
    return arrays and not any(map(looks_at_batches, callbacks_in(given)))


def looks_at_batches(callback: keras.callbacks.Callback) -> bool:
    """Whether a callback must be called at each batch.

    A callback of your own may say that it need not, by `looks_at_batches = False`.
    """
    if hasattr(callback, "looks_at_batches"):
        return callback.looks_at_batches
    for kind, attribute in BY_EPOCH.items():
        if type(callback) is kind:
            return attribute is not None and getattr(callback, attribute) != "epoch"
    methods = (getattr(callback, name, None) for name in BATCH_METHODS)
    return any(method and not getattr(method, "_is_default", False) for method in methods)


class Ahead:
    """Batches taken ahead from an iterator, and the results of their steps.

    Attributes:
        groups: Batches of one shape that are not trained on yet.
        running: Pairs of stacked logs and their count, of dispatches that may still run.
        logs: Logs of finished steps, until they are asked for.
    """

    def __init__(self) -> None:
        self.groups: collections.deque = collections.deque()
        self.running: collections.deque = collections.deque()
        self.logs: collections.deque = collections.deque()

    def next_group(self, iterator: Any, most: int) -> list:
        """The next batches of one shape; takes `most` batches at a time; empty at the end."""
        if not self.groups:
            self.groups.extend(of_one_shape(iterator, most))
        return self.groups.popleft() if self.groups else []


def ahead_of_each() -> collections.abc.MutableMapping:
    """A mapping from each iterator to what was taken ahead from it.

    Each epoch has a new iterator, so nothing is left over from an epoch that ended early.
    """
    return weakref.WeakKeyDictionary()


def of_one_shape(iterator: Any, most: int) -> list[list]:
    """Takes the next `most` batches, in lists of the same shape.

    The last batch of an epoch may be short, and those of a generator may have any size.
    """
    groups = itertools.groupby(itertools.islice(iterator, most), shapes)
    return [list(group) for _, group in groups]


def logs_of_each(stacks: Any, count: int) -> list:
    """The logs of each of `count` steps as NumPy arrays; waits for the device."""
    stacks = tree.map_structure(np.asarray, stacks)
    return [tree.map_structure(lambda stack: stack[i], stacks) for i in range(count)]  # noqa: B023


def shapes(batch: Any) -> list[tuple]:
    """The shapes of a batch's arrays."""
    return [tuple(array.shape) for array in tree.flatten(batch) if array is not None]
