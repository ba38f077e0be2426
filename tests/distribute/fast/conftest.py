"""An exchange, by each of its ways, and two workers."""

from __future__ import annotations

import pytest

from graphflow.distribute.fast.exchange import Exchange
from graphflow.distribute.fast.service import Service
from tests.distribute.fast.asking import SESSION, Echo
from tests.until import PATIENCE


@pytest.fixture(params=[True, False], ids=["local", "remote"])
def exchange(request):
    exchange = Exchange("127.0.0.1", local=request.param)
    yield exchange
    exchange.close()


@pytest.fixture
def services(exchange):
    services = {}
    for name in ("a", "b"):
        services[name] = Service(exchange.invite(name), {SESSION: Echo()}.get)
        exchange.greet(name, PATIENCE)
    yield services
    for service in services.values():
        service.close()
