"""Counts the blocks of raw disks, for comparison with `vdisk dedup-report`.

    dedup_truth.py [--block BYTES]... [--pad NAME=BYTES]... [--deflate] NAME=FILE...

Nothing of vdisk is used or imitated: every block of every disk is read and hashed whole, SHA-256, at
multiples of the block size from the start of the disk; a short last block at its own length. Prints
JSON: `sizes`, one entry for each --block (4096 if there is none), all figures in bytes. `references`
has an entry for each number of times that a block occurs. --pad puts so many zeros in front of a disk.
With --deflate, the total has `deflated_bytes`: each distinct block deflated on its own, or as it is.
"""

import argparse
import hashlib
import json
import sys
import zlib
from collections import defaultdict
from itertools import combinations


def pieces(path, pad, size):
    """The disk in blocks; the last one may be short."""
    with open(path, "rb") as file:
        head = bytes(pad)
        while block := head + file.read(size - len(head)):
            head = b""
            yield block


class Farm:
    def __init__(self, disks, pads, size, deflate):
        self.size = size
        self.deflate = deflate
        self.deflated = 0
        self.images = [
            {"name": name, "total_bytes": 0, "zero_bytes": 0, "data_bytes": 0}
            for name, _ in disks
        ]
        self.times = defaultdict(int)  # by digest, over all images
        self.lengths = {}
        self.owners = defaultdict(set)
        for number, (name, path) in enumerate(disks):
            self.add(number, pieces(path, pads.get(name, 0), size))

    def add(self, number, blocks):
        image = self.images[number]
        zeros = bytes(self.size)
        for block in blocks:
            image["total_bytes"] += len(block)
            if block == zeros[: len(block)]:
                image["zero_bytes"] += len(block)
                continue
            image["data_bytes"] += len(block)
            digest = hashlib.sha256(block).digest()
            if self.deflate and digest not in self.lengths:
                deflater = zlib.compressobj(6, zlib.DEFLATED, -15)
                packed = deflater.compress(block) + deflater.flush()
                self.deflated += min(len(packed), len(block))
            assert self.lengths.setdefault(digest, len(block)) == len(block)
            self.times[digest] += 1
            self.owners[digest].add(number)

    def report(self):
        distinct = [0] * len(self.images)
        exclusive = [0] * len(self.images)
        shared = defaultdict(int)  # by set of images
        references = defaultdict(lambda: {"blocks": 0, "unique_bytes": 0})
        for digest, length in self.lengths.items():
            shared[frozenset(self.owners[digest])] += length
            entry = references[self.times[digest]]
            entry["blocks"] += 1
            entry["unique_bytes"] += length
        pairs = defaultdict(int)
        for owners, length in shared.items():
            for owner in owners:
                distinct[owner] += length
                if len(owners) == 1:
                    exclusive[owner] += length
            for pair in combinations(sorted(owners), 2):
                pairs[pair] += length
        for image, own, alone in zip(self.images, distinct, exclusive):
            image["distinct_bytes"] = own
            image["internal_duplicate_bytes"] = image["data_bytes"] - own
            image["exclusive_bytes"] = alone
            image["shared_bytes"] = own - alone
        total = {
            field: sum(image[field] for image in self.images)
            for field in ("total_bytes", "zero_bytes", "data_bytes")
        }
        total["unique_bytes"] = sum(self.lengths.values())
        total["duplicate_bytes"] = total["data_bytes"] - total["unique_bytes"]
        total["once_bytes"] = references[1]["unique_bytes"] if 1 in references else 0
        if self.deflate:
            total["deflated_bytes"] = self.deflated
        return {
            "block_size": self.size,
            "total": total,
            "images": self.images,
            "pairs": [
                {
                    "a": self.images[a]["name"],
                    "b": self.images[b]["name"],
                    "shared_bytes": length,
                }
                for (a, b), length in sorted(pairs.items())
            ],
            "references": [
                {"times": times, **entry, "data_bytes": times * entry["unique_bytes"]}
                for times, entry in sorted(references.items())
            ],
        }


def named(text):
    name, _, value = text.partition("=")
    return name, value


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--block", type=int, action="append")
    parser.add_argument("--pad", type=named, action="append", default=[])
    parser.add_argument("--deflate", action="store_true")
    parser.add_argument("disks", type=named, nargs="*")
    args = parser.parse_args()
    pads = {name: int(value) for name, value in args.pad}
    sizes = [
        Farm(args.disks, pads, size, args.deflate).report()
        for size in args.block or [4096]
    ]
    json.dump({"sizes": sizes}, sys.stdout)


main()
