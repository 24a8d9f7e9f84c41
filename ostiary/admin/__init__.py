"""The operator's access to a service: verbs over a local socket, served by a process of its own."""
