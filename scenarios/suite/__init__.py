"""pytest's side of the catalogue: its options, what a session shares, fixtures, and the way from a test to its verdict."""
