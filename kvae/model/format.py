"""Format: the number that a file carries, and how files of earlier formats are read.

What is promised: a file that a released version of kvae wrote opens in all later ones, on every
backend. A change of what stands in a file gets a new number and a way up from the one before;
`tests/files/` holds small files of each format, which are loaded for ever.
"""

from typing import Any

__all__ = ["FORMAT", "upgraded"]

FORMAT = 1


def upgraded(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration of a model, of whatever format, as this version has it.

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
    """Format 0, before 0.1.0 was released: what the objective has stood in the model."""
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
