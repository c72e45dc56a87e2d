"""OpenKIM's verification checks, and what they are made of."""
