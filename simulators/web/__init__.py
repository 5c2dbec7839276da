"""The web side: certificates, the node's HTTPS server and the viewer."""
