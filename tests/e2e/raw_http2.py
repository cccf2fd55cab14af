"""A client of HTTP/2 that may break every rule: frames and header blocks are what the test makes them."""

import select
import socket
import struct
import time

import hpack

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, ACK, END_HEADERS = 1, 1, 4
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
CANCEL = 8
INITIAL_WINDOW_SIZE = 4
GENERATE = "/phi.v1.TextGeneration/Generate"
TOKENIZE = "/phi.v1.TextGeneration/Tokenize"


def dial(address, timeout=30):
    host, port = address.rsplit(":", 1)
    return socket.create_connection((host, int(port)), timeout=timeout)


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def integer(value, prefix_bits=7):
    """HPACK's integer behind a prefix whose other bits are 0."""
    limit = (1 << prefix_bits) - 1
    if value < limit:
        return bytes([value])
    out, value = [limit], value - limit
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def header_block(pairs):
    """Every header as a literal that enters no table."""
    block = b""
    for name, value in pairs:
        name, value = (part if isinstance(part, bytes) else part.encode() for part in (name, value))
        block += b"\0" + integer(len(name)) + name + integer(len(value)) + value
    return block


def grpc_headers(path, **replaced):
    """What every gRPC call starts with; `replaced` by name, with _ for - and a leading p_ for a pseudo header."""
    headers = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "localhost", "te": "trailers",
               "content-type": "application/grpc"}  # fmt: skip
    headers.update({name.replace("p_", ":").replace("_", "-"): value for name, value in replaced.items()})
    return list(headers.items())


def message(payload, compressed=0, length=None):
    """A gRPC message; `length` may lie."""
    return struct.pack(">BI", compressed, len(payload) if length is None else length) + payload


class Connection:
    """One connection: preface and settings are sent, what comes is read on demand. Own flow control is not looked at.

    `window`: bytes that the server may send on a stream before it is given more.
    """

    def __init__(self, address, timeout=30, window=65535):
        self.socket = dial(address, timeout)
        self.timeout = timeout
        self.decoder = hpack.Decoder()
        self.settings = {}
        self.next_stream = 1
        self.buffer = b""
        self.send(PREFACE + frame(SETTINGS, 0, 0, struct.pack(">HI", INITIAL_WINDOW_SIZE, window)))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data):
        """False where the server has closed."""
        try:
            self.socket.sendall(data)
            return True
        except OSError:
            return False

    def open(self, headers, end=False):
        """A new stream by a block of headers, cut into frames; its number."""
        stream, self.next_stream = self.next_stream, self.next_stream + 2
        block = headers if isinstance(headers, bytes) else header_block(headers)
        pieces = [block[i : i + 16384] for i in range(0, len(block), 16384)] or [b""]
        out = b""
        for i, piece in enumerate(pieces):
            flags = (END_HEADERS if i == len(pieces) - 1 else 0) | (END_STREAM if end and i == 0 else 0)
            out += frame(HEADERS if i == 0 else CONTINUATION, flags, stream, piece)
        self.send(out)
        return stream

    def data(self, stream, payload, end=True):
        pieces = [payload[i : i + 16384] for i in range(0, len(payload), 16384)] or [b""]
        for i, piece in enumerate(pieces):
            self.send(frame(DATA, END_STREAM if end and i == len(pieces) - 1 else 0, stream, piece))

    def reset(self, stream):
        self.send(frame(RST_STREAM, 0, stream, struct.pack(">I", CANCEL)))

    def has_input(self):
        """Whether something of the server's waits to be read."""
        return bool(self.buffer) or bool(select.select([self.socket], [], [], 0)[0])

    def read(self):
        """The next (kind, flags, stream, payload); None once the server has closed."""
        while len(self.buffer) < 9 or len(self.buffer) < 9 + int.from_bytes(self.buffer[:3], "big"):
            try:
                more = self.socket.recv(1 << 16)
            except ConnectionError:
                more = b""
            if not more:
                return None
            self.buffer += more
        size = int.from_bytes(self.buffer[:3], "big")
        kind, flags, stream = struct.unpack(">BBI", self.buffer[3:9])
        payload, self.buffer = self.buffer[9 : 9 + size], self.buffer[9 + size :]
        if kind == SETTINGS and not flags & ACK:
            self.settings.update(struct.iter_unpack(">HI", payload))
            self.send(frame(SETTINGS, ACK, 0))
        elif kind == PING and not flags & ACK:
            self.send(frame(PING, ACK, 0, payload))
        return kind, flags, stream & 0x7FFFFFFF, payload

    def answer(self, stream):
        """How the stream ends: its headers and trailers with "data", or {"reset": code}, or {"closed": True}."""
        result = {"data": b""}
        until = time.monotonic() + self.timeout
        while time.monotonic() < until:
            got = self.read()
            if got is None:
                return {"closed": True}
            kind, flags, of, payload = got
            if kind == GOAWAY:
                result["goaway"] = payload[8:]
            if kind == HEADERS:
                headers = dict(self.decoder.decode(payload))
                if of == stream:
                    result.update(headers)
            if of != stream:
                continue
            if kind == RST_STREAM:
                return {"reset": struct.unpack(">I", payload)[0], **result}
            if kind == DATA:
                result["data"] += payload
                for window in (0, stream):
                    self.send(frame(WINDOW_UPDATE, 0, window, struct.pack(">I", max(1, len(payload)))))
            if kind in (DATA, HEADERS) and flags & END_STREAM:
                return result
        raise AssertionError(f"stream {stream} does not end: {result}")

    def call(self, path, payload=b"", extra=(), **replaced):
        """A unary call with one message of these bytes."""
        stream = self.open([*grpc_headers(path, **replaced), *extra])
        self.data(stream, message(payload))
        return self.answer(stream)


def closed_within(connection, seconds):
    """Whether the server closes a plain socket in that time; what it sends before is read and thrown away."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        connection.settimeout(left)
        try:
            if not connection.recv(1 << 16):
                return True
        except socket.timeout:
            return False
        except OSError:
            return True
    return False
