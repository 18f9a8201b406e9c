"""How the documentation is built: ``tox -e docs``."""

from importlib.metadata import version as distribution_version

project = "m3"
author = "the m3 authors"
copyright = "the m3 authors"
release = distribution_version("m3-pipeline")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
root_doc = "index"

html_theme = "furo"
html_title = f"m3 {release}"

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

napoleon_use_ivar = True  # an attribute described in its class is no second entry of its own
autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_default_options = {"show-inheritance": True}

# The standard library's inventory would need the network; its names are not checked.
nitpick_ignore_regex = [
    ("py:.*", r"(?!m3\b).*"),
    ("py:obj", r"m3\.stages\.(In|Out)"),  # type variables
    ("py:class", r"m3\._(edge\.Edge|loops\.Taker|parking\.Switch)"),  # not public
    ("py:class", r"m3\.(connectors|testing)\._.*"),  # what theirs have in common; likewise
]
