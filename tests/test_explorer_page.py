"""A page of the explorer in use, in a Chromium where there is one: its hands."""

import re

import keras
import numpy as np
import pytest
from explorers import NAMES, bars, drag, pixels, settled, until, vae_of
from marks import once
from PIL import Image

import kvae

pytestmark = once


@pytest.fixture(scope="module")
def vae():
    """A model whose images differ, as those of first weights hardly do."""
    vae = vae_of()
    rng = np.random.default_rng(0)
    for weight in vae.decoder.weights:
        weight.assign_add(0.1 * rng.standard_normal(weight.shape))
    return vae


@pytest.fixture(scope="module")
def explorer(vae):
    history = {"loss": [3.0, 2.0, float("nan")], "kl": [2.0, 1.0, *[float("nan")] * 40]}
    return kvae.explore(vae, bars(), history=history)


@pytest.fixture(scope="module")
def told():
    return vae_of(classes=3)


@pytest.fixture(scope="module")
def conditional(told):
    return kvae.explore(told, bars())


def link(page):
    """The state, as the link tells it."""
    return dict(part.split("=", 1) for part in page.evaluate("location.hash")[1:].split("&"))


def z_of(page):
    return np.array([page.evaluate("Array.from(page.state.z)")], "float32")


def press(page, where, key):
    """Presses a key on the first element of these."""
    page.locator(where).first.focus()
    page.keyboard.press(key)
    settled(page)


NO_WORKER = "Object.defineProperty(window, 'Worker', { value: undefined })"


@pytest.mark.parametrize("before", ["", NO_WORKER], ids=["worker", "no worker"])
def test_the_image_under_the_finger_changes_and_is_what_keras_decodes(
    opened, vae, explorer, before
):
    page = opened(explorer, before=before)
    assert page.evaluate("Boolean(page.runner.worker)") != bool(before)
    assert page.evaluate("Boolean(new Memory().tile)"), "its policy lets no WebAssembly pass"
    first = pixels(page, "picture")
    drag(page, "#plane", (30, 30), (200, 150))
    assert not np.array_equal(pixels(page, "picture"), first)
    assert np.abs(pixels(page, "picture") - 255 * vae.decode(z_of(page)).ravel()).max() < 1


@pytest.mark.parametrize("plane", [1, 2])
def test_the_finger_lies_where_the_latents_are_in_planes_with_axes(opened, explorer, plane):
    page = opened(explorer, f"#plane={plane}&pair=1,1")
    drag(page, "#plane", (100, 100), (180, 120))
    finger, place = page.evaluate("[page.map.finger, page.plane.placeOf(page.state.z)]")
    np.testing.assert_allclose(finger, place, atol=1e-3)


def test_the_same_latent_is_never_chosen_twice(opened, explorer):
    page = opened(explorer, "#plane=2&pair=0,1")
    page.locator("#across").select_option("1")
    settled(page)
    assert page.evaluate("page.planes.pair.pair") == [1, 0]


@pytest.mark.parametrize("latents", [1, 2])
def test_models_of_few_latents_have_a_plane_too(opened, latents):
    vae = vae_of("mlp-400", latent_dim=latents)
    page = opened(kvae.explore(vae, bars()))
    drag(page, "#plane", (100, 100), (180, 120))
    assert np.abs(pixels(page, "picture") - 255 * vae.decode(z_of(page)).ravel()).max() < 1
    assert page.locator("#sliders input").count() == latents
    pixels_of_points = "page.plane.places.flatMap((place) => page.map.pixel(place))"
    assert page.evaluate(f"{pixels_of_points}.every(Number.isFinite)")
    assert page.evaluate("Math.fround(page.map.finger[0]) === page.state.z[0]") or latents == 2


def test_keys_move_the_finger_and_pick_the_nearest_image(opened, explorer):
    page = opened(explorer)
    before = page.evaluate("page.map.finger[0]")
    press(page, "#plane", "Shift+ArrowRight")
    assert page.evaluate("page.map.finger[0]") > before
    until(page, "/^Near test image [0-9]+ (left|middle|right)$/.test(by('status').textContent)")
    press(page, "#plane", "Enter")
    assert re.match(r"Test image \d+, (left|middle|right), .* nats", page.inner_text("#status"))
    assert page.inner_text("#caption").startswith("the reconstruction of test image")


