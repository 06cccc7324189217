"""The site decides: which runs it takes part in, when, and what of its answers may leave."""
