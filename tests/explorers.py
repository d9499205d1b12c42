"""Explorers for tests: small data and models, and hands for their pages."""

import numpy as np
import pytest

import kvae
from kvae.explorer.template import ENGINE, script_of

NAMES = ("left", "middle", "right")


def bars(count=300, shape=(12, 12, 1), names=NAMES, labels=True):
    """A data set of bars, of as many places as there are names."""
    rng = np.random.default_rng(0)
    places = np.arange(count) % len(names)
    images = np.zeros((count, *shape), "uint8")
    for image, place in zip(images, places, strict=True):
        image[:, 2 + 3 * place : 4 + 3 * place] = rng.integers(150, 256, shape[2])
    known = {"train_labels": places, "class_names": list(names)} if labels else {}
    return kvae.data.from_arrays(images, name="bars", **known)


def vae_of(preset="conv", shape=(12, 12, 1), latent_dim=4, **arguments):
    """A model at its first weights."""
    return kvae.VAE.from_preset(preset, shape, latent_dim=latent_dim, **arguments)


def reader_of(browser):
    """A page with the engine alone."""
    page = browser.new_page()
    page.set_content("<!doctype html>")
    page.add_script_tag(content=script_of(ENGINE))
    page.add_script_tag(content="const floats = (row) => Float32Array.from(row);")
    page.add_script_tag(content="const list = (values) => Array.from(values);")
    return page


def until(page, expression):
    """Waits until this is true; Playwright's own waiting is refused by the page's policy."""
    for _ in range(1200):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(15)
    pytest.fail(f"never true: {expression}")


def settled(page):
    """Waits until all that was asked for is drawn, and the link tells it."""
    until(page, "!page.busy")


def pixels(page, name):
    """What a canvas shows, red alone."""
    return np.array(
        page.evaluate(
            """(name) => {
                const { width, height } = by(name), context = by(name).getContext("2d");
                const { data } = context.getImageData(0, 0, width, height);
                return Array.from(data).filter((_, i) => i % 4 === 0);
            }""",
            name,
        )
    )


def drag(page, canvas, *places):
    """Draws a line over a canvas, through places in pixels from its corner."""
    page.locator(canvas).scroll_into_view_if_needed()
    box = page.locator(canvas).bounding_box()
    for i, (x, y) in enumerate(places):
        page.mouse.move(box["x"] + x, box["y"] + y, steps=3 if i else 1)
        if i == 0:
            page.mouse.down()
    page.mouse.up()
    settled(page)
