"""Which bodies ran in this process. A task is pickled with what it refers to, but not with this
list: it is imported by its name.
"""

from __future__ import annotations

#: In the order in which they began.
RAN: list[str] = []


def ran(name: str) -> None:
    RAN.append(name)
