"""Server enclaves: which a run has or had, and how sites reach them."""
