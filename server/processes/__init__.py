"""Flower's processes on the server's machine: started, watched, asked."""
