"""Django's own backend for PostgreSQL, with a pool that is whole again soon after the server was gone."""
