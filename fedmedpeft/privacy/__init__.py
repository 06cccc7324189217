"""Differential privacy: what it costs, who has paid how much, and the noise itself."""
