# cython: language_level=3, freethreading_compatible=True
# cython: binding=False, embedsignature=True, embedsignature.format=clinic
# cython: auto_pickle=False, autotestdict=False
"""
AMQP 0-9-1 on the wire: what is done for every message, in C.

A :class:`Frames` cuts what was received into frames (section 2.3 of the specification),
and reads a delivery or a confirm as a whole.  :func:`publication` and :func:`acknowledgement`
write.  Whatever is unusual is left to py-amqp, which reads and writes all that there is, field
by field in Python: then the frames are returned as they are, or nothing is written.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy


cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object, Py_ssize_t*) except NULL


cdef enum:
    METHOD = 1
    HEADER = 2
    BODY = 3
    END = 0xCE
    # The type of a frame, the number of its channel, the size of its payload.
    START_SIZE = 7
    OVERHEAD = START_SIZE + 1
    # The class and the number of a method.
    BASIC = 60
    PUBLISH = 40
    DELIVER = 60
    ACK = 80
    # The class, a weight, the size of the body.
    CONTENT_SIZE = 12
    # Tables in tables to a depth that nobody needs, and that no stack is too small for.
    DEEPEST = 32


# The properties of a message, each with its bit, in their order on the wire; after 10, those
# that m3 never writes.
cdef tuple PROPERTIES = (
    (1 << 15, "content_type"),
    (1 << 14, "content_encoding"),
    (1 << 13, "application_headers"),
    (1 << 12, "delivery_mode"),
    (1 << 11, "priority"),
    (1 << 10, "correlation_id"),
    (1 << 9, "reply_to"),
    (1 << 8, "expiration"),
    (1 << 7, "message_id"),
    (1 << 6, "timestamp"),
    (1 << 5, "type"),
    (1 << 4, "user_id"),
    (1 << 3, "app_id"),
    (1 << 2, "cluster_id"),
)
cdef tuple WRITTEN = PROPERTIES[:10]

cdef enum:
    HEADERS = 1 << 13
    OCTETS = 1 << 12 | 1 << 11
    TIMESTAMP = 1 << 6


class UnusualError(ValueError):
    """Something is to be read, or written, by py-amqp."""


cdef object Unusual = UnusualError


# -- reading


cdef class Received:
    """
    A message that was delivered.

    Attributes:
        channel: the number of its channel.
        consumer_tag: whose message it is.
        delivery_tag: its number on the channel.
        redelivered: whether it was delivered before.
        properties: as py-amqp names them.
        body: its body.
        fault: None; see :class:`~m3.messaging._amqp.contents.Content`.
    """

    cdef readonly int channel
    cdef readonly str consumer_tag
    cdef readonly uint64_t delivery_tag
    cdef readonly bint redelivered
    cdef readonly dict properties
    cdef readonly bytes body
    cdef readonly object fault


cdef class Confirmed:
    """
    What the broker has confirmed.

    Attributes:
        channel: the number of the channel.
        number: of the publication.
        is_multiple: whether all before it are confirmed, too.
    """

    cdef readonly int channel
    cdef readonly uint64_t number
    cdef readonly bint is_multiple


cdef struct Cursor:
    const uint8_t* at
    const uint8_t* end


cdef struct Frame:
    int kind
    int channel
    const uint8_t* payload
    size_t size


cdef class Frames:
    """
    What was received, cut into frames.

    Args:
        error: what is raised about bytes that are none.
    """

    cdef bytes piece
    cdef Py_ssize_t at
    cdef object error

    def __init__(self, error):
        self.piece = b""
        self.error = error

    def add(self, bytes piece not None):
        """Add bytes as they have come."""
        self.piece = self.piece[self.at:] + piece if self.at < len(self.piece) else piece
        self.at = 0

    def take(self, size_t longest):
        """
        Return the next frame, if it is there as a whole: its type, channel and payload.

        Raises:
            Exception: there is none, or one longer than *longest*: this is no AMQP.
        """
        cdef Frame frame
        if not self.look(self.at, longest, &frame):
            return None
        self.at += frame.size + OVERHEAD
        return frame.kind, frame.channel, PyBytes_FromStringAndSize(
            <const char*> frame.payload, frame.size
        )

    def take_whole(self, size_t longest, uint64_t longest_body):
        """
        Return the next message or confirm that is there as a whole, and is nothing unusual.

        To be called when no message has begun.

        Args:
            longest: how many bytes a frame may have.
            longest_body: how many bytes the body of a message may have.

        Returns:
            A :class:`Received`, a :class:`Confirmed`, or None: look by :meth:`take`.

        Raises:
            Exception: as :meth:`take`.
        """
        cdef Frame frame
        cdef uint32_t method
        if not self.look(self.at, longest, &frame) or frame.kind != METHOD or frame.size < 4:
            return None
        method = <uint32_t> number_at(frame.payload, 4)
        if method == (BASIC << 16 | ACK) and frame.size == 13:
            self.at += frame.size + OVERHEAD
            return confirm_of(&frame)
        if method != (BASIC << 16 | DELIVER):
            return None
        try:
            return self.delivery(&frame, longest, longest_body)
        except ValueError:  # text that is no UTF-8, or UnusualError
            return None

    cdef Received delivery(self, Frame* method, size_t longest, uint64_t longest_body):
        """Return the message that *method* begins, if it is there as a whole, and take it."""
        cdef Frame header, body
        cdef uint64_t size
        cdef Py_ssize_t end = self.at + method.size + OVERHEAD
        cdef Received received
        if not self.look(end, longest, &header) or header.kind != HEADER or header.size < 14:
            return None
        end += header.size + OVERHEAD
        size = number_at(header.payload + 4, 8)
        if header.channel != method.channel or size > longest_body:
            return None
        if number_at(header.payload, 2) != BASIC:
            return None
        received = Received()
        received.body = b""
        if size:
            if not self.look(end, longest, &body) or body.size != size or body.kind != BODY:
                return None
            if body.channel != method.channel:
                return None
            received.body = PyBytes_FromStringAndSize(<const char*> body.payload, body.size)
            end += body.size + OVERHEAD
        read_delivery(method, received)
        received.properties = read_properties(&header)
        self.at = end
        return received

    cdef bint look(self, Py_ssize_t at, size_t longest, Frame* frame) except -1:
        """Tell whether there is a whole frame at that place, and find out which."""
        cdef const uint8_t* start = <const uint8_t*> PyBytes_AS_STRING(self.piece) + at
        cdef size_t there = PyBytes_GET_SIZE(self.piece) - at
        if there < START_SIZE:
            return False
        frame.kind = start[0]
        frame.channel = <int> number_at(start + 1, 2)
        frame.size = number_at(start + 3, 4)
        frame.payload = start + START_SIZE
        if frame.size > longest:
            raise self.error(
                f"a frame of {frame.size:,} bytes, where {longest:,} were agreed on"
            )
        if there < frame.size + OVERHEAD:
            return False
        if frame.payload[frame.size] != END:
            raise self.error(f"a frame that ends with {frame.payload[frame.size]:#04x}")
        return True


cdef inline uint64_t number_at(const uint8_t* at, int size) noexcept:
    """Return an unsigned number of so many bytes, the highest first."""
    cdef uint64_t number = 0
    cdef int index
    for index in range(size):
        number = number << 8 | at[index]
    return number


cdef Confirmed confirm_of(Frame* frame):
    cdef Confirmed confirmed = Confirmed()
    confirmed.channel = frame.channel
    confirmed.number = number_at(frame.payload + 4, 8)
    confirmed.is_multiple = frame.payload[12] & 1
    return confirmed


cdef int read_delivery(Frame* frame, Received received) except -1:
    """Read the arguments of a delivery, but for where it was published to."""
    cdef Cursor cursor
    cursor.at = frame.payload + 4
    cursor.end = frame.payload + frame.size
    received.channel = frame.channel
    received.consumer_tag = read_short(&cursor)
    received.delivery_tag = read_number(&cursor, 8)
    received.redelivered = read_number(&cursor, 1) & 1
    return 0


cdef dict read_properties(Frame* frame):
    cdef Cursor cursor
    cdef dict properties = {}
    cdef int flags, flag
    cursor.at = frame.payload + CONTENT_SIZE
    cursor.end = frame.payload + frame.size
    flags = <int> read_number(&cursor, 2)
    if flags & 3:  # there would be more flags
        raise Unusual
    for flag, name in PROPERTIES:
        if not flags & flag:
            continue
        if flag == HEADERS:
            properties[name] = read_table(&cursor, 0)
        elif flag & OCTETS:
            properties[name] = read_number(&cursor, 1)
        elif flag == TIMESTAMP:
            properties[name] = read_number(&cursor, 8)
        else:
            properties[name] = read_short(&cursor)
    return properties


cdef const uint8_t* pass_over(Cursor* cursor, uint64_t size) except NULL:
    """Return where the next *size* bytes are, and go on behind them."""
    cdef const uint8_t* begin = cursor.at
    if size > <uint64_t> (cursor.end - cursor.at):
        raise Unusual
    cursor.at += size
    return begin


cdef uint64_t read_number(Cursor* cursor, int size) except? 0xDEAD:
    return number_at(pass_over(cursor, size), size)


cdef str read_text(Cursor* cursor, uint64_t size):
    return PyUnicode_DecodeUTF8(<char*> pass_over(cursor, size), size, NULL)


cdef str read_short(Cursor* cursor):
    return read_text(cursor, read_number(cursor, 1))


cdef Cursor inner(Cursor* cursor, int depth) except *:
    """Return what is in a table or an array, and go on behind it."""
    cdef Cursor part
    cdef uint64_t size = read_number(cursor, 4)
    if depth > DEEPEST:
        raise Unusual
    part.at = pass_over(cursor, size)
    part.end = part.at + size
    return part


cdef dict read_table(Cursor* cursor, int depth):
    cdef Cursor part = inner(cursor, depth)
    cdef dict table = {}
    while part.at < part.end:
        name = read_short(&part)
        table[name] = read_item(&part, depth)
    return table


cdef list read_array(Cursor* cursor, int depth):
    cdef Cursor part = inner(cursor, depth)
    cdef list items = []
    while part.at < part.end:
        items.append(read_item(&part, depth))
    return items


cdef object read_item(Cursor* cursor, int depth):
    """Read a value of a type that headers mostly have."""
    cdef uint8_t kind = <uint8_t> read_number(cursor, 1)
    cdef uint64_t number
    cdef double value
    if kind == c"S":
        return read_text(cursor, read_number(cursor, 4))
    if kind == c"t":
        return read_number(cursor, 1) != 0
    if kind == c"I":
        return <int32_t> read_number(cursor, 4)
    if kind == c"l" or kind == c"L":
        return <int64_t> read_number(cursor, 8)
    if kind == c"d":
        number = read_number(cursor, 8)
        memcpy(&value, &number, 8)
        return value
    if kind == c"A":
        return read_array(cursor, depth + 1)
    if kind == c"F":
        return read_table(cursor, depth + 1)
    if kind == c"V":
        return None
    raise Unusual


# -- writing


cdef class Piece:
    """Bytes to be written, as they are put together."""

    cdef uint8_t* bytes
    cdef size_t size
    cdef size_t room

    def __cinit__(self):
        self.room = 512
        self.bytes = <uint8_t*> PyMem_Malloc(self.room)
        if self.bytes == NULL:
            raise MemoryError

    def __dealloc__(self):
        PyMem_Free(self.bytes)

    cdef uint8_t* extend(self, size_t size) except NULL:
        """Make it *size* bytes longer; return where these are."""
        cdef uint8_t* moved
        if self.size + size > self.room:
            moved = <uint8_t*> PyMem_Realloc(self.bytes, 2 * (self.size + size))
            if moved == NULL:
                raise MemoryError
            self.bytes = moved
            self.room = 2 * (self.size + size)
        self.size += size
        return self.bytes + self.size - size

    cdef int number(self, uint64_t number, int size) except -1:
        put_number(self.extend(size), number, size)
        return 0

    cdef int text(self, str text, int size) except -1:
        """Put a text behind its length, which is a number of *size* bytes."""
        cdef Py_ssize_t length
        cdef const char* encoded
        try:
            encoded = PyUnicode_AsUTF8AndSize(text, &length)
        except UnicodeEncodeError:
            return self.data(text.encode("utf-8", "surrogatepass"), size)
        return self.put(encoded, length, size)

    cdef int data(self, bytes data, int size) except -1:
        return self.put(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), size)

    cdef int put(self, const char* data, Py_ssize_t length, int size) except -1:
        if size == 1 and length > 255:
            raise ValueError(f"a name of {length:,} bytes; AMQP has up to 255")
        self.number(length, size)
        memcpy(self.extend(length), data, length)
        return 0

    cdef size_t begin(self, int kind, int channel) except 0:
        """Begin a frame; return where."""
        self.number(kind, 1)
        self.number(channel, 2)
        self.number(0, 4)
        return self.size

    cdef size_t end(self, size_t begin) except? 0xDEAD:
        """End the frame that begins there; return its size."""
        self.end_part(begin)
        self.number(END, 1)
        return self.size - begin + START_SIZE

    cdef size_t begin_part(self, int depth) except 0:
        """Begin a table or an array; return where."""
        if depth > DEEPEST:
            raise Unusual
        self.number(0, 4)
        return self.size

    cdef void end_part(self, size_t begin) noexcept:
        """Say how long that is which begins there."""
        put_number(self.bytes + begin - 4, self.size - begin, 4)

    cdef bytes finish(self):
        return PyBytes_FromStringAndSize(<const char*> self.bytes, self.size)

    cdef int table(self, dict table, int depth) except -1:
        cdef size_t begin = self.begin_part(depth)
        for name, value in table.items():
            if type(name) is not str:
                raise Unusual
            self.text(name, 1)
            self.item(value, depth)
        self.end_part(begin)
        return 0

    cdef int array(self, list items, int depth) except -1:
        cdef size_t begin = self.begin_part(depth)
        for item in items:
            self.item(item, depth)
        self.end_part(begin)
        return 0

    cdef int item(self, object value, int depth) except -1:
        """Put a value of a type that headers mostly have."""
        cdef object kind = type(value)
        if kind is str:
            self.number(c"S", 1)
            self.text(value, 4)
        elif kind is float:
            self.number(c"d", 1)
            put_double(self.extend(8), value)
        elif kind is bool:
            self.number(c"t", 1)
            self.number(<bint> value, 1)
        elif kind is int:
            self.integer(value)
        elif kind is list:
            self.number(c"A", 1)
            self.array(value, depth + 1)
        elif kind is dict:
            self.number(c"F", 1)
            self.table(value, depth + 1)
        elif value is None:
            self.number(c"V", 1)
        else:
            raise Unusual
        return 0

    cdef int integer(self, object value) except -1:
        cdef bint is_long = not -2147483647 <= value <= 2147483647
        if is_long and not -(1 << 63) <= value < 1 << 63:
            raise Unusual
        self.number(c"L" if is_long else c"I", 1)
        self.number(<uint64_t> <int64_t> value, 8 if is_long else 4)
        return 0


cdef inline void put_number(uint8_t* at, uint64_t number, int size) noexcept:
    """Write an unsigned number of so many bytes, the highest first."""
    cdef int index
    for index in range(size - 1, -1, -1):
        at[index] = number & 0xFF
        number >>= 8


cdef inline void put_double(uint8_t* at, double value) noexcept:
    cdef uint64_t number
    memcpy(&number, &value, 8)
    put_number(at, number, 8)


def acknowledgement(int channel, uint64_t number, bint with_earlier):
    """Return what acknowledges the message of that number on a channel, or all up to it."""
    cdef Piece piece = Piece()
    cdef size_t begin = piece.begin(METHOD, channel)
    piece.number(BASIC, 2)
    piece.number(ACK, 2)
    piece.number(number, 8)
    piece.number(with_earlier, 1)
    piece.end(begin)
    return piece.finish()


def publication(
    int channel, tuple route not None, dict properties not None, bytes body not None,
    size_t longest,
):
    """
    Return what publishes a message, or None if it is to be written by py-amqp.

    That is so if it needs more than one frame for any part, or has an unusual header.

    Args:
        channel: the number of the channel.
        route: exchange, routing key, and whether it is mandatory.
        properties: those of the message, as py-amqp names them.
        body: its body.
        longest: how many bytes a frame may have.

    Raises:
        ValueError: a name is too long, or a number too large.
        TypeError: something is not what it should be.
    """
    cdef Piece piece = Piece()
    cdef str exchange, key
    cdef bint is_mandatory
    cdef size_t begin, largest
    exchange, key, is_mandatory = route
    if <size_t> len(body) + OVERHEAD > longest:
        return None
    begin = piece.begin(METHOD, channel)
    piece.number(BASIC, 2)
    piece.number(PUBLISH, 2)
    piece.number(0, 2)
    piece.text(exchange, 1)
    piece.text(key, 1)
    piece.number(is_mandatory, 1)
    largest = piece.end(begin)
    try:
        largest = max(largest, put_header(piece, channel, properties, len(body)))
    except UnusualError:
        return None
    if largest > longest:
        return None
    if body:
        begin = piece.begin(BODY, channel)
        memcpy(piece.extend(len(body)), PyBytes_AS_STRING(body), len(body))
        piece.end(begin)
    return piece.finish()


cdef size_t put_header(
    Piece piece, int channel, dict properties, size_t body_size
) except? 0xDEAD:
    """Put the header of a content into *piece*; return its size."""
    cdef size_t begin = piece.begin(HEADER, channel)
    cdef uint16_t flags = 0
    cdef int flag
    piece.number(BASIC, 2)
    piece.number(0, 2)
    piece.number(body_size, 8)
    piece.number(0, 2)
    for flag, name in WRITTEN:
        value = properties.get(name)
        if value is None:
            continue
        flags |= flag
        if flag == HEADERS:
            piece.table(value, 0)
        elif flag & OCTETS:
            piece.number(bounded(value, 0xFF), 1)
        elif flag == TIMESTAMP:
            piece.number(bounded(value, 0xFFFFFFFFFFFFFFFF), 8)
        else:
            piece.text(value, 1)
    put_number(piece.bytes + begin + CONTENT_SIZE, flags, 2)
    return piece.end(begin)


cdef object bounded(object number, object most):
    if not 0 <= number <= most:
        raise ValueError(f"{number} is not from 0 to {most}")
    return number
