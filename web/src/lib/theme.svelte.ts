// Light or dark: the system's choice until the reader makes one; colours for canvases read from the tokens.

export type Theme = 'light' | 'dark';

class ThemeState {
  name = $state<Theme>(document.documentElement.dataset.theme === 'dark' ? 'dark' : 'light');

  toggle(): void {
    this.name = this.name === 'dark' ? 'light' : 'dark';
    document.documentElement.dataset.theme = this.name;
    try {
      localStorage.setItem('ridgeline.theme', this.name);
    } catch {
      // Storage may be forbidden; the choice then lasts for this page.
    }
  }

  /** The value of a colour token ("accent" for --accent) in the theme of the moment; reading it subscribes. */
  colour(token: string): string {
    void this.name;
    return getComputedStyle(document.documentElement).getPropertyValue(`--${token}`).trim();
  }

  /** The terrain ramp, low to high. */
  ramp(): string[] {
    return [0, 1, 2, 3, 4, 5, 6].map((index) => this.colour(`ramp-${index}`));
  }
}

export const theme = new ThemeState();
