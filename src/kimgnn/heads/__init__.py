"""Heads: node features -> what is predicted. One a file, its options beside it."""
