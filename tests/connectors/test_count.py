"""The connector ``count``: one number, where it belongs."""

from m3.connectors.count import CountBackend, CountTransport


def test_the_backend_writes_the_number_to_standard_output(write_all, capfdbinary):
    """The number is the data of the run, on a line of its own."""
    backend = CountBackend()
    write_all(backend, [1, 2], [], [3])
    assert capfdbinary.readouterr() == (b"3\n", b"")
    assert backend.total == 3


def test_nothing_is_zero(write_all, capfdbinary):
    """Of no items there are 0."""
    write_all(CountBackend())
    assert capfdbinary.readouterr().out == b"0\n"


def test_a_failed_run_has_no_number(write_all, capfdbinary):
    """When the run has failed the number would be wrong, and is not written."""
    write_all(CountBackend(), [1, 2], failed=True)
    assert capfdbinary.readouterr().out == b""


def test_the_transport_passes_on_and_tells_on_standard_error(write_all, capfd):
    """The items go on as they are; the number does not disturb the data."""
    transport = CountTransport()
    items = [1, None, "x"]
    assert transport.process_batch(items) == items
    transport.cleanup()
    assert capfd.readouterr() == ("", "count: 3\n")


def test_one_worker_at_most():
    """Both stages say that several workers would each have a part of the number."""
    assert CountBackend.max_workers == CountTransport.max_workers == 1
