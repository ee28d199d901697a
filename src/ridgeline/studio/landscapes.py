"""Files of a recorded landscape, as they are: a manifest and binary containers."""

from __future__ import annotations

import re

from ridgeline.studio.safe import MEGABYTE, Damaged, Problem, parse, read_bytes
from ridgeline.studio.stage_reader import StageReader

NAME = re.compile(r"manifest\.json|terrain\.bin|axes\.bin|frames/[0-9]{6}\.bin")
LIMIT = 256 * MEGABYTE
MAGIC = b"RDG1"


def landscape_file(stage: StageReader, name: str, run_path: str) -> tuple[bytes, str]:
    """Content and media type.

    Raises:
        Problem: 404 where the stage has no such file, 422 for a damaged one.
    """
    if NAME.fullmatch(name) is None:
        raise Problem(404, "A landscape has manifest.json, terrain.bin, axes.bin and frames/NNNNNN.bin.")
    try:
        content = read_bytes(stage.root, stage.folder / "landscape" / name, LIMIT)
    except Damaged as error:
        raise Problem(422, str(error)) from None
    if content is None:
        mend = f"ridgeline landscape map {run_path}" if stage.id != "-" else None
        raise Problem(404, f"This stage has no landscape/{name}.", mend)
    if name == "manifest.json":
        try:
            parse(content)
        except ValueError:
            raise Problem(422, "landscape/manifest.json holds no valid JSON.") from None
        return content, "application/json"
    if content[:4] != MAGIC:
        raise Problem(422, f"landscape/{name} is no container of blocks.")
    return content, "application/octet-stream"
