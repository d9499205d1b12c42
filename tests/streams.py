"""Data sets of batches in every form that people have, and what their tests share."""

import keras
import numpy as np
import pytest
from keras import ops

BACKEND = keras.backend.backend()
LABELS = np.arange(64) % 3
exhausted = pytest.mark.filterwarnings("ignore:Your input ran out of data")


def says(what, call, *given, **arguments):
    """Asserts that a call is refused in one line."""
    with pytest.raises(ValueError, match=what) as caught:
        call(*given, **arguments)
    assert "\n" not in str(caught.value)


def steps_of(vae):
    return int(ops.convert_to_numpy(vae.step))


def in_unit(images):
    return (images / 255).astype("float32")


class Batches(keras.utils.PyDataset):
    """Batches, one after the other, which counts how often it is told of an epoch."""

    def __init__(self, batches, **kwargs):
        super().__init__(**kwargs)
        self.batches = batches
        self.told = []

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, i):
        return self.batches[i]

    def on_epoch_begin(self):
        self.told.append("begin")

    def on_epoch_end(self):
        self.told.append("end")


def threads(batches):
    return Batches(batches, workers=2)


def processes(batches):
    return Batches(batches, workers=2, use_multiprocessing=True)


class Iterable:
    """What gives batches anew, and knows no more of itself."""

    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        return iter(self.batches)


def generator(batches):
    return (batch for batch in batches)


def tf_data(batches):
    tf = pytest.importorskip("tensorflow")
    parts = batches[0] if isinstance(batches[0], tuple) else batches[:1]
    specs = [tf.TensorSpec((None, *part.shape[1:]), part.dtype) for part in parts]
    specs = tuple(specs) if isinstance(batches[0], tuple) else specs[0]
    data = tf.data.Dataset.from_generator(lambda: iter(batches), output_signature=specs)
    return data.apply(tf.data.experimental.assert_cardinality(len(batches)))


def torch_loader(batches):
    torch = pytest.importorskip("torch")

    class Data(torch.utils.data.Dataset):
        def __len__(self):
            return len(batches)

        def __getitem__(self, i):
            return batches[i]

    return torch.utils.data.DataLoader(Data(), batch_size=None)


def beside(backend):
    """Marks what imports another framework than the one in use."""
    return [] if BACKEND == backend else [pytest.mark.slow]


def needs(backend):
    """The same, of a whole test."""
    return pytest.mark.slow if BACKEND != backend else lambda test: test


ANEW = [  # what begins anew in each epoch
    Batches,
    pytest.param(threads, marks=pytest.mark.slow),
    Iterable,
    pytest.param(tf_data, marks=beside("tensorflow")),
    pytest.param(torch_loader, marks=beside("torch")),
]
every_form = pytest.mark.parametrize("form", [*ANEW, generator])
every_form_anew = pytest.mark.parametrize("form", ANEW)


def fours(images):
    """Four batches of 16."""
    return [images[start : start + 16] for start in range(0, 64, 16)]


def with_third(images, third):
    """Four batches, of which the third is another."""
    return [*fours(images)[:2], third, fours(images)[3]]
