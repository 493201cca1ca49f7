"""Reading pages as a program can: the rows of their tables, the text of an element, the fields of a form."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser

_VOID = frozenset({"area", "base", "br", "col", "hr", "img", "input", "link", "meta", "rect", "source"})


@dataclass
class Element:
    """A tag with its attributes and what is inside."""

    tag: str
    attributes: dict[str, str] = field(default_factory=dict)
    children: "list[Element | str]" = field(default_factory=list)

    def walk(self) -> "Iterator[Element]":
        yield self
        for child in self.children:
            if isinstance(child, Element):
                yield from child.walk()

    def all(self, tag: str, **attributes: str) -> "list[Element]":
        """In the page's order. `data_nano="1"` is the attribute `data-nano`."""
        wanted = {name.replace("_", "-"): value for name, value in attributes.items()}
        return [found for found in self.walk() if found.tag == tag and wanted.items() <= found.attributes.items()]

    def one(self, tag: str, **attributes: str) -> "Element":
        (found,) = self.all(tag, **attributes)
        return found

    def by_id(self, name: str) -> "Element":
        (found,) = (element for element in self.walk() if element.attributes.get("id") == name)
        return found

    def has(self, name: str) -> bool:
        return any(element.attributes.get("id") == name for element in self.walk())

    @property
    def text(self) -> str:
        """With single blanks."""
        parts = [child if isinstance(child, str) else f" {child.text} " for child in self.children]
        return re.sub(r"\s+", " ", "".join(parts)).strip()

    @property
    def exact_text(self) -> str:
        return "".join(child if isinstance(child, str) else child.exact_text for child in self.children)

    def rows(self) -> list[list[str]]:
        """Texts of a table's body."""
        (body,) = self.all("tbody")
        return [[cell.text for cell in row.children if isinstance(cell, Element)] for row in body.all("tr")]


class _Builder(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.root = Element("")
        self._open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs})
        self._open[-1].children.append(element)
        if tag not in _VOID:
            self._open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._open[-1].children.append(Element(tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        if tag in _VOID:
            return
        assert self._open[-1].tag == tag, f"</{tag}> closes <{self._open[-1].tag}>"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        self._open[-1].children.append(data)


def read_page(text: str) -> Element:
    """Fails for tags that are not closed in their order."""
    builder = _Builder()
    builder.feed(text)
    builder.close()
    assert len(builder._open) == 1, f"<{builder._open[-1].tag}> is not closed"
    return builder.root


def nano(text: str) -> int:
    """`€1,234.5` on an English page."""
    match = re.fullmatch(r"(-?)€([\d,]+)\.(\d{2,9})", text)
    assert match is not None, text
    sign, whole, fraction = match.groups()
    value = int(whole.replace(",", "")) * 10**9 + int(fraction.ljust(9, "0"))
    return -value if sign else value


def number(text: str) -> int:
    return int(text.replace(",", ""))
