"""Formula-driven pretraining of the embedded backbone: every image is computed from a formula, none is a photograph."""
