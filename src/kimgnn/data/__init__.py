"""Structures and labels: from files to KLIFF configurations, their weights, splits and statistics."""
