"""Active learning: a committee explores, asks for the labels that it lacks, and learns from them."""
