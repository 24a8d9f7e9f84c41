"""The demonstration step by step: from a one-time token to a signed provider request, and to a revoked agent.

Everything runs as separate processes on loopback, through the same commands and protocols that everybody else
uses. Each step checks what it claims; the first check that fails ends the demonstration.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ostiary.demo import provider
from ostiary.demo.processes import Dialogue, free_port, ostiary_argv
from ostiary.demo.story import Story, ready_roles, wait_for_roles
from ostiary.shipped import demo_program, module_library

APPLICATION = "shop.example"
DOMAIN = "nodes.shop.example"
NODE = f"n1.{DOMAIN}"
BUCKET = "invoices"
# Three requests that the agent sends, one signature that it only looks at, and one of GoGrid's.
SIGNED = 5
"""The number of signatures that the story requests."""
POLICY = """\
@id("components-use-billing")
permit(
  principal in SubSystem::"component",
  action in [Action::"use", Action::"gogrid/sign"],
  resource in Label::"billing"
);
"""
# The kinds of a refusal. The `busy` of a connection that the service shut down is not one.
_REFUSED = frozenset({"forbidden", "unauthenticated"})
GRANTS = """
[grants]
node-controller = ["spawn:component", "spawn:credentials-service", "spawn:reporter"]
certificate-manager = ["enroll:node"]
credentials-service = ["ledger:read"]
component = ["credential:use"]
reporter = ["credential:use"]
"""


def start_ca(story: Story) -> None:
    """Start a CA: root sealed and offline, issuing CA with name constraints, six processes."""
    transcript = story.transcript
    for name in ("ca", "status", "manager", "credentials", "provider"):
        story.ports[name] = free_port()
    listen, status = (f"127.0.0.1:{story.ports[name]}" for name in ("ca", "status"))
    init = ["ca", "init", "--application", APPLICATION, "--node-domain", DOMAIN, "--listen", listen]
    story.ostiary(*init, "--status-listen", status)
    config = story.home / "ca" / "config.toml"
    config.write_text(_with_grants(config.read_text("utf-8")), "utf-8")
    story.serve("ca", "ca", "serve")
    wait_for_roles(story, "ca")
    transcript.check(
        len(ready_roles(story, "ca")) == 6,
        "six processes run: keyholder, recorder, responder, admin, front, status",
    )
    separate = len({_uid_of(role["pid"]) for role in ready_roles(story, "ca")}) == 6
    transcript.tell(
        "each as a user of its own" if separate else "all as one user (start as root to separate them)"
    )


def start_node(story: Story) -> None:
    """Start a node: bootstrap document, pending certificates, dial-back, capabilities."""
    transcript = story.transcript
    address = f"127.0.0.1:{story.ports['manager']}"
    story.bootstrap = story.ostiary("ca", "bootstrap", "--node", NODE, "--address", address)
    # The document holds one-time tokens, so the manager reads it from its standard input.
    document = json.dumps(story.bootstrap).encode()
    argv = ostiary_argv("--home", str(story.home), "certmgr", "serve", "--bootstrap", "-")
    socket_path = str(story.manager_socket)
    story.processes.start(
        "certmgr", [*argv, "--socket", socket_path, "--listen", address], secret_input=document
    )
    story.processes.wait_until(
        lambda: _active(story, "certificate-manager"), "the manager's enrollment", within_s=20
    )
    transcript.check(
        _active(story, "certificate-manager"),
        "the certificate manager proved its address: the CA dialled back to it",
    )
    story.processes.wait_until(
        lambda: _active(story, "node-controller"), "the controller's enrollment", within_s=20
    )
    transcript.check(_active(story, "node-controller"), "so did the node controller, by the same listener")
    status = story.ostiary("certmgr", "status", "--socket", socket_path)
    story.by_kernel = status["upcall"]
    if story.by_kernel:
        transcript.tell("the kernel's request-key upcall asks this manager from now on")
    else:
        transcript.tell(f"agents will use the socket: {status['upcall_lacks']}")
    process = story.processes.start(
        "node-controller", [sys.executable, str(demo_program("node_controller"))], piped=True
    )
    story.controller = Dialogue(process)
    token = story.bootstrap["tokens"]["node-controller"]
    claimed = story.ask_controller(do="claim", socket=socket_path, token=token["token"])
    transcript.check(
        claimed.get("agent") == token["agent"], "the node controller claimed its certificate from the manager"
    )


def start_credentials_service(story: Story) -> None:
    """Start the credentials service: an agent like any other, spawned with a claim token."""
    transcript = story.transcript
    document = story.directory / "bootstrap-public.json"
    # What the service needs of the bootstrap document is public: the root and the ledger's key, not the
    # tokens.
    public = {name: value for name, value in story.bootstrap.items() if name != "tokens"}
    document.write_text(json.dumps(public | {"tokens": {}}), "utf-8")
    approver = str(story.directory / "approver.key")
    init = ["credsvc", "init", "--ca-bootstrap", str(document), "--manager-socket", str(story.manager_socket)]
    # The CA's name is in no DNS here: clients connect to an address and verify the name.
    ca_port = story.ports["ca"]
    named = ["--ca-url", f"https://ca.{APPLICATION}:{ca_port}", "--ca-address", f"127.0.0.1:{ca_port}"]
    story.ostiary(
        *init, *named, "--approver-key", approver, "--passphrase", "-", secret_input=story.passphrase
    )
    listen = f"127.0.0.1:{story.ports['credentials']}"
    serve = ["-m", "ostiary.cli", "--home", str(story.home), "credsvc", "serve"]
    serve += ["--listen", listen, "--claim", "-"]
    spawned = story.ask_controller(
        do="spawn",
        subsystem="credentials-service",
        capabilities=["ledger:read"],
        endpoints=[f"https+tcp://:{story.ports['credentials']}"],
        argv=serve,
        piped=False,
    )
    transcript.check(
        "pid" in spawned,
        f"the node controller spawned it as an agent ({spawned.get('error', 'claim token at once')})",
    )
    wait_for_roles(story, "credsvc")
    transcript.check(
        len(ready_roles(story, "credsvc")) == 5,
        "five processes run: sandbox, keyholder, recorder, admin, front",
    )


def put_credentials(story: Story) -> None:
    """Approve modules with the approver key, seal credentials to the keyholder, and set a policy."""
    transcript = story.transcript
    approver = str(story.directory / "approver.key")
    for module in ("aws-sigv4", "gogrid"):
        story.ostiary("module", "load", str(module_library() / module))
        approve = ["module", "approve", module, "--key", approver, "--passphrase", "-"]
        story.ostiary(*approve, secret_input=story.passphrase)
    active = {row["name"] for row in story.ostiary("module", "list") if row["state"] == "active"}
    transcript.check(
        active == {"aws-sigv4", "gogrid"}, "two credential modules are active, approved by the approver key"
    )
    story.processes.start("provider", provider.provider_argv(story.ports["provider"]))
    story.processes.wait_until(lambda: provider.is_up(story.ports["provider"]), "the provider", within_s=20)
    story.cloud = provider.open_account(story.ports["provider"])
    owned = ["--owner", "component", "--label", "billing"]
    put = ["credential", "put", "billing-aws", "--module", "aws-sigv4", *owned]
    public = ["--field", f"access_key_id={story.cloud.access_key_id}", "--ceiling", "service=s3"]
    story.ostiary(*put, *public, "--secret", "secret_key=-", secret_input=story.cloud.secret_key)
    put = ["credential", "put", "billing-grid", "--module", "gogrid", *owned]
    secret = ["--field", "api_key=demo", "--secret", "shared_secret=-"]
    story.ostiary(*put, *secret, secret_input=story.gogrid_secret)
    names = {row["name"] for row in story.ostiary("credential", "list")}
    transcript.check(names == {"billing-aws", "billing-grid"}, "two credentials are sealed: AWS and GoGrid")
    policy = story.directory / "policy.cedar"
    policy.write_text(POLICY, "utf-8")
    story.ostiary("policy", "set", str(policy))
    transcript.tell("policy: components may use credentials labelled billing")


def spawn_agents(story: Story) -> None:
    """Spawn two agents: policy lets one use credentials; the other has the capability but no rule."""
    for name in ("component", "reporter"):
        spawned = story.ask_controller(
            do="spawn",
            subsystem=name,
            capabilities=["credential:use"],
            endpoints=[],
            argv=[str(demo_program("agent"))],
            piped=True,
        )
        story.transcript.check(
            "agent" in spawned, f"{name} spawned: {spawned.get('error', 'it got a claim token')}"
        )
        story.agents[name] = spawned["agent"]
        claimed = story.ask_agent(name, do="claim", socket=str(story.manager_socket))
        wanted = "request_key" if story.by_kernel else "socket"
        came = (claimed.get("agent"), claimed.get("via"))
        story.transcript.check(
            came == (spawned["agent"], wanted), f"it got key and certificate by {claimed.get('via', claimed)}"
        )
        address = ["127.0.0.1", story.ports["credentials"]]
        url = f"https://{NODE}:{story.ports['credentials']}"
        story.ask_agent(name, do="service", url=url, address=address, credential="billing-aws")


def use_credentials(story: Story) -> None:
    """Let the agent send requests to a provider that verifies their signatures."""
    transcript = story.transcript
    bucket = f"{story.provider_url}/{BUCKET}"
    for method, url, body in (
        ("PUT", bucket, ""),
        ("PUT", f"{bucket}/a.txt", "42 EUR"),
        ("GET", f"{bucket}/a.txt", ""),
    ):
        answer = story.ask_agent("component", do="send", method=method, url=url, body=body)
        transcript.check(answer.get("status") == 200, f"the provider accepted {method} {url} ({answer})")
    signed = story.ask_agent("component", do="sign", operation="sign", request=_a_request(story))
    transcript.check(
        "header.authorization" in signed.get("release", {}),
        "the agent sees the signature it asked for, and no secret",
    )
    now_s = int(time.time())
    token = story.ask_agent("component", do="use", credential="billing-grid", operation="sign", request={})
    release = token.get("release", {})
    # The signature contains the keyholder's time in seconds, which can be a little later than ours.
    expected = {_gogrid_signature(story, now_s + drift_s) for drift_s in range(-1, 5)}
    transcript.check(
        release.get("query.sig") in expected, "GoGrid's token is the MD5 that its documentation specifies"
    )
    denied = story.ask_agent("reporter", do="sign", operation="sign", request=_a_request(story))
    transcript.check(denied.get("kind") == "forbidden", "the other agent is refused")
    transcript.check(bool(denied.get("rule")), f"the refusal names its rule: {denied.get('rule')}")


def revoke_agent(story: Story) -> None:
    """Revoke the agent; it is refused within a second."""
    transcript = story.transcript
    rows = story.ostiary("ca", "certificate", "list", "--agent", story.agents["component"])
    serial = next(row["serial_number"] for row in rows if row["status"] == "active")
    story.ostiary("ca", "certificate", "revoke", serial, "--reason", "keyCompromise")
    revoked_s = time.monotonic()
    answer: dict[str, Any] = {}
    # The service shuts the open connection down, which is no refusal yet; the next one is refused with a
    # reason.
    while answer.get("kind") not in _REFUSED and time.monotonic() - revoked_s < 2.0:
        answer = story.ask_agent("component", do="sign", operation="sign", request=_a_request(story))
    elapsed_s = time.monotonic() - revoked_s
    transcript.check(
        answer.get("kind") in _REFUSED, f"its next request is refused: {answer.get('error', answer)}"
    )
    transcript.check(elapsed_s < 1.0, f"{elapsed_s:.2f} s after the revocation")
    rows = story.ostiary("ca", "certificate", "list", "--agent", story.agents["component"])
    transcript.check(all(row["status"] == "revoked" for row in rows), "the CA lists it as revoked")


def audit(story: Story) -> None:
    """Show and prove all of it from the ledgers."""
    transcript = story.transcript
    for service, kinds in (
        ("ca", {"mint-token", "redeem", "activate", "renew", "spawn", "revoke", "publish-crl"}),
        (
            "credentials",
            {"propose-module", "approve-module", "put-credential", "set-policy", "use", "refuse"},
        ),
    ):
        entries = story.ostiary("audit", "list", "--service", service, "--limit", "1000")
        found = {entry["kind"] for entry in entries}
        transcript.check(kinds <= found, f"the ledger of {service} shows {', '.join(sorted(kinds))}")
        verified = story.ostiary("audit", "verify", "--service", service)
        transcript.check(
            verified["tree_size"] >= len(entries),
            f"and verifies: {verified['tree_size']} entries under a signed checkpoint",
        )
    uses = story.ostiary("audit", "list", "--service", "credentials", "--limit", "1000", "--kind", "use")
    transcript.check(
        len(uses) >= SIGNED, f"each of the {SIGNED} signatures is there, with the rule that allowed it"
    )
    proof = story.ostiary("audit", "prove", str(uses[0]["index"]), "--service", "credentials")
    transcript.check(
        "tlog-proof" in proof["proof"],
        "any of them can be proven to somebody who has only the ledger's public key",
    )


STEPS: tuple[tuple[str, Callable[[Story], None]], ...] = (
    ("A certificate authority starts", start_ca),
    ("A node is bootstrapped, and its certificate manager starts", start_node),
    ("The node controller spawns the credentials service", start_credentials_service),
    ("Modules are approved, credentials put, a policy set", put_credentials),
    ("Agents are spawned and get their keys", spawn_agents),
    ("The agent uses a credential it never sees", use_credentials),
    ("The agent is revoked", revoke_agent),
    ("The ledgers show and prove all of it", audit),
)


def play(story: Story) -> None:
    """Play all steps in order."""
    for title, step in STEPS:
        with story.transcript.step(title):
            step(story)


def _gogrid_signature(story: Story, epoch_s: int) -> str:
    """Compute the signature as GoGrid does; the demonstration knows the secret, because it made it."""
    # MD5 of API key, shared secret and time: GoGrid's choice. An Ostiary formula has to produce it all the
    # same.
    return hashlib.md5(f"demo{story.gogrid_secret}{epoch_s}".encode(), usedforsecurity=False).hexdigest()


def _a_request(story: Story) -> dict[str, Any]:
    return {
        "method": "GET",
        "url": f"{story.provider_url}/{BUCKET}",
        "headers": {},
        "region": provider.REGION,
        "service": "s3",
    }


def _with_grants(config: str) -> str:
    """Return the configuration with this story's grants in place of the default ones."""
    # By text and not by a TOML writer, as an operator with an editor would do it: comments and order stay.
    head, _, tail = config.partition("[grants]")
    rest = tail.split("\n[", 1)
    return head + GRANTS.lstrip() + (f"\n[{rest[1]}" if len(rest) == 2 else "")


def _uid_of(pid: int) -> int:
    # /proc/PID belongs to the process's effective user (proc_pid(5)).
    return Path(f"/proc/{pid}").stat().st_uid


def _active(story: Story, subsystem: str) -> bool:
    rows = story.ostiary("ca", "certificate", "list", "--subsystem", subsystem)
    # Generation 1 is the pending certificate of the bootstrap, 2 the first that carries capabilities.
    return any(row["status"] == "active" and row.get("generation", 1) > 1 for row in rows)
