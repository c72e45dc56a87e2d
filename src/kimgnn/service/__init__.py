"""The prediction service: models over HTTP, computed in batches."""
