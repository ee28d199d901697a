"""Make the README's pictures, docs/pictures/*.png, from a run folder and the studio that shows it.

    python docs/screenshots.py                       # runs/quickstart, as `make demo` leaves it
    python docs/screenshots.py runs/mine --stage policy

Needs Chromium, and the front end built (`make web`). The map of the stage is made where it is missing.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

import ridgeline.studio
from ridgeline.schema.run_folder import RunFolder

OUT = Path(__file__).parent / "pictures"
CHROMIUM = "/usr/bin/chromium"
FLAGS = ["--no-sandbox", "--enable-unsafe-swiftshader", "--disable-quic", "--force-color-profile=srgb"]
LIMIT = 400_000
"""Bytes of one picture."""
SIZE = {"width": 1280, "height": 800}


def main() -> None:
    """Parse the arguments, serve the run, take the pictures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", nargs="?", type=Path, default=Path("runs/quickstart"))
    parser.add_argument("--stage", default="policy", help="a stage that samples")
    parser.add_argument("--step", type=int, help="of the map and the completions; default: the last")
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    folder = stage_folder(arguments.run, arguments.stage)
    make_map(arguments.run, arguments.stage, folder)
    arguments.out.mkdir(parents=True, exist_ok=True)
    # The list of runs is the run's own folder: one run, and nothing of the neighbours in the picture.
    studio = ridgeline.studio.launch(arguments.run, port=0, block=False)
    try:
        with sync_playwright() as running:
            browser = running.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
            take_all(browser, studio.url, f"{arguments.run.resolve().name}/{folder.name}", arguments)
            browser.close()
    finally:
        studio.close()


def stage_folder(run: Path, stage: str) -> Path:
    """The folder of the stage of that name, such as stages/06-policy."""
    for folder in RunFolder(run).stages():
        if folder.name == stage:
            return folder.path
    raise SystemExit(f"{run} has no stage {stage!r}; name a run folder and one of its stages with --stage.")


def make_map(run: Path, stage: str, folder: Path) -> None:
    """``ridgeline landscape map``, unless the stage has one."""
    if not (folder / "landscape" / "manifest.json").exists():
        command = [sys.executable, "-m", "ridgeline", "landscape", "map", str(run), "--stage", stage]
        subprocess.run(command, check=True)


def take_all(browser: Browser, url: str, where: str, arguments: argparse.Namespace) -> None:
    """The four pictures of the README."""
    step = "" if arguments.step is None else f"&step={arguments.step}"
    context = browser.new_context(
        viewport=SIZE, device_scale_factor=2, color_scheme="light", reduced_motion="reduce"
    )
    page = context.new_page()
    page.goto(url)
    origin = url.split("/?")[0]

    def show(path: str) -> None:
        page.goto(f"{origin}/{path}")
        await_ready(page)

    show("world?pin=-1.500,0.700")
    for _ in range(4):
        page.get_by_role("button", name="One step").click()
        page.wait_for_timeout(500)
    picture(page, arguments.out / "world.png")
    show("lessons/11")
    picture(page, arguments.out / "lesson.png")
    show(f"map/{where}?theme=light{step}")
    picture(page, arguments.out / "map.png")
    show(f"completions/{where}?layer=kl{step}&token=4")
    picture(page, arguments.out / "completions.png")


def await_ready(page: Page, seconds: float = 60) -> None:
    """Until the page shows what its address asks for."""
    end = time.monotonic() + seconds
    while not page.evaluate("window.__studio?.ready === true"):
        if time.monotonic() > end:
            raise SystemExit(f"{page.url} did not get ready within {seconds:.0f} s.")
        page.wait_for_timeout(50)
    page.wait_for_timeout(1500)  # fonts, formulas, and the first answers of the socket


def picture(page: Page, path: Path) -> None:
    """The window at twice its size, without focus ring and pointer, within ``LIMIT``."""
    page.evaluate("document.activeElement?.blur()")
    page.mouse.move(2, SIZE["height"] - 2)
    page.screenshot(path=path)
    with Image.open(path) as taken:
        drawn = taken.convert("RGB")
    drawn.save(path, optimize=True)
    scale = 1.0
    while path.stat().st_size > LIMIT and scale > 0.5:
        size = (round(drawn.width * scale), round(drawn.height * scale))
        reduced(drawn.resize(size, Image.Resampling.LANCZOS), tones(page)).save(path, optimize=True)
        scale -= 0.08
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


def tones(page: Page) -> list[str]:
    """The colours of the theme, as #rrggbb."""
    names = ["accent", "cool", "mint", "pin", "value", "proxy", "ink", "muted", "paper", "surface", "line"]
    style = "getComputedStyle(document.documentElement)"
    found = [page.evaluate(f"{style}.getPropertyValue('--{name}').trim()") for name in names]
    return [each for each in found if each.startswith("#")]


def reduced(drawn: Image.Image, kept: list[str]) -> Image.Image:
    """``drawn`` in 256 colours, among them the theme's own, however small what they colour."""
    seen = Image.new("RGB", (600, 500))
    seen.paste(drawn.resize((600, 400)))
    for place, colour in enumerate(kept):
        seen.paste(colour, (600 * place // len(kept), 400, 600 * (place + 1) // len(kept), 500))
    palette = seen.quantize(256, method=Image.Quantize.MEDIANCUT)
    return drawn.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)


if __name__ == "__main__":
    main()
