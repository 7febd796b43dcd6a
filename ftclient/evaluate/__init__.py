"""Asking models the held-out questions, and scoring what they answer."""
