"""Classifier: a small network whose features are used to compare sets of images."""

import dataclasses
import hashlib
import math
import os
import pathlib
import time

import keras
import numpy as np
from keras import KerasTensor, layers

from kvae.data import Dataset, load
from kvae.files import whole
from kvae.likelihoods import Likelihood
from kvae.limits import pieces, read_rows
from kvae.model import in_batches

__all__ = ["Classifier", "classifier_for", "fingerprint", "train_classifier", "write_shipped"]

SHIPPED = pathlib.Path(__file__).with_name("mnist_classifier.keras")
SHIPPED_SHA256 = "ff138be7468ef0d30b470502cf8e8b685d52e04ff5807f5534312d36add6fe57"
SHIPPED_ACCURACY = 0.9948  # of MNIST's 10,000 test images
SHIPPED_UPDATES = 4_300  # ten passes over 55,000 images
MNIST = "03a8a048601ebb4610dcd79cd759c718bed893982a4c153c4f33a41885101c0b"
FEATURES = 64
LARGEST = 32  # side in pixels; larger images are strided down to it
SMALLEST = 7  # largest side in pixels before the dense layers
FEWEST, MOST, PASSES = 200, 600, 30  # updates, and epochs, if one is trained
BATCH_SIZE = 128


@dataclasses.dataclass(frozen=True, eq=False)
class Classifier:
    """A classifier of images, with facts about it.

    Attributes:
        model: A Functional model, (batch, height, width, channels), float32 in [0, 1], to
            `[features, logits]`: (batch, 64) and (batch, classes).
        class_names: Names of class 0, class 1, ….
        accuracy: Share of test images that it classifies correctly. None if these have no labels.
        trained: Where and on what it was trained, in words.
        sha256: SHA-256 of its file; empty if it was not read from a file.
    """

    model: keras.Model
    class_names: tuple[str, ...]
    accuracy: float | None
    trained: str
    sha256: str = ""

    def features(self, images: np.ndarray) -> np.ndarray:
        """Computes the features of images: the outputs of the last layer but one.

        Over the training images, each feature has a mean of about 0 and a variance of about 1.

        Args:
            images: (count, height, width, channels), integers in 0…255 or floats in [0, 1].

        Returns:
            (count, 64), float32.
        """
        return self.outputs(images)[0]

    def predicted(self, images: np.ndarray) -> np.ndarray:
        """Classifies images: returns the most probable class of each.

        Args:
            images: (count, height, width, channels), integers in 0…255 or floats in [0, 1].

        Returns:
            (count,), int64.
        """
        return self.outputs(images)[1].argmax(axis=1)

    def outputs(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Features, (count, 64), and logits, (count, classes), of each image; float32."""
        images = Likelihood().check(images, self.model.input_shape[1:])
        features, logits = in_batches(
            lambda batch: self.model.predict_on_batch(grey(batch)), images, 1000
        )
        return features, logits

    @property
    def card(self) -> dict:
        """Facts about the classifier, as JSON types."""
        known = {"sha256": self.sha256} if self.sha256 else {}
        return {"trained": self.trained, "test_accuracy": self.accuracy, **known}


def classifier_for(
    dataset: Dataset, seed: int = 0, updates: int | None = None
) -> tuple[Classifier | None, str]:
    """Returns the shipped classifier for MNIST; for other labelled images, trains one.

    MNIST is recognised by its training images, in any order and from any source.

    Args:
        dataset: A data set.
        seed: Random seed of the weights and batches, if one is trained.
        updates: Number of updates, if one is trained; see `train_classifier`.

    Returns:
        The classifier, or None if there are no labels of two classes; and a sentence that says
        where it comes from, or why there is none.

    Raises:
        ValueError: If the shipped file has been changed.
    """
    if dataset.image_shape == (28, 28, 1) and fingerprint(dataset) == MNIST:
        classifier = shipped(SHIPPED)
    elif dataset.train_labels is None:
        return None, f"No classifier: the training images of {dataset.name} have no labels."
    elif len(np.unique(dataset.train_labels[dataset.train_labels >= 0])) < 2:
        return None, f"No classifier: the training images of {dataset.name} are all of one class."
    else:
        classifier = train_classifier(dataset, seed, updates)
    return classifier, f"The classifier was {classifier.trained}."


def fingerprint(dataset: Dataset) -> str:
    """The SHA-256 of the training and validation images, independent of their order."""
    digests = [
        hashlib.sha256(image.tobytes()).digest()
        for images in (dataset.train, dataset.validation)
        for piece in pieces(images)
        for image in piece
    ]
    return hashlib.sha256(b"".join(sorted(digests))).hexdigest()


def shipped(path: pathlib.Path) -> Classifier:
    """Loads the MNIST classifier that is part of this package.

    Raises:
        ValueError: If the file is not the one whose accuracy this module states.
    """
    found = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "no file"
    if found != SHIPPED_SHA256:
        raise ValueError(
            f"{path} must be the classifier that kvae ships, with SHA-256 {SHIPPED_SHA256[:12]}…. "
            f"Found: {found[:12]}. Install kvae anew."
        )
    return Classifier(
        keras.saving.load_model(path, compile=False),
        tuple("0123456789"),
        SHIPPED_ACCURACY,
        "shipped with kvae, trained on 55,000 training images of mnist",
        found,
    )


def write_shipped(path: str | pathlib.Path, data_dir: str | os.PathLike | None = None) -> None:
    """Makes the shipped file again, and prints the constants for the head of this module.

    The file is never the same to the byte, because it contains the date. The command takes some
    minutes:

        python -c "from kvae.evaluation.classifier import write_shipped as w; w('OUT.keras')"

    Args:
        path: The `.keras` file to write.
        data_dir: As for `kvae.data.load`.
    """
    dataset = load("mnist", data_dir)
    started = time.perf_counter()
    classifier = train_classifier(dataset, seed=0, updates=SHIPPED_UPDATES)
    with whole(path) as partial:
        classifier.model.save(partial)
    sha256 = hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()
    print(f'SHIPPED_SHA256 = "{sha256}"')
    print(f"SHIPPED_ACCURACY = {classifier.accuracy}")
    print(f'MNIST = "{fingerprint(dataset)}"')
    print(f"{time.perf_counter() - started:.0f} s on {keras.backend.backend()}")


def train_classifier(dataset: Dataset, seed: int = 0, updates: int | None = None) -> Classifier:
    """Trains a classifier on the labelled training images, as grey values or colours in [0, 1].

    It uses cross-entropy, Adam, a cosine learning rate and batches of 128 images. All random
    numbers come from `seed`; the global random state does not change.

    Args:
        dataset: A data set with labels of the training images.
        seed: Random seed of weights, dropout and batches.
        updates: Number of updates. None: 30 epochs, but at least 200 updates and at most 600.

    Returns:
        The classifier, with its accuracy on the test images.

    Raises:
        ValueError: If the training images have no labels.
    """
    if dataset.train_labels is None:
        raise ValueError(f"A classifier needs labels; the train images of {dataset.name} have none")
    count = max(int(dataset.train_labels.max()) + 1, len(dataset.class_names))
    labelled = np.flatnonzero(dataset.train_labels >= 0)
    updates = updates or min(MOST, max(FEWEST, PASSES * len(labelled) // BATCH_SIZE))
    rng = np.random.default_rng(seed)
    model = build(dataset.image_shape, count, rng)
    learner = keras.Model(model.input, model.outputs[1])
    learner.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(2e-3, updates)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    for rows in batches(len(labelled), updates, rng):
        rows = labelled[rows]
        learner.train_on_batch(grey(read_rows(dataset.train, rows)), dataset.train_labels[rows])
    names = dataset.class_names or tuple(str(label) for label in range(count))
    where = f"trained on the spot, on {len(labelled):,} training images of {dataset.name}"
    classifier = Classifier(model, tuple(names), None, where)
    if dataset.test_labels is None:
        return classifier
    right = classifier.predicted(dataset.test) == dataset.test_labels
    return dataclasses.replace(classifier, accuracy=round(float(right.mean()), 4))


def build(image_shape: tuple[int, int, int], classes: int, rng: np.random.Generator) -> keras.Model:
    """Builds the network: a strided convolution to at most 32 pixels a side, then halvings.

    The work is about the same for images of all sizes. The network is float32 under every dtype
    policy.

    Args:
        image_shape: (height, width, channels).
        classes: Number of classes.
        rng: Random generator of the layers' seeds.
    """
    side = max(image_shape[:2])
    stride = math.ceil(side / LARGEST)
    images = keras.Input(image_shape, dtype="float32", name="images")
    x = convolution(images, 16, rng, stride, size=2 * stride + 1)
    side = math.ceil(side / stride)
    while side > SMALLEST:
        channels = 32 if side > 2 * SMALLEST else 48
        x = convolution(x, channels, rng, strides=2)
        x = convolution(x, channels, rng)
        side = math.ceil(side / 2)
    x = dense(layers.Flatten(dtype="float32")(x), FEATURES, rng)
    # Standardised, so that distances have the same scale for all data sets.
    features = layers.BatchNormalization(
        momentum=0.95, center=False, scale=False, dtype="float32", name="features"
    )(x)
    x = layers.Activation("relu", dtype="float32")(features)
    x = layers.Dropout(0.3, seed=int(rng.integers(2**31)), dtype="float32")(x)
    return keras.Model(images, [features, dense(x, classes, rng)], name="classifier")


def convolution(
    x: KerasTensor, channels: int, rng: np.random.Generator, strides: int = 1, size: int = 3
) -> KerasTensor:
    """A convolution without bias, batch norm, ReLU."""
    kernel = keras.initializers.HeNormal(int(rng.integers(2**31)))
    x = layers.Conv2D(
        channels,
        size,
        strides,
        padding="same",
        use_bias=False,
        kernel_initializer=kernel,
        dtype="float32",
    )(x)
    x = layers.BatchNormalization(momentum=0.95, dtype="float32")(x)
    return layers.Activation("relu", dtype="float32")(x)


def dense(x: KerasTensor, width: int, rng: np.random.Generator) -> KerasTensor:
    """A dense layer: (batch, *) to (batch, width)."""
    kernel = keras.initializers.GlorotUniform(int(rng.integers(2**31)))
    return layers.Dense(width, kernel_initializer=kernel, dtype="float32")(x)


def batches(count: int, updates: int, rng: np.random.Generator) -> np.ndarray:
    """The rows of each batch, (updates, 128). All images are drawn before one is repeated."""
    total = updates * BATCH_SIZE
    passes = [rng.permutation(count) for _ in range(math.ceil(total / count))]
    return np.concatenate(passes)[:total].reshape(updates, BATCH_SIZE)


def grey(images: np.ndarray) -> np.ndarray:
    """Converts images to float32 in [0, 1]; integers are divided by 255."""
    return images.astype("float32") / (255 if images.dtype.kind in "iu" else 1)
