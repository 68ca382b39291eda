#!/bin/bash
# Times vdisk beside qemu-img on the same data, in one run, and prints a table in Markdown.
#
#   benches/compare.sh             about 1 GiB of this machine's programs in an ext4 image
#   benches/compare.sh DISK.raw    a raw disk of yours, only read
#
# RUNS=5 runs of each, A B A B, and the medians. WORK=FOLDER holds the images (about 10 times the
# data); the default is a new folder in TMPDIR. VDISK=PROGRAM times another build.
#
# Like is compared with like: qemu-img does not flush what it writes unless told, so
#   "not flushed" is vdisk --no-sync          beside qemu-img convert
#   "flushed"     is vdisk                    beside qemu-img convert -t writeback
set -euo pipefail
export LC_ALL=C
runs=${RUNS:-5}
given=${1-}
[ -z "$given" ] || given=$(realpath "$given")
cd "$(dirname "$0")/.."
vdisk=${VDISK:-}
if [ -z "$vdisk" ]; then
    cargo build -q --release -p vdisk-cli
    vdisk=$PWD/target/release/vdisk
fi
work=$(mktemp -d -p "${WORK:-${TMPDIR:-/tmp}}" vdisk-compare.XXXXXX)
trap 'rm -rf "$work"' EXIT
cd "$work"
say() { echo "$*" >&2; }

# ---- Data -------------------------------------------------------------------------------------

# stage MIB FOLDER: copies that much of the programs and libraries of this machine.
stage() {
    find /usr -xdev -type f -size -64M -printf '%s\t%P\n' | sort -k2 |
        awk -F '\t' -v most=$(($1 << 20)) '{ sum += $1 } sum <= most { print $2 }' |
        tar -C /usr -cf - --verbatim-files-from -T - | tar -C "$2" -xf -
}
if [ -n "$given" ]; then
    ln -s "$given" base.raw
else
    say "copying 900 MiB of this machine's programs"
    mkdir tree
    stage 900 tree
    truncate -s 1400M base.raw
    PATH=$PATH:/usr/sbin:/sbin mke2fs -q -F -t ext4 -d tree base.raw
    rm -rf tree
fi
size=$(stat -Lc %s base.raw)
say "making the layers"
qemu-img convert -f raw -O vmdk base.raw base.vmdk
# Two more layers, each with 1/16 of the disk new, in different places.
part=$((size / 16 / 65536 * 65536))
[ "$part" -gt 0 ] || { say "the disk is too small to time anything"; exit 2; }
below=base
for layer in apps user; do
    case $layer in apps) at=$((part * 3)) ;; user) at=$((part * 5)) ;; esac
    head -c $part /dev/urandom >new
    cp --sparse=always $below.raw $layer.raw
    dd if=new of=$layer.raw bs=64K seek=$((at / 65536)) conv=notrunc status=none
    qemu-img create -q -f vmdk -b $below.vmdk -F vmdk $layer.vmdk
    qemu-io -f vmdk -c "write -q -s new $at $part" $layer.vmdk
    below=$layer
done
rm new
qemu-img compare -q -f vmdk -F raw user.vmdk user.raw
# The top, made differently: nothing in it lies where it lies in the chain.
qemu-img convert -f raw -O vmdk -o subformat=streamOptimized user.raw same-stream.vmdk
qemu-img convert -f raw -O vpc -o subformat=dynamic,force_size=on user.raw same.vhd
qemu-img convert -f raw -O vmdk user.raw same.vmdk

# ---- Timing -----------------------------------------------------------------------------------

# seconds COMMAND: wall-clock time of it. The output is new each time, and nothing that earlier
# runs wrote is still on its way to the disk.
seconds() {
    rm -f out.*
    sync
    local start=$EPOCHREALTIME
    bash -c "$1" >/dev/null || { say "failed: $1"; exit 1; }
    local end=$EPOCHREALTIME
    echo $((${end/./} - ${start/./})) | awk '{ printf "%.3f\n", $1 / 1e6 }'
}
median() { sort -n | awk '{ t[NR] = $1 } END { print NR % 2 ? t[(NR + 1) / 2] : (t[NR / 2] + t[NR / 2 + 1]) / 2 }'; }

# pair WHAT OURS THEIRS: runs both in turn and prints a row.
pair() {
    local run
    : >ours && : >theirs
    # Once unmeasured, so that both find the input in the page cache.
    seconds "$2" >/dev/null
    seconds "$3" >/dev/null
    for ((run = 0; run < runs; run++)); do
        seconds "$2" >>ours
        seconds "$3" >>theirs
    done
    awk -v what="$1" -v a="$(median <ours)" -v b="$(median <theirs)" \
        'BEGIN { printf "| %s | %.2f | %.2f | %.2f |\n", what, a, b, b / a }'
}
# both WHAT VDISK-ARGUMENTS QEMU-ARGUMENTS: a row not flushed, and a row flushed.
both() {
    pair "$1" "$vdisk $2 --no-sync" "qemu-img convert $3"
    pair "$1, flushed" "$vdisk $2" "qemu-img convert -t writeback $3"
}

cat <<HEAD
$("$vdisk" --version), $(qemu-img --version | sed -n 's/^qemu-img version/qemu-img/p'), $(nproc) cores,
$(($(du -Lk --block-size=1M base.raw | cut -f1))) MiB of data on a disk of $((size / 1048576)) MiB, medians of $runs runs.
The ratio is qemu-img's time by vdisk's: above 1, vdisk is faster.

| what | vdisk (s) | qemu-img (s) | ratio |
|---|---:|---:|---:|
HEAD
both "vmdk to raw" "convert base.vmdk -o out.raw" "-f vmdk -O raw base.vmdk out.raw"
both "raw to vmdk" "convert base.raw -o out.vmdk" "-f raw -O vmdk base.raw out.vmdk"
both "vmdk to vhd (dynamic)" "convert base.vmdk -o out.vhd" \
    "-f vmdk -O vpc -o subformat=dynamic,force_size=on base.vmdk out.vhd"
both "compose three layers to vmdk" "compose base.vmdk apps.vmdk user.vmdk -o out.vmdk" \
    "-f vmdk -O vmdk user.vmdk out.vmdk"
both "raw to streamOptimized" "convert base.raw -o out.vmdk --subformat streamOptimized" \
    "-f raw -O vmdk -o subformat=streamOptimized base.raw out.vmdk"
pair "compare a chain with one vmdk, equal" "$vdisk diff user.vmdk same.vmdk" \
    "qemu-img compare -f vmdk -F vmdk user.vmdk same.vmdk"
pair "compare vmdk with vhd, equal" "$vdisk diff same.vmdk same.vhd" \
    "qemu-img compare -f vmdk -F vpc same.vmdk same.vhd"
pair "compare vmdk with streamOptimized, equal" "$vdisk diff same.vmdk same-stream.vmdk" \
    "qemu-img compare -f vmdk -F vmdk same.vmdk same-stream.vmdk"
