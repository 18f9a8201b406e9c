"""The backend ``null``: takes everything."""

from m3.connectors.null import NullBackend


def test_it_takes_everything(write_all, capfdbinary):
    """Any items are consumed, nothing comes of them."""
    write_all(NullBackend(), [1, None, object()], [])
    assert capfdbinary.readouterr() == (b"", b"")
