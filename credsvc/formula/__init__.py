"""Formulas: the approved expressions by which the keyholder uses a secret. All of it is pure."""
