"""Inputs of the commands that use a trained model: the model, a data set, images, a file."""

import contextlib
import functools
import pathlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import click

from .command import ends_in, import_quietly, progress

IMAGE = re.compile(r"(?:(train|validation|test):)?(\d+)")
MODEL = "saved_models/vae.keras"

model_option = click.option(
    "--model",
    metavar="MODEL",  # no path to click: a folder may have the name of a shipped model
    default=MODEL,
    show_default=True,
    help="Path of a .keras file, the name of a model that comes with kvae (mnist, "
    "mnist-ladder, mnist-conditional, shapes), or an address such as hf://user/digits.",
)
seed_option = click.option(
    "--seed",
    type=click.IntRange(0, 2**31 - 1),
    default=0,
    show_default=True,
    help="Random seed.",
)


def out_option(default: str, *suffixes: str) -> Any:
    """The option of the file to write, which must have one of these suffixes."""
    return click.option(
        "--out",
        type=click.Path(dir_okay=False),
        default=default,
        show_default=True,
        callback=ends_in(*suffixes),
        help=f"File to write, {' or '.join(suffixes)}.",
    )


def dataset_options(command: Callable[..., Any]) -> Any:
    """The data set."""
    command = click.option(
        "--data-dir",
        type=click.Path(file_okay=False),
        help="Folder of TensorFlow Datasets.  [default: TFDS_DATA_DIR, else ~/tensorflow_datasets]",
    )(command)
    return click.option(
        "--dataset",
        help="Data set, as for `kvae train`.  [default: the training data set of the model]",
    )(command)


def data_options(command: Callable[..., Any]) -> Any:
    """The options of the images: the data set and its split."""
    split = click.option(
        "--split",
        type=click.Choice(["train", "validation", "test"]),
        default="test",
        show_default=True,
        help="Split of the data set.",
    )
    return dataset_options(split(command))


def open_model(path: str) -> Any:
    """Loads the model, for use and not for training."""
    import_quietly()
    import kvae

    with hinted(path):
        return kvae.load(path, compile=False)


@contextlib.contextmanager
def hinted(path: str) -> Iterator[None]:
    """Raises an error that says how to make a model, if the default one is missing."""
    try:
        yield
    except FileNotFoundError as error:
        hint = " Run `kvae train` to train one." if path == MODEL else ""
        raise click.ClickException(f"{error}{hint}") from error


def folder_of(path: str) -> pathlib.Path:
    """The folder that training left beside a model's file."""
    from kvae.shipped import SHIPPED, path_of

    if path in SHIPPED and not pathlib.Path(path).is_file():
        return path_of(path).with_suffix("")
    return pathlib.Path(path).with_suffix("")


def numbers_of_classes(vae: Any, names: tuple[str, ...]) -> list[int]:
    """The classes of a conditional model by name or number; all of them for "all"."""
    count = vae.condition.classes
    known = list(vae.card.get("class_names") or [])
    known = known if len(known) == count else [str(number) for number in range(count)]
    if "all" in names and "all" not in known:
        return list(range(count))
    for name in names:
        if name not in known:
            shown = ", ".join(known[:20]) + (", …" if count > 20 else "")
            raise click.ClickException(f"The model has no class {name}. Its classes: {shown}.")
    return [known.index(name) for name in names]


