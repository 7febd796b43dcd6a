"""ftclient."""
