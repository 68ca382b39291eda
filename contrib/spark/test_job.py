#!/usr/bin/env python3
"""Compares the job with counts by hand, over fingerprints of random farms that no vdisk has made.

    python test_job.py [SEED...]

Contents are symbols, one for each block; what an image shows is written out in full and counted with
a Counter. Nothing is shared with the job but the format of the files.
"""

import contextlib
import hashlib
import io
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import SparkSession

import dedup_report

UNIT = 4096
QUIET = {
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.sql.shuffle.partitions": "3",
    "spark.default.parallelism": "2",
}


class Layer:
    """A node of a tree: its own symbols by block, 0 for zeros."""

    def __init__(self, host, path, size, parent=None, image=True):
        self.host, self.path, self.size, self.parent, self.image = host, path, size, parent, image
        self.own = {}
        self.file = None
        self.changed = 1
        self.id = hashlib.md5(f"{host} {path}".encode()).hexdigest()

    def blocks(self):
        return -(-self.size // UNIT)

    def length(self, block):
        return min(UNIT, self.size - block * UNIT)

    def shown(self):
        """The symbol of every block that a guest sees; behind the end of a parent are zeros."""
        below = self.parent.shown() if self.parent else []
        below += [0] * (self.blocks() - len(below))
        return [self.own.get(block, below[block]) for block in range(self.blocks())]

    def line(self):
        return [self] + (self.parent.line() if self.parent else [])

    def write(self, folder, chance):
        """A row for each block of data, and for runs of zeros, which are cut here and there."""
        rows = []
        for block, symbol in sorted(self.own.items()):
            position, length = block * UNIT, self.length(block)
            if symbol:
                rows.append((position, length, "data", digest(symbol, length)))
            elif rows and rows[-1][2] == "zero" and sum(rows[-1][:2]) == position and chance.random() < 0.95:
                rows[-1] = (rows[-1][0], rows[-1][1] + length, "zero", None)
            else:
                rows.append((position, length, "zero", None))
        header = {
            "schema": 1, "id": self.id, "parent": self.parent and self.parent.id, "host": self.host,
            "path": self.path, "image": self.image, "format": "raw", "layers": 1, "size": self.size,
            "allocated": 0, "unit": UNIT, "deflate_bits": 10, "partitions": [],
            "files": [{
                "path": self.path, "device": 1, "inode": 1, "size": self.size, "allocated": 0,
                "modified": 1, "changed": self.changed,
            }],
            "rows": len(rows), "data": sum(row[1] for row in rows if row[3]),
            "zero": sum(row[1] for row in rows if not row[3]),
        }
        position, length, kind, hashes = zip(*rows) if rows else ([], [], [], [])
        table = pa.table({
            "position": pa.array(position, pa.int64()), "length": pa.array(length, pa.int64()),
            "kind": pa.array(kind, pa.string()), "hash": pa.array(hashes, pa.binary(16)),
            "deflated": pa.array([None] * len(rows), pa.int32()),
        }).replace_schema_metadata({"vdisk": json.dumps(header)})
        folder.mkdir(exist_ok=True, parents=True)
        self.file = folder / f"{Path(self.path).name}-{self.id[:16]}.parquet"
        pq.write_table(table, self.file, row_group_size=700, compression="none")
        seal(self.file)


def seal(file):
    """Puts the digests of pages and footer between the two."""
    raw = file.read_bytes()
    footer = len(raw) - 8 - int.from_bytes(raw[-8:-4], "little")
    digests = [hashlib.sha256(part).digest() for part in (raw[:footer], raw[footer:])]
    file.write_bytes(raw[:footer] + b"vdisk-fp" + digests[0] + digests[1] + raw[footer:])


def digest(symbol, length):
    return hashlib.md5(f"{symbol} of {length}".encode()).digest()


def fill(layer, chance, symbols):
    """Gives a layer its own blocks: all of them in a base, stretches in a child."""
    if layer.parent is None:
        stretches = [(0, layer.blocks())]
    else:
        starts = [chance.randrange(layer.blocks()) for _ in range(chance.randrange(6))]
        stretches = [(at, min(at + chance.choice([1, 3, 40, 1500]), layer.blocks())) for at in starts]
    below = layer.parent.shown() if layer.parent else []
    for start, end in stretches:
        at = start
        while at < end:
            run = min(end - at, chance.choice([1, 2, 20, 300]))
            how = chance.choice(["zero", "common", "own", "same", "moved"])
            for block in range(at, at + run):
                if how == "same" and block < len(below):
                    layer.own[block] = below[block]
                elif how == "moved" and below:
                    layer.own[block] = below[(block * 7) % len(below)]
                elif how == "own":
                    layer.own[block] = chance.randrange(1, 1 << 40)
                else:
                    layer.own[block] = 0 if how == "zero" else chance.choice(symbols)
            at += run


def farm(chance, hosts, bases, children):
    """Random trees: clones of clones, longer children, layers that are no images themselves."""
    symbols = [chance.randrange(1, 1 << 40) for _ in range(60)]
    layers = []
    for number in range(bases):
        size = chance.choice([4 << 20, 8 << 20, 5 << 20, (4 << 20) + 512 * chance.randrange(1, 3000)])
        name = f"/images/base {number} +%41é.vmdk"
        layers.append(Layer(chance.choice(hosts), name, size, image=chance.random() < 0.6))
    for number in range(children):
        parent = chance.choice(layers[-8:])
        size = parent.size
        if size % (4 << 20) == 0 and chance.random() < 0.3:
            size += 512 * chance.randrange(1, 9000)
        layers.append(Layer(parent.host, f"/images/child-{number}.vmdk", size, parent, chance.random() < 0.8))
    for layer in layers:
        fill(layer, chance, symbols)
    return layers


def truth(layers, dead):
    """Everything that the report says, from images written out in full."""
    hosts = {layer.host for layer in layers}
    images = {}
    for layer in layers:
        if layer.image and not any(each in dead for each in layer.line()):
            name = f"{layer.host}:{layer.path}" if len(hosts) > 1 else layer.path
            blocks = [(symbol, layer.length(block)) for block, symbol in enumerate(layer.shown()) if symbol]
            images[name] = (layer, Counter(blocks))
    farm = Counter()
    owners = Counter()
    for _, blocks in images.values():
        farm.update(blocks)
        owners.update(blocks.keys())
    rows = []
    for name, (layer, blocks) in sorted(images.items(), key=lambda item: item[0]):
        size = layer.size
        data = sum(length * times for (_, length), times in blocks.items())
        distinct = sum(length for _, length in blocks)
        exclusive = sum(block[1] for block in blocks if owners[block] == 1)
        rows.append({
            "path": name, "format": "raw", "layers": len(layer.line()),
            "total_bytes": size, "zero_bytes": size - data, "data_bytes": data,
            "unique_bytes": distinct, "duplicate_bytes": data - distinct,
            "saving_percent": (data - distinct) / data * 100 if data else 0.0,
            "distinct_bytes": distinct, "internal_duplicate_bytes": data - distinct,
            "exclusive_bytes": exclusive, "shared_bytes": distinct - exclusive,
        })
    total = {name: sum(row[name] for row in rows) for name in ("total_bytes", "zero_bytes", "data_bytes")}
    total["unique_bytes"] = sum(length for _, length in farm)
    total["duplicate_bytes"] = total["data_bytes"] - total["unique_bytes"]
    total["once_bytes"] = sum(block[1] for block, times in farm.items() if times == 1)
    data = total["data_bytes"]
    total["saving_percent"] = total["duplicate_bytes"] / data * 100 if data else 0.0
    references = {}
    for (_, length), times in farm.items():
        low = 1
        while low * 2 <= times:
            low *= 2
        new = {"from": low, "to": 2 * low - 1, "blocks": 0, "unique_bytes": 0, "data_bytes": 0}
        row = references.setdefault(low, new)
        row["blocks"] += 1
        row["unique_bytes"] += length
        row["data_bytes"] += length * times
    pairs = []
    names = sorted(images)
    for at, a in enumerate(names):
        for b in names[at + 1 :]:
            shared = sum(length for _, length in images[a][1].keys() & images[b][1].keys())
            if shared:
                pairs.append({"a": a, "b": b, "shared_bytes": shared})
    return {
        "block_size": UNIT, "images": rows, "total": total, "pairs": pairs,
        "references": [references[low] for low in sorted(references)],
    }


def compare(found, expected, what):
    for name, value in expected.items():
        if found[name] != value:
            for one, other in zip(found[name], value) if isinstance(value, list) else []:
                if one != other:
                    print(f"  found    {one}\n  expected {other}")
            raise SystemExit(f"{what}: {name} differs:\n{found[name]}\n{value}"[:4000])


def damage(layer, how):
    """Makes a file unreadable, or its rows others than were written."""
    raw = bytearray(layer.file.read_bytes())
    footer = len(raw) - 8 - int.from_bytes(raw[-8:-4], "little")
    if how == "cut":
        raw = raw[: len(raw) // 2]
    elif how == "no seal":
        del raw[footer - 72 : footer]
    else:
        raw[footer // 2 if how == "pages" else footer + 20] ^= 0x40
    layer.file.write_bytes(raw)


def random_farm(spark, seed, folder):
    chance = random.Random(seed)
    hosts = ["a", "b", "c"][: 3 if seed % 3 else 1]
    layers = farm(chance, hosts, chance.randrange(2, 5), chance.choice([8, 20]))
    for layer in layers:
        layer.write(folder / layer.host, chance)
    folders = [str(folder / host) for host in hosts if (folder / host).exists()]
    dead = set()
    if seed % 2:
        victims = [layer for layer in layers[len(layers) // 2 :] if len(layer.own) > 100]
        hows = chance.sample(["cut", "no seal", "pages", "footer"], min(2, len(victims)))
        for victim, how in zip(chance.sample(victims, len(hows)), hows):
            damage(victim, how)
            dead.add(victim)
    begun = time.monotonic()
    found = dedup_report.run(spark, folders, 1000)
    took = time.monotonic() - begun
    # Names of hosts follow from the headers that can be read.
    compare(found, truth(layers, dead), f"seed {seed}")
    gone = sum(1 for layer in layers if layer.image and any(each in dead for each in layer.line()))
    assert found["complete"] == (not dead) and (found["errors"] or not gone), (seed, found["errors"])
    images = len(found["images"])
    print(f"seed {seed}: {len(layers)} files of {len(hosts)} hosts, {images} images, {len(dead)} damaged, {took:.1f} s: equal")


def skewed_farm(spark, folder):
    """Two hundred clones that all write the same blocks, and one block that is everywhere."""
    chance = random.Random(1)
    base = Layer("a", "/images/gold.vmdk", 8 << 20, image=False)
    base.own = {block: 7 if block % 3 else block + 100 for block in range(base.blocks())}
    layers = [base]
    for number in range(200):
        layer = Layer("a", f"/images/{number}.vmdk", base.size, base)
        layer.own = {0: 1 + number % 2, 5: 0, 6: 0, 9: 7, 1000 + number: 1 << 41 | number}
        layers.append(layer)
    for layer in layers:
        layer.write(folder, chance)
    compare(dedup_report.run(spark, [str(folder)], 1000), truth(layers, set()), "skewed")
    assert dedup_report.run(spark, [str(folder)], 199)["pairs"] is None
    print("200 clones that write the same blocks: equal")


def lies(spark, folder):
    """Headers that contradict each other: what they are about is left out, all else is counted."""
    chance = random.Random(2)
    size = 4 << 20
    good = Layer("a", "/good", size)
    one = Layer("a", "/circle-1", size)
    two = Layer("a", "/circle-2", size, one)
    over = Layer("a", "/over-circle", size, two)
    orphan = Layer("a", "/orphan", size, Layer("a", "/absent", size))
    short = Layer("a", "/shorter", size // 2, good)
    layers = [good, one, two, over, orphan, short]
    for layer in layers:
        layer.own = {block: chance.randrange(1, 50) for block in range(layer.blocks())}
        layer.write(folder, chance)
    one.parent = Layer("a", "/circle-2", size)
    one.write(folder, chance)
    earlier = Layer("a", "/good", size)
    earlier.id = "f" * 32
    earlier.changed = 0  # an earlier state
    earlier.write(folder, chance)
    found = dedup_report.run(spark, [str(folder)], 1000)
    compare(found, truth([good], set()), "lies")
    paths = [each["path"] for each in found["errors"]]
    # In the order of names; /good is counted once, in its newest state.
    assert paths == ["/circle-1", "/circle-2", "/good", "/orphan", "/over-circle", "/shorter"], found["errors"]
    print("circles, orphans, wrong sizes and other states: left out")


def copies(spark, folder):
    """One image in several files: as an image and as a parent only, and cut at two places."""
    chance = random.Random(4)
    size = 4 << 20
    gold = Layer("a", "/gold", size, image=False)
    middle = Layer("a", "/middle", size, gold)
    tops = [Layer("a", f"/top-{number}", size, middle) for number in range(2)]
    for layer in [gold, middle, *tops]:
        layer.own = {block: chance.randrange(1, 50) for block in range(0, size // UNIT, 1 if layer is gold else 7)}
        layer.write(folder / "one", chance)
    middle.image = False
    middle.write(folder / "two", chance)
    whole = Layer("a", "/middle", size)
    whole.id = "e" * 32
    whole.own = dict(enumerate(middle.shown()))
    tops.append(Layer("a", "/top-2", size, whole))
    tops[-1].own = {5: 1 << 41}
    for layer in [whole, tops[-1]]:
        layer.write(folder / "three", chance)
    expected = truth([gold, middle, whole, *tops], set())
    for names in [("one", "two", "three"), ("three", "two", "one"), ("two", "one", "three")]:
        for at, name in enumerate(names):
            (folder / name).rename(folder / f"{at}-{name}")
        found = dedup_report.run(spark, [str(folder / f"{at}-{name}") for at, name in enumerate(names)], 1000)
        for at, name in enumerate(names):
            (folder / f"{at}-{name}").rename(folder / name)
        for row in [*expected["images"], *found["images"]]:
            row["layers"] = None  # follows from the file that is taken
        compare(found, expected, f"copies {names}")
        assert found["complete"], found["errors"]
    print("one image in several files: counted once")


def program(folder):
    """The job as a program: exit codes, and the file that it writes. Each run ends the session."""
    chance = random.Random(3)
    layers = farm(chance, ["a"], 2, 6)
    for layer in layers:
        layer.write(folder / "farm", chance)
    victim = max(layers[2:], key=lambda layer: len(layer.own))
    damage(victim, "pages")
    report = folder / "out.json"

    def run(*arguments):
        session()
        sys.argv = ["dedup_report.py", *map(str, arguments)]
        with contextlib.redirect_stdout(io.StringIO()):
            return dedup_report.main()

    assert run(folder / "farm", "--json", report) == 1
    found = json.loads(report.read_text())
    compare(found, truth(layers, {victim}), "program")
    assert [each["path"] for each in found["errors"]] == [
        layer.path for layer in layers if victim is layer or layer.image and victim in layer.line()], found["errors"]
    (folder / "empty").mkdir()
    assert run(folder / "empty", "--json", report) == 0
    compare(json.loads(report.read_text()), truth([], set()) | {"block_size": None}, "nothing")
    assert run(folder / "absent") == 2
    print("the program: exits 0, 1 and 2, and writes the report")


def session():
    builder = SparkSession.builder.master("local[2]")
    for name, value in QUIET.items():
        builder = builder.config(name, value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    spark.sparkContext.addPyFile(dedup_report.__file__)
    return spark


def main():
    os.environ["PYSPARK_PYTHON"] = sys.executable
    seeds = [int(each) for each in sys.argv[1:]] or [5, 4]
    spark = session()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        for seed in seeds:
            random_farm(spark, seed, folder / f"seed {seed}")
        skewed_farm(spark, folder / "skewed")
        lies(spark, folder / "lies")
        copies(spark, folder / "copies")
        program(folder / "program")


if __name__ == "__main__":
    main()
