"""Inputs that are almost right: messages with extreme fields, and bytes that were changed here and there."""

from __future__ import annotations

import io
import json
import random
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor

MAX_INPUT_BYTES = 4_096
_MAX_DEPTH = 4
_MAX_REPEATED = 4
_INTEGERS = (0, 1, 2, 3, 7, 255, 256, 1_000, 2**31 - 1, 2**31, 2**32 - 1, 2**53, 2**63 - 1)
_FLOATS = (0.0, -0.0, 0.5, 1.0, -1.0, 1e-40, 3e38, float("inf"), float("-inf"), float("nan"))
_TEXTS = ("", "r", "CNY", "UTC", "Asia/Shanghai", "vip", "fans:7", "a" * 200, "\x00", "名", "../../x", "%s{}", "\u202e")
_BYTES = (b"\x00", b"\xff", b"\x80" * 9 + b"\x01", b"\xff" * 10, struct.pack("<Q", 2**64 - 1), struct.pack("<q", -1))
_JSON_LEAVES: tuple[Any, ...] = (None, True, False, 0, -1, 2**64, 1e308, "", "region", "7", [], {})
_SIGNED = {FieldDescriptor.TYPE_SFIXED64, FieldDescriptor.TYPE_INT64, FieldDescriptor.TYPE_SINT64}

_DTYPES = (np.float64, np.int64, np.uint8, np.bool_, "U3", "S2", "c16", "M8[s]")


def _extremes(dtype: np.dtype[Any]) -> tuple[int, ...]:
    limits = np.iinfo(dtype)
    return (0, 1, 7, int(limits.min), int(limits.max))


def _without_packing(field: FieldDescriptor, raw: bytes) -> bytes:
    """One number of a packed field as an unpacked one: the same tag with the wire type of the number."""
    tag_bytes = 1 if field.number < 16 else 2
    wire_types = {FieldDescriptor.CPPTYPE_FLOAT: 5, FieldDescriptor.CPPTYPE_DOUBLE: 1}
    fixed = {FieldDescriptor.TYPE_FIXED64: 1, FieldDescriptor.TYPE_SFIXED64: 1}
    fixed |= {FieldDescriptor.TYPE_FIXED32: 5, FieldDescriptor.TYPE_SFIXED32: 5}
    wire_type = wire_types.get(field.cpp_type, fixed.get(field.type, 0))
    if field.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES):
        return raw
    tag = field.number << 3 | wire_type
    head = bytes((tag,)) if tag < 128 else bytes((tag & 127 | 128, tag >> 7))
    return head + raw[tag_bytes + 1 :]


