"""``m3 services``: what is told of services and of their configuration."""

import json
import tomllib

import pytest

SERVICES = """
from m3 import Component
from m3.messaging import Exchange, Queue
from m3.services import (
    BROADCAST, SINGLETON, DecoratorDependency, EventDispatcher, Language, Publisher, Service,
    consume, event_handler, http, once, rpc, timer,
)

letters = Exchange("letters", type="topic")

class Pool(Component):
    def setup(self):
        raise RuntimeError("it was started")

class LineFeed(DecoratorDependency):
    def __init__(self, path):
        super().__init__()
        self.path = path

    def trigger(self):
        return {"path": self.path, "since": None}

class Stock:
    name = "stock"
    dispatch = EventDispatcher()

    @rpc
    def take(self, thing, count=1):
        pass

class Orders:
    language = Language()
    publish = Publisher(exchange=letters)
    stock = Service("stock")
    pool: Pool
    spare: "Pool | None"
    count: int

    @event_handler("stock", "sold")
    @event_handler("stock", "price", handler_type=SINGLETON)
    def note(self, payload): pass

    @event_handler("shop", "prices", handler_type=BROADCAST)
    def forget(self, payload): pass

    @timer(interval=5, eager=True)
    @timer(cron="0 9 * * mon-fri")
    def sweep(self): pass

    @consume(Queue("inbox", letters, "in.*", dead_letter="undelivered"))
    def receive(self, payload): pass

    @http("GET,POST", "/items/<int:number>")
    def item(self, request, number, *, url="amqp://me:topsecret@here"): pass

    @once
    def begin(self): pass

    @LineFeed.decorator("in.txt")
    def read(self, line): pass
"""

TEXT = """\
stock  (shop:Stock)
  max_workers  10
  entrypoints
    rpc  take(thing, count=1)  queue rpc-stock
  dependencies
    dispatch  EventDispatcher

orders  (shop:Orders)
  max_workers  10
  entrypoints
    once           begin()
    event_handler  forget(payload)                           event shop.prices, handler_type \
broadcast, queue evt-shop-prices--orders.forget-*, dead_letters dead-orders
    http           item(request, number, *, url='amqp://me:***@here')  methods GET | POST, path \
/items/<int:number>
    event_handler  note(payload)                             event stock.price, handler_type \
singleton, queue evt-stock-price, dead_letters dead-stock
    event_handler  note(payload)                             event stock.sold, handler_type \
service_pool, queue evt-stock-sold--orders.note, dead_letters dead-orders
    line_feed      read(line)                                path in.txt
    consume        receive(payload)                          queue inbox, bindings letters in.*, \
dead_letters undelivered
    timer          sweep()                                   cron 0 9 * * mon-fri
    timer          sweep()                                   interval 5, eager True
  dependencies
    language  Language   key language
    publish   Publisher  exchange letters
    stock     Service    service stock
  resources
    pool   Pool
    spare  Pool  or None
"""

FILE = """\
AMQP_URI = "amqp://me:${PW}@rabbit//"
max_workers = 4
services = ["shop:Stock"]
ratio = nan
since = 2020-01-01T00:00:00Z
day = 2020-01-01
smtp_password = "topsecret"
pin.secret = 1234
header = "Bearer ${API_TOKEN}"
"a key" = "tab\\t ${WORD} \\"quoted\\" \\u0007"

[bus_options]
heartbeat = 10
tls = { ca_certs = "/x", keyfile = "/y" }

[db.main]
url = "postgresql://me:topsecret@db/x"
shards = [{ name = "a", url = "x://u:topsecret@a" }, { name = "${WORD}" }]

[empty]
"""

VARIABLES = {"PW": "top secret@/", "API_TOKEN": "topsecret", "WORD": "word"}


@pytest.fixture
def shop(command):
    """The command in a folder with services, where a bus would have no library."""
    (command.folder / "app" / "shop.py").write_text(SERVICES)
    (command.folder / "app" / "kombu.py").write_text("raise ModuleNotFoundError(name='kombu')")
    return command


@pytest.fixture
def configured(shop):
    """The same, with a configuration."""
    (shop.folder / "services.toml").write_text(FILE)
    return shop


def test_services_are_listed(shop):
    """What calls each method, what it needs; passwords are masked, and nothing is started."""
    done = shop.run("services", "list", "shop")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == TEXT


