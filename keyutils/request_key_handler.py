"""The program behind the kernel's upcall: ask a certificate manager for an agent's key and instantiate it.

request_key(2) misses -> kernel runs /sbin/request-key -> conf line `create user ostiary:* * HANDLER %k` ->
here. `keyutils.install` installs a copy of this file that stands alone, beside a program of a few lines that
imports it: an import uses the compiled form, which saves 1.7 ms over compiling each time.

Rules:
- It imports only modules that load within a millisecond: every cold request of an agent waits for this
  interpreter.
- Everything is bounded: 3 s for all managers together, and a timer ends the process at 4 s, because the
  requester cannot be killed meanwhile.
- The claim token (callout) and the key never appear in argv, environ, a log or a file.
- The requester can neither die nor be replaced while this process runs, so its pid is proof for as long as
  the manager takes to answer.
- Order of keyctl(2): CHOWN to root (whose quota is charged), SETPERM, SET_TIMEOUT, INSTANTIATE (which ends
  the authority).
- A refusal is a negative key with a precise errno for some seconds; anything unforeseen is EAGAIN for 1 s.

The managers are the files in `MANAGER_DIRECTORIES`, in order, so installed ones come before those of demos
and tests. Line 1 is a socket path, line 2 the uid that must be listening there. The handler asks them one
after the other until one knows the agent.
"""

import _ctypes
import _json  # the C half of json, below a tenth of its cost
import _signal  # type: ignore[import-not-found] # no stubs; `signal` itself would import enum
import _socket
import binascii
import errno
import posix
import sys
import time

WIRE_VERSION = 1  # of the request and answer below; a manager and an installed handler must agree
MANAGER_DIRECTORIES = ("/etc/ostiary/managers.d", "/run/ostiary-managers")
PREFIX = b"ostiary:"
AGENT_KEY_PERMISSIONS = 0x0B290000  # keyutils.permissions.AGENT_KEY
BUDGET_S = 3.0  # a manager waits up to 2 s for a certificate (certmgr.api.UPCALL_WAIT_S)
KILL_S = 4.0
NEGATIVE_S = 1
MAX_NEGATIVE_S = 60  # as long as the kernel itself caches an upcall that failed without a word
MAX_TIMEOUT_S = 400 * 86_400
MAX_ANSWER_BYTES = 65_536
MAX_PAYLOAD_BYTES = 32_767
MAX_TEXT_BYTES = 4_096 + 128  # description or callout, and before the former "user;UID;GID;MASK;"
MAX_LISTING_BYTES = 8 << 20
REFUSALS = {
    "EKEYREJECTED": errno.EKEYREJECTED,  # a bad, spent or foreign claim token
    "EKEYREVOKED": errno.EKEYREVOKED,  # the agent is revoked
    "EAGAIN": errno.EAGAIN,  # not now
    "EDQUOT": errno.EDQUOT,
    "ENOKEY": errno.ENOKEY,  # this manager doesn't know the agent: the next one is asked
}

# linux/keyctl.h, linux/prctl.h, asm/unistd.h
GET_KEYRING_ID, CHOWN, SETPERM, DESCRIBE, READ = 0, 4, 5, 6, 11
INSTANTIATE, SET_TIMEOUT, REJECT = 12, 15, 19
AUTHORITY = -7  # KEY_SPEC_REQKEY_AUTH_KEY; reading it gives the callout
PR_SET_DUMPABLE = 4
KEYCTL_NUMBERS = {"x86_64": 250, "aarch64": 219, "riscv64": 219}


class Fault(Exception):
    """A condition that an operator should see; the text is constant and may be logged."""


class Refused(Exception):
    """The manager's answer: no key, but this errno for so many seconds."""

    def __init__(self, code: int, negative_s: int = NEGATIVE_S) -> None:
        super().__init__(code, negative_s)
        self.code = code
        self.negative_s = min(max(negative_s, 1), MAX_NEGATIVE_S)


# Importing ctypes would cost 3.4 ms (measured with Python 3.11); its C half and these three types suffice.
class _Long(_ctypes._SimpleCData):  # type: ignore[type-arg] # noqa: SLF001 - what `ctypes` itself is made of
    _type_ = "l"


