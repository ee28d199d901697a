"""What the server shares between its requests."""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ridgeline.studio import lessons_api
from ridgeline.studio.runs_index import RunsIndex
from ridgeline.studio.samples import Samples
from ridgeline.studio.stream import EventLog, Poller
from ridgeline.studio.world_socket import Worlds

DEMO = "ridgeline run recipes/quickstart.toml"


@dataclass
class Studio:
    """The runs below one folder, the event log, and the caches."""

    runs: Path
    worlds: Worlds = field(default_factory=Worlds)
    samples: Samples = field(default_factory=Samples)
    log: EventLog = field(default_factory=EventLog)

    def __post_init__(self) -> None:
        self.index = RunsIndex(self.runs)
        self.poller = Poller(self.index, self.log)

    def state(self) -> dict[str, Any]:
        """See ``shapes.StudioState``."""
        return {
            "version": importlib.metadata.version("ridgeline"),
            "root": str(self.runs),
            "terrains": lessons_api.terrain_names(),
            "lessons": lessons_api.LESSONS,
            "demo_command": DEMO,
        }

    def close(self) -> None:
        """End streams and threads."""
        self.log.close()
        self.poller.stop()
        self.worlds.close()
