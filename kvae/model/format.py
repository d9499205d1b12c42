"""Format: the number of a file's format, and how files of earlier formats are read.

Every later version opens the files of a released version of kvae, on every backend. Each change of
a file's content gets a new format number and an upgrade from the one before. `tests/files/` holds
small files of each format, which must load forever.
"""

from typing import Any

__all__ = ["FORMAT", "upgraded"]

FORMAT = 1


def upgraded(config: dict[str, Any]) -> dict[str, Any]:
    """Converts the configuration of a model from any format to the current one.

    Raises:
        ValueError: If a later version wrote it, or it is damaged.
    """
    config = dict(config)
    number = config.pop("format", 0)
    if type(number) is not int or number < 0:
        raise ValueError(f"The file is damaged: its format is {number!r}, and not a number.")
    if number > FORMAT:
        raise ValueError(
            f"The file is of format {number}, and this version of kvae reads formats up to "
            f"{FORMAT}. Install a later version."
        )
    if number == 0:
        config = from_0(config)
    return config


def from_0(config: dict[str, Any]) -> dict[str, Any]:
    """Upgrades format 0, from before 0.1.0: settings of the objective were in the model."""
    taken = ["beta", "warmup_steps", "samples"]
    name = config.pop("objective", "elbo")
    kind = {"elbo": "ELBO", "iwae": "ImportanceWeighted"}.get(name)
    if kind is None:
        raise ValueError(f"The file is damaged: format 0 has no objective {name!r}.")
    if kind == "ELBO":
        taken += ["free_bits", "mean_of_draws"]
    else:
        config.pop("free_bits", None)
        config.pop("mean_of_draws", None)
    arguments = {name: config.pop(name) for name in taken if name in config}
    config["objective"] = {
        "module": None,
        "class_name": kind,
        "config": arguments,
        "registered_name": f"kvae>{kind}",
    }
    return config
