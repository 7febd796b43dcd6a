"""Jobs: what to ask for, launching exactly once, following, and what came out."""
