"""Options for the settings of a recipe: made of its fields, so that each is written once."""

import dataclasses
import functools
import importlib.util
from collections.abc import Callable, Mapping
from typing import Any

import click

from .command import FiniteRange

__all__ = ["fields", "settings_options"]


def fields() -> dict[str, dataclasses.Field]:
    """The fields of `kvae.Recipe` by name."""
    return {field.name: field for field in dataclasses.fields(module().Recipe)}


@functools.cache
def module() -> Any:
    """`kvae.recipe`, from its file alone: kvae itself imports Keras."""
    package: Any = importlib.util.find_spec("kvae")
    (folder, *_) = package.submodule_search_locations
    spec: Any = importlib.util.spec_from_file_location("kvae_recipe", f"{folder}/recipe.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class ChoiceOrNumber(click.ParamType):
    """One of some words, or a positive number."""

    name = "choice or number"

    def __init__(self, choices: tuple[str, ...]) -> None:
        self.choices = choices

    def get_metavar(self, param: click.Parameter, ctx: Any = None) -> str:
        """The placeholder of the value in the help."""
        return f"[{'|'.join(self.choices)}|NUMBER]"

    def convert(self, value: Any, param: Any, ctx: Any) -> str | float:
        """The word, or the number."""
        if value in self.choices:
            return value
        try:
            return FiniteRange(min=0, min_open=True).convert(value, param, ctx)
        except click.BadParameter:
            return self.fail(f"must be {', '.join(self.choices)} or a number above 0: {value}")


def settings_options(*names: str) -> Callable[[Any], Any]:
    """Adds the options of these settings to a command, in this order; none has a default.

    What is not given the preset decides.
    """

    def add(command: Any) -> Any:
        known = fields()
        for name in reversed(names):
            command = option(known[name])(command)
        return command

    return add


class Size(click.ParamType):
    """The size of an image: a side, or width and height."""

    name = "size"

    def get_metavar(self, param: click.Parameter, ctx: Any = None) -> str:
        """The placeholder of the value in the help."""
        return "SIDE|WIDTHxHEIGHT"

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        """The text as it is, if it is a size."""
        if module().as_size(value) is None:
            return self.fail(f"must be a side such as 64, or width and height, 64x48: {value}")
        return value


def option(field: dataclasses.Field) -> Callable[[Any], Any]:
    """The option of a setting."""
    rules = field.metadata
    flag = f"--{field.name.replace('_', '-')}"
    if rules["kind"] is bool:
        return click.option(flag, is_flag=True, default=None, help=rules["help"])
    default = rules.get("shown", field.default)
    if isinstance(default, float):
        default = f"{default:g}"
    varies = "; varies by preset" if rules.get("varies") else ""
    return click.option(
        flag,
        type=type_of(rules),
        help=f"{rules['help']}  [default: {default}{varies}]",
    )


def type_of(rules: Mapping[str, Any]) -> click.ParamType:
    """The type of an option, by the rules of its setting."""
    if "choices" in rules:
        words = rules["choices"]
        return ChoiceOrNumber(words) if "above" in rules else click.Choice(words)
    if rules["kind"] == "size":
        return Size()
    if rules["kind"] is str:
        return click.STRING
    if rules["kind"] is int:
        return click.IntRange(rules.get("least"), rules.get("most"))
    return FiniteRange(rules.get("least", rules.get("above")), min_open="above" in rules)
