"""EST with an independent client: strongSwan's `pki` fetches the CA's certificates, enrolls with a token, and
renews with a certificate.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest
from cryptography import x509

from ostiary.certificate import serial_hex
from ostiary.identity import identity_of
from tests.support.ca_service import CA_NODE, RunningCA
from tests.support.need import require_file, require_kernel, require_tool
from tests.support.waiting import PATIENCE_S

pytestmark = pytest.mark.slow
EC_PLUGIN = Path("/usr/lib/ipsec/plugins/libstrongswan-openssl.so")


class Pki:
    """strongSwan's pki in a mount namespace of its own, where the CA's name leads to loopback."""

    def __init__(self, ca: RunningCA) -> None:
        self._tool = require_tool("pki")
        self._unshare = require_tool("unshare")
        require_file(EC_PLUGIN, why="strongSwan's elliptic curves (scripts/system-packages.txt)")
        self.directory = ca.home / "strongswan"
        self.directory.mkdir(exist_ok=True)
        self._hosts = self.directory / "hosts"
        self._hosts.write_text(f"127.0.0.1 {CA_NODE}\n")
        self._configuration = self.directory / "strongswan.conf"
        self._configuration.write_text("libtls {\n  version_min = 1.3\n  version_max = 1.3\n}\n")
        self.url = f"https://{CA_NODE}:{ca.address[1]}"
        self.anchors = [
            *("--cacert", str(ca.public / "root.pem")),
            *("--cacert", str(ca.public / "issuing.pem")),
        ]
        require_kernel("user and mount namespaces for this user", present=self._run("true").returncode == 0)

    def _run(self, command: str) -> subprocess.CompletedProcess[bytes]:
        script = f"mount --bind {shlex.quote(str(self._hosts))} /etc/hosts && exec {command}"
        return subprocess.run(
            [self._unshare, "--map-root-user", "--mount", "sh", "-c", script],
            env=os.environ | {"STRONGSWAN_CONF": str(self._configuration)},
            capture_output=True,
            check=False,
            timeout=PATIENCE_S,
        )

    def __call__(self, *arguments: str) -> bytes:
        done = self._run(shlex.join([self._tool, *arguments]))
        assert done.returncode == 0, done.stderr.decode()[-2000:]
        return done.stdout

    def request(self, name: str) -> tuple[Path, Path]:
        """A key and a request for it, whose subject asks for the sub-system only."""
        key, csr = self.directory / f"{name}.key", self.directory / f"{name}.csr"
        key.write_bytes(self("--gen", "--type", "ecdsa", "--size", "256"))
        csr.write_bytes(self("--req", "--type", "priv", "--in", str(key), "--dn", "O=component-harness"))
        return key, csr


@pytest.fixture(scope="module")
def ca(shared_ca: RunningCA) -> RunningCA:
    require_tool("pki")
    return shared_ca


def test_strongswan_enrolls_and_renews(ca: RunningCA) -> None:
    pki = Pki(ca)
    fetched = pki.directory / "fetched"
    pki(
        *("--estca", "--url", pki.url, "--cacert", str(ca.public / "root.pem")),
        *("--caout", str(fetched), "--outform", "pem"),
    )
    assert fetched.with_suffix(".pem").exists() or fetched.exists()

    made = ca.token("component-harness", capabilities=("credential:use",))
    key, csr = pki.request("first")
    arguments = ["--est", "--url", pki.url, *pki.anchors]
    first = pki(*arguments, "--in", str(csr), "--userpass", f"{made['id']}:{made['token']}")
    leaf = pki.directory / "leaf.der"
    leaf.write_bytes(first)
    certificate = x509.load_der_x509_certificate(first)
    assert identity_of(certificate).capabilities == {"credential:use"}

    ca.age(serial_hex(certificate.serial_number))
    _, csr = pki.request("second")
    second = pki(*arguments, "--in", str(csr), "--cert", str(leaf), "--key", str(key))
    renewed = x509.load_der_x509_certificate(second)
    assert identity_of(renewed) == identity_of(certificate)
    assert renewed.serial_number != certificate.serial_number