def test_a_point_that_is_hovered_shows_its_image_and_two_that_are_clicked_a_way(opened, explorer):
    page = opened(explorer)
    box = page.locator("#plane").bounding_box()
    picked = []
    for number in (7, 11):
        x, y = page.evaluate("(number) => page.map.pixel(page.plane.places[number])", number)
        page.mouse.move(box["x"] + x, box["y"] + y)
        picked.append(page.evaluate("page.map.hovered"))
        settled(page)
        assert "nats" in page.inner_text("#near-score")
        assert page.locator("#neighbours canvas").count() == 5
        page.mouse.click(box["x"] + x, box["y"] + y)
        settled(page)
    assert page.evaluate("page.state.marks") == picked[::-1]
    press(page, "#slide", "End")
    last = page.evaluate("Array.from(page.means[page.state.marks[1]])")
    np.testing.assert_allclose(z_of(page)[0], last, atol=1e-6)
    assert page.locator("#way canvas").count() == 9


def test_a_slider_moves_its_latent_and_the_first_says_most(opened, explorer):
    page = opened(explorer)
    first = page.evaluate("page.data.kl.indexOf(Math.max(...page.data.kl))")
    assert page.locator("#sliders input").first.get_attribute("id") == f"latent-{first}"
    before = z_of(page)[0]
    press(page, "#sliders input", "Home")
    after = z_of(page)[0]
    assert [i for i in range(4) if before[i] != after[i]] == [first] and after[first] < -3


def test_the_middle_is_what_noise_of_zero_becomes(opened):
    vae = vae_of("mlp-400", prior=kvae.RealNVP(4))
    for weight in vae.prior.weights:
        weight.assign(0.2 * np.random.default_rng(0).standard_normal(weight.shape))
    page = opened(kvae.explore(vae, bars()))
    page.locator("#middle").click()
    until(page, "by('caption').textContent === 'the middle of the prior'")
    expected = keras.ops.convert_to_numpy(vae.prior.from_noise(np.zeros((1, 4), "float32")))
    assert abs(expected).max() > 0.05
    np.testing.assert_allclose(z_of(page), expected, atol=1e-3)


def test_new_images_become_hotter_and_one_can_be_chosen_by_key(opened, explorer):
    page = opened(explorer)
    cooler = page.evaluate("Array.from(page.state.z)")
    press(page, "#samples button", "Enter")
    assert page.inner_text("#caption") == "a new image"
    assert page.evaluate("Array.from(page.state.z)") != cooler
    shown = "by('samples').children[0].firstChild.toDataURL()"
    same = "by('picture').toDataURL()"
    assert page.evaluate(shown) == page.evaluate(same)
    before = page.evaluate(shown)
    press(page, "#temperature", "Home")
    assert page.evaluate(shown) != before
    assert page.evaluate(f"{shown} === by('samples').children[1].firstChild.toDataURL()")


def test_a_link_holds_what_is_shown(opened, explorer):
    page = opened(explorer)
    press(page, "#temperature", "ArrowLeft")
    page.locator("#again").click()
    page.locator("#legend button").nth(1).click()
    press(page, "#sliders input", "Home")
    shown = pixels(page, "picture"), page.evaluate("location.hash"), link(page)
    assert shown[2]["temperature"] == "0.95" and shown[2]["seed"] == "2"
    assert shown[2]["label"] == "1"
    again = opened(explorer, shown[1])
    assert np.abs(pixels(again, "picture") - shown[0]).max() <= 2
    assert again.evaluate("location.hash") == shown[1]


@pytest.mark.parametrize(
    "where", ["#plane=9&z=a,b&marks=7,x&t=NaN&class=1e9&label=7", "#%", "#z=1&pair=9,9&class=0:2"]
)
def test_a_damaged_link_is_as_none(opened, conditional, where):
    page = opened(conditional, where)
    assert page.evaluate("[page.state.plane, page.state.label]") == [0, None]
    assert page.evaluate("page.state.context.reduce((a, b) => a + b)") == 1


def test_what_is_drawn_is_encoded_and_decoded(opened, vae, explorer):
    page = opened(explorer)
    drag(page, "#paper", (60, 40), (60, 240))
    seen = pixels(page, "seen").reshape(1, 12, 12, 1)
    assert seen[0, :, 2].max() == 255 and seen[0, :, 8:].max() == 0
    np.testing.assert_allclose(z_of(page), vae.encode(seen.astype("uint8"))[0], atol=2e-3)
    assert page.locator("#own-near canvas").count() == 5
    assert page.inner_text("#caption") == "the reconstruction of your image"
    until(page, "by('status').textContent.startsWith('Your image')")


