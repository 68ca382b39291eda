#!/usr/bin/env python3
"""Reports on duplicates over fingerprints of many hosts: `vdisk dedup-report --from`, on Spark.

    spark-submit dedup_report.py FOLDER... [--json FILE] [--pairs IMAGES]

The numbers are those of `vdisk dedup-report --from` with blocks as large as the fingerprinted ones.
README.md beside this file says how it works, and what is held where.
"""

import argparse
import hashlib
import json
import os
import sys
from operator import add
from typing import Iterable, Iterator, NamedTuple, Optional
from urllib.parse import unquote

import pyarrow.fs
import pyarrow.parquet as pq
from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

# The format of the files: docs/fingerprints.md.
SCHEMA = 1
COLUMNS = "position long, length long, kind string, hash binary"
HEADER = ("id", "parent", "host", "path", "image", "format", "layers", "size", "unit", "zero", "files")
# What tells states of a file apart; the last two say how new they are.
STAMP = ("path", "inode", "size", "modified", "changed")
SEAL = b"vdisk-fp"
SEAL_BYTES = 72
# Bytes that are read at once.
PIECE = 1 << 20
# Runs of zeros meet the blocks that they hide in windows of this size: 4 MiB.
WINDOW_BITS = 22
# A longer child may lie over a parent that ends at a multiple of this.
ALIGNMENT = 4 << 20
# A task hands its sums on when it has so many.
MOST_SUMS = 1 << 20


# ---- Files: each is read whole by one task of an executor, before anything is counted -----------


class Head(NamedTuple):
    """What the driver knows of one file of fingerprints."""

    file: str
    error: Optional[str]
    header: dict


def location(uri: str) -> tuple[pyarrow.fs.FileSystem, str]:
    """The file system and the path there of a file that Spark has listed."""
    if uri.startswith("file:"):
        return pyarrow.fs.LocalFileSystem(), "/" + unquote(uri[5:]).lstrip("/")
    for scheme in ("s3a:", "s3n:"):
        if uri.startswith(scheme):
            uri = "s3:" + uri[len(scheme) :]
    return pyarrow.fs.FileSystem.from_uri(uri)


def head(uri: str) -> Head:
    """Reads the header of a file, and all the rest to be sure that it is as it was written."""
    header: dict = {}
    try:
        system, path = location(uri)
        with system.open_input_file(path) as file:
            pages = sealed(file)
            header = header_of(pq.read_metadata(file).metadata or {})
            check_pages(file, *pages)
        return Head(uri, None, header)
    except Exception as error:  # whatever a damaged file makes of its reader
        return Head(uri, str(error).split("\n")[0] or type(error).__name__, header)


def sealed(file: pyarrow.NativeFile) -> tuple[int, bytes]:
    """Checks the footer against the seal before it. Returns where the pages end, and their digest."""
    size = file.size()
    end = file.read_at(8, size - 8) if size >= 8 else b""
    start = size - 8 - int.from_bytes(end[:4], "little") - SEAL_BYTES
    if end[4:] != b"PAR1" or start < 0:
        raise ValueError("footer is not there: this is no whole Parquet file")
    seal = file.read_at(SEAL_BYTES, start)
    if not seal.startswith(SEAL):
        raise ValueError("seal is not there: the file is damaged, or was not written by vdisk")
    if hashlib.sha256(file.read_at(size, start + SEAL_BYTES)).digest() != seal[40:]:
        raise ValueError("footer does not match its digest")
    return start, seal[8:40]


def check_pages(file: pyarrow.NativeFile, end: int, digest: bytes) -> None:
    """Fails if the first `end` bytes are not those that were written."""
    found = hashlib.sha256()
    for at in range(0, end, PIECE):
        found.update(file.read_at(min(PIECE, end - at), at))
    if found.digest() != digest:
        raise ValueError("pages do not match their digest")


def header_of(metadata: dict) -> dict:
    """The header, limited to what the job needs."""
    header = json.loads(metadata[b"vdisk"])
    if header["schema"] != SCHEMA:
        raise ValueError(f"header has version {header['schema']}, and only {SCHEMA} is known")
    header["files"] = [tuple(each[name] for name in STAMP) for each in header["files"]]
    return {name: header[name] for name in HEADER}


# ---- The forest: what lies over what. On the driver, and broadcast; grows with the files only ----


