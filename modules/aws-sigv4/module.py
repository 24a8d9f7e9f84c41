"""AWS Signature Version 4: a request to the holes of its formula. All of it is public.

A request has `method`, `url` (or `host`, `path`, `query`), `headers` (a dict, or a list of [name, value]),
`payload_sha256`, `region` and `service`. A header X-Amz-Date fixes the time; without one it is the clock's.
"""

# SHA-256 of no octets: the payload of a request without a body.
EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

# Proxies and HTTP libraries add or change these on the way, so a signature over them would break. They are
# what botocore leaves out (SIGNED_HEADERS_BLACKLIST in botocore/auth.py), and the signature's own header.
UNSIGNED = (
    "authorization", "baggage", "connection", "expect", "keep-alive", "proxy-authenticate",
    "proxy-authorization", "te", "traceparent", "tracestate", "trailer", "transfer-encoding", "upgrade",
    "user-agent", "x-amzn-trace-id",
)


def sign(request, credential, clock):
    service = request["service"]
    s3 = is_s3(service)
    host, path, query = target(request)
    headers = signed_headers(request, host)
    epoch = stamp_to_epoch(headers, clock)
    headers["x-amz-date"] = format_stamp(epoch)
    # The token of temporary keys is a header like any other, and is signed.
    if "session_token" in credential:
        headers["x-amz-security-token"] = credential["session_token"]
    payload = request.get("payload_sha256", EMPTY_SHA256)
    if s3:
        headers["x-amz-content-sha256"] = payload
    return {
        "formula": "s3_headers" if s3 else "headers",
        "holes": {
            "t": epoch,
            "method": request["method"],
            # S3 signs the path as it is sent; all others sign it normalised and encoded once more.
            "path": uri_encode(path, "/%") if s3 else uri_encode(normalize_path(path), "/"),
            "region": request["region"],
            "service": service,
            "payload": payload,
            "query": rows([(uri_encode(name), uri_encode(value)) for name, value in parse_query(query)]),
            "headers": rows([(name, headers[name]) for name in headers]),
        },
    }


def presign(request, credential, clock):
    host, path, query = target(request)
    headers = signed_headers(request, host)
    return {
        "formula": "query",
        "holes": {
            "t": clock["epoch"],
            "method": request["method"],
            "path": uri_encode(path, "/%"),
            "region": request["region"],
            "service": request["service"],
            "expires": request["expires"],
            "query": rows([(uri_encode(name), uri_encode(value)) for name, value in parse_query(query)]),
            "headers": rows([(name, headers[name]) for name in headers]),
        },
    }


def sign_chunk(request, credential, clock):
    return {
        "formula": "chunk",
        "holes": {
            "t": parse_stamp(request["stamp"]),
            "region": request["region"],
            "service": request["service"],
            "previous": request["previous"],
            "payload": request["payload_sha256"],
        },
    }


def is_s3(service):
    return service == "s3" or service.startswith("s3-")


def target(request):
    if "url" in request:
        parts = parse_url(request["url"])
        return parts["host"], parts["path"], parts["query"]
    return request["host"], request.get("path", "/"), request.get("query", "")


def signed_headers(request, host):
    headers = {"host": host}
    for name, value in fold_headers(request.get("headers", [])):
        if name not in UNSIGNED:
            headers[name] = value
    return headers


def stamp_to_epoch(headers, clock):
    if "x-amz-date" in headers:
        return parse_stamp(headers["x-amz-date"])
    return clock["epoch"]


def rows(pairs):
    return [{"name": name, "value": value} for name, value in sort_pairs(pairs)]