class _Char(_ctypes._SimpleCData):  # type: ignore[type-arg] # noqa: SLF001 - the same
    _type_ = "c"


class _Function(_ctypes.CFuncPtr):
    _flags_ = 1 | 8  # FUNCFLAG_CDECL | FUNCFLAG_USE_ERRNO
    _restype_ = _Long


def main(
    argv: "list[str]", prefix: bytes = PREFIX, directories: "tuple[str, ...]" = MANAGER_DIRECTORIES
) -> None:
    """Serve one upcall and end the process: argv[1] is the key's serial, `prefix` begins its description.

    1. Set the timer, and hide this process's memory. 2. Read who asks for which agent. 3. Ask the managers.
    4. Instantiate the key, or reject it.
    """
    # 1. SIGALRM's default action kills; PR_SET_DUMPABLE 0 closes /proc/PID/mem and environ to others.
    _signal.setitimer(_signal.ITIMER_REAL, KILL_S)
    c_function("prctl")(_Long(PR_SET_DUMPABLE), _Long(0))
    key = int(argv[1])
    try:
        # 2. from the kernel, nothing from argv: a description may hold anything, and argv shows in /proc
        agent, uid, gid = parse_description(read_text(DESCRIBE, key), prefix)
        callout = read_text(READ, AUTHORITY)
        pid = requester_pid(read_listing(), keyctl(GET_KEYRING_ID, AUTHORITY, 0), key)
        # 3.
        request = build_request(agent, callout, pid, uid, gid)
        payload, timeout_s = ask_managers(request, load_managers(directories))
        # 4.
        instantiate(key, payload, timeout_s)
    except Refused as refusal:
        keyctl(REJECT, key, refusal.negative_s, refusal.code, 0)
    except BaseException as exc:  # noqa: BLE001 - the requester must get an answer whatever happens
        log(str(exc) if isinstance(exc, Fault) else type(exc).__name__)
        keyctl(REJECT, key, NEGATIVE_S, errno.EAGAIN, 0)
    # The requester waits for this process to end, and shutting the interpreter down costs a millisecond.
    posix._exit(0)  # noqa: SLF001 - public, as os._exit


def c_function(name: str) -> _Function:
    """Return a function of the C library."""
    this_process = _ctypes.dlopen(None, 0)  # type: ignore[arg-type] # NULL: the program itself (dlopen(3))
    return _Function(_ctypes.dlsym(this_process, name))


def keyctl(operation: int, *arguments: object) -> int:
    """Make one call to the key retention service; integers are passed 64 bits wide."""
    wide = [_Long(a) if isinstance(a, int) else a for a in (operation, *arguments)]
    result: int = c_function("syscall")(_Long(KEYCTL_NUMBERS[posix.uname().machine]), *wide)
    if result < 0:
        raise OSError(_ctypes.get_errno(), "keyctl")
    return result


def instantiate(key: int, payload: bytes, timeout_s: int) -> None:
    """Give the key its owner, mask, timeout and payload; EDQUOT if root's own quota is used up."""
    # Measured order: CHOWN after SETPERM fails with EACCES, and after INSTANTIATE there is no authority left.
    # Root's quota pays, because a user's default of 20,000 bytes holds eleven keys of 1.7 kB.
    try:
        keyctl(CHOWN, key, 0, 0)
        keyctl(SETPERM, key, AGENT_KEY_PERMISSIONS)
        keyctl(SET_TIMEOUT, key, timeout_s)
        keyctl(INSTANTIATE, key, payload, len(payload), 0)
    except OSError as exc:
        if exc.errno == errno.EDQUOT:
            raise Refused(errno.EDQUOT) from exc
        raise Fault("the kernel refused the key") from exc


def read_text(operation: int, serial: int) -> bytes:
    """Return the text of DESCRIBE or READ, framed by the length that the kernel returns."""
    # Not by line or NUL: a description and a callout may contain newlines and separators.
    buffer = (_Char * MAX_TEXT_BYTES)()
    length = keyctl(operation, serial, buffer, MAX_TEXT_BYTES)
    if length > MAX_TEXT_BYTES:
        raise Fault("a description or callout is too long")
    return bytes(buffer)[:length]


