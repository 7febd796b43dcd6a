"""The way out: what a hosted account still has, taken along before it goes dark."""
