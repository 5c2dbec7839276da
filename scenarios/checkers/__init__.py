"""Pure functions from records to findings: one property a file."""