class Mutator:
    """Draws inputs from a seed; the same seed draws the same ones. Used by one thread."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._changes: tuple[Callable[[bytearray], None], ...] = (
            self._flip, self._overwrite, self._insert, self._remove, self._repeat, self._cut,
        )  # fmt: skip

    def choose(self, options: Sequence[Any]) -> Any:
        """One of these."""
        return self._random.choice(options)

    def random_bytes(self) -> bytes:
        """Up to 64 bytes of no meaning."""
        return self._random.randbytes(self._random.randrange(64))

    def changed(self, raw: bytes) -> bytes:
        """The bytes after one to four changes."""
        return self._changed(raw)[:MAX_INPUT_BYTES]

    def _changed(self, raw: bytes) -> bytes:
        changed = bytearray(raw)
        for _ in range(self._random.randint(1, 4)):
            self._random.choice(self._changes)(changed)
        return bytes(changed)

    def flipped(self, raw: bytes) -> bytes:
        """The bytes with 1 to 16 bits flipped, however long they are."""
        flipped = bytearray(raw)
        for _ in range(self._random.randint(1, 16)):
            self._flip(flipped)
        return bytes(flipped)

    def input_from(self, seeds: Sequence[bytes]) -> bytes:
        """A changed seed, two joined, or noise."""
        draw = self._random.random()
        if draw < 0.05:
            return self.random_bytes()
        if draw < 0.15:
            return (self._random.choice(seeds) + self._random.choice(seeds))[:MAX_INPUT_BYTES]
        return self.changed(self._random.choice(seeds))

    def message(self, descriptor: Descriptor) -> Any:
        """A message of this type with some fields set, often to extremes."""
        return self._message(descriptor, 0)

    def message_bytes(self, descriptor: Descriptor) -> bytes:
        """Such a message's bytes, changed two times out of three."""
        raw: bytes = self._message(descriptor, 0).SerializeToString()
        return raw[:MAX_INPUT_BYTES] if self._random.random() < 1 / 3 else self.changed(raw)

    def unpacked(self, message: Any) -> bytes:
        """A message's bytes with each repeated number as a field of its own, in the middle of the others."""
        parts = []
        for field, value in message.ListFields():
            if field.is_repeated and field.message_type is None:
                for each in value:
                    one = type(message)()
                    getattr(one, field.name).append(each)
                    parts.append(_without_packing(field, one.SerializeToString()))
            else:
                one = type(message)()
                getattr(one, field.name)
                if field.message_type is not None and not field.is_repeated:
                    getattr(one, field.name).CopyFrom(value)
                elif field.is_repeated:
                    getattr(one, field.name).extend(value)
                else:
                    setattr(one, field.name, value)
                parts.append(one.SerializeToString())
        if self._random.random() < 0.5:
            self._random.shuffle(parts)
        return b"".join(parts)[:MAX_INPUT_BYTES]

    def arrays_bytes(self, arrays: Mapping[str, np.ndarray], compress: bool = False) -> bytes:
        """An npz with an array left out, cut, grown, recast or overwritten; one time out of three its bytes changed."""
        changed = dict(arrays)
        for _ in range(self._random.randint(0, 2)):
            name = self._random.choice(list(arrays))
            if name in changed:
                self._change_array(changed, name)
        body = io.BytesIO()
        (np.savez_compressed if compress else np.savez)(body, **changed)  # type: ignore[arg-type]
        raw = body.getvalue()
        return self._changed(raw) if self._random.random() < 1 / 3 else raw

    def _change_array(self, arrays: dict[str, np.ndarray], name: str) -> None:
        values, draw = arrays[name], self._random.randrange(6)
        if draw == 0:
            del arrays[name]
        elif draw == 1:
            arrays[name] = values.reshape(-1)[: self._random.randrange(values.size + 1)]
        elif draw == 2:
            arrays[name] = np.concatenate([values.reshape(-1)] * 2) if values.size < 4_096 else values[:0]
        elif draw == 3:
            arrays[name] = np.zeros(values.shape, self._random.choice(_DTYPES))
        elif draw == 4 and values.size and values.dtype.kind in "iuf":
            flat = values.reshape(-1).copy()
            extremes = _FLOATS if values.dtype.kind == "f" else _extremes(values.dtype)
            flat[self._random.randrange(len(flat))] = self._random.choice(extremes)
            arrays[name] = flat.reshape(values.shape)
        else:
            arrays[name] = np.frombuffer(self._random.randbytes(values.nbytes), np.uint8)[: min(values.nbytes, 64)]

    def json_value(self, depth: int = 0) -> Any:
        """A JSON value that may remind of an audience."""
        draw = self._random.random()
        if depth > 5 or draw < 0.3:
            return self._random.choice(_JSON_LEAVES)
        if draw < 0.5:
            return [self.json_value(depth + 1) for _ in range(self._random.randrange(4))]
        names = [
            "all",
            "any",
            "not",
            "attribute",
            "codes",
            "interests",
            "segment",
            "friends_of_fans",
            "fans_of_similar_creators",
            "x",
        ]
        names += ["fans_of", "viewers_of", "live_visitors_of"]
        return {self._random.choice(names): self.json_value(depth + 1) for _ in range(self._random.randint(1, 3))}

    def json_like(self, seeds: Sequence[Any]) -> bytes:
        """JSON: a drawn value, a seed with one of its parts replaced, or a seed's bytes changed."""
        draw = self._random.random()
        if draw < 0.3:
            return json.dumps(self.json_value()).encode()
        seed = self._random.choice(seeds)
        if draw < 0.6:
            return self.changed(json.dumps(seed).encode())
        return json.dumps(self._replaced(seed)).encode()

    def _replaced(self, value: Any) -> Any:
        """A JSON value with one part of it replaced."""
        if isinstance(value, dict) and value and self._random.random() < 0.9:
            name = self._random.choice(list(value))
            return {**value, name: self._replaced(value[name])}
        if isinstance(value, list) and value and self._random.random() < 0.9:
            at = self._random.randrange(len(value))
            return [*value[:at], self._replaced(value[at]), *value[at + 1 :]]
        return self.json_value(4)

    def json_bytes(self, seed: dict[str, Any]) -> bytes:
        """A JSON body: a seed with a field replaced, or its bytes changed."""
        draw = self._random.random()
        if draw < 0.2:
            return self.changed(json.dumps(seed).encode())
        if draw < 0.5:
            return json.dumps(self._replaced(seed)).encode()
        fields = {**seed, self._random.choice([*seed, "targeting", "extra"]): self.json_value()}
        return json.dumps(fields).encode()

    def _message(self, descriptor: Descriptor, depth: int) -> Any:
        message = message_factory.GetMessageClass(descriptor)()
        for field in descriptor.fields:
            if self._random.random() < 0.4:
                continue
            if field.message_type is not None:
                self._fill_messages(message, field, depth)
            elif field.is_repeated:
                values = [self._scalar(field) for _ in range(self._random.randrange(_MAX_REPEATED))]
                getattr(message, field.name).extend(values)
            else:
                setattr(message, field.name, self._scalar(field))
        return message

    def _fill_messages(self, message: Any, field: FieldDescriptor, depth: int) -> None:
        if depth >= _MAX_DEPTH or field.message_type is None:
            return
        if field.is_repeated:
            parts = [self._message(field.message_type, depth + 1) for _ in range(self._random.randrange(3))]
            getattr(message, field.name).extend(parts)
        else:
            getattr(message, field.name).CopyFrom(self._message(field.message_type, depth + 1))

    def _scalar(self, field: FieldDescriptor) -> Any:
        kind = field.cpp_type
        if kind in (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE):
            return self._random.choice(_FLOATS)
        if kind == FieldDescriptor.CPPTYPE_BOOL:
            return self._random.random() < 0.5
        if field.type == FieldDescriptor.TYPE_BYTES:
            return self.random_bytes() * self._random.choice((0, 1, 6))
        if kind == FieldDescriptor.CPPTYPE_STRING:
            return self._random.choice(_TEXTS)
        return self._integer(field)

    def _integer(self, field: FieldDescriptor) -> int:
        value = self._random.choice(_INTEGERS)
        if self._random.random() < 0.5:
            value = self._random.randrange(10)
        if field.cpp_type == FieldDescriptor.CPPTYPE_ENUM:
            return min(value, 2**31 - 1)
        wide = field.cpp_type in (FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64)
        if field.type in _SIGNED and self._random.random() < 0.2:
            return -value
        if field.cpp_type == FieldDescriptor.CPPTYPE_UINT64 and self._random.random() < 0.1:
            return 2**64 - 1
        if wide:
            return value
        return min(value, 2**31 - 1 if field.cpp_type == FieldDescriptor.CPPTYPE_INT32 else 2**32 - 1)

    def _place(self, raw: bytearray) -> int:
        return self._random.randrange(len(raw) + 1)

    def _flip(self, raw: bytearray) -> None:
        if raw:
            raw[self._random.randrange(len(raw))] ^= 1 << self._random.randrange(8)

    def _overwrite(self, raw: bytearray) -> None:
        at, part = self._place(raw), self._random.choice(_BYTES)
        raw[at : at + len(part)] = part

    def _insert(self, raw: bytearray) -> None:
        at = self._place(raw)
        raw[at:at] = self._random.choice((*_BYTES, self.random_bytes()))

    def _remove(self, raw: bytearray) -> None:
        at = self._place(raw)
        del raw[at : at + self._random.randint(1, 16)]

    def _repeat(self, raw: bytearray) -> None:
        at, end = sorted((self._place(raw), self._place(raw)))
        raw[end:end] = raw[at:end]

    def _cut(self, raw: bytearray) -> None:
        del raw[self._place(raw) :]
