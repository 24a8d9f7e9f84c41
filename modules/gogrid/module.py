"""GoGrid: the signature depends on the time alone, not on the request."""


def sign(request, credential, clock):
    return {"formula": "query", "holes": {"t": clock["epoch"]}}
