"""The federation's side: the Flower ServerApp, its rounds, and what a run leaves behind."""
