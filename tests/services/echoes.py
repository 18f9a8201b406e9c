"""A service that several tests call."""

from m3.services import rpc


class Echo:
    name = "echo"

    @rpc
    def echo(self, value):
        return value

    @rpc
    def fail(self):
        raise ValueError("the method's own")
