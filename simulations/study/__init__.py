"""Several runs compared: methods x seeds x partitions, and what comes of it."""