def test_services_are_listed_as_json(configured):
    """One object; the configuration counts, and the bus of it is not needed."""
    arguments = ("--json", "--config", "services.toml")
    done = configured.run("services", "list", *arguments, **VARIABLES)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == {
        "schema": 1,
        "services": [
            {
                "name": "stock",
                "class": "shop:Stock",
                "max_workers": 4,
                "entrypoints": [
                    {
                        "kind": "rpc",
                        "method": "take",
                        "signature": "(thing, count=1)",
                        "trigger": {"queue": "rpc-stock"},
                    }
                ],
                "dependencies": [
                    {"name": "dispatch", "class": "m3.services.events:EventDispatcher"}
                ],
                "resources": [],
            }
        ],
    }


def test_json_has_every_detail(shop):
    """Each kind of entrypoint says what triggers it, with plain values; secrets are masked."""
    done = shop.run("services", "list", "shop:Orders", "--json")
    (orders,) = json.loads(done.stdout)["services"]
    triggers = {(each["kind"], each["method"]): each["trigger"] for each in orders["entrypoints"]}
    assert triggers["timer", "sweep"] == {"interval": 5, "eager": True}
    assert triggers["http", "item"] == {"methods": ["GET", "POST"], "path": "/items/<int:number>"}
    assert triggers["line_feed", "read"] == {"path": "in.txt", "since": None}
    assert triggers["once", "begin"] == {}
    assert orders["resources"] == [
        {"name": "pool", "class": "shop:Pool", "optional": False},
        {"name": "spare", "class": "shop:Pool", "optional": True},
    ]
    assert {"name": "stock", "class": "m3.services.proxies:Service", "service": "stock"} in (
        orders["dependencies"]
    )
    assert "topsecret" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((), "no service is named"),
        (("shop:Stok",), "did you mean 'Stock'"),
        (("shop:Pool",), "Pool has no entrypoint"),
        (("json",), "the module 'json' has no class with entrypoints"),
        (("shop", "--config", "missing.toml"), "--config missing.toml: cannot be read"),
        (("shop", "--app-dir", "nowhere"), "--app-dir nowhere: there is no such folder"),
    ],
)
def test_mistakes_are_told(shop, arguments, text):
    """Exit code 2, and one line that says what is wrong."""
    done = shop.run("services", "list", *arguments)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert text in done.stderr


def test_the_configuration_is_shown(configured):
    """It is TOML with variables replaced, says of each value where it was given, and no secret."""
    done = configured.run("services", "show-config", "--config", "services.toml", **VARIABLES)
    assert (done.returncode, done.stderr) == (0, "")
    assert "secret" not in done.stdout.replace("pin.secret", "").replace("secret = ", "")
    rows = {" ".join(line.split()) for line in done.stdout.splitlines()}
    assert rows >= {
        'AMQP_URI = "amqp://me:***@rabbit//" # services.toml:1, ${PW}',
        "max_workers = 4 # services.toml:2",
        'smtp_password = "***" # services.toml:7',
        'header = "***" # services.toml:9, ${API_TOKEN}',
        "heartbeat = 10 # services.toml:13",
    }
    plain = FILE.replace("topsecret", "***").replace("1234", '"***"').replace("${PW}", "***")
    plain = plain.replace("Bearer ${API_TOKEN}", "***").replace("${WORD}", "word")
    shown, expected = tomllib.loads(done.stdout), tomllib.loads(plain)
    assert repr(shown.pop("ratio")) == repr(expected.pop("ratio")) == "nan"
    assert shown == expected


def test_flags_come_before_the_file(configured):
    """The bus of --broker is shown, as what was given there."""
    done = configured.run(
        *("services", "show-config", "--config", "services.toml"),
        *("--broker", "amqp://you:topsecret@there"),
        **VARIABLES,
    )
    first, second, *_ = done.stdout.splitlines()
    assert first.split("  ")[0] == 'AMQP_URI = "amqp://you:***@there"'
    assert first.endswith("# --broker")
    assert second.endswith("# services.toml:2")


def test_without_any_configuration(shop):
    """The bus is that of the default, and said to be."""
    done = shop.run("services", "show-config")
    assert (done.returncode, done.stdout) == (0, 'AMQP_URI = "memory://"  # default\n')


def test_variables_that_are_not_set(configured):
    """They are mistakes, all told at once with their lines."""
    done = configured.run("services", "show-config", "--config", "services.toml", WORD="x")
    assert (done.returncode, done.stdout) == (2, "")
    assert [line.split(": ")[1:3] for line in done.stderr.splitlines()] == [
        ["services.toml:1", "AMQP_URI"],
        ["services.toml:9", "header"],
    ]
