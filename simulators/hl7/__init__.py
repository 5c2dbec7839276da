"""HL7 v2 over MLLP: framing, messages, the interface engine and the listener."""
