"""Help in place: the words that few readers know, linked where they stand, and a page for each role."""
