"""The wire form of `Bidding`: columns read as memory, with no Python object per viewer or bid.

A packed `repeated` field of a fixed-width type and a `bytes` field of the same number are the same bytes on the wire.
So the server reads and writes through a *twin* of the public schema in which every such column is `bytes`, made here
from the public descriptor. Protobuf also lets a client send a column in several pieces, or unpacked; the twin would
lose those, which shows as an unknown field or a length that does not add up, and then the public classes read the
message.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet

from protos import bidding_pb2

_FIELD = descriptor_pb2.FieldDescriptorProto
_COLUMN_DTYPES: dict[int, np.dtype[Any]] = {
    _FIELD.TYPE_FIXED64: np.dtype("<u8"),
    _FIELD.TYPE_SFIXED64: np.dtype("<i8"),
    _FIELD.TYPE_FIXED32: np.dtype("<u4"),
    _FIELD.TYPE_FLOAT: np.dtype("<f4"),
}
_PUBLIC_PACKAGE = "fanbid.v1"
_TWIN_PACKAGE = "fanbid.columns"


class MalformedMessage(ValueError):
    """The bytes are no message of this type."""


def _make_twins() -> dict[str, type[Message]]:
    file = descriptor_pb2.FileDescriptorProto()
    bidding_pb2.DESCRIPTOR.CopyToProto(file)
    file.name = "fanbid/columns.proto"
    file.package = _TWIN_PACKAGE
    del file.service[:]
    for message in file.message_type:
        for field in message.field:
            if field.type_name:
                field.type_name = field.type_name.replace(f".{_PUBLIC_PACKAGE}.", f".{_TWIN_PACKAGE}.")
            if field.label == _FIELD.LABEL_REPEATED and field.type in _COLUMN_DTYPES:
                field.label = _FIELD.LABEL_OPTIONAL
                field.type = _FIELD.TYPE_BYTES
                field.ClearField("options")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        message.name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_TWIN_PACKAGE}.{message.name}"))
        for message in file.message_type
    }


_TWINS = _make_twins()


def _column_dtypes(message_name: str) -> dict[str, np.dtype[Any]]:
    fields = bidding_pb2.DESCRIPTOR.message_types_by_name[message_name].fields
    return {f.name: _COLUMN_DTYPES[f.type] for f in fields if f.is_repeated and f.type in _COLUMN_DTYPES}


_DTYPES = {name: _column_dtypes(name) for name in _TWINS}


@dataclass(frozen=True, slots=True)
class Columns:
    """One decoded message: its plain fields by attribute of `plain`, its columns as arrays."""

    plain: Any
    columns: dict[str, np.ndarray]

    def __getitem__(self, name: str) -> np.ndarray:
        return self.columns[name]


def _is_whole(twin: Message, raw_size: int, parts: tuple[str, ...]) -> bool:
    """Whether the twin holds all that was sent: nothing unknown, no column overwritten by a later piece of itself."""
    if twin.ByteSize() != raw_size or len(UnknownFieldSet(twin)):
        return False
    return all(not len(UnknownFieldSet(getattr(twin, part))) for part in parts if twin.HasField(part))


def _columns_of(message: Message, name: str, from_twin: bool) -> dict[str, np.ndarray]:
    if from_twin:
        try:
            # Copied, since compiled steps are specialised for writable arrays, and a column may not be aligned.
            return {f: np.frombuffer(getattr(message, f), dtype).copy() for f, dtype in _DTYPES[name].items()}
        except ValueError:
            raise MalformedMessage(f"{name}: a column's length is no multiple of its element's size") from None
    return {f: np.array(getattr(message, f), dtype) for f, dtype in _DTYPES[name].items()}


def decode(name: str, raw: bytes, parts: tuple[tuple[str, str], ...] = ()) -> tuple[Columns, dict[str, Columns]]:
    """Decode a public message by its twin, or by its public class when the client packed it unusually.

    Args:
        name: the message's name in `fanbid.v1`, such as "BidRequest".
        raw: the bytes from the wire.
        parts: (field, message name) of sub-messages that hold columns too.

    Returns:
        The message's own columns, and those of each part by field name.

    Raises:
        MalformedMessage: the bytes are no such message.
    """
    try:
        message: Any = _TWINS[name].FromString(raw)
        from_twin = _is_whole(message, len(raw), tuple(field for field, _ in parts))
        if not from_twin:
            message = getattr(bidding_pb2, name).FromString(raw)
    except DecodeError:
        raise MalformedMessage(f"request: {len(raw)} bytes that are no {_PUBLIC_PACKAGE}.{name}") from None
    inner = {
        field: Columns(getattr(message, field), _columns_of(getattr(message, field), part, from_twin))
        for field, part in parts
    }
    return Columns(message, _columns_of(message, name, from_twin)), inner


def encode(name: str, plain: dict[str, Any], columns: dict[str, np.ndarray]) -> bytes:
    """Encode a public message: `plain` fields as they are, `columns` cast to the schema's width, written as memory."""
    dtypes = _DTYPES[name]
    fields = {f: np.ascontiguousarray(values, dtypes[f]).tobytes() for f, values in columns.items()}
    return _TWINS[name](**plain, **fields).SerializeToString()
