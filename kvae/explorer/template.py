"""Template: content, scripts and style as one self-contained HTML file."""

import base64
import hashlib
import html
import json
import pathlib
from collections.abc import Mapping
from typing import Any

__all__ = ["ENGINE", "PAGE", "page_of", "script_of"]

HERE = pathlib.Path(__file__).parent / "page"
# The scripts that run a model, in the page or in a Worker; and those of the page.
ENGINE = ("tensors.js", "products.js", "operations.js", "means.js", "model.js", "runner.js")
PAGE = (
    "pictures.js",
    "map.js",
    "facts.js",
    "paper.js",
    "planes.js",
    "parts.js",
    "link.js",
    "page.js",
)


def script_of(names: tuple[str, ...]) -> str:
    """The text of these scripts, one after another."""
    return "\n".join((HERE / name).read_text(encoding="utf-8") for name in names)


def page_of(content: Mapping[str, Any], title: str) -> str:
    """Makes the page, with a policy that allows only its own scripts and style.

    Args:
        content: JSON types.
        title: Title, any text.
    """
    style = (HERE / "style.css").read_text(encoding="utf-8")
    engine, script = script_of(ENGINE), script_of(PAGE)
    policy = "; ".join(
        [
            "default-src 'none'",
            # WebAssembly needs the second source; it allows nothing for JavaScript.
            f"script-src {digest(engine)} {digest(script)} 'wasm-unsafe-eval'",
            "worker-src blob:",
            f"style-src {digest(style)}",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )
    # Within a script only "<" could end it, so the JSON has none here.
    text = json.dumps(content, allow_nan=False, separators=(",", ":"))
    parts = {
        "policy": policy,
        "title": html.escape(title),
        "style": style,
        "data": text.replace("<", "\\u003c"),
        "engine": engine,
        "script": script,
    }
    before, *rest = (HERE / "page.html").read_text(encoding="utf-8").split("{{")
    filled = [before]
    for piece in rest:
        name, after = piece.split("}}", 1)
        filled += [parts[name], after]
    return "".join(filled)


def digest(text: str) -> str:
    """The hash of a script or style for a content security policy."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
