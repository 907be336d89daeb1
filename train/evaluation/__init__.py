"""Metrics, decision rules and results."""
