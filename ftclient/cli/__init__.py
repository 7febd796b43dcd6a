"""The `ftclient` command: one thin module a group of commands."""
