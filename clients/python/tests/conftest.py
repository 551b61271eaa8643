"""What tests share: a fake server in the process, and asyncio without a plugin."""

import asyncio
import inspect
import os
from collections.abc import Callable
from typing import Any

import pytest

DEADLINE_S = 20


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> "bool | None":
    """Runs coroutine functions, each in a loop of its own and with a deadline."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in inspect.signature(pyfuncitem.obj).parameters}
    asyncio.run(asyncio.wait_for(pyfuncitem.obj(**arguments), DEADLINE_S))
    return True


@pytest.fixture
def server_url() -> str:
    """The URL of the real server; tests with it are marked `server`."""
    url = os.environ.get("FANLINE_URL")
    if not url:
        pytest.skip("FANLINE_URL names no server")
    return url


async def eventually(is_true: "Callable[[], Any]") -> Any:
    """Waits until something holds, and returns it."""
    while not (found := is_true()):  # noqa: ASYNC110
        await asyncio.sleep(0.005)
    return found
