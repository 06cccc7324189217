"""A whole federation of real processes on this machine: how it starts, what it survives, and what a round costs."""
