"""Configuration -> atom graph, one transform a file."""
