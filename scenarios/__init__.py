"""What is checked: workloads, faults, checkers, and the catalogue as readable tests."""