class Node:
    """One segment of a chain: one file."""

    def __init__(self, head: Head):
        self.file, self.error = head.file, head.error
        self.damaged = head.error is not None
        self.__dict__.update(head.header)
        self.below: Optional["Node"] = None
        self.over: list["Node"] = []
        self.number = -1
        self.span = (0, 0)

    def state(self) -> tuple:
        """What the image was like: segments of one state show the same disk, wherever the chain was cut."""
        return self.format, self.size, self.files

    def since(self) -> tuple:
        """When the newest of its files was changed."""
        return max(((changed, modified) for *_, modified, changed in self.files), default=(0, 0))

    def ancestors(self) -> Iterator["Node"]:
        """From the nearest to the base."""
        node = self.below
        while node is not None:
            yield node
            node = node.below


class Forest:
    """The nodes whose images can be reported on, the numbers of those images, and what is wrong with the rest.

    Images are numbered so that all images over one node follow each other: its span.
    """

    def __init__(self, heads: Iterable[Head]):
        self.errors: list[dict] = []
        nodes: dict[str, Node] = {}
        for each in sorted(heads, key=lambda head: head.file):
            if not each.header:
                self.errors.append({"path": location(each.file)[1], "error": each.error})
                continue
            copy = nodes.get(each.header["id"])
            if copy is None or copy.error:
                nodes[each.header["id"]] = Node(each)
            if copy is not None:  # perhaps only one says that an image ends here
                nodes[each.header["id"]].image = copy.image or each.header["image"]
        places: dict[tuple, list[Node]] = {}
        for node in nodes.values():
            places.setdefault((node.host, node.path, node.unit), []).append(node)
        for several in places.values():
            self._outdate(several)
        self.units = sorted({node.unit for node in nodes.values()})
        several = len({node.host for node in nodes.values()}) > 1
        for node in nodes.values():
            node.name = f"{node.host}:{node.path}" if several else node.path
        self._link(nodes)
        for several in places.values():
            self._once(several)
        for node in sorted(nodes.values(), key=lambda node: node.name):
            if node.error is not None and (node.image or node.damaged):
                self.errors.append({"path": node.name, "error": node.error})
        self.images: list[Node] = []
        self.nodes: list[Node] = []
        self._number([node for node in nodes.values() if node.error is None])

    @staticmethod
    def _outdate(nodes: list[Node]) -> None:
        """Of one image: marks files of older states than the newest."""
        newest = max(nodes, key=Node.since)
        for node in nodes:
            if node.state() != newest.state():
                newest.image = newest.image or node.image
                newer = "newer" if node.since() < newest.since() else "as new"
                error = f"{node.file} is of another state of {node.path}: {newest.file} is {newer}, and is counted"
                node.error = node.error or error

    @staticmethod
    def _once(nodes: list[Node]) -> None:
        """Of one image: lets one file in its newest state stand for it. The others are only parents."""
        newest = max(nodes, key=Node.since).state()
        nodes = [node for node in nodes if node.state() == newest]
        if any(node.image for node in nodes):
            best = max(nodes, key=lambda node: (node.error is None, node.image))
            for node in nodes:
                node.image = node is best

    def _link(self, nodes: dict[str, Node]) -> None:
        """Connects nodes with their parents, and marks those that have none, and all over them."""
        for node in nodes.values():
            if node.parent is not None and node.error is None:
                below = nodes.get(node.parent)
                if below is None:
                    node.error = "its parent's fingerprints are not there"
                elif below.size != node.size and (below.size > node.size or below.size % ALIGNMENT):
                    node.error = f"its size does not fit that of its parent {below.name}"
                else:
                    node.below = below
        sound: dict[str, bool] = {}
        for node in nodes.values():
            path = []
            while node is not None and node.id not in sound:
                sound[node.id] = False
                path.append(node)
                node = node.below
            # Below the path is nothing, a node that was judged, or a node of the path itself: a circle.
            good = node is None or sound[node.id]
            fault = None if node is None else node.error
            for each in reversed(path):
                if each.error is None and not good:
                    each.error = f"its parent {each.below.name}: {fault or 'is its own parent'}"
                good, fault = each.error is None, each.error
                sound[each.id] = good

    def _number(self, nodes: list[Node]) -> None:
        """Numbers images in preorder, and leaves out nodes over which there are none."""
        for node in nodes:
            if node.below is not None:
                node.below.over.append(node)
        for base in nodes:
            todo = [(base, False)] if base.below is None else []
            while todo:
                node, done = todo.pop()
                if done:
                    node.span = (node.span[0], len(self.images))
                    if node.span[0] < node.span[1]:
                        node.number = len(self.nodes)
                        self.nodes.append(node)
                    continue
                node.span = (len(self.images), len(self.images))
                if node.image:
                    self.images.append(node)
                todo.append((node, True))
                todo.extend((child, False) for child in reversed(node.over))


