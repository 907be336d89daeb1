"""Reads a page as a browser would begin to: every tag closed, every text, everything that it would load."""

from __future__ import annotations

import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

VOID = {"meta", "img", "br"}
LOADING = ("src", "href", "xlink:href", "srcset", "poster", "action")


class Page(HTMLParser):
    """A parsed page. `problems` is empty for a well-formed, self-contained one."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.problems: list[str] = []
        self.tags: Counter[str] = Counter()
        self.pictures: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self._open: list[str] = []
        self._texts: list[str] = []
        self.feed(text)
        self.close()
        self.problems += [f"<{tag}> is not closed" for tag in self._open]
        self.problems += [f"id {i} twice" for i, count in Counter(self.ids).items() if count > 1]
        self.problems += [f"no anchor {link}" for link in self.links if link[1:] not in self.ids]
        style = "".join(re.findall(r"<style>(.*?)</style>", text, re.S))
        if "url(" in style or "@import" in style:
            self.problems.append("the style loads something")

    @classmethod
    def of(cls, path: Path) -> Page:
        return cls(path.read_text(encoding="utf-8"))

    @property
    def text(self) -> str:
        """All texts, spaces collapsed."""
        return " ".join(" ".join(self._texts).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        if tag not in VOID:
            self._open.append(tag)
        given = dict(attrs)
        if given.get("id"):
            self.ids.append(str(given["id"]))
        for name in LOADING:
            value = given.get(name)
            if value is None:
                continue
            if tag == "a" and value.startswith("#"):
                self.links.append(value)
            elif tag == "img" and value.startswith("data:image/jpeg;base64,"):
                self.pictures.append(value)
            else:
                self.problems.append(f"<{tag} {name}={value[:40]}>")
        if tag in ("script", "link", "iframe", "object", "embed", "form", "base"):
            self.problems.append(f"<{tag}>")
        if any(name.startswith("on") for name in given):
            self.problems.append(f"<{tag}> has a handler")

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open.pop() != tag:
            self.problems.append(f"</{tag}> closes something else")

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style":
            self._texts.append(data)
