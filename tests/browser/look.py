"""How a visitor looks at pages: language, theme, width, and with which hands."""

import itertools
from dataclasses import dataclass
from typing import Literal

Language = Literal["en", "fr", "de"]
Theme = Literal["light", "dark"]

LANGUAGES: tuple[Language, ...] = ("en", "fr", "de")
THEMES: tuple[Theme, ...] = ("light", "dark")
WIDE_PX, NARROW_PX = 1280, 390
WIDTHS_PX = (WIDE_PX, NARROW_PX)
_HEIGHTS_PX = {WIDE_PX: 900, NARROW_PX: 844}
_NATIVE_NAMES = {"en": "English", "fr": "Français", "de": "Deutsch"}


@dataclass(frozen=True)
class Look:
    """One of the twelve ways in which every page has to be right."""

    language: Language = "en"
    theme: Theme = "light"
    width_px: int = WIDE_PX

    @property
    def is_narrow(self) -> bool:
        """As on a phone."""
        return self.width_px == NARROW_PX

    @property
    def height_px(self) -> int:
        return _HEIGHTS_PX[self.width_px]

    @property
    def language_name(self) -> str:
        """As it stands in the product's own switch, in every language the same."""
        return _NATIVE_NAMES[self.language]

    def __str__(self) -> str:
        return f"{self.language}-{self.theme}-{self.width_px}"


ALL_LOOKS = tuple(
    Look(language, theme, width_px) for language, theme, width_px in itertools.product(LANGUAGES, THEMES, WIDTHS_PX)
)
