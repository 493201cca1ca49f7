"""Which characters the letter's font has. PDF/A refuses a missing glyph, and no invoice may fail for a name's sake."""

import re
import unicodedata

# Libertinus Serif, as Typst 0.15 brings it: Latin, Greek, Cyrillic, and what stands around them. A test sets them all.
_RANGES = (
    *("\u0020-\u007e", "\u00a0-\u00ac", "\u00ae-\u02e4", "\u0300-\u036f", "\u0384-\u038a", "\u038c"),
    *("\u038e-\u03a1", "\u03a3-\u03ce", "\u0400-\u0477", "\u048c-\u04c4", "\u04d0-\u04f9", "\u1e00-\u1eff"),
    *("\u2010-\u2027", "\u202f", "\u2030-\u2037", "\u2039-\u203e", "\u2074-\u208e", "\u20ac", "\u2116", "\u2122"),
    *("\u2153-\u215e", "\u2190-\u2199", "\u2212"),
)
PRINTABLE = "".join(_RANGES)
_MISSING = re.compile(f"[^{PRINTABLE.replace(']', '')}]")
REPLACEMENT = "?"


def printable(text: str) -> str:
    """With a question mark for what cannot be printed. The XML has every character."""
    return _MISSING.sub(REPLACEMENT, unicodedata.normalize("NFC", text))
