#!/bin/bash
# Says whether the Spark job reports what vdisk does, to the byte.
#
#   compare.sh VDISK [PYTHON]
#
# VDISK: the program. PYTHON: one that has what requirements.txt names. qemu-io writes into clones.
set -euo pipefail
vdisk=$(realpath "$1")
python=$(realpath -s "$(command -v "${2:-python3}")")
here=$(cd "$(dirname "$0")" && pwd)
fixtures=$(realpath "$here/../../fixtures")
# Spark's workers run the driver's Python. Nothing is left beside the sources.
export PYSPARK_PYTHON=$python PYTHONDONTWRITEBYTECODE=1 SPARK_LOCAL_IP=127.0.0.1
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"
quietly() { "$@" >"$scratch/log" 2>&1 || { cat "$scratch/log" >&2; echo "failed: $*" >&2; exit 1; }; }

echo "Random farms that no vdisk has made:"
"$python" "$here/test_job.py" 2>"$scratch/log" || { cat "$scratch/log" >&2; exit 1; }

echo "A farm of fixtures, copies in other formats, and clones of clones:"
mkdir one two
cp "$fixtures"/*.vmdk one
quietly "$vdisk" convert one/user.vmdk -o two/user.vhdx
quietly "$vdisk" convert one/disk-data.vmdk -o two/data.vhd
quietly "$vdisk" convert one/apps.vmdk -o two/apps.raw
quietly "$vdisk" clone one/user.vmdk -o one/clone.vmdk
quietly qemu-io -f vmdk -c 'write -P 7 1M 300k' -c 'write -P 0 2M 1M' -c 'write -P 8 8M 4k' one/clone.vmdk
quietly "$vdisk" clone one/clone.vmdk -o one/again.vmdk
# Writes zeros over its parent's data, what is there already, and something else.
quietly qemu-io -f vmdk -c 'write -P 0 1M 64k' -c 'write -P 7 1100k 64k' -c 'write -P 9 2M 8k' one/again.vmdk
quietly "$vdisk" clone two/user.vhdx -o two/longer.vhdx
quietly "$vdisk" resize two/longer.vhdx --size 21M
quietly "$vdisk" clone two/longer.vhdx -o two/child.vhdx
quietly "$vdisk" clone two/data.vhd -o two/child.vhd

report() { # EXIT-CODE FOLDER...
    local expected=$1 code=0 from=()
    shift
    for folder; do from+=(--from "$folder"); done
    "$vdisk" dedup-report "${from[@]}" --block-size 4K --json >embedded.json 2>log || code=$?
    [ $code -eq "$expected" ] || { cat log >&2; echo "vdisk dedup-report exits with $code" >&2; exit 1; }
    code=0
    "$(dirname "$python")/spark-submit" --master 'local[2]' \
        --conf spark.driver.bindAddress=127.0.0.1 --conf spark.driver.host=127.0.0.1 \
        --conf spark.ui.enabled=false --conf spark.sql.shuffle.partitions=3 \
        "$here/dedup_report.py" "$@" --json spark.json >log 2>&1 || code=$?
    [ $code -eq "$expected" ] || { cat log >&2; echo "dedup_report.py exits with $code" >&2; exit 1; }
    "$python" - <<'EOF'
import json, os, sys

embedded, spark = (json.load(open(f"{name}.json")) for name in ("embedded", "spark"))
embedded["images"].sort(key=lambda image: image["path"])
for pair in embedded["pairs"]:
    pair["a"], pair["b"] = sorted((pair["a"], pair["b"]))
embedded["pairs"].sort(key=lambda pair: (pair["a"], pair["b"]))
for report in (embedded, spark):
    report["errors"] = sorted(os.path.realpath(error["path"]) for error in report["errors"])


def compare(one, other, where):
    """All that the job says must be said by the program too, with the same value."""
    if isinstance(one, dict):
        for name in one:
            compare(one[name], other[name], f"{where}.{name}")
    elif isinstance(one, list):
        if len(one) != len(other):
            sys.exit(f"{where}: Spark has {len(one)}, vdisk {len(other)}:\n{one}\n{other}")
        for number, pair in enumerate(zip(one, other)):
            compare(*pair, f"{where}[{number}]")
    elif one != other:
        sys.exit(f"{where}: Spark says {one}, vdisk {other}")


compare(spark, embedded, "report")
total = spark["total"]
print(f"{len(spark['images'])} images, {len(spark['pairs'])} pairs, {len(spark['errors'])} errors, "
      f"{total['data_bytes']} bytes of data, {total['unique_bytes']} distinct: equal")
EOF
}

quietly "$vdisk" fingerprint one -o prints/one
quietly "$vdisk" fingerprint two -o prints/two
report 0 prints/one prints/two
# A row of a base that others lie over, and the end of another base.
printf x | dd of="$(ls prints/two/user.vhdx-*.parquet)" bs=1 seek=20 conv=notrunc status=none
truncate -s -100 prints/one/disk.vmdk-*.parquet
report 1 prints/one prints/two
