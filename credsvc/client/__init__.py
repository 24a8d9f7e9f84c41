"""What an agent's program uses: a typed client (`SigningClient`), and boto3 sessions that sign by the service
(`.boto`).
"""

from credsvc.client.signing import SigningClient

__all__ = ["SigningClient"]
