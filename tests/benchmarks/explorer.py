"""Explorer: how long a page of `kvae explore` takes to decode, and its frames a second.

    kvae explore mnist --out mnist.html
    python tests/benchmarks/explorer.py mnist.html …

In a headless Chromium (`apt-get install chromium`). A decode is the mean of 50, in the page's own
thread; frames are those that showed another image while a finger was dragged for three seconds.
"""

import argparse
import pathlib
import shutil

from playwright.sync_api import sync_playwright

DECODE = """() => {
    const { model, state, context } = page;
    for (let i = 0; i < 20; i++) model.decode(state.z, context);
    const started = performance.now();
    for (let i = 0; i < 50; i++) model.decode(state.z, context);
    return (performance.now() - started) / 50;
}"""
DRAG = """() => new Promise((resolve) => {
    const { bounds } = page.plane, own = page.decodeShown, started = performance.now();
    let frames = 0;
    page.decodeShown = function () { frames++; own.call(page); };
    const move = (now) => {
        const turn = (now - started) / 500;
        page.map.to([Math.cos(turn), Math.sin(turn)].map((at, axis) => {
            const [low, high] = bounds[axis];
            return (low + high) / 2 + (at * (high - low)) / 4;
        }));
        if (now - started < 3000) requestAnimationFrame(move);
        else resolve(frames / ((now - started) / 1000));
    };
    requestAnimationFrame(move);
})"""


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pages", nargs="+", type=pathlib.Path)
    arguments = parser.parse_args()
    with sync_playwright() as playwright:
        path = shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        for path in arguments.pages:
            page = browser.new_page()
            page.goto(path.resolve().as_uri())
            page.evaluate("ready.then((page) => { window.page = page; })")
            page.wait_for_timeout(3000)
            size = path.stat().st_size / 1e6
            milliseconds, frames = page.evaluate(DECODE), page.evaluate(DRAG)
            print(
                f"{path.name}: {size:.1f} MB, {milliseconds:.1f} ms a decode, "
                f"{frames:.0f} frames a second"
            )
            page.close()


if __name__ == "__main__":
    main()
