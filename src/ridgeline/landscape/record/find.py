"""Where the landscape of a run is."""

from __future__ import annotations

from pathlib import Path

from ridgeline.schema.errors import UsageError, nearest
from ridgeline.schema.run_folder import RunFolder

FOLDER = "landscape"
"""Inside a stage folder, or inside the run folder of an exact world."""
MANIFEST = "manifest.json"


def find_record(run: str | Path, stage: str | None = None) -> Path:
    """The folder with the manifest: ``run`` itself, its ``landscape/``, or that of one of its stages.

    Raises:
        UsageError: there is none, or several stages have one and ``stage`` does not say which.
    """
    path = Path(run)
    if not path.is_dir():
        raise UsageError(f"there is no folder {path}; check the path.")
    if stage is None:
        for folder in (path, path / FOLDER):
            if (folder / MANIFEST).is_file():
                return folder
    mapped = {
        each.name: each.path / FOLDER
        for each in RunFolder(path).stages()
        if (each.path / FOLDER / MANIFEST).is_file()
    }
    if stage is not None:
        found = mapped.get(stage) or next((f for f in mapped.values() if f.parent.name == stage), None)
        if found is None:
            known = nearest(stage, mapped) if mapped else f"make one with: ridgeline landscape map {path}."
            raise UsageError(f"stage {stage!r} of {path} has no landscape; {known}")
        return found
    if not mapped:
        raise UsageError(f"{path} has no landscape; make one with: ridgeline landscape map {path}.")
    if len(mapped) > 1:
        raise UsageError(
            f"several stages of {path} have a landscape; add --stage with one of {', '.join(mapped)}."
        )
    return next(iter(mapped.values()))
