"""Whole numbers of cases out of shares: by the largest remainders, or by what headers say of the hosts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np

from lesionbrush.cohorts.shares import RANGES, Facts, HostShares, range_of
from lesionbrush.errors import InvalidRequest


def apportion(shares: Sequence[float], count: int) -> list[int]:
    """Whole numbers that are `count` together; the largest remainders are rounded up, the first of equals."""
    exact = np.array(shares) * count
    whole = np.floor(exact + 1e-9).astype(int)
    more = np.argsort(-(exact - whole), kind="stable")[: count - whole.sum()]
    whole[more] += 1
    return [int(one) for one in whole]


def share_out(shares: HostShares, facts: Mapping[str, Facts], total: int) -> dict[str, int]:
    """Cases of each host, so that every field comes as near to its shares as the hosts allow.

    facts: by name; the first of hosts that are alike gets what does not divide. Hosts of which a header does
    not say a field get none. Raises InvalidRequest where no host is left.
    """
    wanted = shares.wanted
    alike: dict[tuple[str, ...], list[str]] = {}
    for name, said in facts.items():
        kinds = [kind_of(said, field, list(keys)) for field, keys in wanted.items()]
        if None not in kinds:
            alike.setdefault(tuple(str(kind) for kind in kinds), []).append(name)
    if not alike:
        raise InvalidRequest(
            f"balance.hosts: none of {len(facts)} CTs says {', '.join(wanted)} as asked for: only headers of "
            "DICOM series do; write other patterns or ranges, or leave the field out"
        )
    counts = dict.fromkeys(facts, 0)
    for (_, names), count in zip(alike.items(), _fill(wanted, list(alike), total), strict=True):
        each, rest = divmod(count, len(names))
        counts |= {name: each + (number < rest) for number, name in enumerate(names)}
    return counts


def _fill(
    wanted: Mapping[str, Mapping[str, float]], kinds: Sequence[tuple[str, ...]], total: int
) -> list[int]:
    """Cases of each kind of host: one after the other goes where most is lacking, all fields together."""
    columns = [(field, key) for field, keys in wanted.items() for key in keys]
    fields = list(wanted)
    has = np.array([[kind[fields.index(field)] == key for field, key in columns] for kind in kinds], float)
    share = np.array([wanted[field][key] for field, key in columns])
    counts, got = np.zeros(len(kinds), int), np.zeros(len(columns))
    for number in range(1, total + 1):
        lacking = has @ (share * number - got)
        best = int(np.lexsort((counts, -np.round(lacking, 9)))[0])
        counts[best] += 1
        got += has[best]
    return [int(one) for one in counts]


def kind_of(facts: Facts, field: str, keys: Sequence[str]) -> str | None:
    """The first of the patterns or ranges that fits a host; None for none, or where nothing is known."""
    value = facts.get(field)
    return None if value is None else next((key for key in keys if _fits(field, key, value)), None)


def _fits(field: str, key: str, value: str | float) -> bool:
    if field in RANGES:
        low, high = range_of(key)
        return low <= float(value) < high
    return fnmatchcase(str(value).casefold(), key.casefold())


@dataclass(frozen=True)
class ShareLine:
    """What of a share comes: wanted, planned: cases or lesions; why: they differ, "" where they do not."""

    what: str
    wanted: float
    planned: int
    why: str = ""

    @property
    def met(self) -> bool:
        """As near as whole numbers allow."""
        return abs(self.wanted - self.planned) < 1


def host_lines(
    shares: HostShares, facts: Mapping[str, Facts], counts: Mapping[str, int]
) -> Iterator[ShareLine]:
    """counts: cases of each host."""
    total = sum(counts.values())
    for field, keys in shares.wanted.items():
        kinds = {name: kind_of(said, field, list(keys)) for name, said in facts.items()}
        hosts, cases = Counter(kinds.values()), Counter[str | None]()
        for name, count in counts.items():
            cases[kinds[name]] += count
        for key, share in keys.items():
            line = ShareLine(f"{field} {key}", share * total, cases[key])
            why = "" if line.met else _why(field, key, hosts)
            yield ShareLine(line.what, line.wanted, line.planned, why)
        if hosts[None]:
            yield ShareLine(f"{field} not known, or in none of these", 0, 0, f"{hosts[None]} CTs get no case")


def _why(field: str, key: str, hosts: Counter[str | None]) -> str:
    if not hosts[key]:
        return f"no CT's {field} fits {key!r} before others that are written: add some, or change the shares"
    return f"{hosts[key]} CTs are, but other fields are to be balanced too: add CTs, or change the shares"
