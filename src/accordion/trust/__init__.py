"""Who may say what runs here: keys, signatures over a package's manifest, rules of a device, TUF repositories.

The manifest holds the digest of every layer, so whoever signs it signs every prefix. No torch; the network is asked by the TUF
client alone.
"""

from accordion.trust.proof import PROOF, PROOF_LIMIT, Proof
from accordion.trust.trust import Trust

__all__ = ["PROOF", "PROOF_LIMIT", "Proof", "Trust"]
