"""Several training steps in one dispatch: how many, so that nothing but the speed changes."""

import contextlib
import inspect
import itertools
import math

import keras

KNOWN_PACKAGES = ("keras", "kvae")
MOST_BYTES = 2**25  # of images that are handed over at once


class Executions(keras.Model):
    """A model whose `fit` makes several steps at a time, where nobody looks in between.

    What `compile(steps_per_execution=...)` was told holds. Otherwise `fit` chooses; one step at a
    time where it is to stop after so many (`steps_per_epoch`), or a callback looks at batches.
    Evaluation, also that of each epoch, then goes one batch at a time.
    """

    most_steps = 1  # that pay where there are no convolutions
    steps_per_execution: int  # as Keras has it
    chosen_steps: int | None = None  # while `fit` runs with a number of its own choice
    function_steps: int | None = None  # that the train function was made for

    def fit(self, *args, **kwargs):
        """`keras.Model.fit`, with as many steps in one dispatch as pay."""
        given = inspect.signature(super().fit).bind(*args, **kwargs).arguments
        if not self.compiled or self.steps_per_execution != 1:
            return super().fit(**self.fed(given, shuffle=True))
        self.chosen_steps = self.best_steps(given)
        try:
            with self.executing(self.chosen_steps):
                return super().fit(**self.fed(given, shuffle=True))
        finally:
            self.chosen_steps = None

    def evaluate(self, *args, **kwargs):
        """`keras.Model.evaluate`, one batch at a time also from within a `fit` that chose more."""
        own = inspect.signature(super().evaluate).bind(*args, **kwargs).arguments
        given = self.fed(own.pop("kwargs", {}) | own)
        if self.chosen_steps is None:
            return super().evaluate(**given)
        if getattr(self, "_eval_epoch_iterator", None) is not None:
            self._eval_epoch_iterator.steps_per_execution = 1
        with self.executing(1):
            return super().evaluate(**given)

    def predict(self, *args, **kwargs):
        """`keras.Model.predict`, one batch at a time also from within a `fit` that chose more."""
        given = self.fed(inspect.signature(super().predict).bind(*args, **kwargs).arguments)
        if self.chosen_steps is None:
            return super().predict(**given)
        with self.executing(1):
            return super().predict(**given)

    def fed(self, given: dict, shuffle: bool = False) -> dict:
        """Arguments of `fit`, `evaluate` or `predict`, arrays as the backend takes them best."""
        return given

    def make_train_function(self, force=False):
        """As Keras's, and anew when the number of steps has changed."""
        if force or self.steps_per_execution != self.function_steps:
            self.train_function = None
        self.function_steps = self.steps_per_execution
        if self.train_function is None and self.steps_per_execution > 1:
            self.train_function = self.several_steps_function()
        return super().make_train_function()

    def several_steps_function(self):
        """Makes `steps_per_execution` steps with batches of an iterator; None: as Keras does it."""
        return None

    @contextlib.contextmanager
    def executing(self, steps: int):
        """Sets `steps_per_execution` for a while."""
        former, self.steps_per_execution = self.steps_per_execution, steps
        try:
            yield
        finally:
            self.steps_per_execution = former

    def convolves(self) -> bool:
        """Whether there may be convolutions, as there may be in a layer that is not Keras's."""
        own = (type(layer) for layer in self._flatten_layers(include_self=False))
        return any(
            "conv" in kind.__name__.lower() or kind.__module__.split(".")[0] not in KNOWN_PACKAGES
            for kind in own
        )

    def best_steps(self, given: dict) -> int:
        """How many steps `fit` makes at a time, given its arguments."""
        x, batch_size = given.get("x"), int(given.get("batch_size") or 32)
        if self.convolves():  # within a loop XLA's take forty times as long on a CPU
            return 1
        shape = getattr(x, "shape", None)
        stops = given.get("steps_per_epoch") or keras.config.max_steps_per_epoch()
        if self.run_eagerly or shape is None or stops:
            return 1
        if any(looks_at_batches(callback) for callback in callbacks_in(given)):
            return 1
        itemsize = getattr(getattr(x, "dtype", None), "itemsize", 4)
        batch_bytes = batch_size * math.prod(shape[1:]) * itemsize
        batches = math.ceil(shape[0] / batch_size)
        return max(1, min(self.most_steps, batches, MOST_BYTES // batch_bytes))


# Callbacks of Keras that have a method for batches and need not see every one: always, or where
# this attribute is "epoch".
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


def looks_at_batches(callback: keras.callbacks.Callback) -> bool:
    """Whether a callback is to be called at each batch; one of your own may say that it need not.

    By an attribute, `looks_at_batches = False`.
    """
    if hasattr(callback, "looks_at_batches"):
        return callback.looks_at_batches
    for kind, attribute in BY_EPOCH.items():
        if type(callback) is kind:
            return attribute is not None and getattr(callback, attribute) != "epoch"
    methods = (getattr(callback, name, None) for name in BATCH_METHODS)
    return any(method and not getattr(method, "_is_default", False) for method in methods)


def of_one_shape(iterator, most: int):
    """The next batches, `most` of them, in lists of the same shape.

    The last batch of an epoch may be short, those of a generator of any size.
    """
    for _, group in itertools.groupby(itertools.islice(iterator, most), shapes):
        yield list(group)


def shapes(batch) -> list[tuple]:
    """The shapes of a batch's arrays."""
    return [tuple(array.shape) for array in keras.tree.flatten(batch) if array is not None]
