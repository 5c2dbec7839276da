"""The lab in containers as the host sees it: the project, its keeper, what breaks it, and how its parts are spoken to."""