# ---- Records: so many more, or fewer, of one block in all images over a node --------------------


def table(spark: SparkSession, rows: list[tuple], columns: str) -> DataFrame:
    """A small table for every executor."""
    return F.broadcast(spark.createDataFrame(rows, columns))


def records(spark: SparkSession, source: DataFrame, forest: Forest) -> DataFrame:
    """(hash, length, node, count): +1 for each block of a node, -1 for the block below that it hides."""
    places = [(node.file, node.number) for node in forest.nodes]
    rows = source.join(table(spark, places, "file string, node int"), "file").drop("file")
    data = rows.where("kind = 'data'")
    records = data.select("hash", "length", "node", F.lit(1).cast("long").alias("count"))
    if any(node.below for node in forest.nodes):
        records = records.union(hidden(spark, rows, data, forest))
    return records


def hidden(spark: SparkSession, rows: DataFrame, data: DataFrame, forest: Forest) -> DataFrame:
    """The records of blocks that nodes hide: of each row's nearest ancestor that says what is there."""
    depth = {node: sum(1 for _ in node.ancestors()) for node in forest.nodes}
    lines = [(node.number, below.number, depth[below]) for node in forest.nodes for below in node.ancestors()]
    lines = table(spark, lines, "node int, below int, depth int")
    inner = table(spark, [(node.number,) for node in forest.nodes if node.over], "node int")
    children = {node.number for node in forest.nodes if node.below}

    own = data.join(lines, "node").select("node", "position", "below", "depth")
    below = data.join(inner, "node").selectExpr("node below", "position", "hash", "length")
    if any(node.zero for node in forest.nodes if node.number in children):
        zeros = zeroed(rows.where("kind = 'zero'").join(lines, "node"), below)
        own = own.union(zeros.join(lines, "node").select("node", "position", "below", "depth"))
        nothing = zeros.join(inner, "node").selectExpr(
            "node below", "position", "CAST(NULL AS binary) hash", "0L length"
        )
        below = below.union(nothing)
    hides = own.join(below, ["below", "position"])
    if max(depth.values()) > 1:
        hides = hides.groupBy("node", "position").agg(
            F.max_by(F.struct("hash", "length"), "depth").alias("nearest")
        ).select("nearest.hash", "nearest.length", "node")
    return hides.where("hash IS NOT NULL").selectExpr("hash", "length", "node", "-1L count")


def zeroed(runs: DataFrame, below: DataFrame) -> DataFrame:
    """(node, position): where runs of zeros lie over data of any node below."""
    window = f"explode(sequence(shiftright(position, {WINDOW_BITS}), shiftright(position + length - 1, {WINDOW_BITS})))"
    runs = runs.selectExpr("node", "below", "position start", "position + length end", f"{window} window")
    below = below.selectExpr("below", "position", f"shiftright(position, {WINDOW_BITS}) window")
    over = runs.join(below, ["below", "window"]).where("position >= start AND position < end")
    return over.select("node", "position").distinct()


def signatures(records: DataFrame) -> DataFrame:
    """(who, length, blocks): how many distinct blocks have the same counts in the same nodes."""
    by_node = records.groupBy("hash", "length", "node").agg(F.sum("count").alias("count")).where("count <> 0")
    by_hash = by_node.groupBy("hash", "length").agg(
        F.sort_array(F.collect_list(F.struct("node", "count"))).alias("who")
    )
    return by_hash.groupBy("who", "length").agg(F.count(F.lit(1)).alias("blocks"))


# ---- Sums: what the blocks of one signature mean for each image, in executors -------------------


