"""Formulas: the approved expressions by which the keyholder uses a secret (notation, checks, evaluation; all
pure).
"""
