"""Where the result of a task run's header is: what a later run asks for it. It changes nothing."""

from __future__ import annotations

import weakref
from typing import Any

from dask_taskrunner.driver import Driver
from dask_taskrunner.headers import Header


class Origin:
    """Finds the result of a task run as long as its flow run lives.

    Weakly: who keeps a state has not asked the cluster to keep its result.
    """

    __slots__ = ("_driver", "header")

    def __init__(self, driver: Driver, header: Header) -> None:
        self._driver = weakref.ref(driver)
        self.header = header

    def share(self) -> Any:
        """Return one more future of the state, or None where it is gone."""
        driver = self._driver()
        return None if driver is None else driver.channel.share(self.header.id)
