"""Load: the clinical model of the demand, and Locust users that put it on the VIPs.

Only the Locust files of this folder import locust, which patches the process that imports it: `plan`, `records` and
`model` never do, so that pytest and the command can read them.
"""
