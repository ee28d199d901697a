"""Terrains as data: TOML files and the plain dictionary that travels to the browser and back.

name = "ravine"                      title, start, start_spread, horizon, gamma, sigma, sea_level,
route = [[x, y], ...]                and optionally goal = [x, y, radius]
[layers.gold]
bumps = [[x, y, width, height], ...]
image = "hill.png"                   or .npy, .csv beside the file, or rows of numbers, lowest y first
image_range = [0.0, 1.5]             altitude of black and of white, for a picture
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w

from ridgeline.landscape.world.terrain import LAYERS, Bump, Layer, Terrain
from ridgeline.schema.errors import DataError, UsageError, nearest

_TERRAINS = resources.files("ridgeline.landscape") / "terrains"
_REQUIRED = ("name", "title", "start", "horizon", "route", "layers")
_DEFAULTS: Mapping[str, Any] = {
    "start_spread": 0.15,
    "gamma": 1.0,
    "sigma": 0.6,
    "sea_level": 0.0,
    "goal": None,
}
_LAYER_KEYS = ("bumps", "image", "image_range")
_PICTURES = (".png",)
_MAX_BYTES = 8_000_000


def terrain_names() -> list[str]:
    """The terrains that come with the library, sorted."""
    files = (entry.name for entry in _TERRAINS.iterdir())
    return sorted(name.removesuffix(".toml") for name in files if name.endswith(".toml"))


def load_terrain(name_or_path: str | os.PathLike[str]) -> Terrain:
    """A terrain of the library by name, or one from a TOML file (anything with a / or ending in .toml).

    Raises UsageError when there is none, DataError, naming file and key, when what it says makes no sense.
    """
    text = os.fspath(name_or_path)
    if isinstance(name_or_path, str) and not text.endswith(".toml") and Path(text).name == text:
        if text not in terrain_names():
            raise UsageError(
                f"no terrain is called '{text}'; {nearest(text, terrain_names())} "
                "A file of your own needs its path, ending in .toml"
            )
        return parse_terrain((_TERRAINS / f"{text}.toml").read_text("utf-8"), f"terrain '{text}'")
    path = Path(text)
    try:
        content = path.read_text("utf-8")
    except OSError as error:
        raise UsageError(f"cannot read the terrain {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8 text; save the terrain as UTF-8") from None
    return parse_terrain(content, str(path), path.parent)


def parse_terrain(text: str, source: str = "terrain", folder: Path | None = None) -> Terrain:
    """The terrain of a TOML text. source: what errors call it. folder: where its image files are.

    Without a folder, an image has to be given as rows of numbers: a text from the network reads no file.
    """
    try:
        data = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise DataError(f"{source} is not valid TOML: {error}") from None
    return terrain_from_dict(data, source, folder)


def terrain_from_dict(
    data: Mapping[str, Any], source: str = "terrain", folder: Path | None = None
) -> Terrain:
    """The terrain of a plain dictionary, as TOML or JSON gives it; arguments as `parse_terrain`."""
    try:
        return _terrain(data, folder)
    except DataError as error:
        raise DataError(f"{source}: {error}") from None


def terrain_to_dict(terrain: Terrain) -> dict[str, Any]:
    """The plain dictionary (JSON or TOML) from which `terrain_from_dict` makes an equal terrain."""
    layers: dict[str, dict[str, Any]] = {}
    for layer in terrain.layers:
        layers[layer.name] = {"bumps": [[b.x, b.y, b.width, b.height] for b in layer.bumps]}
        if layer.image is not None:
            layers[layer.name]["image"] = layer.image.tolist()
    data = {
        "name": terrain.name,
        "title": terrain.title,
        "start": list(terrain.start),
        "start_spread": terrain.start_spread,
        "horizon": terrain.horizon,
        "gamma": terrain.gamma,
        "sigma": terrain.sigma,
        "sea_level": terrain.sea_level,
        "route": [list(point) for point in terrain.route],
    }
    goal = {} if terrain.goal is None else {"goal": list(terrain.goal)}
    return {**data, **goal, "layers": layers}


def terrain_to_toml(terrain: Terrain) -> str:
    """The TOML text from which `parse_terrain` makes an equal terrain; images as rows of numbers."""
    return tomli_w.dumps(terrain_to_dict(terrain))


def _terrain(data: Mapping[str, Any], folder: Path | None) -> Terrain:
    _known_keys(data, (*_REQUIRED, *_DEFAULTS), "")
    for key in _REQUIRED:
        if key not in data:
            raise DataError(f"{key} is missing")
    whole = {**_DEFAULTS, **data}
    for key in ("name", "title"):
        if not isinstance(whole[key], str):
            raise DataError(f"{key}: {whole[key]!r} must be a text")
    if not isinstance(whole["horizon"], int) or isinstance(whole["horizon"], bool):
        raise DataError(f"horizon: {whole['horizon']!r} must be a whole number of steps")
    start = _numbers("start", whole["start"], 2)
    goal = None if whole["goal"] is None else _numbers("goal", whole["goal"], 3)
    return Terrain(
        name=whole["name"],
        title=whole["title"],
        layers=_layers(whole["layers"], folder),
        start=(start[0], start[1]),
        horizon=whole["horizon"],
        route=tuple((p[0], p[1]) for p in _rows("route", whole["route"], 2)),
        goal=None if goal is None else (goal[0], goal[1], goal[2]),
        **{key: _number(key, whole[key]) for key in ("start_spread", "gamma", "sigma", "sea_level")},
    )


def _layers(data: Any, folder: Path | None) -> tuple[Layer, ...]:
    if not isinstance(data, Mapping):
        raise DataError("layers must be tables such as [layers.gold]")
    _known_keys(data, LAYERS, "layers.")
    return tuple(_layer(name, data[name], folder) for name in LAYERS if name in data)


def _layer(name: str, data: Any, folder: Path | None) -> Layer:
    key = f"layers.{name}"
    if not isinstance(data, Mapping):
        raise DataError(f"{key} must be a table with bumps or an image")
    _known_keys(data, _LAYER_KEYS, f"{key}.")
    bumps = tuple(Bump(*row) for row in _rows(f"{key}.bumps", data.get("bumps", []), 4))
    return Layer(name, bumps, _image(key, data, folder))


def _image(key: str, data: Mapping[str, Any], folder: Path | None) -> np.ndarray | None:
    image = data.get("image")
    if "image_range" in data and not (isinstance(image, str) and image.lower().endswith(_PICTURES)):
        raise DataError(f"{key}.image_range says what black and white mean, and there is no .png image")
    if image is None:
        return None
    if isinstance(image, str):
        if folder is None:
            raise DataError(f"{key}.image: file '{image}' cannot be read here; give rows of numbers instead")
        low, high = _numbers(f"{key}.image_range", data.get("image_range", [0.0, 1.0]), 2)
        return _image_file(f"{key}.image", folder / image, low, high)
    if not isinstance(image, list) or not image or not isinstance(image[0], list):
        raise DataError(f"{key}.image must be rows of numbers or the name of a .png, .npy or .csv file")
    return np.array(_rows(f"{key}.image", image, len(image[0])), dtype=np.float64)


def _image_file(key: str, path: Path, low: float, high: float) -> np.ndarray:
    """Altitudes of a file, row 0 the lowest y. The top row of a picture is the highest y."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise DataError(f"{key}: {path} is larger than {_MAX_BYTES // 1_000_000} MB; make it smaller")
        if path.suffix.lower() == ".npy":
            found = np.load(path, allow_pickle=False)
            return np.asarray(found, dtype=np.float64)
        if path.suffix.lower() == ".csv":
            return np.loadtxt(path, delimiter=",", ndmin=2)
        if path.suffix.lower() in _PICTURES:
            return low + (high - low) * _grey(path)[::-1]
    except (OSError, ValueError, TypeError, SyntaxError) as error:
        raise DataError(f"{key}: cannot read {path} as a height map: {error}") from None
    raise DataError(f"{key}: {path.name} must end in .png, .npy or .csv")


def _grey(path: Path) -> np.ndarray:
    """Brightness of a picture in [0, 1], `[rows, columns]`, top row first; transparency is ignored."""
    from matplotlib.image import imread  # half a second, needed for pictures only

    pixels = np.asarray(imread(path), dtype=np.float64)
    if pixels.ndim == 3:
        colours = pixels[..., :1] if pixels.shape[-1] < 3 else pixels[..., :3]
        return np.asarray(colours.mean(-1))
    return pixels


def _known_keys(data: Mapping[str, Any], known: tuple[str, ...], prefix: str) -> None:
    for key in data:
        if key not in known:
            raise DataError(f"unknown key {prefix}{key}; {nearest(str(key), known)}")


def _rows(key: str, rows: Any, width: int) -> list[list[float]]:
    if not isinstance(rows, list):
        raise DataError(f"{key} must be a list of rows of {width} numbers")
    return [_numbers(f"{key}[{index}]", row, width) for index, row in enumerate(rows)]


def _numbers(key: str, row: Any, width: int) -> list[float]:
    if not isinstance(row, list) or len(row) != width:
        raise DataError(f"{key}: {row!r} must be {width} numbers")
    return [_number(key, value) for value in row]


def _number(key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DataError(f"{key}: {value!r} must be a number")
    try:
        return float(value)
    except OverflowError:
        raise DataError(f"{key}: {value} is too large") from None
