"""A browser without a window, as a person would use it; skipped where there is none."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

import pytest

webdriver = pytest.importorskip("selenium.webdriver")
from selenium.webdriver.chrome.service import Service  # noqa: E402

SIZE = "1400,1000"


@pytest.fixture(scope="session")
def _driver(tmp_path_factory):
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("there is no chromium, or no chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    profile = tmp_path_factory.mktemp("profile")
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                     f"--window-size={SIZE}", f"--user-data-dir={profile}"):  # fmt: skip
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, Service(driver))
    driver.set_script_timeout(60)
    yield driver
    driver.quit()


@pytest.fixture
def browser(_driver):
    """The browser; when the test is over, no script has complained."""
    _driver.get("about:blank")
    _driver.get_log("browser")
    yield _driver
    errors = [entry["message"] for entry in _driver.get_log("browser") if is_error(entry)]
    assert errors == []


def is_error(entry) -> bool:
    # What is missing on Jupyter's own server is no fault of what is shown; nor is that Notebook 7
    # looks for settings and commands that it does not have, in an empty notebook, too.
    is_jupyters = entry["source"] == "network" or "/static/notebook/" in entry["message"]
    return entry["level"] == "SEVERE" and not is_jupyters


#: What people open notebooks in: how it is started, and where it shows a notebook.
APPS = {
    "jupyterlab": (
        ["--LabApp.news_url=", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"],
        "lab/tree/{}?reset",
    ),
    "notebook": ([], "notebooks/{}"),
}


@pytest.fixture(params=APPS)
def jupyter(request, tmp_path, unused_tcp_port):
    """JupyterLab, or Notebook 7, in a directory; gives where it shows a notebook, and that."""
    pytest.importorskip(request.param)
    options, place = APPS[request.param]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    env |= {"JUPYTER_CONFIG_DIR": str(tmp_path / "config"), "HOME": str(tmp_path)}
    command = [
        sys.executable, "-m", request.param, "--no-browser", "--allow-root",
        f"--port={unused_tcp_port}", "--IdentityProvider.token=", "--expose-app-in-browser",
        f"--ServerApp.root_dir={tmp_path}", *options,
    ]  # fmt: skip
    address = f"http://localhost:{unused_tcp_port}"
    process = subprocess.Popen(
        command, cwd=tmp_path, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with suppress(OSError), urllib.request.urlopen(f"{address}/api") as answer:
                if answer.status == 200:
                    break
            time.sleep(0.2)
        yield f"{address}/{place}", tmp_path
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            # It hangs where it is told to end while it begins something; its kernels end with it.
            process.kill()
            process.wait()


@pytest.fixture
def unused_tcp_port():
    import socket

    with socket.socket() as found:
        found.bind(("localhost", 0))
        return found.getsockname()[1]
