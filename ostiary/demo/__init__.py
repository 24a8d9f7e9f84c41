"""The demonstration: the main job with all parts, as separate processes on loopback; it checks each step."""
