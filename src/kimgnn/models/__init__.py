"""Architectures: graph -> node features. One a file, its options beside it."""
