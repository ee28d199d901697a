"""States of the completions under the frozen reference: as training saved them, else computed and kept.

The cache stands in ``landscape/features``, one file per file of samples, and is keyed by the encoder and by
the samples' file, so that samples written anew by a resumed run are read anew.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ridgeline.landscape.maps.collect import Table
from ridgeline.landscape.maps.encode import Encoded, Progress, encode
from ridgeline.landscape.maps.source import MapSource
from ridgeline.models.pooling import FRACTIONS
from ridgeline.rollout.features import LARGEST, read_features
from ridgeline.rollout.store import write_aside
from ridgeline.schema.errors import DataError
from ridgeline.schema.records import Sample

Halves = npt.NDArray[np.float16]
Key = tuple[str, int]


@dataclass(frozen=True)
class States:
    """``states_NFH`` float16 of every sample; ``ref_logp_NF``: sums over segments, nats, nan where unknown.

    ``computed`` counts the samples that had to be read again now.
    """

    states_NFH: Halves
    ref_logp_NF: npt.NDArray[np.float32]
    computed: int


@dataclass
class _Known:
    """What is known of the samples of one file."""

    states: dict[Key, Halves] = field(default_factory=dict)
    ref_logp: dict[Key, npt.NDArray[np.float32]] = field(default_factory=dict)


def states_of(source: MapSource, table: Table, folder: Path, progress: Progress | None = None) -> States:
    """The states of every sample of the table; what is missing is computed once and kept below ``folder``.

    Raises:
        UsageError: something is missing and the reference cannot be loaded any more.
    """
    by_file: dict[Path, list[int]] = {}
    for place, path in enumerate(table.files):
        by_file.setdefault(path, []).append(place)
    keys = [(sample.prompt_id, sample.index) for sample in table.samples]
    known = {path: _known(source, path, folder) for path in by_file}
    missing = [place for place, path in enumerate(table.files) if keys[place] not in known[path].states]
    if missing:
        encoded = encode(source.model, [table.samples[place] for place in missing], progress)
        _remember(known, table, keys, missing, encoded)
        for path in dict.fromkeys(table.files[place] for place in missing):
            _write(_cache(source, path, folder), _stamp(source, path), known[path])
    unknown = np.full(len(FRACTIONS), np.nan, dtype=np.float32)
    return States(
        np.stack([known[path].states[key] for path, key in zip(table.files, keys, strict=True)]),
        np.stack([known[p].ref_logp.get(key, unknown) for p, key in zip(table.files, keys, strict=True)]),
        len(missing),
    )


def sampler_logp(sample: Sample) -> npt.NDArray[np.float64]:
    """Per token, nats: under the distribution that the token was drawn from."""
    return np.asarray(sample.logprobs, dtype=np.float64)


def _remember(
    known: dict[Path, _Known], table: Table, keys: list[Key], missing: list[int], encoded: Encoded
) -> None:
    for number, place in enumerate(missing):
        own = known[table.files[place]]
        # Beyond the range of float16 a state would become infinite, and every distance with it.
        own.states[keys[place]] = np.clip(encoded.states[number], -LARGEST, LARGEST).astype(np.float16)
        own.ref_logp[keys[place]] = encoded.ref_logp[number].astype(np.float32)


def _known(source: MapSource, path: Path, folder: Path) -> _Known:
    """What training saved beside the samples, and what an earlier map computed."""
    known = _read(_cache(source, path, folder), _stamp(source, path))
    saved = source.folder.path / "features" / path.relative_to(source.folder.samples).with_suffix(".npz")
    if source.reference_moves or not saved.is_file():
        return known
    try:
        features = read_features(saved)
    except DataError:
        return known
    if features.fractions == FRACTIONS:
        for prompt, index, states in zip(features.prompt_ids, features.indices, features.states, strict=True):
            known.states.setdefault((prompt, int(index)), states)
    return known


def _cache(source: MapSource, path: Path, folder: Path) -> Path:
    return folder / "features" / path.relative_to(source.folder.samples).with_suffix(".npz")


def _stamp(source: MapSource, path: Path) -> str:
    facts = path.stat()
    return f"{source.model}|{facts.st_size}|{facts.st_mtime_ns}"


def _write(path: Path, stamp: str, known: _Known) -> None:
    keys = list(known.ref_logp)
    columns: dict[str, npt.NDArray[np.generic]] = {
        "stamp": np.array(stamp),
        "prompt_ids": np.array([prompt for prompt, _ in keys]),
        "indices": np.array([index for _, index in keys], dtype=np.int32),
        "states": np.stack([known.states[key] for key in keys]),
        "ref_logp": np.stack([known.ref_logp[key] for key in keys]),
    }

    def write(aside: Path) -> None:
        with open(aside, "wb") as file:
            np.savez(file, allow_pickle=False, **columns)

    write_aside(path, write)


def _read(path: Path, stamp: str) -> _Known:
    """An earlier map's states; nothing where the file is missing, damaged or of other samples."""
    try:
        with np.load(path, allow_pickle=False) as file:
            if str(file["stamp"]) != stamp:
                return _Known()
            prompts, indices = file["prompt_ids"].tolist(), file["indices"].tolist()
            keys = list(zip(prompts, indices, strict=True))
            return _Known(
                dict(zip(keys, file["states"], strict=True)), dict(zip(keys, file["ref_logp"], strict=True))
            )
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return _Known()
