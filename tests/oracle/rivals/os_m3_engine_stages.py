"""os-m3-engine, of which m3 has its model; it works on Python 3.8 and older."""

from os_m3_engine.core.backend import Backend
from os_m3_engine.core.frontend import Frontend
from os_m3_engine.core.transport import Transport
from os_m3_engine.launcher import create
from work import Sink, answer, lines


class Lines(Frontend):
    def produce(self):
        return lines()


class Answer(Transport):
    def transport(self, data):
        return answer(data)


class Write(Backend):
    def setup(self):
        self.sink = Sink()

    def process(self, data):
        self.sink.write(data)


create(frontend_cls=Lines, transport_cls=Answer, backend_cls=Write).start()
