"""Where texts of different lengths lie when they are laid end to end."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Texts:
    """Texts laid end to end; those of a family share their first tokens, which stand once.

    spans: ``[texts, 4]``: first token and length of what is a text's own, first token and length of its
    prefix (0: none). families: ``[families + 1]``, where each begins among the texts. A shared prefix is a
    text itself and the first of its family.
    """

    spans: IntArray
    families: IntArray

    @property
    def longest(self) -> int:
        """Tokens that the last token of the longest text sees."""
        return int((self.spans[:, 1] + self.spans[:, 3]).max())

    def covers(self, tokens: int) -> bool:
        """Whether every one of ``tokens`` belongs to a text."""
        return int(self.spans[:, 1].sum()) == tokens