def parse_description(text: bytes, prefix: bytes = PREFIX) -> tuple[bytes, int, int]:
    """Split `user;UID;GID;MASK;ostiary:AGENT` and its final NUL into agent, uid and gid."""
    _, uid, gid, _, description = text[:-1].split(b";", 4)
    agent = description[len(prefix) :]
    if not description.startswith(prefix) or not agent.isascii() or not 1 <= len(agent) <= 64:
        raise Refused(errno.EKEYREJECTED)
    return agent, int(uid), int(gid)


def read_listing() -> bytes:
    """Return /proc/keys."""
    descriptor = posix.open("/proc/keys", posix.O_RDONLY | posix.O_CLOEXEC)
    listing = b""
    while len(listing) < MAX_LISTING_BYTES:
        piece = posix.read(descriptor, 1 << 20)
        if not piece:
            posix.close(descriptor)
            return listing
        listing += piece
    raise Fault("/proc/keys is too long")


def requester_pid(listing: bytes, authority: int, key: int) -> int:
    """Find the requesting thread in the authorisation key's line of /proc/keys.

    The description of any key may contain a newline and so forge a line, but the true line is always there,
    too. Two matching lines are therefore an attack, and neither counts.
    """
    found = []
    for line in listing.split(b"\n"):
        # serial flags usage timeout permissions uid gid type description (proc_keys(5)), the last being
        # "key:SERIAL pid:PID ci:LENGTH" for an authorisation key
        fields = line.split(None, 8)
        if len(fields) == 9 and fields[0] == b"%08x" % authority and fields[7] == b".request_":
            found.append(fields[8].split())
    if len(found) != 1 or len(found[0]) != 3 or found[0][0] != b"key:%x" % key or found[0][1][:4] != b"pid:":
        raise Fault("/proc/keys does not identify the requester")
    return int(found[0][1][4:])


def build_request(agent: bytes, callout: bytes, pid: int, uid: int, gid: int) -> bytes:
    """Build the HTTP request; a callout that is not UTF-8 cannot be a token and is refused here."""
    # By hand: json would bring `re` with it, at over ten times the cost of its C half; http.client far more.
    try:
        quoted = (
            _json.encode_basestring_ascii(agent.decode()),
            _json.encode_basestring_ascii(callout.decode()),
        )
    except UnicodeDecodeError:
        raise Refused(errno.EKEYREJECTED) from None
    body = '{"agent":%s,"callout":%s,"requester_pid":%d,"requester_uid":%d,"requester_gid":%d}'
    content = (body % (*quoted, pid, uid, gid)).encode()
    head = (
        "POST /v1/upcall HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        "Accept: application/json\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
    )
    return (head % len(content)).encode() + content


def load_managers(directories: tuple[str, ...]) -> list[tuple[str, int]]:
    """Return (socket path, uid) of the managers that root registered, in the order in which to ask them."""
    managers = []
    for directory in directories:
        try:
            status = posix.stat(directory)
            names = sorted(posix.listdir(directory))
        except OSError:
            continue
        if status.st_uid != 0 or status.st_mode & 0o022:
            log("others than root may write to a directory of managers")
            continue
        for name in names:
            if name.startswith("."):
                continue
            try:
                descriptor = posix.open(directory + "/" + name, posix.O_RDONLY | posix.O_CLOEXEC)
                path, uid, *_ = posix.read(descriptor, 4096).decode().split("\n")
                posix.close(descriptor)
                managers.append((path, int(uid)))
            except (OSError, ValueError):
                continue  # removed meanwhile, or of another form
    return managers


def ask_managers(request: bytes, managers: list[tuple[str, int]]) -> tuple[bytes, int]:
    """Ask the listening managers, one after the other, until one knows the agent.

    The managers not asked yet share the time left. ENOKEY if all of them answered and none knows the agent.
    """
    # All are connected first: a dead one costs nothing then, and does not take a share of the time.
    deadline = time.monotonic() + BUDGET_S
    connections = [connect(path, uid) for path, uid in managers]
    live = [connection for connection in connections if connection]
    unheard = len(live) < len(connections) or not live
    for done, connection in enumerate(live):
        until = time.monotonic() + (deadline - time.monotonic()) / (len(live) - done)
        try:
            answer = parse_answer(exchange(connection, request, until))
        except (OSError, Fault):
            unheard = True
            continue
        if answer:
            return answer
    # A manager that did not answer may be the agent's own: EAGAIN, not ENOKEY.
    if unheard:
        raise Fault("no manager answered")
    raise Refused(errno.ENOKEY)


