"""What MkDocs does not do by itself: pages of the top folder, lists of pages, formulas."""

import html
import re
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

TOP = Path(__file__).parents[1]
OUTSIDE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
"""Pages that stand in the top folder, where a forge looks for them, and their names in the site."""
LIST = "<!-- the pages of this folder -->"
"""Line of an index page that becomes the list of the other pages of its folder."""
ROLE = re.compile(r":(?:class|data|func|meth|mod):(?=<code>)")
"""Of Sphinx, in docstrings."""
FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.S)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the files that a pattern of the navigation matches in its place."""
    folder = Path(config.docs_dir)
    named = set(re.findall(r"[\w/-]+\.md", str(config.nav)))

    def expand(entry: Any) -> list[Any]:
        if isinstance(entry, dict):
            return [
                {title: [page for part in parts for page in expand(part)]}
                for title, parts in entry.items()
            ]
        if "*" not in entry:
            return [entry]
        pages = (str(path.relative_to(folder)) for path in sorted(folder.glob(entry)))
        return [page for page in pages if page not in named]

    config.nav = [page for entry in config.nav or [] for page in expand(entry)]
    config.watch.extend(str(TOP / name) for name in OUTSIDE)
    return config


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the pages of the top folder, with links as they are seen from docs/."""
    for name, page in OUTSIDE.items():
        text = (TOP / name).read_text().replace("](docs/", "](")
        for other, target in OUTSIDE.items():
            text = text.replace(f"]({other})", f"]({target})")
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """List the other pages of a folder in its index, and find those of the top folder."""
    above = "../" * (page.file.src_uri.count("/") + 1)
    for name, target in OUTSIDE.items():
        markdown = markdown.replace(f"]({above}{name}", f"]({above[3:]}{target}")
    if LIST not in markdown:
        return markdown
    source = Path(page.file.abs_src_path)
    others = (path for path in sorted(source.parent.glob("*.md")) if path != source)
    titles = [(path.read_text().partition("\n")[0].lstrip("# "), path.name) for path in others]
    return markdown.replace(LIST, "\n".join(f"- [{title}]({name})" for title, name in titles))


def on_page_content(content: str, **_: Any) -> str:
    """Make MathML of the formulas, which browsers draw by themselves, and drop Sphinx's roles."""

    def draw(formula: re.Match[str]) -> str:
        display = "block" if formula[2] == "[" else "inline"
        return convert(html.unescape(formula[3]).strip(), display=display)

    return FORMULA.sub(draw, ROLE.sub("", content))
