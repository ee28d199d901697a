"""A recorded landscape on disk: manifest, terrain and frames; one layout for exact worlds and real runs.

landscape/manifest.json     what the axes, the altitude and every estimate are; the list of frames
          terrain.bin       mean, standard error and mask of every layer on an n x n grid
          frames/000000.bin points, paths, corridor, value, arrows: whatever that step has
"""

from __future__ import annotations

from ridgeline.landscape.record.find import find_record
from ridgeline.landscape.record.manifest import (
    Altitude,
    Axes,
    Axis,
    Corridor,
    FrameEntry,
    Kl,
    Manifest,
    Value,
)
from ridgeline.landscape.record.reader import Frame, LayerGrid, Record, TerrainGrid
from ridgeline.landscape.record.writer import RecordWriter

__all__ = [
    "Manifest",
    "Axes",
    "Axis",
    "Altitude",
    "Value",
    "Kl",
    "Corridor",
    "FrameEntry",
    "RecordWriter",
    "Record",
    "Frame",
    "TerrainGrid",
    "LayerGrid",
    "find_record",
]
