"""From a trained network to files that a simulator runs."""
