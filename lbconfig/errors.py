"""What can go wrong in this room.

LoadBalancingError
├── SiteError            (site_file)    a site file cannot be used
├── ConfigurationError   (haproxy)      no configuration can be made from this site on this machine
└── BalancerError        (runtime_api)  the balancer did not do, or did not answer, what it was asked
"""

from __future__ import annotations


class LoadBalancingError(Exception):
    """Anything that the load balancer's room reports; the message says what was expected and what was found."""