def connect(path: str, uid: int) -> "_socket.socket | None":
    """Connect without waiting; None if nobody, or another user than `uid`, listens."""
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    connection.settimeout(0)
    try:
        connection.connect(path)
    except OSError:
        return None
    # struct ucred { pid_t pid; uid_t uid; gid_t gid; } of the process that called listen(2) (unix(7)):
    # whoever took over the path of a stopped manager must not be sent a token
    peer = connection.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)
    return connection if int.from_bytes(peer[4:8], sys.byteorder) == uid else None


def exchange(connection: "_socket.socket", request: bytes, until: float) -> tuple[int, bytes]:
    """Send one HTTP request and return the status and the content, all before `until` (monotonic seconds)."""
    received = b""
    wanted = None
    while wanted is None or len(received) < wanted:
        left_s = until - time.monotonic()
        if left_s <= 0 or len(received) > MAX_ANSWER_BYTES:
            raise Fault("a manager's answer is late or too long")
        connection.settimeout(left_s)
        if request:
            request = request[connection.send(request) :]
            continue
        piece = connection.recv(MAX_ANSWER_BYTES)
        if not piece:
            raise Fault("a manager closed the connection early")
        received += piece
        if wanted is None and b"\r\n\r\n" in received:
            head, _, _ = received.partition(b"\r\n\r\n")
            wanted = len(head) + 4 + content_length(head)
    head, _, content = received.partition(b"\r\n\r\n")
    return int(head[9:12]), content


def content_length(head: bytes) -> int:
    """Return the value of the one Content-Length header."""
    values = [line[15:] for line in head.split(b"\r\n")[1:] if line[:15].lower() == b"content-length:"]
    if len(values) != 1 or not values[0].strip().isdigit():
        raise Fault("a manager's answer has no Content-Length, or more than one")
    return int(values[0])


def parse_answer(answer: tuple[int, bytes]) -> "tuple[bytes, int] | None":
    """Return payload and timeout, None if this manager does not know the agent; raise Refused or Fault."""
    status, content = answer
    try:
        scan = _json.make_scanner(_Decoder)  # type: ignore[arg-type] # any object with these attributes
        value, _ = scan(content.decode(), 0)
        if status == 200:
            return checked(binascii.a2b_base64(value["payload_b64"]), int(value["timeout_s"]))
        code, negative_s = REFUSALS[value["errno"]], int(value.get("negative_timeout_s", NEGATIVE_S))
    except (ValueError, KeyError, TypeError, AttributeError, StopIteration):
        raise Fault("a manager's answer is malformed") from None
    if code == errno.ENOKEY:
        return None
    raise Refused(code, negative_s)


def checked(payload: bytes, timeout_s: int) -> tuple[bytes, int]:
    """Return payload and timeout if the kernel will take them."""
    if not 1 <= len(payload) <= MAX_PAYLOAD_BYTES or not 1 <= timeout_s <= MAX_TIMEOUT_S:
        raise Fault("a manager's payload or timeout is out of bounds")
    return payload, timeout_s


class _Decoder:
    """The attributes that `_json.make_scanner` reads (the defaults of json.decoder.JSONDecoder)."""

    strict = True
    object_hook = object_pairs_hook = array_hook = None
    parse_float = float
    parse_int = int
    parse_constant = float
    memo: dict[str, str] = {}  # noqa: RUF012 - one answer per process


def log(text: str) -> None:
    """Write to the kernel's log, which limits the rate; constant texts only."""
    # "<4>" is KERN_WARNING; syslog(3) would need a daemon behind /dev/log.
    try:
        descriptor = posix.open("/dev/kmsg", posix.O_WRONLY | posix.O_CLOEXEC)
        posix.write(descriptor, b"<4>ostiary request-key: " + text.encode() + b"\n")
        posix.close(descriptor)
    except OSError:
        pass  # a missing log must not keep the requester waiting
