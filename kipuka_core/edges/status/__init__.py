"""What the server tells the world about the certificates of its own CAs: CRLs and OCSP answers."""

from kipuka_core.edges.status.desk import StatusDesk

__all__ = ["StatusDesk"]
