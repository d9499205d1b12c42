"""A page of the explorer as a guest: of strangers' names, of small screens, of the network."""

import http.server
import re
import threading

import keras
import pytest
from explorers import bars, drag, pixels, settled, until, vae_of
from keras import layers
from marks import once

import kvae
from kvae.explorer.template import ENGINE, PAGE, script_of

pytestmark = once
HOSTILE = "<img src=x onerror=alert(1)></script><script>alert(2)</script>"


@pytest.fixture(scope="module")
def vae():
    return vae_of(classes=3)


@pytest.fixture(scope="module")
def explorer(vae):
    history = {"loss": [3.0, 2.0, float("nan")], "kl": [2.0, 1.0, *[float("nan")] * 40]}
    return kvae.explore(vae, bars(), history=history)


def test_only_the_status_is_read_aloud(opened, explorer):
    page = opened(explorer)
    alive = page.locator("output, [aria-live], [role=status]")
    assert alive.count() == 1 and alive.get_attribute("id") == "status"


def test_names_of_strangers_are_text(opened, vae):
    names = [HOSTILE, "שלום עולם", "‮txt"]
    own = vae.card
    vae.card = {**own, HOSTILE: HOSTILE, "nested": {HOSTILE: [HOSTILE]}}
    page = opened(kvae.explore(vae, bars(names=names), title=HOSTILE))
    vae.card = own
    assert page.inner_text("#title") == HOSTILE
    assert page.locator("main img, main script").count() == 0
    assert HOSTILE in page.locator("#card").text_content()
    assert HOSTILE in page.locator("#legend").text_content()


ASK = """async (address) => {
    const image = new Image();
    const answered = new Promise((done) => { image.onload = image.onerror = done; });
    image.src = address + "image";
    await answered;
    await fetch(address + "fetch", { mode: "no-cors" }).catch(() => {});
    await fetch("data:,x").then(() => { window.fetched = true; }).catch(() => {});
    const script = document.createElement("script");
    script.textContent = "window.ran = true";
    document.body.append(script);
    return [Boolean(window.fetched), Boolean(window.ran)];
}"""


@pytest.mark.parametrize("policy", [True, False])
def test_only_the_policy_keeps_a_page_from_the_network(browser, explorer, tmp_path, policy):
    """Without it the same page asks a server, and runs a script that is put into it."""
    asked = []

    class Server(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    page_text = explorer.page
    if not policy:
        page_text = re.sub('<meta http-equiv="Content-Security-Policy"[^>]*>', "", page_text)
    (tmp_path / "explorer.html").write_text(page_text, encoding="utf-8")
    page = browser.new_page()
    page.goto((tmp_path / "explorer.html").as_uri())
    got = page.evaluate(ASK, f"http://127.0.0.1:{server.server_port}/")
    page.close()
    server.shutdown()
    server.server_close()
    assert sorted(asked) == ([] if policy else ["/fetch", "/image"])
    assert got == [not policy, not policy]


def test_no_text_is_run_or_becomes_html():
    source = script_of(ENGINE) + script_of(PAGE)
    for word in ("eval(", "new Function", "innerHTML", "outerHTML", "document.write", "fetch("):
        assert word not in source, word


@pytest.mark.parametrize("settings", [{"width": 320}, {"color_scheme": "dark"}])
def test_small_and_dark_screens_show_all_of_it(opened, explorer, settings):
    page = opened(explorer, **{k: v for k, v in settings.items() if k != "width"})
    page.set_viewport_size({"width": settings.get("width", 1200), "height": 640})
    widths = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert widths[0] <= widths[1]
    assert not page.evaluate(
        """Array.from(document.querySelectorAll("input, select"))
            .filter((one) => !one.labels.length && !one.ariaLabel).map((one) => one.id)"""
    )
    scrolls = "(id) => getComputedStyle(document.querySelector(id)).touchAction"
    assert page.evaluate(scrolls, "#picture") == "auto"
    assert page.evaluate(scrolls, "#plane") == "none"


@keras.saving.register_keras_serializable("test_explorer_page")
class Twice(layers.Layer):
    """A layer that graphs do not know."""

    def call(self, x):
        return 2 * x


def test_what_cannot_run_is_computed_beforehand_and_the_page_says_so(opened):
    vae = vae_of("mlp-400")
    inputs = keras.Input((4,))
    decoder = keras.Model(inputs, vae.decoder(Twice(name="twice")(inputs)))
    page = opened(kvae.explore(kvae.VAE(vae.encoder, decoder), bars()))
    assert "twice is a Twice" in page.inner_text("#notes")
    drag(page, "#plane", (40, 40), (60, 60))
    assert pixels(page, "picture").max() > 0
    for part in ("#one-by-one", "#new", "#way"):
        assert not page.locator(part).is_visible()
    drag(page, "#paper", (60, 40), (60, 240))
    assert page.inner_text("#own-facts") == "nearest test images"


def test_a_task_that_fails_does_not_stop_the_others(browser, explorer, tmp_path):
    explorer.save(tmp_path / "explorer.html")
    page = browser.new_page()
    page.goto((tmp_path / "explorer.html").as_uri())
    page.evaluate("ready.then((page) => { window.page = page; })")
    settled(page)
    page.evaluate("page.queue.put('look', [() => page.runner.ask('nothing')])")
    page.evaluate("page.queue.put('own', [() => { window.done = true; }])")
    until(page, "window.done")
    page.close()


def test_a_page_that_cannot_start_says_so(browser, explorer, tmp_path):
    text = explorer.page.replace('"class_names":', '"other":', 1)
    (tmp_path / "explorer.html").write_text(text, encoding="utf-8")
    page = browser.new_page()
    page.goto((tmp_path / "explorer.html").as_uri())
    until(page, "!by('failed').hidden")
    page.close()


def test_the_frame_of_a_notebook_works_too(browser, explorer):
    page = browser.new_page()
    complaints = []
    page.on("console", lambda message: complaints.append(message.text))
    page.set_content(explorer._repr_html_())
    frame = page.frames[1]
    frame.evaluate("ready.then((page) => { window.page = page; })")
    settled(frame)
    assert not frame.locator("#link").is_visible()
    assert frame.evaluate("by('picture').width") == 12
    page.close()
    assert complaints == []
