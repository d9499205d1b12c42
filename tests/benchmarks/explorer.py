"""Explorer: how long a page of `kvae explore` takes to decode, its frames a second; its pictures.

    python tests/benchmarks/explorer.py                      # of every model that comes with kvae
    python tests/benchmarks/explorer.py mine.html            # of pages that are there
    python tests/benchmarks/explorer.py mnist --draw saved_models/gallery

In a headless Chromium (`apt-get install chromium`), without a graphics card. A decode is the mean
of 50, each asked for once the one before has come: in the Worker, where convolutions run in
WebAssembly, and in the page with plain JavaScript. Frames are those that showed another image while
a finger was dragged for three seconds, and the pictures that were drawn in them.
"""

import argparse
import io
import pathlib
import shutil
import subprocess
import tempfile

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from kvae.shipped import SHIPPED

DECODE = """async () => {
    const { runner, state: { z, context } } = page;
    const timed = async (decode) => {
        for (let i = 0; i < 20; i++) await decode();
        const started = performance.now();
        for (let i = 0; i < 50; i++) await decode();
        return (performance.now() - started) / 50;
    };
    const model = new Model(page.data.model, fromBase64(page.data.weights), true);
    const asked = await timed(() => runner.ask("decode", z, context));
    return [asked, await timed(() => model.decode(z, context))];
}"""
DRAG = """() => new Promise((resolve) => {
    const { bounds } = page.plane, own = page.drawPicture, started = performance.now();
    let frames = 0, pictures = 0;
    page.drawPicture = async function () { await own.call(page); pictures++; };
    const move = (now) => {
        const turn = (now - started) / 500;
        frames++;
        page.map.to([Math.cos(turn), Math.sin(turn)].map((at, axis) => {
            const [low, high] = bounds[axis];
            return (low + high) / 2 + (at * (high - low)) / 4;
        }));
        const seconds = (performance.now() - started) / 1000;
        if (seconds < 3) requestAnimationFrame(move);
        else resolve([frames / seconds, pictures / seconds]);
    };
    requestAnimationFrame(move);
})"""
SEVEN = [(80, 70), (120, 72), (160, 70), (200, 72), (185, 110), (165, 150), (150, 190), (138, 230)]


def main() -> None:
    """Measures, or draws."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pages", nargs="*", default=SHIPPED, help="pages, or models")
    parser.add_argument("--draw", type=pathlib.Path, help="a folder for explorer.png and .gif")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        chromium = shutil.which("chromium") or shutil.which("chromium-browser")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for name in arguments.pages:
            path = pathlib.Path(name)
            if path.suffix != ".html":
                path = pathlib.Path(folder) / f"{name}.html"
                subprocess.run(["kvae", "explore", name, "--out", path], check=True)
            page = browser.new_page(viewport={"width": 1080, "height": 720})
            page.goto(path.resolve().as_uri())
            page.evaluate("ready.then((page) => { window.page = page; })")
            settle(page)
            if arguments.draw:
                draw(page, arguments.draw)
            else:
                asked, plain = page.evaluate(DECODE)
                frames, pictures = page.evaluate(DRAG)
                print(
                    f"{path.stem}: {path.stat().st_size / 1e6:.1f} MB, {asked:.1f} ms a decode "
                    f"({plain:.1f} ms in plain JavaScript), {frames:.0f} frames a second, "
                    f"{pictures:.0f} pictures"
                )
            page.close()


def settle(page: Page) -> None:
    """Waits until all that was asked for is drawn."""
    while page.evaluate("page.busy"):
        page.wait_for_timeout(20)


def draw(page: Page, folder: pathlib.Path) -> None:
    """Saves how the page is used as a GIF, and most of it as a picture."""
    page.evaluate("by('planes').scrollIntoView(); scrollBy(0, -20)")
    frames = list(dragged(page))
    page.evaluate("by('own').scrollIntoView()")
    frames += drawn(page)
    durations = [110] * (len(frames) - 1) + [1500]
    frames[0].save(
        folder / "explorer.gif",
        save_all=True,
        append_images=frames[1:],
        duration=durations,
        loop=0,
        optimize=True,
    )
    page.evaluate("scrollTo(0, 0)")
    below = page.locator("#training").bounding_box()["y"]
    picture = {"x": 0, "y": 0, "width": 1080, "height": below}
    page.screenshot(path=folder / "explorer.png", full_page=True, clip=picture)


def dragged(page: Page):
    """Frames of a drag from one image over the map to another."""
    stops = page.evaluate("page.plane.places.slice(0, 6).map((place) => page.map.pixel(place))")
    box = page.locator("#plane").bounding_box()
    (x, y), *others = [(box["x"] + x, box["y"] + y) for x, y in stops]
    page.mouse.move(x, y)
    page.mouse.down()
    for to_x, to_y in others:
        for step in range(1, 6):
            page.mouse.move(x + (to_x - x) * step / 5, y + (to_y - y) * step / 5)
            yield taken(page)
        x, y = to_x, to_y
    page.mouse.up()


def drawn(page: Page):
    """Frames in which a seven is drawn."""
    box = page.locator("#paper").bounding_box()
    for i, (x, y) in enumerate(SEVEN):
        page.mouse.move(box["x"] + x, box["y"] + y)
        if i == 0:
            page.mouse.down()
        yield taken(page)
    page.mouse.up()
    page.mouse.move(box["x"] + 400, box["y"] + 10)
    yield taken(page)


def taken(page: Page) -> Image.Image:
    """A frame, in the same few colours as the others: what changes between two should be little."""
    settle(page)
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    picture = picture.resize((picture.width * 2 // 3, picture.height * 2 // 3))
    return picture.quantize(palette=palette(page), dither=Image.Dither.NONE)


def palette(page: Page) -> Image.Image:
    """Greys, and the colours of the classes, full and faint."""
    colours = [(grey, grey, grey) for grey in range(0, 256, 9)] + [(251, 250, 247), (47, 98, 196)]
    for text in page.evaluate("PALETTE"):
        full = tuple(int(text[at : at + 2], 16) for at in (1, 3, 5))
        colours += [
            tuple(round(255 + share * (one - 255)) for one in full)
            for share in (1, 0.78, 0.5, 0.25)
        ]
    picture = Image.new("P", (1, 1))
    picture.putpalette([one for colour in colours for one in colour])
    return picture


if __name__ == "__main__":
    main()
