#!/usr/bin/env python3
"""Reads a file of fingerprints with pyarrow, and holds it to docs/fingerprints.md.

    fingerprints_peer.py FILE RAW    RAW: the disk, or - if the file has no rows

Prints path, parent ("null" if there is none) and size of the disk. Fails where anything else than the
disk's blocks is found.
"""

import hashlib
import json
import sys
import zlib

import pyarrow.parquet

file, raw = sys.argv[1:]
with open(file, "rb") as f:
    data = f.read()

# The seal.
assert data[:4] == data[-4:] == b"PAR1"
footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
seal = data[footer - 72 : footer]
assert seal[:8] == b"vdisk-fp", seal
assert seal[8:40] == hashlib.sha256(data[: footer - 72]).digest()
assert seal[40:] == hashlib.sha256(data[footer:]).digest()

parquet = pyarrow.parquet.ParquetFile(file)
header = json.loads(parquet.schema_arrow.metadata[b"vdisk"])
assert header["schema"] == 1
types = [(field.name, str(field.type), field.nullable) for field in parquet.schema_arrow]
assert types == [
    ("position", "int64", False),
    ("length", "int64", False),
    ("kind", "string", False),
    ("hash", "fixed_size_binary[16]", True),
    ("deflated", "int32", True),
], types
rows = [tuple(row.values()) for row in parquet.read().to_pylist()]
assert header["rows"] == len(rows)

unit = header["unit"]
sums = {"data": 0, "zero": 0}
for position, length, kind, digest, deflated in rows:
    sums[kind] += length
assert (header["data"], header["zero"]) == (sums["data"], sums["zero"])

if raw == "-":
    assert not rows, rows[:3]
else:
    with open(raw, "rb") as f:
        disk = f.read()
    assert header["size"] == len(disk)
    wanted = []
    for position in range(0, len(disk), unit):
        block = disk[position : position + unit]
        if block.strip(b"\0"):
            digest = hashlib.sha256(block).digest()
            wanted.append((position, len(block), "data", digest[:16]))
        elif wanted and wanted[-1][2] == "zero":
            start, length, _, _ = wanted.pop()
            wanted.append((start, length + len(block), "zero", None))
        else:
            wanted.append((position, len(block), "zero", None))
    assert [row[:4] for row in rows] == wanted
    # One in 2**deflate_bits was deflated, chosen by the last bits of its hash.
    mask = (1 << header["deflate_bits"]) - 1
    sampled = 0
    for position, length, _, digest, deflated in rows:
        chosen = digest is not None and int.from_bytes(digest, "big") & mask == 0
        assert (deflated is not None) == chosen, (position, deflated)
        if chosen:
            sampled += 1
            # Other compressors find other lengths.
            own = min(len(zlib.compress(disk[position : position + length], 6)), length)
            assert 0 < deflated <= length and abs(deflated - own) <= 64, (deflated, own)
    assert sampled > 0

print(header["path"], header["parent"] or "null", header["size"])
