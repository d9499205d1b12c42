"""Recipe: all settings of a run, each with its default and help text."""

import dataclasses
import difflib
import math
import numbers
import re
from collections.abc import Mapping
from typing import Any

__all__ = ["OWNED", "Recipe"]

# Where a setting has no bound of its own: no run is so long, and float32 holds the square root of
# a number well beyond.
MOST = {int: 10**12, float: 1e30}
LONGEST_SIDE = 2**16  # pixels
LONGEST = 200  # letters of a value in a message


def setting(default: Any, help: str, **rules: Any) -> Any:
    """Makes a field of the recipe.

    Args:
        default: Default value, which is that of the preset mlp. None: chosen by the data.
        help: Help text, one line.
        **rules: `kind`, the type, if it is not that of the default; `choices`; `least` (inclusive),
            `above` (exclusive) and `most`; `option`, whether the command has it; `varies`, whether
            presets differ in it; `shown`, the default in the help.
    """
    rules = {"kind": type(default), "option": True, **rules}
    if isinstance(default, dict):
        return dataclasses.field(default_factory=default.copy, metadata={"help": help, **rules})
    return dataclasses.field(default=default, metadata={"help": help, **rules})


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Recipe:
    """All settings of a run: how a model is built and trained.

    A preset is a recipe. `kvae.train` takes a recipe, with fields replaced if wanted, and the card
    of a model keeps the recipe of its training. All values are plain, as JSON types.

    Raises:
        ValueError: If a value is invalid.

    Example:
        >>> import kvae
        >>> recipe = kvae.Recipe(epochs=10, beta=4)
        >>> recipe.replaced(latent_dim=2).latent_dim
        2
        >>> kvae.Recipe.from_card({"recipe": recipe.as_dict()}) == recipe
        True
    """

    preset: str = setting("mlp", "Name of the preset that the recipe started from.", option=False)

    # The model
    network: str = setting(
        "mlp",
        "Network family: a key of kvae.networks.NETWORKS.",
        choices=("mlp", "conv", "spatial", "dense", "pooled", "resnet", "ladder"),
        option=False,
    )
    network_arguments: Mapping[str, Any] = setting(
        {}, "Arguments of the network: widths, depths, channels.", option=False
    )
    latent_dim: int | None = setting(
        None,
        "Number of latents.",
        kind=int,
        least=1,
        varies=True,
        shown="40; a ladder has the latents of its groups",
    )
    likelihood: str = setting(
        "auto",
        "Likelihood of the pixels, p(x|z). auto: bernoulli for black-and-white images and for "
        "strokes such as MNIST's, logistic-mixture for other 8-bit images, else gaussian.",
        choices=(
            *("auto", "bernoulli", "continuous-bernoulli", "gaussian"),
            *("discretized-logistic", "logistic-mixture"),
        ),
        varies=True,
    )
    binarize: str | None = setting(
        None,
        "How a Bernoulli likelihood binarises grey pixels. dynamic: sample them at each step; "
        "threshold: cut them at 0.5; none: keep grey values as soft targets.",
        kind=str,
        varies=True,
        shown="dynamic",
        choices=("dynamic", "threshold", "none"),
    )
    scale: str | float | None = setting(
        None,
        "Scale of a Gaussian likelihood. pixel: learn one for each pixel; shared: learn one for "
        "all pixels; a number: fix it.",
        kind=str,
        choices=("pixel", "shared"),
        above=1e-6,
        varies=True,
        shown="pixel",
    )
    prior: str = setting(
        "real-nvp",
        "Prior over the latents: standard normal, a learned RealNVP flow, or a learned mixture of "
        "Gaussians.",
        choices=("standard-normal", "real-nvp", "mixture"),
        varies=True,
    )
    couplings: int | None = setting(
        10, "Number of coupling layers of a RealNVP prior.", least=1, option=False
    )
    components: int | None = setting(
        None, "Number of Gaussians of a mixture prior.", kind=int, least=1, shown="10"
    )

    conditional: bool = setting(
        False,
        "Condition the model on the class of each image. It can then generate images of a class.",
    )

    # The objective
    objective: str = setting(
        "elbo",
        "Training loss. elbo: −ELBO; iwae: the importance-weighted bound of --samples draws; tc: "
        "β-TCVAE, which weights the total correlation; mmd: InfoVAE, which adds the maximum mean "
        "discrepancy; capacity: β-VAE with the KL held at a capacity; dip: DIP-VAE, which "
        "penalises correlated latents.",
        choices=("elbo", "iwae", "tc", "mmd", "capacity", "dip"),
    )
    beta: float | None = setting(
        None,
        "Weight of the KL term. With tc it weights the total correlation, with capacity the "
        "distance of the KL from the capacity.",
        kind=float,
        least=0,
        shown="1; 6 with tc, 1000 with capacity",
    )
    kl_warmup: float = setting(
        0.15, "Share of all updates over which beta rises from 0.", least=0, option=False
    )
    fine_beta: float = setting(
        1.0,
        "With latents in groups, factor on the KL weight of all groups after the first, at the "
        "start of training.",
        least=0,
        option=False,
    )
    fine_warmup: float = setting(
        0.0, "Share of all updates over which that factor goes to 1.", least=0, option=False
    )
    free_bits: float = setting(
        0.0, "Nats of KL per latent that the training loss does not penalise.", least=0
    )
    samples: int | None = setting(
        None,
        "Number of draws of z per image.",
        kind=int,
        least=1,
        shown="1; 10 with iwae",
    )
    estimate: str | None = setting(
        None,
        "How tc estimates the aggregate posterior from a batch. stratified: unbiased; "
        "weighted: equation S4 of its paper.",
        kind=str,
        choices=("stratified", "weighted"),
        shown="stratified",
    )
    mmd_weight: float | None = setting(
        None, "Weight of the discrepancy in mmd.", kind=float, least=0, shown="1000"
    )
    bandwidth: float | None = setting(
        None, "Bandwidth of the kernel in mmd, per latent.", kind=float, above=0, option=False
    )
    capacity: float | None = setting(
        None, "Final value of the capacity of the KL, in nats.", kind=float, least=0, shown="25"
    )
    capacity_rise: float = setting(
        0.5, "Share of all updates over which the capacity rises from 0.", least=0, option=False
    )
    covariance_of: str | None = setting(
        None,
        "Covariance in dip. means: of the posterior means (DIP-VAE-I); draws: of z (DIP-VAE-II).",
        kind=str,
        choices=("means", "draws"),
        shown="means",
    )
    off_diagonal: float | None = setting(
        None,
        "Weight of the off-diagonal covariances in dip.",
        kind=float,
        least=0,
        shown="10",
    )
    diagonal: float | None = setting(
        None, "Weight of the variances in dip.", kind=float, least=0, option=False
    )
    mean_of_draws: int = setting(
        1,
        "Use the mean of N draws as z. With 2 or more the loss is not a bound; some published "
        "figures are computed this way.",
        least=1,
    )

    # Training
    epochs: int | None = setting(
        None,
        "Number of epochs.",
        kind=int,
        least=1,
        varies=True,
        shown="5 or 10, more on small data sets",
    )
    least_epochs: int = setting(
        10,
        "Minimum number of epochs, where `epochs` is not given.",
        least=1,
        option=False,
    )
    least_updates: int = setting(
        3_000,
        "Minimum number of updates, where `epochs` is not given.",
        least=1,
        option=False,
    )
    batch_size: int = setting(64, "Number of images per update.", least=1, varies=True)
    optimizer: str = setting(
        "adam",
        "Optimizer. On grey images, muon needs fewer updates than adam; each takes longer.",
        choices=("adam", "muon"),
        varies=True,
    )
    learning_rate: float = setting(
        3e-3, "Peak learning rate of the optimizer.", above=0, varies=True
    )
    schedule: str = setting(
        "cosine",
        "Learning-rate schedule. cosine: cosine decay after a warm-up; constant; plateau: halve "
        "it when the validation loss stalls.",
        choices=("cosine", "constant", "plateau"),
        option=False,
    )
    warmup: float = setting(
        0.05, "Share of all updates over which the cosine schedule warms up.", least=0, option=False
    )
    least_warmup: int = setting(
        0,
        "Minimum number of updates of the warm-up, but at most half of all updates.",
        least=0,
        option=False,
    )
    clip_norm: float | None = setting(
        200.0, "Maximum global norm of the gradients.", above=0, option=False
    )
    beta_2: float = setting(
        0.999,
        "Decay rate of Adam's second-moment estimate: 0.95 averages about the last 20 updates.",
        above=0,
        most=0.9999,
        option=False,
    )
    averaged: float = setting(
        0.0,
        "Share of all updates that the moving average of the weights covers; 0: no average.",
        least=0,
        option=False,
    )
    start_at_mean: bool = setting(
        True, "Whether the untrained decoder outputs the mean training image.", option=False
    )
    seed: int = setting(
        0,
        "Random seed of the weights, the order of images, and all draws.",
        least=0,
        most=2**31 - 1,
    )
    precision: str | None = setting(
        None,
        "Floating-point precision; losses are always computed in float32.",
        kind=str,
        choices=("float32", "mixed_bfloat16", "mixed_float16"),
        shown="float32",
    )

    # The data
    image_size: str | int | tuple[int, int] | None = setting(
        None,
        "Image size in pixels: a side such as 64, or width and height such as 64x48.",
        kind="size",
        shown="the size of most images, else a square of up to 64",
    )
    fit: str | None = setting(
        None,
        "How to fit images of another aspect ratio: crop, pad or stretch.",
        kind=str,
        choices=("crop", "pad", "stretch"),
        shown="crop",
    )
    channels: str | None = setting(
        None,
        "Colour channels of the images.",
        kind=str,
        choices=("grey", "rgb", "rgba"),
        shown="grey if all images are grey, else rgb",
    )
    background: str | None = setting(
        None,
        "Background of transparent images: white, black, or a colour such as #ff8800.",
        kind=str,
        shown="white; black if the drawing is nearly white",
    )
    flat: bool = setting(
        False, "Read all images as one set without classes: ignore folder names and tables."
    )
    skip_bad: bool = setting(False, "Skip files that cannot be read, and list them.")
    largest: int | None = setting(
        None,
        "Maximum side in pixels; larger images are shrunk to it.",
        kind=int,
        least=1,
        option=False,
    )
    per_class: int | None = setting(
        None, "Number of training images per class; all if not given.",
        kind=int, least=1, option=False,
    )  # fmt: skip

    def __post_init__(self) -> None:
        """Checks each value, and converts numbers to one type."""
        for field in dataclasses.fields(Recipe):
            object.__setattr__(self, field.name, checked(field, getattr(self, field.name)))

    def __eq__(self, other: Any) -> Any:
        """Whether all settings are equal; a preset equals its recipe."""
        return isinstance(other, Recipe) and self.as_dict() == other.as_dict()

    def __hash__(self) -> int:
        """Equal recipes have equal hashes."""
        return hash(repr(self.as_dict()))

    def replaced(self, **changes: Any) -> "Recipe":
        """Returns a recipe with other values; None keeps a value.

        If another likelihood, prior, objective or network is chosen, the settings of the former one
        are reset. An objective that needs independent latents also selects a prior with independent
        latents.

        Raises:
            ValueError: If there is no such setting, or a value is invalid.
        """
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(Recipe)}
        changes = {name: value for name, value in changes.items() if value is not None}
        for name in changes:
            if name not in values:
                near = difflib.get_close_matches(name, values, n=1)
                hint = f" Did you mean `{near[0]}`?" if near else ""
                raise ValueError(f"A recipe has no setting `{name}`.{hint}")
        if changes.get("objective", values["objective"]) != values["objective"]:
            if changes["objective"] in FACTORISED:
                changes = {"prior": "standard-normal", **changes}
        for name, owned in OWNED.items():
            if changes.get(name, values[name]) != values[name]:
                values |= owned
        return Recipe(**{**values, **changes})

    @property
    def likelihood_arguments(self) -> dict[str, Any]:
        """The arguments of `kvae.likelihoods.get`."""
        return without_none({"binarize": self.binarize, "scale": self.scale})

    @property
    def prior_arguments(self) -> dict[str, Any]:
        """The arguments of `kvae.priors.get`."""
        return without_none({"couplings": self.couplings, "components": self.components})

    @property
    def objective_arguments(self) -> dict[str, Any]:
        """The arguments of `kvae.objectives.get`, without warm-up steps, which need the data."""
        found = {name: getattr(self, name) for name in OWNED["objective"]}
        found["fine_beta"] = self.fine_beta if self.fine_beta != 1 else None
        found["free_bits"] = self.free_bits or None
        found["mean_of_draws"] = self.mean_of_draws if self.mean_of_draws > 1 else None
        for share in ("fine_warmup", "capacity_rise"):
            del found[share]
        return without_none(found)

    @property
    def reading(self) -> dict[str, Any]:
        """The arguments of `kvae.data.load`: how pictures become images."""
        names = ("image_size", "fit", "channels", "background", "flat", "skip_bad")
        return {name: getattr(self, name) for name in names}

    def as_dict(self) -> dict[str, Any]:
        """All values by name, as JSON types."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(Recipe)}
        return {name: plain(value) for name, value in values.items()}

    def _repr_html_(self) -> str:
        """A table for a notebook: values that differ from the default, and below it the others."""
        # Not at the top: the command reads the fields from this file alone, without Keras.
        from kvae.markup import folded, section, table

        fields = {field.name: field for field in dataclasses.fields(Recipe)}
        usual, own = Recipe().as_dict(), self.as_dict()
        rows = {
            name: (name, "" if value is None else value, fields[name].metadata["help"])
            for name, value in own.items()
        }
        changed = [rows[name] for name in rows if own[name] != usual[name]]
        others = [rows[name] for name in rows if own[name] == usual[name]]
        title = f"Recipe, from the preset {self.preset}"
        rest = folded(f"{len(others)} settings at their default", table(others))
        return section(title, table(changed) if changed else "", rest)

    def differences(self, other: "Recipe") -> dict[str, tuple[Any, Any]]:
        """The settings in which two recipes differ: both values by name."""
        mine, others = self.as_dict(), other.as_dict()
        return {name: (mine[name], others[name]) for name in mine if mine[name] != others[name]}

    @classmethod
    def from_card(cls, card: Mapping[str, Any]) -> "Recipe":
        """Returns the recipe with which a model was trained.

        Args:
            card: The card of a model: `vae.card`.

        Raises:
            ValueError: If the card has no recipe, or one of a later version of kvae.
        """
        if not (isinstance(card, Mapping) and isinstance(card.get("recipe"), Mapping)):
            raise ValueError("The model's card has no recipe: kvae.train did not make it.")
        values = dict(card["recipe"])
        unknown = values.keys() - {field.name for field in dataclasses.fields(Recipe)}
        if unknown:
            raise ValueError(
                f"The model's recipe has settings that this version of kvae does not know: "
                f"{', '.join(sorted(unknown))}."
            )
        return Recipe(**values)


# Objectives that need a prior with independent latents.
FACTORISED = ("tc", "dip")

# Settings that are reset when the setting they belong to changes.
OWNED: dict[str, dict[str, Any]] = {
    "objective": {
        **dict.fromkeys(("beta", "samples", "estimate", "mmd_weight", "bandwidth", "capacity")),
        **dict.fromkeys(("covariance_of", "off_diagonal", "diagonal")),
        **{"fine_beta": 1.0, "fine_warmup": 0.0, "capacity_rise": 0.5},
    },
    "likelihood": {"binarize": None, "scale": None},
    "prior": {"couplings": None, "components": None},
    "network": {"network_arguments": {}},
}


def checked(field: dataclasses.Field, value: Any) -> Any:
    """Returns the value of a setting, or raises a ValueError that says what is expected."""
    rules: Mapping[str, Any] = field.metadata
    kind, choices = rules["kind"], rules.get("choices")
    if value is None and "None" in str(field.type):
        return None
    if kind is dict and isinstance(value, Mapping):
        return fixed(value)
    if kind == "size" and (size := as_size(value)) is not None:
        return size
    if kind is bool and isinstance(value, bool):
        return value
    if choices and isinstance(value, str) and value in choices:
        return value
    if (kind in (int, float) or "above" in rules) and is_number(value, whole=kind is int):
        low, high = rules.get("least", -math.inf), most(rules)
        if low <= value <= high and value > rules.get("above", -math.inf):
            return int(value) if kind is int else float(value)
    if kind is str and not choices and isinstance(value, str):
        return value
    if is_number(value, whole=False) and value > most(rules):
        rules = {**rules, "most": most(rules)}
    came = repr(value)
    came = came if len(came) <= LONGEST else f"{came[:LONGEST]}…"
    raise ValueError(f"`{field.name}` must be {described(rules)}. Received: {field.name}={came}")


def as_size(value: Any) -> tuple[int, int] | None:
    """Converts a side, a pair, or a text with the width first, to (height, width); or None."""
    if isinstance(value, str) and (found := re.fullmatch(r"(\d{1,6})(?:[x×](\d{1,6}))?", value)):
        value = (int(found[2] or found[1]), int(found[1]))
    pair = (value, value) if is_number(value, whole=True) else value
    if isinstance(pair, (tuple, list)) and len(pair) == 2:
        if all(is_number(side, whole=True) and 1 <= side <= LONGEST_SIDE for side in pair):
            return int(pair[0]), int(pair[1])
    return None


def most(rules: Mapping[str, Any]) -> float:
    """The largest number that a setting may be."""
    return rules.get("most", MOST[int if rules["kind"] is int else float])


def is_number(value: Any, whole: bool) -> bool:
    """Whether the value is a finite number, or an integer."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return False
    if isinstance(value, numbers.Integral):  # may be too large for a float
        return True
    return math.isfinite(value) and (not whole or value == math.floor(value))


