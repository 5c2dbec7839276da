"""The endpoints on both sides of the balancer: modalities, RIS and viewers, and the Mach7 nodes."""
