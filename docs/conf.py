"""How Sphinx makes the site of these pages: `make docs`, into target/site.

The pages are Markdown that reads well where the sources are shown. So what only the site needs is here and in `_site`:
the navigation, links to files that are not on the site, and signatures of what is written in Rust.
"""

import sys
from pathlib import Path

import ndshare

sys.path.insert(0, str(Path(__file__).resolve().parent / "_site"))

project = "ndshare"
author = "The ndshare developers"
project_copyright = author
version = release = ndshare.__version__
html_title = f"ndshare {version}"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton", "navigation", "links", "signatures"]
exclude_patterns = ["_site"]
suppress_warnings = ["myst.header"]  # some pages begin a part with a heading of the third level

myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]

# One backtick in a docstring is code, as two are.
default_role = "code"
add_module_names = False
maximum_signature_line_length = 80
python_display_short_literal_types = True
autodoc_typehints_format = "short"
# These stay names: what they stand for is long.
autodoc_type_aliases = {name: name for name in ("ArrayLike", "DTypeLike", "NDArray")}
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
# What these modules are for need not be installed where the site is made.
autodoc_mock_imports = ["dask", "distributed", "ndv", "qtpy", "ray", "zarr"]

html_theme = "furo"
html_static_path = ["_site/static"]
html_css_files = ["site.css"]
html_favicon = "_site/static/favicon.svg"
html_domain_indices = False
html_copy_source = False
html_show_sphinx = False
html_theme_options = {
    "source_repository": "https://github.com/ndshare/ndshare/",
    "source_branch": "main",
    "source_directory": "docs/",
}
smartquotes = False  # "wait" in a docstring is a value
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
pygments_style = "friendly"
pygments_dark_style = "github-dark"
