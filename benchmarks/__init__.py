"""How fast m3 is, beside the other ways to do the same work; see README.md."""
