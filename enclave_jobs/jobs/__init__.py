"""Work for sites, leased to their agents one job at a time."""
