"""Colours of the map, light and dark; the same as those of the studio."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ridgeline.schema.errors import UsageError, nearest

if TYPE_CHECKING:
    from matplotlib.colors import LinearSegmentedColormap


@dataclass(frozen=True)
class Theme:
    """Named colours. ``ramp`` runs from the lowest altitude to the highest."""

    name: str
    paper: str
    surface: str
    ink: str
    muted: str
    line: str
    accent: str
    cool: str
    mint: str
    pin: str
    value: str
    proxy: str
    contour: str
    lit: str
    shaded: str
    ramp: tuple[str, ...]

    def colormap(self) -> LinearSegmentedColormap:
        """The ramp as a colour map."""
        from matplotlib.colors import LinearSegmentedColormap

        return LinearSegmentedColormap.from_list(f"terrain-{self.name}", list(self.ramp))


LIGHT = Theme(
    name="light",
    paper="#FAF8F4",
    surface="#FFFFFF",
    ink="#1B1F24",
    muted="#5B6470",
    line="#E3DED5",
    accent="#B4411F",
    cool="#2B6CB0",
    mint="#1E8E6E",
    pin="#D7263D",
    value="#6B4FBB",
    proxy="#B7791F",
    contour="#4A4636",
    lit="#FFF6E0",
    shaded="#1E2E44",
    ramp=("#2F4858", "#3F6B6E", "#6E9075", "#B5B682", "#E4D3A2", "#F3E9D2", "#FFFFFF"),
)
DARK = Theme(
    name="dark",
    paper="#11151A",
    surface="#181D24",
    ink="#E8E6E1",
    muted="#9BA5B1",
    line="#2A313A",
    accent="#F0875A",
    cool="#6FA8E8",
    mint="#4FC3A1",
    pin="#FF5C6C",
    value="#A894F0",
    proxy="#E3B341",
    contour="#070B0F",
    lit="#FFE9C4",
    shaded="#02060C",
    ramp=("#0E2230", "#1C4148", "#3B6454", "#7C8A5B", "#BFA872", "#E6D5B0", "#FFF8EA"),
)
THEMES = {theme.name: theme for theme in (LIGHT, DARK)}


def theme_of(name: str) -> Theme:
    """The theme of that name.

    Raises:
        UsageError: there is none.
    """
    if name not in THEMES:
        raise UsageError(f"there is no theme {name!r}; {nearest(name, THEMES)}")
    return THEMES[name]
