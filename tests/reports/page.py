"""The page as a test sees it: parsed by html.parser, which runs nothing and loads nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "link", "input", "br", "wbr", "hr", "img"}


@dataclass
class Node:
    tag: str
    attributes: dict[str, str]
    children: list[Node | str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(child if isinstance(child, str) else child.text for child in self.children)

    def find(self, tag: str, **attributes: str) -> list[Node]:
        """Descendants of a tag; `class_` names one class, any other attribute its whole value."""
        found = []
        for child in self.children:
            if isinstance(child, str):
                continue
            classes = child.attributes.get("class", "").split()
            wanted = attributes.get("class_")
            rest = {k.replace("_", "-"): v for k, v in attributes.items() if k != "class_"}
            same = all(child.attributes.get(k) == v for k, v in rest.items())
            if child.tag == tag and same and (wanted is None or wanted in classes):
                found.append(child)
            found += child.find(tag, **attributes)
        return found


class Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.root = Node("root", {})
        self.open = [self.root]

    def handle_starttag(self, tag: str, attrs: list) -> None:
        node = Node(tag, {name: value or "" for name, value in attrs})
        self.open[-1].children.append(node)
        if tag not in VOID:
            self.open.append(node)

    def handle_startendtag(self, tag: str, attrs: list) -> None:
        self.open[-1].children.append(Node(tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1].tag == tag, f"</{tag}> closes <{self.open[-1].tag}> at {self.getpos()}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)


def parse(page: str) -> Node:
    """The tree of a page whose tags are closed in order."""
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert len(reader.open) == 1, f"<{reader.open[-1].tag}> is never closed"
    return reader.root


def board_rows(page: Node, track: str) -> dict[str, list[str]]:
    """Name -> text of the cells of the first board of a track, in the order of the rows."""
    body = page.find("table", data_board=track)[0].find("tbody")[0]
    return {
        row.find("b")[0].text: [" ".join(c.text.split()) for c in row.children if isinstance(c, Node)]
        for row in body.find("tr")
    }
