"""Forces and stress: the only place where a derivative is taken."""
