"""Random numbers that depend on where they are asked for, and not on what was asked before.

Each place (member, lead, chunk...) has a stream of its own of a counter-based generator (Philox;
Salmon et al. 2011), so that any part of a simulation can be computed alone, in any order.
"""

from hashlib import blake2b

import numpy as np

__all__ = ["generator"]

_WORD = 2**64 - 1


def generator(seed: int, purpose: str, *address: int) -> np.random.Generator:
    """Return the generator of one place.

    Parameters
    ----------
    seed
        Of the simulation, any integer.
    purpose
        What the numbers are for: other purposes have other streams.
    address
        At most three integers that say where they are for.

    Notes
    -----
    The key is a hash of seed and purpose, the address fills the high words of the counter: streams
    are 2^64 blocks apart, so that none reaches the next one.
    """
    key = np.frombuffer(blake2b(f"{seed}/{purpose}".encode(), digest_size=16).digest(), "<u8")
    counter = [0, *(number & _WORD for number in address), *(0,) * (3 - len(address))]
    return np.random.Generator(np.random.Philox(counter=counter, key=key))
