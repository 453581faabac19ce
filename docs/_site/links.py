"""Links of the pages that work where the sources are shown, made to work on the site.

A link to a page leads to the page. A link to any other file or folder of the repository leads to the place where the
sources are shown. Four files at the top of the repository are shown whole on a page of the site.
"""

import posixpath
import re
from pathlib import Path
from urllib.parse import urldefrag

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

SOURCES = "https://github.com/ndshare/ndshare"
# Pages whose text is that of a file at the top of the repository.
SHOWN = {
    "architecture": "ARCHITECTURE.md",
    "changelog": "CHANGELOG.md",
    "contributing": "CONTRIBUTING.md",
    "security": "SECURITY.md",
}
PAGES = {f"docs/{page}.md": page for page in SHOWN} | {file: page for page, file in SHOWN.items()}


def show_file(app: Sphinx, page: str, source: list[str]) -> None:
    """Put the text of a file in the place of that of its page."""
    if page in SHOWN:
        source[0] = (Path(app.srcdir).parent / SHOWN[page]).read_text()


def address(root: Path, path: str) -> str | None:
    """Return where the sources of a path are shown, if there is such a path."""
    if not (root / path).exists() or path.startswith(".."):
        return None
    return f"{SOURCES}/{'tree' if (root / path).is_dir() else 'blob'}/main/{path}"


class Links(SphinxTransform):
    """Finds the links of a page that MyST took for files to download, or could not make anything of."""

    default_priority = 5

    def apply(self, **_: object) -> None:
        """Let each lead to its page, or to the sources."""
        for node in list(self.document.findall(addnodes.pending_xref)):
            if node.get("reftype") == "myst" and node["reftarget"] not in self.env.found_docs:
                self.mend(node)
        for node in list(self.document.findall(addnodes.download_reference)):
            self.mend(node)

    def mend(self, node: nodes.Element) -> None:
        """Let one link lead to its page or to the sources; what leads nowhere stays, and MyST complains."""
        link, anchor = urldefrag(node["reftarget"])
        anchor = anchor or node.get("reftargetid") or ""
        path = self.path_of(link, is_page=node.get("refdomain") == "doc")
        if not link:
            return
        if page := PAGES.get(path) or self.page_at(path):
            kept = {name: node[name] for name in ("refdoc", "reftype", "refexplicit")}
            to = {"refdomain": "doc", "reftarget": page, "reftargetid": anchor or None}
            node.replace_self(addnodes.pending_xref("", *node.children, **kept, **to))
        elif uri := address(self.root, path):
            uri += f"#{anchor}" if anchor else ""
            node.replace_self(nodes.reference("", *node.children, refuri=uri, internal=False))

    @property
    def root(self) -> Path:
        """The folder of the repository."""
        return Path(self.app.srcdir).parent

    def path_of(self, link: str, *, is_page: bool) -> str:
        """Return the path in the repository that a link means. MyST gives a page outside of ours by its whole path."""
        if is_page and link.startswith("/"):
            return f"{Path(link).relative_to(self.root)}.md"
        folder = "" if self.env.docname in SHOWN else posixpath.dirname(f"docs/{self.env.docname}")
        return posixpath.normpath(posixpath.join(folder, link))

    def page_at(self, path: str) -> str | None:
        """Return the page that a path of the repository is."""
        page = re.fullmatch(r"docs/(.*)\.md", path)
        return page[1] if page and page[1] in self.env.found_docs else None


def setup(app: Sphinx) -> dict[str, bool]:
    """Tell Sphinx of it."""
    app.connect("source-read", show_file)
    app.add_transform(Links)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
