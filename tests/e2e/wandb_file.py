"""Reads what an offline run of W&B has written: it has no reader of its own."""

import struct
from pathlib import Path
from typing import Any

from google.protobuf.json_format import MessageToDict
from wandb.proto.wandb_internal_pb2 import Record

BLOCK, HEADER = 2**15, 7  # LevelDB's log format: blocks of chunks, each a checksum, a length and a kind


def records(path: Path) -> list[dict[str, Any]]:
    data, at, part, found = path.read_bytes(), HEADER, b"", []  # the file begins with a header of 7 bytes
    while at + HEADER <= len(data):
        if BLOCK - at % BLOCK < HEADER:
            at += BLOCK - at % BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + HEADER])
        part += data[at + HEADER : at + HEADER + length]
        at += HEADER + length
        if kind in (1, 4):  # whole, or the last of several
            found.append(MessageToDict(Record.FromString(part), preserving_proto_field_name=True))
            part = b""
    return found
