"""The demonstration: the main job with all parts, as separate processes on loopback, each step told and
checked.
"""
