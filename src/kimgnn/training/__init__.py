"""Training: KLIFF's GNN trainer, on Lightning."""
