"""local_backend."""
