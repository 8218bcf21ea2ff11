"""Views of the pages, by noun. They read through queries and permissions, and write through services only."""
