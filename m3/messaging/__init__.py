"""
Buses: what carries messages between services, and the map of their folder.

``entities`` has what buses carry and have, and ``bus`` what each promises.  A bus is made
from a URL by :func:`connect`: ``memory`` is within one process, ``sqlite`` between the
processes of one machine.  ``routing`` says which queues a message goes to, and
``bodies`` makes the bodies of messages from values, and values from them.
"""

from m3.messaging.bus import Bus as Bus
from m3.messaging.bus import Consumer as Consumer
from m3.messaging.bus import Listener as Listener
from m3.messaging.connecting import connect as connect
from m3.messaging.entities import Binding as Binding
from m3.messaging.entities import Delivery as Delivery
from m3.messaging.entities import Exchange as Exchange
from m3.messaging.entities import Message as Message
from m3.messaging.entities import Publication as Publication
from m3.messaging.entities import Queue as Queue

__all__ = (
    "Binding",
    "Bus",
    "Consumer",
    "Delivery",
    "Exchange",
    "Listener",
    "Message",
    "Publication",
    "Queue",
    "connect",
)
