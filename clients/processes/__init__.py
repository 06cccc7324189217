"""The processes at a site: the worker that has the data, and Flower's, which have the network."""
