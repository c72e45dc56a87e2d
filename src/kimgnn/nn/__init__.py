"""Small torch modules that script and export: bases, cutoffs, activations."""
