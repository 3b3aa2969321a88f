"""Who is next: the clients take turns, each with its own jobs in order. Holds no lock: the board has one."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Generic, TypeVar

from lesionbrush.server.jobs.errors import QueueFull

Item = TypeVar("Item")


class FairQueue(Generic[Item]):
    """At most `capacity` items in all and `per_client` of one client.

    A client with a hundred jobs and one with a single job are served in turns, so the one waits for one.
    """

    def __init__(self, capacity: int, per_client: int) -> None:
        self.capacity, self.per_client = capacity, per_client
        self._lines: OrderedDict[str, deque[Item]] = OrderedDict()

    def __len__(self) -> int:
        return sum(len(line) for line in self._lines.values())

    def put(self, client: str, item: Item, retry_s: int) -> None:
        """Raises QueueFull, which says `retry_s`."""
        own = len(self._lines.get(client, ()))
        if len(self) >= self.capacity:
            raise QueueFull(
                f"{self.capacity} jobs are waiting, which is all this server lets wait: "
                f"submit again in {retry_s} s",
                retry_s,
            )
        if own >= self.per_client:
            raise QueueFull(
                f"{own} of your jobs are waiting, which is all one client may have: "
                f"wait for some of them, then submit again",
                retry_s,
            )
        self._lines.setdefault(client, deque()).append(item)

    def take(self) -> Item | None:
        """The next item; its client goes to the end of the round."""
        if not self._lines:
            return None
        client, line = self._lines.popitem(last=False)
        item = line.popleft()
        if line:
            self._lines[client] = line
        return item

    def remove(self, client: str, item: Item) -> bool:
        """False when it does not wait."""
        line = self._lines.get(client)
        if line is None or item not in line:
            return False
        line.remove(item)
        if not line:
            del self._lines[client]
        return True

    def in_order(self) -> list[Item]:
        """All that wait, in the order in which they will be taken."""
        lines = list(self._lines.values())
        rounds = max(map(len, lines), default=0)
        return [line[turn] for turn in range(rounds) for line in lines if turn < len(line)]
