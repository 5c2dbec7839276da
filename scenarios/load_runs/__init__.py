"""Load runs as the judging side sees them: planned, played by Locust in a process of its own, read back, drawn."""
