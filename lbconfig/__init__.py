"""The balancer as data and as a thing to steer: site files, its configuration, its run-time API."""
