"""What runs inside a container of the lab: its process 1, and what holds packets back there. Knows nothing of Docker."""
