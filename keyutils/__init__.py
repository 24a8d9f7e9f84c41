"""Linux key retention service: keys, its upcall, and a backend for the `keyring` library."""
