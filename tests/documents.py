"""The project's Markdown files, taken apart: blocks, code within lines, tables, links, headings."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[1]
SHELL, PYTHON = ("sh", "sh aws", "sh elsewhere"), ("python", "python elsewhere")
DATA = ("json", "toml", "text", "yaml", "nginx", "caddy")


class Block(NamedTuple):
    """A fenced block; `kind` is all that stands after the fence."""

    kind: str
    text: str
    line: int


@dataclass(frozen=True)
class Document:
    """A Markdown file."""

    path: Path

    def __str__(self) -> str:
        return str(self.path.relative_to(ROOT))

    @cached_property
    def text(self) -> str:
        """As it is in the file."""
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def tokens(self) -> list[Token]:
        """What a parser makes of it."""
        return MarkdownIt("commonmark").enable("table").parse(self.text)

    @cached_property
    def blocks(self) -> list[Block]:
        """Its fenced blocks; of an indented one, the kind is empty."""
        found = [token for token in self.tokens if token.type in {"fence", "code_block"}]
        return [Block(token.info.strip(), token.content, (token.map or [0])[0] + 1) for token in found]

    def pieces(self, kind: str) -> Iterator[Token]:
        """What stands within its lines, of one kind."""
        for token in self.tokens:
            yield from (piece for piece in token.children or () if piece.type == kind)

    @cached_property
    def codes(self) -> list[str]:
        """Code within lines, each once."""
        return list(dict.fromkeys(" ".join(piece.content.split()) for piece in self.pieces("code_inline")))

    @cached_property
    def links(self) -> list[str]:
        """Where its links and pictures lead."""
        links = [str(piece.attrs["href"]) for piece in self.pieces("link_open")]
        return [unquote(link) for link in [*links, *(str(piece.attrs["src"]) for piece in self.pieces("image"))]]

    @cached_property
    def anchors(self) -> set[str]:
        """Its headings, as GitHub addresses them."""
        counts: Counter[str] = Counter()
        found = set()
        for token, after in zip(self.tokens, self.tokens[1:], strict=False):
            if token.type == "heading_open":
                words = "".join(piece.content for piece in after.children or ())
                anchor = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
                found.add(f"{anchor}-{counts[anchor]}" if counts[anchor] else anchor)
                counts[anchor] += 1
        return found

    @cached_property
    def tables(self) -> list[list[list[str]]]:
        """Its tables: lines of cells, the heading first, in Markdown."""
        tables: list[list[list[str]]] = []
        for token, after in zip(self.tokens, self.tokens[1:], strict=False):
            if token.type == "table_open":
                tables.append([])
            elif token.type == "tr_open":
                tables[-1].append([])
            elif token.type in {"th_open", "td_open"}:
                tables[-1][-1].append(after.content)
        return tables


FOLDERS = ("*.md", "docs/**/*.md", "benchmarks/*.md")
DOCUMENTS = [Document(path) for folder in FOLDERS for path in sorted(ROOT.glob(folder))]
