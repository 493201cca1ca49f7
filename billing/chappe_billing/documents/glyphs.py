"""Which characters the letter's font has. PDF/A refuses a missing glyph, and no invoice may fail for a name's sake."""

import re
import unicodedata

# Libertinus Serif, as Typst 0.15 brings it: Latin, Greek, Cyrillic, and what stands around them, in
# regular and in bold. A test sets them all.
_RANGES = (
    *("\u0020-\u007e", "\u00a0-\u00ac", "\u00ae-\u024f", "\u0384-\u038a", "\u038c"),
    *(
        "\u038e-\u03a1",
        "\u03a3-\u03ce",
        "\u0400-\u045f",
        "\u0490-\u0491",
        "\u1e02-\u1e03",
        "\u1e0a-\u1e0b",
        "\u1e1e-\u1e1f",
        "\u1e40-\u1e41",
        "\u1e56-\u1e57",
        "\u1e60-\u1e63",
        "\u1e6a-\u1e6b",
        "\u1e80-\u1e85",
        "\u1e9e",
        "\u1ea0-\u1ef9",
    ),
    *("\u2010-\u2027", "\u202f", "\u2030-\u2037", "\u2039-\u203e", "\u2074-\u208e", "\u20ac", "\u2116", "\u2122"),
    *("\u2153-\u215e", "\u2190-\u2199", "\u2212"),
)
PRINTABLE = "".join(_RANGES)
_MISSING = re.compile(f"[^{PRINTABLE.replace(']', '')}]")
REPLACEMENT = "?"


def printable(text: str) -> str:
    """With a question mark for what cannot be printed. The XML has every character."""
    return _MISSING.sub(REPLACEMENT, unicodedata.normalize("NFC", text))
