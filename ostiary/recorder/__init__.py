"""The recorder: the one writer of a service's store, and the only way to its keyholder."""