def sums(rows: Iterable, spans: list[tuple[int, int]], with_pairs: bool) -> Iterator[tuple[tuple, int]]:
    """Adds up (key, bytes) for each row of `signatures`.

    Keys: (name,) or (name, power) of totals, (name, image) of differences between the values of an
    image and of the one before it, ("pair", i, j) of differences in both directions.
    """
    found: dict[tuple, int] = {}

    def count(key: tuple, value: int) -> None:
        found[key] = found.get(key, 0) + value

    for who, length, blocks in rows:
        if len(found) > MOST_SUMS:
            yield from found.items()
            found.clear()
        weight = length * blocks
        steps: dict[int, int] = {}
        occurs = 0
        for node, times in who:
            start, end = spans[node]
            steps[start] = steps.get(start, 0) + times
            steps[end] = steps.get(end, 0) - times
            occurs += times * (end - start)
        here, intervals = 0, []
        for image, step in sorted(steps.items()):
            if step == 0:
                continue
            count(("data", image), step * weight)
            if here <= 0 < here + step:
                intervals.append((image, image))
            elif here + step <= 0 < here:
                intervals[-1] = (intervals[-1][0], image)
            here += step
            if here < 0:
                raise ValueError("fingerprints contradict each other: a block is there less than not at all")
        if not intervals:
            continue
        count(("unique",), weight)
        if occurs == 1:
            count(("once",), weight)
        power = occurs.bit_length() - 1
        count(("blocks", power), blocks)
        count(("refs unique", power), weight)
        count(("refs data", power), weight * occurs)
        for start, end in intervals:
            count(("distinct", start), weight)
            count(("distinct", end), -weight)
        if sum(end - start for start, end in intervals) == 1:
            count(("exclusive", intervals[0][0]), weight)
        elif with_pairs:
            for at, (start, end) in enumerate(intervals):
                # Pairs within an interval: all columns from the row itself on.
                count(("pair", start, start), weight)
                count(("pair", start, end), -weight)
                # Pairs of an earlier interval with this one: a rectangle.
                for first, last in intervals[:at]:
                    count(("pair", first, start), weight)
                    count(("pair", first, end), -weight)
                    count(("pair", last, start), -weight)
                    count(("pair", last, end), weight)
    yield from found.items()


# ---- The report: from sums to the fields of `vdisk dedup-report --json` --------------------------


def percent(part: int, whole: int) -> float:
    return part / whole * 100.0 if whole else 0.0


def report(forest: Forest, found: dict[tuple, int], with_pairs: bool) -> dict:
    total = {name: 0 for name in ("total_bytes", "zero_bytes", "data_bytes")}
    rows: dict[str, dict] = {}
    data = distinct = 0
    for number, image in enumerate(forest.images):
        data += found.get(("data", number), 0)
        distinct += found.get(("distinct", number), 0)
        exclusive = found.get(("exclusive", number), 0)
        rows[image.name] = {
            "path": image.name,
            "format": image.format,
            "layers": image.layers + sum(node.layers for node in image.ancestors()),
            "total_bytes": image.size,
            "zero_bytes": image.size - data,
            "data_bytes": data,
            "unique_bytes": distinct,
            "duplicate_bytes": data - distinct,
            "saving_percent": percent(data - distinct, data),
            "distinct_bytes": distinct,
            "internal_duplicate_bytes": data - distinct,
            "exclusive_bytes": exclusive,
            "shared_bytes": distinct - exclusive,
        }
        for name in total:
            total[name] += rows[image.name][name]
    unique = found.get(("unique",), 0)
    total["unique_bytes"] = unique
    total["duplicate_bytes"] = total["data_bytes"] - unique
    total["once_bytes"] = found.get(("once",), 0)
    total["saving_percent"] = percent(total["duplicate_bytes"], total["data_bytes"])
    references = [
        {
            "from": 1 << power,
            "to": (2 << power) - 1,
            "blocks": found["blocks", power],
            "unique_bytes": found["refs unique", power],
            "data_bytes": found["refs data", power],
        }
        for power in range(64)
        if ("blocks", power) in found
    ]
    return {
        "complete": not forest.errors,
        "block_size": forest.units[0] if forest.units else None,
        "images": [rows[name] for name in sorted(rows)],
        "total": total,
        "pairs": pairs(forest, found) if with_pairs else None,
        "references": references,
        "errors": forest.errors,
    }


