"""What came to a site, what it trained on, what left it and what it refused: a chained line for each."""
