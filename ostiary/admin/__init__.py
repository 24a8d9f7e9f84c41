"""The operator's way in: verbs over a local socket, in a process of its own."""
