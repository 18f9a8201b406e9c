"""RabbitMQ is reached by TLS, and only if it is the one that is meant."""

import shutil
import ssl
import subprocess

import pytest

from m3.errors import BusError
from m3.messaging import Message, Queue, connect

pytestmark = pytest.mark.services

PATIENCE = 30


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """Return the paths of a certificate of ``localhost``, signed by itself, and of its key."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl to make a certificate with")
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate]
    subprocess.run([*command.split(), *names], check=True, capture_output=True)
    return certificate, key


@pytest.fixture
def secured(certificate, proxied, tcp_proxy):
    """Return the URL of RabbitMQ behind a proxy that speaks TLS as ``localhost``."""
    tcp_proxy.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tcp_proxy.tls.load_cert_chain(*certificate)
    return proxied.replace("amqp:", "amqps:").replace("127.0.0.1", "localhost")


def test_messages_by_tls(certificate, secured):
    """Messages of any size go both ways."""
    queue = Queue("m3-test-tls", durable=False, auto_delete=True)
    bodies = [b"1", bytes(300_000), b"2"]
    with connect(secured, tls={"ca_certs": str(certificate[0])}, heartbeat=2) as bus:
        consumer = bus.consumer(queue, prefetch=10)
        for body in bodies:
            bus.publish(Message(body=body), routing_key=queue.name)
        assert [consumer.receive(PATIENCE).message.body for _ in bodies] == bodies
        assert bus._publishing.link.source() is None  # nobody else reads


def test_an_unknown_authority(secured):
    """A certificate that nobody vouches for is refused."""
    with pytest.raises(BusError, match="certificate verify failed"):
        connect(secured).setup()


def test_another_host(certificate, secured):
    """A certificate of another host is refused."""
    url = secured.replace("localhost", "127.0.0.1")
    with pytest.raises(BusError, match=r"(?i)certificate verify failed.*127.0.0.1"):
        connect(url, tls={"ca_certs": str(certificate[0])}).setup()
