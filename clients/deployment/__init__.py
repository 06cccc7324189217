"""A real hospital: the daemon that owns its data, and the way that Flower's processes reach it."""
