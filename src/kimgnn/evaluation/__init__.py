"""What a trained model says about structures, and how far that is from their labels."""
