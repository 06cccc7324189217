"""Keys, certificates and kits: what each party of a federation is handed before anything runs."""
