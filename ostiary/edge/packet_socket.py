"""Sockets of a channel: UNIX SOCK_SEQPACKET, one message to a packet, and the kernel says who the peer is.

Rules:
- Nobody blocks on a send. A full socket is `Busy`; a dead peer (EOF) is `PeerClosed`.
- A packet is at most `MAX_FRAME_BYTES`, or what the kernel lets SO_SNDBUF be where a role may not raise it
  (net.core.wmem_max; its default of 212,992 gives 425,952 bytes). A larger one is the sender's `BadInput`.

The ends are elsewhere: `ostiary.edge.channel` (a client for threads), `ostiary.edge.hub` (a single-threaded
role with many channels), `ostiary.keyholder.recorder_socket` (the keyholder's one channel).
"""

from __future__ import annotations

import os
import socket
import stat
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ostiary.edge.frame import MAX_FRAME_BYTES, MalformedFrame
from ostiary.errors import BadInput, Busy, Misconfigured

# sun_path is 108 bytes with its final NUL (unix(7)).
MAX_PATH_BYTES: Final = 107
_BACKLOG: Final = 128
# The kernel keeps 32 bytes of SO_SNDBUF for itself (net/unix/af_unix.c, unix_dgram_sendmsg).
_SNDBUF_RESERVE_BYTES: Final = 32
# Not in Python's socket module: SO_SNDBUFFORCE (socket(7)).
_SO_SNDBUFFORCE: Final = 32
_RECV_FLAGS: Final = socket.MSG_DONTWAIT | socket.MSG_TRUNC
_SEND_FLAGS: Final = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerCredentials:
    """Who the kernel says is at the other end (SO_PEERCRED), as it was at connect or listen."""

    pid: int
    uid: int
    gid: int


class PeerClosed(Exception):
    """End of file: the peer is gone."""


def check_path(path: Path) -> None:
    """Raise `Misconfigured` for a path that no UNIX socket address can hold."""
    # In bytes as the kernel counts them. connect(2) would say EINVAL and not why.
    length = len(os.fsencode(path))
    if length > MAX_PATH_BYTES:
        message = f"socket path '{path}' has {length} bytes; at most {MAX_PATH_BYTES}: choose a shorter home"
        raise Misconfigured(message)


def peer_of(sock: socket.socket) -> PeerCredentials:
    """SO_PEERCRED of a connected UNIX socket."""
    # struct ucred of unix(7). The kernel filled it at connect or listen: a peer that changed its user since,
    # or handed the descriptor on, is told as it was then.
    pid, uid, gid = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return PeerCredentials(pid=pid, uid=uid, gid=gid)


def widen(sock: socket.socket) -> int:
    """Raise SO_SNDBUF, as far as this process may, so that `MAX_FRAME_BYTES` fit; return the largest packet
    in bytes.
    """
    # Twice, so that a largest frame fits while another is on its way (the kernel doubles it again).
    # SO_SNDBUFFORCE passes net.core.wmem_max, but wants CAP_NET_ADMIN, which a role under a user of its own
    # lacks.
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, 2 * MAX_FRAME_BYTES)
    except OSError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * MAX_FRAME_BYTES)
    granted = sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
    return min(MAX_FRAME_BYTES, granted - _SNDBUF_RESERVE_BYTES)


def listen(path: Path, *, mode: int, gid: int | None) -> socket.socket:
    """Open a listening SEQPACKET socket at `path`, replacing one that a dead role left there."""
    check_path(path)
    if path.exists() and not stat.S_ISSOCK(path.lstat().st_mode):
        raise Misconfigured(f"'{path}' exists and is not a socket")
    # Left by a role that was killed; two roles of one service never listen at one path at a time, because the
    # supervisor starts the second after the first has ended.
    path.unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        sock.bind(os.fspath(path))
        # Between bind and listen nobody can connect yet, so the mode is right before the first peer.
        if gid is not None:
            os.chown(path, -1, gid)
        path.chmod(mode)
        sock.listen(_BACKLOG)
    except OSError as exc:
        sock.close()
        raise Misconfigured(f"can't listen on '{path}': {exc.strerror}") from exc
    return sock


class Connection:
    """One connected socket with its receive buffer; owned by one thread at a time."""

    __slots__ = ("_buffer", "_view", "limit_bytes", "sock")

    def __init__(self, sock: socket.socket, buffer: bytearray) -> None:
        """`buffer` has `MAX_FRAME_BYTES` and may be shared by connections of one thread."""
        self.sock = sock
        self.limit_bytes = widen(sock)
        self._buffer = buffer
        self._view = memoryview(buffer)

    def send(self, packet: bytes) -> None:
        """Hand one packet to the kernel. `Busy` where the socket is full, `BadInput` where the packet is too
        large, `PeerClosed`.
        """
        if len(packet) > self.limit_bytes:
            raise BadInput(f"message of {len(packet)} bytes; a channel takes {self.limit_bytes}")
        try:
            self.sock.send(packet, _SEND_FLAGS)
        except BlockingIOError as exc:
            raise Busy("channel is full") from exc
        except OSError as exc:
            raise PeerClosed from exc

    def receive(self) -> memoryview | None:
        """Take the next packet (valid until the next call) or None; `PeerClosed`, `MalformedFrame`."""
        try:
            # MSG_TRUNC: the packet's real length, also where it is larger than the buffer (recv(2)).
            length = self.sock.recv_into(self._buffer, 0, _RECV_FLAGS)
        except BlockingIOError:
            return None
        except OSError as exc:
            raise PeerClosed from exc
        # SEQPACKET: an empty packet can't be told from the end of file; no frame is empty.
        if length == 0:
            raise PeerClosed
        if length > MAX_FRAME_BYTES:
            raise MalformedFrame(f"packet of {length} bytes")
        return self._view[:length]

    def close(self) -> None:
        self._view.release()
        self.sock.close()
