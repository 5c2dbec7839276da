"""What is handed over: the verdict, the report and its writers."""