class Images:
    """The images of a split, and single ones that a user names, all fitted to a model.

    Args:
        vae: The model.
        dataset: As `kvae.data.load` takes it; None: what the model's card names.
        data_dir: As `kvae.data.load` takes it.
        split: "train", "validation" or "test".
    """

    def __init__(self, vae: Any, dataset: str | None, data_dir: str | None, split: str) -> None:
        self.vae = vae
        self.dataset = dataset
        self.data_dir = data_dir
        self.split = split
        self.told = self.told_of_colour = False

    @functools.cached_property
    def data(self) -> Any:
        """The data set, read when it is first needed."""
        import_quietly()
        import kvae

        card = self.vae.card
        name = self.dataset or card.get("origin") or card.get("dataset")
        if not name or name == "arrays":
            raise click.ClickException(
                "The model's card does not name its data set. Name one with --dataset."
            )
        reading = {}
        if "recipe" in card:
            reading = kvae.Recipe.from_card(card).reading
        if self.dataset:  # whose folders may be others
            reading.pop("flat", None)
            reading["image_size"] = reading.get("image_size") or self.vae.image_shape[:2]
        try:
            # Nothing is downloaded because a file says so, which may be a stranger's.
            with progress("Reading images") as told:
                data = kvae.data.load(
                    name, self.data_dir, bool(self.dataset), progress=told, **reading
                )
        except (ValueError, OSError) as error:
            if self.dataset:
                raise
            raise click.ClickException(
                f"Cannot read the data set of the model; name one with --dataset. "
                f"{' '.join(str(error).split())}"
            ) from error
        if data.notice:
            click.echo(data.notice, err=True)
        if not self.dataset and "recipe" in card:
            return kvae.training.prepared(data, kvae.Recipe.from_card(card))
        return data

    @property
    def what(self) -> str:
        """The name of these images in titles."""
        return f"{self.data.name} {self.split} images"

    @property
    def labels(self) -> Any:
        """The labels of the split, or None."""
        return getattr(self.data, f"{self.split}_labels")

    def classes_of(self, labels: Any) -> Any:
        """Labels of these images as classes of a conditional model; None for other models.

        And where not all are known: then the most likely ones stand for them.
        """
        told = self.vae.known(labels, self.data.class_names)
        return None if told is not None and min(told) < 0 else told

    def class_of(self, name: str) -> Any:
        """The class of an image of the data, or the class, that a user names; None: not known."""
        labels, found = None, IMAGE.fullmatch(name)
        if self.vae.condition is None or pathlib.Path(name).exists():
            return None
        if found:
            labels = getattr(self.data, f"{found[1] or self.split}_labels")
            labels = None if labels is None else labels[int(found[2]) :][:1]
        elif name in self.class_names:
            labels = [self.class_names.index(name)]
        told = None if labels is None else self.classes_of(labels)
        return None if told is None else told[0]

    def sample(self, count: int, seed: int) -> Any:
        """Images of the split, or all if there are fewer; with their labels or None."""
        import numpy as np

        images = getattr(self.data, self.split)
        chosen = np.random.default_rng(seed).permutation(len(images))[:count]
        return self.fitted(images[chosen]), None if self.labels is None else self.labels[chosen]

    def image(self, name: str) -> Any:
        """The image that a user names: a file, or an index such as test:7."""
        import kvae

        found = IMAGE.fullmatch(name)
        if found and not pathlib.Path(name).exists():
            split, index = found[1] or self.split, int(found[2])
            images = getattr(self.data, split)
            if index >= len(images):
                raise click.ClickException(
                    f"There is no image {split}:{index}: {self.data.name} has {len(images):,} "
                    f"{split} images, counted from 0."
                )
            return self.fitted(images[index : index + 1])[0]
        path = pathlib.Path(name)
        if path.is_dir():
            raise click.ClickException(f"{name} is a folder: name its files, such as {path}/*.png.")
        if not path.is_file():
            raise click.ClickException(
                f"There is no image {name}. Give a file, or an index such as test:7."
            )
        if path.suffix.lower() not in kvae.data.PICTURES:
            kinds = ", ".join(kvae.data.PICTURES)
            raise click.ClickException(f"An image must be a file of {kinds}. Received: {name}")
        look = kvae.data.look(path)
        self.tell(look.size)
        if not look.grey and self.vae.image_shape[2] == 1 and not self.told_of_colour:
            self.told_of_colour = True
            click.echo("Colour images are converted to grey, which the model expects.", err=True)
        return kvae.data.read_pictures([path], self.vae.fitting)[0]

    def of_class(self, name: str) -> Any:
        """All images of a class of the split."""
        if self.labels is None:
            raise click.ClickException(
                f"{self.data.name} has no labels, so there is no class {name}."
            )
        names = self.class_names
        if name not in names:
            raise click.ClickException(
                f"{self.data.name} has no class {name}. Its classes: {', '.join(names)}."
            )
        chosen = self.labels == names.index(name)
        if not chosen.any():
            raise click.ClickException(f"There are no {self.what} of class {name}.")
        return self.fitted(getattr(self.data, self.split)[chosen])

    def classes(self, names: tuple[str, ...]) -> list[str]:
        """The classes that a user names: those, or where "all" is among them, all of the split."""
        if "all" not in names or "all" in self.class_names:
            return list(names)
        if self.labels is None:
            raise click.ClickException(f"{self.data.name} has no labels, so there are no classes.")
        return [name for i, name in enumerate(self.class_names) if i in self.labels]

    @property
    def class_names(self) -> list[str]:
        """The names of the classes; their numbers where they have none."""
        count = 0 if self.labels is None else int(self.labels.max()) + 1
        return list(self.data.class_names) or [str(label) for label in range(count)]

    def end(self, name: str) -> Any:
        """An end of a path: an image that a user names, or all images of a class."""
        import kvae

        there = pathlib.Path(name).exists() or ":" in name
        there = there or name.lower().endswith(kvae.data.PICTURES)
        return self.image(name) if there else self.of_class(name)

    def fitted(self, images: Any) -> Any:
        """Images of the model's size, with a notice where they had another."""
        import kvae

        self.tell(images.shape[1:3])
        return kvae.data.fitted(images, self.vae.image_shape, self.vae.fitting)

    def tell(self, size: tuple[int, int]) -> None:
        """Says once that images have another size, (height, width), than the model's."""
        expected = self.vae.image_shape[:2]
        if tuple(size) != tuple(expected) and not self.told:
            self.told = True
            came, wanted = (f"{w}×{h}" for h, w in (size, expected))
            click.echo(
                f"Images of {came} pixels are resized to {wanted}, the size of the model.", err=True
            )
