"""Markdown as a list of passages: what stands between one heading and the next, with lines."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from markdown_it import MarkdownIt
from markdown_it.token import Token

_COMMONMARK = MarkdownIt("commonmark", {"html": False})


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading; ``anchor`` is the one that GitHub gives it, ``below`` the line after it."""

    level: int
    text: str
    anchor: str
    line: int
    below: int


@dataclass(frozen=True, slots=True)
class Fence:
    """A fenced block: the words after the fence, and the text within."""

    info: str
    body: str
    line: int


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph's Markdown on one line; ``item``: it begins an item of a list."""

    markdown: str
    line: int
    item: bool


@dataclass(frozen=True, slots=True)
class Link:
    """Where a link or an image points to."""

    target: str
    line: int


@dataclass(slots=True)
class Passage:
    """A heading of level 1 to 3 and what follows it, to the next one. ``section`` is the H2 it is or stands
    under; ``markdown`` the text without the heading. The first passage may have no heading (level 0).
    """

    heading: Heading
    section: str
    markdown: str = ""
    parts: list[Fence | Text] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)

    @property
    def fences(self) -> list[Fence]:
        """Its fenced blocks."""
        return [part for part in self.parts if isinstance(part, Fence)]


@dataclass(frozen=True, slots=True)
class Outline:
    """A document: its passages, all its headings, the lower ones too, and its lines."""

    passages: list[Passage]
    headings: list[Heading]
    lines: list[str]

    def sections(self) -> dict[str, str]:
        """Title of each H2 -> its Markdown; of two with the same title the first."""
        tops = [p.heading for p in self.passages if p.heading.level in (1, 2)]
        ends = [top.line - 1 for top in tops[1:]] + [len(self.lines)]
        sections: dict[str, str] = {}
        for top, end in zip(tops, ends, strict=False):  # without a heading there is only the end
            if top.level == 2:
                sections.setdefault(top.text, _between(self.lines, top.below - 1, end))
        return sections


def outline(source: str) -> Outline:
    """The passages of a Markdown text, whose newlines are ``\\n``. HTML in it is text."""
    tokens = _COMMONMARK.parse(source)
    headings = _headings(tokens)
    passages = [Passage(Heading(0, "", "", 1, 1), "")]
    for index, token in enumerate(tokens):
        heading = headings.get(index)
        if heading and heading.level <= 3 and token.level == 0:
            passages.append(_opened(heading, passages[-1].section))
        elif token.type == "fence":
            passages[-1].parts.append(Fence(token.info.strip(), token.content, _line(token)))
        elif token.type == "inline":
            passages[-1].links += _links(token)
            if tokens[index - 1].type == "paragraph_open":
                item = index > 1 and tokens[index - 2].type == "list_item_open"
                passages[-1].parts.append(Text(" ".join(token.content.split("\n")), _line(token), item))
    lines = source.split("\n")
    _fill(passages, lines)
    return Outline(passages, list(headings.values()), lines)


def slug(text: str) -> str:
    """GitHub's anchor of a heading's text: lower case, punctuation dropped, spaces to hyphens."""
    kept = (c for c in text.strip().lower() if c in " -_" or unicodedata.category(c)[0] in "LMN")
    return "".join(kept).replace(" ", "-")


def anchors(texts: Iterable[str]) -> Iterator[str]:
    """The anchors of headings in their order: repeated ones get ``-1``, ``-2``, …"""
    times: dict[str, int] = {}
    for text in texts:
        base = anchor = slug(text)
        while anchor in times:
            times[base] += 1
            anchor = f"{base}-{times[base]}"
        times[anchor] = 0
        yield anchor


def _line(token: Token) -> int:
    return token.map[0] + 1 if token.map else 1


def _headings(tokens: list[Token]) -> dict[int, Heading]:
    """Place of the token that opens it -> heading."""
    places = [i for i, token in enumerate(tokens) if token.type == "heading_open"]
    texts = [_plain(tokens[i + 1]) for i in places]
    return {
        i: Heading(int(tokens[i].tag[1]), text, anchor, _line(tokens[i]), (tokens[i].map or [0, 1])[1] + 1)
        for i, text, anchor in zip(places, texts, anchors(texts), strict=True)
    }


def _plain(inline: Token) -> str:
    """A heading's text as it is read."""
    spoken = [child for child in inline.children or [] if child.type in ("text", "code_inline", "softbreak")]
    return "".join(" " if child.type == "softbreak" else child.content for child in spoken)


def _opened(heading: Heading, section: str) -> Passage:
    return Passage(heading, heading.text if heading.level == 2 else section if heading.level == 3 else "")


def _links(inline: Token) -> Iterator[Link]:
    line = _line(inline)
    for child in inline.children or []:
        if child.type.endswith("break"):
            line += 1
        target = child.attrs.get("href") or child.attrs.get("src")
        if target is not None:
            yield Link(str(target), line)


def _fill(passages: list[Passage], lines: list[str]) -> None:
    """Gives each passage its text: the lines from its heading to the next one."""
    ends = [passage.heading.line - 1 for passage in passages[1:]] + [len(lines)]
    for passage, end in zip(passages, ends, strict=True):
        passage.markdown = _between(lines, passage.heading.below - 1, end)


def _between(lines: list[str], start: int, end: int) -> str:
    return "\n".join(lines[start:end]).strip("\n")
