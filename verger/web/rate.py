"""How many photos one client may send: a leaky bucket that keeps one number a client.

Generic cell rate algorithm, ITU-T I.371 (2004), appendix I.
"""

import ipaddress
from collections import OrderedDict

BURST = 10  # photos that a client may send at once before its rate counts
MOST_CLIENTS = 10_000  # remembered; the one that was silent longest is forgotten first


class RateLimit:
    """A limit for each client, in memory of a fixed size.

    Args:
        per_minute: photos that a client may send in the long run; 0 sets no limit.
    """

    def __init__(self, per_minute: int) -> None:
        self._interval = 60 / per_minute if per_minute else 0.0
        self._due: OrderedDict[str, float] = OrderedDict()  # when a client's bucket will be empty

    def seconds_to_wait(self, client: str, now: float) -> float:
        """0 where a photo may come now, which is then counted; otherwise how long to wait. `now` is in seconds."""
        key = network_of(client)
        due = max(self._due.get(key, now), now)
        wait = due - now - (BURST - 1) * self._interval
        if wait > 0:
            return wait
        self._due[key] = due + self._interval
        self._due.move_to_end(key)
        if len(self._due) > MOST_CLIENTS:
            self._due.popitem(last=False)
        return 0.0


def network_of(client: str) -> str:
    """An IPv4 address, or the /64 of an IPv6 one: that is what one household gets."""
    try:
        address = ipaddress.ip_address(client)
    except ValueError:
        return client
    return client if address.version == 4 else str(ipaddress.ip_network((address, 64), strict=False))
