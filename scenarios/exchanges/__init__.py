"""The exchanges that function checks are made of: one module for each service, each case an exchange and its answer."""
