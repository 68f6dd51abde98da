"""Input that an attacker might send."""

import random
from collections.abc import Iterator
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st

USER_IDS = {
    "NUL": "alice\0",
    "CR LF": "alice\r\nERROR forged a log line",
    "escape": "alice\x1b[2J",
    "C1 control": "alice\x85",
    "line separator": "alice\u2028",
    "129 characters": "a" * 129,
    "a megabyte": "a" * 1_000_000,
    "path": "../../etc/passwd",
    "Windows path": "..\\..\\windows",
    "blank": "\u00a0\u2003\u3000",
}
"""Ids that must be refused."""

STRANGE_USER_IDS = {
    "SQL": "'; DROP TABLE users; --",
    "format": "%s%n{0}${jndi:ldap:x}",
    "right to left": "\u202ealice",
    "zero width": "ali\u200bce",
    "stacked accents": "a" + "\u0301" * 100,
    "astral": "\U0001f600" * 128,
    "noncharacter": "a\uffff\U0010ffff",
    "dots": "..",
    "quotes": '"}], "role": "system',
    "fullwidth": "ａｌｉｃｅ",  # noqa: RUF001 - looks like alice, but must not be treated as her
}
"""Unusual but valid ids, which must be separate users."""

_UUID = "5ab1d6f0-9c7e-4e56-8a3b-0f3a2f1f7e11"
_TEXTS = st.text(max_size=30) | st.sampled_from(
    [
        *("", "alice", _UUID, "MQ==", "analytics/alice", "what time is it?", "x" * 8001),
        *(text for text in (*USER_IDS.values(), *STRANGE_USER_IDS.values()) if len(text) < 1_000),
    ]
)
_GOOD = {
    "user_id": st.sampled_from(["alice", "bob", "carol"]),
    "session_id": st.uuids().map(str),
    "message_id": st.uuids().map(str),
    "page_token": st.just(""),
    "method": st.just("analytics/alice"),
}
_INTEGERS = {
    FieldDescriptor.CPPTYPE_INT32: st.integers(-(2**31), 2**31 - 1) | st.integers(0, 90),
    FieldDescriptor.CPPTYPE_INT64: st.integers(-(2**63), 2**63 - 1) | st.integers(0, 2**33),
    FieldDescriptor.CPPTYPE_UINT32: st.integers(0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: st.integers(0, 2**64 - 1),
    FieldDescriptor.CPPTYPE_ENUM: st.integers(-(2**31), 2**31 - 1),
}


def messages(descriptor: Descriptor, depth: int = 2) -> st.SearchStrategy[Message]:
    """Well-formed messages of a type, with any content."""
    fields = {f.name: _values(f, depth) for f in descriptor.fields if not _too_deep(f, depth)}
    make: Any = GetMessageClass(descriptor)
    return st.fixed_dictionaries({}, optional=fields).map(lambda given: make(**given))


def _too_deep(field: FieldDescriptor, depth: int) -> bool:
    # A map is a message type too, but a list of messages can't fill it.
    nested = field.message_type
    return nested is not None and (depth == 0 or nested.GetOptions().map_entry)


def _values(field: FieldDescriptor, depth: int) -> st.SearchStrategy[Any]:
    values: st.SearchStrategy[Any]
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_MESSAGE:
            assert field.message_type is not None
            values = messages(field.message_type, depth - 1)
        case FieldDescriptor.CPPTYPE_STRING if field.type == FieldDescriptor.TYPE_BYTES:
            values = st.binary(max_size=20)
        case FieldDescriptor.CPPTYPE_STRING:
            values = _GOOD.get(field.name, _TEXTS) | _TEXTS
        case FieldDescriptor.CPPTYPE_BOOL:
            values = st.booleans()
        case kind:
            values = _INTEGERS[kind]
    return st.lists(values, max_size=4) if field.is_repeated else values


def mutants(data: bytes, other: bytes, seed: int, count: int) -> Iterator[bytes]:
    """`data`, and versions of it that an attacker or a bad line might send."""
    chance = random.Random(seed)  # noqa: S311 - the same mutants for the same seed
    yield data
    for _ in range(count - 1):
        at, end = sorted(chance.choices(range(len(data) + 1), k=2))
        match chance.randrange(7):
            case 0:
                yield data[:at]
            case 1:
                yield data[:at] + chance.randbytes(end - at) + data[end:]
            case 2:
                yield data[:at] + data[end:]
            case 3:
                yield data[:end] + data[at:]
            case 4:
                # A length or a number that is far too large.
                yield data[:at] + b"\xff" * chance.randrange(1, 11) + data[at:]
            case 5:
                yield data + other
            case _:
                yield chance.randbytes(chance.randrange(64))
