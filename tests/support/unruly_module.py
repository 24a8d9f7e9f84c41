"""A module that does to its worker what its caller says, and what that must be to the caller."""

from __future__ import annotations

from credsvc.sandbox.client.faults import Fault

SOURCE = """
KEPT = []

def sign(n, does):
    KEPT.append(n)
    if does == "raise":
        raise ValueError("no")
    if does == "exhaust":
        return sign(n, does)
    if does == "loop":
        while True:
            pass
    if does == "much":
        return {"formula": "f", "holes": {"x": "a" * 70000}}
    if does == "nonsense":
        return [n]
    if does == "large":
        return {"formula": "f", "holes": {"n": n, "x": "a" * 30000}}
    return {"formula": "f", "holes": {"n": n, "calls": len(KEPT)}}
"""
FAULTS = {
    "raise": Fault.MODULE_RAISED,
    "exhaust": Fault.EXHAUSTED,
    "loop": Fault.TIMEOUT,
    "much": Fault.ANSWER_REFUSED,
    "nonsense": Fault.ANSWER_REFUSED,
}
