"""Preflight: all that can be known of a hospital's installation before it joins a run. Nothing is trained or sent."""
