"""Draws the still pictures of the guide into docs/pictures: two of the exact world, one of a mapped run.

python docs/draw_pictures.py                                the pictures of chapter 13
python docs/draw_pictures.py runs/quickstart --stage policy the picture of chapter 14, of a run with a map
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from PIL import Image

from ridgeline.landscape.pictures import picture
from ridgeline.landscape.record import find_record
from ridgeline.landscape.world.settings import Settings
from ridgeline.landscape.world.terrain_file import load_terrain
from ridgeline.landscape.world.training import train

PICTURES = Path(__file__).parent / "pictures"
WIDTH = 1400
COLOURS = 256


def shrink(drawn: Path, out: Path) -> None:
    """A copy of a picture that is small enough to be kept in a repository."""
    with Image.open(drawn) as image:
        size = (WIDTH, image.height * WIDTH // image.width)
        smaller = image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    smaller.quantize(COLOURS, dither=Image.Dither.FLOYDSTEINBERG).save(out, optimize=True)


def draw_world(folder: Path) -> None:
    """PPO on gold as a block of land, and TRPO on the proxy as a series with curves."""
    ravine = load_terrain("ravine")
    train(ravine, Settings(algorithm="ppo"), 60, 5, folder / "hill")
    train(ravine, Settings(algorithm="trpo", layer="proxy"), 120, 10, folder / "hack")
    shrink(
        picture(find_record(folder / "hill"), folder / "hill.png", view="3d", layer="gold"),
        PICTURES / "hill.png",
    )
    shrink(picture(find_record(folder / "hack"), folder / "hack.png", view="frames"), PICTURES / "hack.png")


def main() -> None:
    """Draw what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", nargs="?", help="a run folder with a map; without it, the world is drawn")
    parser.add_argument("--stage", help="which of its stages")
    given = parser.parse_args()
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if given.run is None:
            draw_world(folder)
        else:
            record = find_record(given.run, given.stage)
            shrink(picture(record, folder / "map.png"), PICTURES / "map-policy.png")


if __name__ == "__main__":
    main()