def described(rules: Mapping[str, Any]) -> str:
    """Describes the expected value, in words."""
    ways = []
    if "choices" in rules:
        ways.append(f"one of {', '.join(map(repr, rules['choices']))}")
    if rules["kind"] is dict:
        ways.append("a dict")
    if rules["kind"] is bool:
        ways.append("True or False")
    if rules["kind"] == "size":
        ways.append("a side in pixels, (height, width), or a text such as '64x48', width first")
    if rules["kind"] is str and not ways:
        ways.append("a text")
    if rules["kind"] in (int, float) or "above" in rules:
        noun = "an integer" if rules["kind"] is int else "a finite number"
        bounds = [f"of at least {rules['least']}"] if "least" in rules else []
        bounds += [f"above {rules['above']}"] if "above" in rules else []
        bounds += [f"at most {rules['most']}"] if "most" in rules else []
        ways.append(f"{noun} {' and '.join(bounds)}".strip())
    return " or ".join(ways)


def without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values that are not None."""
    return {name: value for name, value in values.items() if value is not None}


class Arguments(dict):
    """A dict that cannot be changed, because presets are shared."""

    def refuse(self, *_: Any, **__: Any) -> Any:
        """Raises an error that says what to do instead."""
        raise TypeError("A recipe cannot be changed: `recipe.replaced(…)` makes another.")

    __setitem__ = __delitem__ = __ior__ = update = setdefault = pop = popitem = clear = refuse  # type: ignore[assignment]

    def __reduce__(self) -> Any:
        """Supports copies and pickles."""
        return Arguments, (dict(self),)


def fixed(value: Any) -> Any:
    """Makes plain values immutable."""
    if isinstance(value, Mapping):
        return Arguments({name: fixed(part) for name, part in value.items()})
    return tuple(map(fixed, value)) if isinstance(value, (list, tuple)) else value


def plain(value: Any) -> Any:
    """Converts plain values to JSON types: lists for tuples."""
    if isinstance(value, Mapping):
        return {name: plain(part) for name, part in value.items()}
    return list(map(plain, value)) if isinstance(value, (list, tuple)) else value
