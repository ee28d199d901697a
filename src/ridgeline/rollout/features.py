"""Where the frozen reference sees completions: mean-pooled last hidden states, on disk beside the samples."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ridgeline.models.pooling import FRACTIONS
from ridgeline.rollout.store import write_aside
from ridgeline.schema.errors import DataError

LARGEST = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class Features:
    """Points of N completions, named by prompt and sample number.

    states: ``[N, F, H]`` float16; ``states[:, f]`` is the mean of the last hidden states (after the final
    norm, as they enter the head) over the first ``fractions[f]`` of the completion's tokens; the last one is
    the completion's point.
    """

    prompt_ids: list[str]
    indices: npt.NDArray[np.int32]
    states: npt.NDArray[np.float16]
    fractions: tuple[float, ...] = FRACTIONS


def write_features(
    path: Path, keys: Sequence[tuple[str, int]], states: Sequence[npt.NDArray[np.float32]]
) -> None:
    """Replace ``path`` by ``[F, H]`` states of each completion; equal states give equal bytes.

    Raises:
        RunError: the file cannot be written; what was there before is intact.
    """
    # Beyond the range of float16 a state would become infinite, and every distance with it.
    stacked = np.clip(np.stack(states), -LARGEST, LARGEST).astype(np.float16)
    columns: dict[str, npt.NDArray[np.generic]] = {
        "prompt_ids": np.array([prompt for prompt, _ in keys]),
        "indices": np.array([index for _, index in keys], dtype=np.int32),
        "states": stacked,
        "fractions": np.array(FRACTIONS, dtype=np.float64),
    }

    def write(aside: Path) -> None:
        with open(aside, "wb") as file:
            np.savez(file, allow_pickle=False, **columns)

    write_aside(path, write)


def read_features(path: Path) -> Features:
    """What ``write_features`` wrote, in its order.

    Raises:
        DataError: there is no such file, or it is damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return Features(
                [str(prompt) for prompt in file["prompt_ids"]],
                file["indices"],
                file["states"],
                tuple(file["fractions"].tolist()),
            )
    except FileNotFoundError:
        raise DataError(
            f"{path} does not exist: the stage ran with features = false, or scored no reference; "
            "the states can be made again from its samples."
        ) from None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is damaged ({error}); delete it to make the states again.") from None
