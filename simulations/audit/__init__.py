"""Attacks on a run's own configuration, and a page about what they found."""