def pairs(forest: Forest, found: dict[tuple, int]) -> list[dict]:
    """Adds up the differences: along each row, then down each column, right of the diagonal."""
    number = len(forest.images)
    steps: dict[int, list[tuple[int, int]]] = {}
    for key, value in found.items():
        if key[0] == "pair" and value:
            steps.setdefault(key[1], []).append((key[2], value))
    shared: list[dict] = []
    columns = [0] * (number + 1)
    for i, image in enumerate(forest.images):
        row = [0] * (number + 1)
        for j, value in steps.get(i, ()):
            row[j] += value
        here = 0
        for j in range(i, number):
            here += row[j]
            columns[j] += here
            if j > i and columns[j]:
                a, b = sorted((image.name, forest.images[j].name))
                shared.append({"a": a, "b": b, "shared_bytes": columns[j]})
    shared.sort(key=lambda pair: (pair["a"], pair["b"]))
    return shared


# ---- The job -------------------------------------------------------------------------------------


def run(spark: SparkSession, folders: list[str], most_pairs: int) -> dict:
    """The report on all fingerprints in `folders`."""

    def files(reader, form: str) -> DataFrame:
        # A file that cannot be read must end the job, whatever the cluster is set to.
        options = {"ignoreCorruptFiles": "false", "ignoreMissingFiles": "false"}
        options |= {"pathGlobFilter": "*.parquet", "recursiveFileLookup": "true"}
        return reader.format(form).options(**options).load(folders)

    listed = files(spark.read, "binaryFile").select("_metadata.file_path")
    heads = listed.rdd.map(lambda row: head(row[0])).collect()
    forest = Forest(heads)
    if len(forest.units) > 1:
        units = ", ".join(map(str, forest.units))
        raise ValueError(f"fingerprints are of blocks of {units} bytes, which cannot be compared")
    with_pairs = len(forest.images) <= most_pairs
    found: dict[tuple, int] = {}
    if forest.images:
        source = files(spark.read.schema(COLUMNS), "parquet")
        # Spark leaves out files by their names before it opens them.
        bad = [each.file for each in heads if each.error is not None]
        if bad:
            source = source.where(~F.col("_metadata.file_path").isin(bad))
        source = source.select("position", "length", "kind", "hash", F.col("_metadata.file_path").alias("file"))
        spans = spark.sparkContext.broadcast([node.span for node in forest.nodes])
        rows = signatures(records(spark, source, forest)).rdd
        found = rows.mapPartitions(lambda part: sums(part, spans.value, with_pairs)).reduceByKey(add).collectAsMap()
    return report(forest, found, with_pairs)


def text(report: dict) -> str:
    """The totals, for people."""
    lines = [f"{len(report['images'])} images, blocks of {report['block_size']} bytes"]
    for name, value in report["total"].items():
        lines.append(f"{name:18}{value:28,.1f}" if isinstance(value, float) else f"{name:18}{value:28,}")
    lines += [f"warning: left out: {each['path']}: {each['error']}" for each in report["errors"]]
    return "\n".join(lines)


def write(report: dict, file: str) -> None:
    """Writes the report whole or not at all."""
    with open(file + ".partial", "w", encoding="utf-8") as out:
        json.dump(report, out, ensure_ascii=False, indent=2)
        out.write("\n")
    os.replace(file + ".partial", file)


def main() -> int:
    parser = argparse.ArgumentParser(description="Reports on duplicates over fingerprints of many hosts.")
    parser.add_argument("folders", nargs="+", metavar="FOLDER", help="holds files made by `vdisk fingerprint`")
    parser.add_argument("--json", metavar="FILE", help="write the whole report there, on the driver's machine")
    parser.add_argument("--pairs", type=int, default=1000, metavar="IMAGES",
                        help="leave out what pairs of images share if there are more images (default: 1000)")
    args = parser.parse_args()
    spark = SparkSession.builder.appName("vdisk dedup-report").getOrCreate()
    try:
        found = run(spark, list(dict.fromkeys(args.folders)), args.pairs)
    except (AnalysisException, ValueError) as error:
        print(f"error: {str(error).splitlines()[0]}", file=sys.stderr)
        return 2
    finally:
        spark.stop()
    if args.json:
        write(found, args.json)
    print(text(found))
    return 0 if found["complete"] else 1


if __name__ == "__main__":
    sys.exit(main())
