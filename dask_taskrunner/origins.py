"""Where the result of a task run's header is: what a later run asks for it. It changes nothing."""

from __future__ import annotations

import weakref
from typing import Any

from dask_taskrunner.driver import Driver
from dask_taskrunner.headers import Header
from dask_taskrunner.machine.sources import children_of


class Origin:
    """Finds the result of a task run as long as its flow run lives.

    Weakly: who keeps a state has not asked the cluster to keep its result.
    """

    __slots__ = ("_driver", "header")

    def __init__(self, driver: Driver, header: Header) -> None:
        self._driver = weakref.ref(driver)
        self.header = header

    def children(self) -> list[tuple[str, Header, Origin]] | None:
        """Return slug, header and origin of each child of a mapped run; None if it is gone."""
        driver = self._driver()
        if driver is None:
            return None
        records = driver.machine.records
        found = []
        for child in children_of(records[self.header.id], records):
            assert child.header is not None, child.plan.slug
            found.append((child.plan.slug, child.header, Origin(driver, child.header)))
        return found

    def share(self) -> Any:
        """Return one more future of the state, or None where it is gone."""
        driver = self._driver()
        return None if driver is None else driver.channel.share(self.header.id)
