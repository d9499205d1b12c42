"""The names and files of the models that come with kvae."""

import pathlib

__all__ = ["SHIPPED", "path_of"]

SHIPPED = ("mnist", "mnist-ladder", "mnist-conditional", "shapes")


def path_of(name: str) -> pathlib.Path:
    """The file of a shipped model: in an installed package, or in a clone.

    Args:
        name: One of `SHIPPED`.

    Raises:
        FileNotFoundError: If its file is not there.
    """
    here = pathlib.Path(__file__).parent
    for folder in (here / "saved_models", here.parent / "saved_models"):
        if (folder / f"{name}.keras").is_file():
            return folder / f"{name}.keras"
    raise FileNotFoundError(f"The shipped model {name} is missing here: install kvae once more.")
