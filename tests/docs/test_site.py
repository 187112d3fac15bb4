"""The site: all pages are in it, all links lead somewhere, and reading it needs no other host."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

TOP = Path(__file__).parents[2]
OUTSIDE = {"index.html", "contributing.html", "changelog.html"}
LOADED = {"img": "src", "script": "src", "link": "href", "iframe": "src", "source": "src"}
"""Elements that fetch something, and their attribute that says what."""


class Page(HTMLParser):
    """What one page links to, fetches, and can be linked to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag in LOADED and LOADED[tag] in given:
            self.fetched.append(given[LOADED[tag]])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=TOP,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    # What the page of a missing page links to depends on where it is shown.
    paths = (path for path in sorted(site.rglob("*.html")) if path.name != "404.html")
    return {path: Page(path) for path in paths}


def local(path: Path, links: list[str]) -> Iterator[tuple[Path, str]]:
    """Yield the files and anchors that links of a page lead to."""
    for link in map(urlsplit, links):
        if not link.scheme and not link.netloc:
            target = path.parent / unquote(link.path) if link.path else path
            yield (target / "index.html" if target.is_dir() else target).resolve(), link.fragment


def test_every_document_is_a_page_in_the_navigation(site: Path, pages: dict[Path, Page]) -> None:
    documents = {
        str(path.relative_to(TOP / "docs").with_suffix(".html"))
        for path in (TOP / "docs").rglob("*.md")
    }
    html = (site / "index.html").read_text()
    shown = html[html.index('<nav class="md-nav md-nav--primary') : html.index("<article")]
    hrefs = set(re.findall(r'href="([^"#]+\.html)"', shown))
    assert documents | OUTSIDE <= hrefs
    assert {str(path.relative_to(site)) for path in pages} == documents | OUTSIDE


def test_links_lead_to_pages_and_places_in_them(pages: dict[Path, Page]) -> None:
    dead = [
        f"{path.name}: {target.name}#{anchor}"
        for path, page in pages.items()
        for target, anchor in local(path, page.links)
        if not target.exists()
        or (anchor and target in pages and unquote(anchor) not in pages[target].anchors)
    ]
    assert sum(len(page.links) for page in pages.values()) > 200
    assert dead == []


def test_reading_needs_no_other_host(pages: dict[Path, Page]) -> None:
    for path, page in pages.items():
        assert [place for place in page.fetched if urlsplit(place).netloc] == [], path
        missing = [file for file, _ in local(path, page.fetched) if not file.exists()]
        assert missing == [], path


def test_formulas_are_drawn(site: Path) -> None:
    html = (site / "numerics.html").read_text()
    assert html.count("<math ") > 100
    assert "arithmatex" not in html
    assert re.findall(r"<m[inot]\w*>[^<]*\\[a-z]+[^<]*</m", html) == []