def test_ink_shows_on_paper_of_any_colour(opened):
    data = bars()
    light = kvae.data.from_arrays(255 - data.train, test=255 - data.test)
    page = opened(kvae.explore(vae_of("mlp-400"), light))
    drag(page, "#paper", (60, 40), (60, 240))
    seen = pixels(page, "seen").reshape(12, 12)
    assert seen[:, 2].min() == 0 and seen[:, 8:].min() == 255


def test_a_file_that_is_dropped_or_chosen_is_encoded(opened, explorer, tmp_path):
    page = opened(explorer)
    Image.fromarray(bars().train[1, ..., 0]).resize((120, 120), 0).save(tmp_path / "bar.png")
    page.set_input_files("#file", tmp_path / "bar.png")
    until(page, "by('seen').clientWidth > 0 && !page.busy")
    chosen = pixels(page, "seen")
    assert chosen.max() == 255
    page.locator("#clear").click()
    settled(page)
    assert pixels(page, "seen").max() == 0
    page.evaluate(
        """async (numbers) => {
            const dataTransfer = new DataTransfer(), bytes = new Uint8Array(numbers);
            dataTransfer.items.add(new File([bytes], "bar.png", { type: "image/png" }));
            by("own").dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true }));
        }""",
        list((tmp_path / "bar.png").read_bytes()),
    )
    until(page, "page.own.paper.values().some((value) => value > 0) && !page.busy")
    assert np.array_equal(pixels(page, "seen"), chosen)
    (tmp_path / "no.png").write_text("no picture")
    page.set_input_files("#file", tmp_path / "no.png")
    until(page, "by('status').textContent.includes('no picture')")


def test_a_conditional_model_has_a_slider_for_the_class(opened, told, conditional):
    page = opened(conditional)
    press(page, "#class", "End")
    assert page.inner_text("#class-name") == "right"
    expected = 255 * told.decode(z_of(page), classes=[2]).ravel()
    assert np.abs(pixels(page, "picture") - expected).max() < 1
    press(page, "#class", "ArrowLeft")
    assert "middle 5 %, right 95 %" in page.locator("#class").get_attribute("aria-valuetext")


def test_the_way_between_classes_mixes_them_on_slider_and_strip(opened, conditional):
    page = opened(conditional)
    ends = page.evaluate("page.state.marks.map((mark) => page.data.classes[mark])")
    assert ends[0] != ends[1]
    press(page, "#slide", "End")
    page.evaluate("by('slide').value = 0.5; by('slide').dispatchEvent(new Event('input'))")
    settled(page)
    context = page.evaluate("Array.from(page.state.context)")
    assert [context[end] for end in ends] == [0.5, 0.5]
    middle = "by('way').children[4].toDataURL() === by('picture').toDataURL()"
    assert page.evaluate(middle)
    again = opened(conditional, page.evaluate("location.hash"))
    assert again.evaluate("Array.from(page.state.context)") == context


def test_a_new_image_that_is_chosen_stays_of_its_class(opened, conditional):
    page = opened(conditional)
    press(page, "#class", "Home")
    of = page.evaluate("by('samples').children[3].firstChild.toDataURL()")
    page.evaluate("page.classes.set(page.contextOf(2))")
    page.locator("#samples button").nth(3).click()
    settled(page)
    assert page.evaluate("by('picture').toDataURL()") == of
    assert page.inner_text("#class-name") == "left"
    assert "left" in page.inner_text("#samples-of")


def test_an_image_of_ones_own_is_of_the_likeliest_class(opened, conditional):
    page = opened(conditional)
    drag(page, "#paper", (60, 40), (60, 240))
    words = re.match("likeliest as (left|middle|right);", page.inner_text("#own-facts"))
    assert words[1] == page.inner_text("#class-name")
    scores = page.evaluate(
        """Promise.all([0, 1, 2].map((label) => page.runner.ask(
            "logProb", page.own.paper.values(), page.contextOf(label), page.own.noises)))"""
    )
    assert words[1] == NAMES[int(np.argmax(scores))]
