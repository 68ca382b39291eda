#!/bin/bash
# Times `vdisk dedup-report` beside programs that read, hash or deduplicate the same data, in one run,
# and prints tables in Markdown.
#
#   benches/farm.sh        programs of this machine in an ext4 image, changed copies of it and clones
#
# RUNS=5 runs of each, A B A B, and the medians; the first of each is not counted, so inputs are in the
# page cache. MIB=900 of programs. WORK=FOLDER holds everything (about 14 times that, and BIG);
# the default is a new folder in TMPDIR. VDISK=PROGRAM times another build. THREADS=2.
# BIG=20480 MiB are stored in the image of 1 TiB; 0 leaves it out.
#
# openssl reads the image files as they are stored. casync, restic and borg read the disks as raw
# files, because they do not know images; restic and borg write their stores too, new ones each time
# and with the options that they have by themselves (borg without encryption, restic cannot).
set -euo pipefail
export LC_ALL=C
runs=${RUNS:-5}
mib=${MIB:-900}
big=${BIG:-20480}
threads=${THREADS:-2}
cd "$(dirname "$0")/.."
measured=$PWD/vdisk-cli/tests/support/measured.py
vdisk=${VDISK:-}
if [ -z "$vdisk" ]; then
    cargo build -q --release -p vdisk-cli
    vdisk=$PWD/target/release/vdisk
fi
vdisk=$(realpath "$vdisk")
work=$(mktemp -d -p "${WORK:-${TMPDIR:-/tmp}}" vdisk-farm.XXXXXX)
trap 'rm -rf "$work"' EXIT
cd "$work"
export HOME=$work XDG_CACHE_HOME=$work/caches BORG_BASE_DIR=$work/caches RESTIC_PASSWORD=none
say() { echo "$*" >&2; }
report="$vdisk dedup-report --block-size 4K --threads $threads -q --json"

# ---- Data -------------------------------------------------------------------------------------

# stage MIB FOLDER: copies that much of the programs and libraries of this machine.
stage() {
    find /usr -xdev -type f -size -64M -printf '%s\t%P\n' | sort -k2 |
        awk -F '\t' -v most=$(($1 << 20)) '{ sum += $1 } sum <= most { print $2 }' |
        tar -C /usr -cf - --verbatim-files-from -T - | tar -C "$2" -xf -
}
# noise MIB SEED: bytes that do not repeat and cannot be compressed.
noise() {
    openssl enc -aes-128-ctr -K "$(printf %032x "$2")" -iv 00 -in /dev/zero 2>/dev/null |
        head -c "$(($1 << 20))" || true
}
say "copying $mib MiB of this machine's programs"
mkdir tree images flat
stage "$mib" tree
truncate -s "$((mib * 9 / 8 + 32))M" flat/base.raw
PATH=$PATH:/usr/sbin:/sbin mke2fs -q -F -t ext4 -d tree flat/base.raw
rm -rf tree
size=$(stat -c %s flat/base.raw)
part=$((mib / 16)) # MiB
[ "$part" -gt 0 ] || { say "MIB must be 16 or more"; exit 2; }

say "making the images"
qemu-img convert -f raw -O vmdk flat/base.raw images/base.vmdk
# Copies in other formats, each with 1/16 of the data new.
seed=0
for image in copy.vhd copy.vhdx copy.qcow2; do
    seed=$((seed + 1))
    cp --sparse=always flat/base.raw "flat/$image.raw"
    noise $part $seed | dd of="flat/$image.raw" bs=1M seek=$((seed * part)) conv=notrunc iflag=fullblock status=none
    case $image in
    *.vhd) options=(-O vpc -o subformat=dynamic,force_size=on) ;;
    *.vhdx) options=(-O vhdx) ;;
    *) options=(-O qcow2) ;;
    esac
    qemu-img convert -f raw "${options[@]}" "flat/$image.raw" "images/$image"
done
# Clones of the base, each with 1/16 of its own.
for clone in 1 2 3 4; do
    seed=$((seed + 1))
    noise $part $seed >new
    "$vdisk" clone -q images/base.vmdk -o images/clone$clone.vmdk
    qemu-io -f vmdk -c "write -q -s $work/new $(((seed * part) << 20)) $((part << 20))" images/clone$clone.vmdk
    cp --sparse=always flat/base.raw flat/clone$clone.raw
    dd if=new of=flat/clone$clone.raw bs=1M seek=$((seed * part)) conv=notrunc status=none
done
rm new

# ---- Timing -----------------------------------------------------------------------------------

# seconds COMMAND: wall-clock time of it, from a clean start.
seconds() {
    rm -rf store caches temp && mkdir temp
    [ -z "${prepare:-}" ] || bash -c "$prepare" >/dev/null
    sync
    local start=$EPOCHREALTIME
    bash -c "$1" >/dev/null || { say "failed: $1"; exit 1; }
    local end=$EPOCHREALTIME
    echo $((${end/./} - ${start/./})) | awk '{ printf "%.3f\n", $1 / 1e6 }'
}
median() { sort -n | awk '{ t[NR] = $1 } END { print NR % 2 ? t[(NR + 1) / 2] : (t[NR / 2] + t[NR / 2 + 1]) / 2 }'; }
# peak COMMAND: the most memory that it had, in MiB.
peak() {
    python3 "$measured" taken.json bash -c "exec $1" >/dev/null
    sed 's/.*"peak_bytes": *\([0-9]*\).*/\1/' taken.json | awk '{ printf "%.0f", $1 / 1048576 }'
}
# pair WHAT OURS THEIRS: runs both in turn and prints a row.
pair() {
    local run
    : >ours && : >theirs
    seconds "$2" >/dev/null
    seconds "$3" >/dev/null
    for ((run = 0; run < runs; run++)); do
        seconds "$2" >>ours
        seconds "$3" >>theirs
    done
    awk -v what="$1" -v a="$(median <ours)" -v b="$(median <theirs)" -v m="$(peak "$2")" \
        'BEGIN { printf "| %s | %.2f | %.2f | %.2f | %d |\n", what, a, b, a / b, m }'
}
# stored FILES...: MiB that they have.
stored() { stat -c %s "$@" | awk '{ s += $1 } END { printf "%.0f", s / 1048576 }'; }
have() { command -v "$1" >/dev/null || { say "$1 is not installed: left out"; missing="$missing $1"; false; }; }
missing=

full=(images/base.vmdk images/copy.vhd images/copy.vhdx images/copy.qcow2)
cat <<HEAD
$("$vdisk" --version), $(openssl version | cut -d' ' -f1,2), $threads threads on $(nproc) cores, blocks of 4 KiB, medians of $runs runs.
The ratio is vdisk's time by the other's: below 1, vdisk is faster. The memory is vdisk's.

| what | vdisk (s) | other (s) | ratio | peak (MiB) |
|---|---:|---:|---:|---:|
HEAD
pair "openssl dgst: one VMDK, $(stored images/base.vmdk) MiB" \
    "$report images/base.vmdk" "openssl dgst -sha256 images/base.vmdk"
pair "openssl dgst: four full images, $(stored "${full[@]}") MiB" \
    "$report ${full[*]}" "openssl dgst -sha256 ${full[*]}"
pair "openssl dgst: those and four clones, $(stored images/*) MiB" \
    "$report images" "openssl dgst -sha256 images/*"
if have casync; then
    pair "casync digest: $(stored flat/*) MiB as raw disks" "$report images" "casync digest flat"
fi
if have restic; then
    prepare="restic -q -r store init" pair "restic backup: the same" "$report images" "restic -q -r store backup flat"
fi
if have borg; then
    prepare="borg init -e none store" pair "borg create: the same" "$report images" "borg create store::farm flat"
fi
rm -rf store caches
[ -z "$missing" ] || printf '\nNot installed here, and left out:%s.\n' "$missing"

# ---- The hundredth clone ----------------------------------------------------------------------

say "a hundred clones"
mkdir many
ln images/base.vmdk many/base.vmdk
"$vdisk" clone -q many/base.vmdk -o 'many/clone-{:03}.vmdk' --count 100
for clone in many/clone-*.vmdk; do
    seed=$((seed + 1))
    noise 1 $seed >new
    qemu-io -f vmdk -c "write -q -s $work/new $(((seed % mib) << 20)) 1M" "$clone"
done
rm new
most=(many/base.vmdk many/clone-0[0-9][0-9].vmdk)
cat <<HEAD

A base of $(stored images/base.vmdk) MiB and its clones, each with 1 MiB of its own.

| images | seconds | peak (MiB) |
|---|---:|---:|
HEAD
: >base && : >most && : >all
seconds "$report ${most[*]}" >/dev/null
for ((run = 0; run < runs; run++)); do
    seconds "$report many/base.vmdk" >>base
    seconds "$report ${most[*]}" >>most
    seconds "$report many" >>all
done
row() { printf '| %s | %.2f | %s |\n' "$1" "$2" "$3"; }
row "the base alone" "$(median <base)" "$(peak "$report many/base.vmdk")"
row "with 99 clones" "$(median <most)" "$(peak "$report ${most[*]}")"
row "with 100 clones" "$(median <all)" "$(peak "$report many")"
rm -rf many images flat

# ---- A large disk -----------------------------------------------------------------------------

[ "$big" -gt 0 ] || exit 0
room=$(df --output=avail -m . | tail -n 1)
if [ "$room" -lt $((big * 6 / 5)) ]; then
    printf '\nThe disk of 1 TiB was left out: %d MiB are free, and %d are needed.\n' "$room" $((big * 6 / 5))
    exit 0
fi
say "a disk of 1 TiB with $big MiB in it"
qemu-img create -q -f vmdk big.vmdk 1T
pieces=$(((big + 63) / 64))
for ((piece = 0; piece < pieces; piece++)); do
    noise 64 $((1000 + piece)) >new
    qemu-io -t unsafe -f vmdk -c "write -q -s $work/new $(((piece * (1048576 / pieces)) << 20)) 64M" big.vmdk
done
rm new
cat <<HEAD

A disk of 1 TiB in a VMDK with $(stored big.vmdk) MiB of data that do not repeat.

| --memory | seconds | peak (MiB) | more than --memory (MiB) | spilled (MiB) |
|---|---:|---:|---:|---:|
HEAD
for memory in 1G 16M; do
    command="$report --temp temp --memory $memory big.vmdk"
    time=$(seconds "$command")
    peak=$(peak "$command >said.json")
    unit=$(case $memory in 1G) echo 1024 ;; *) echo 16 ;; esac)
    spilled=$(sed -n 's/.*"spilled_bytes": *\([0-9]*\).*/\1/p' said.json)
    unique=$(sed -n 's/.*"unique_bytes": *\([0-9]*\).*/\1/p' said.json | tail -n 1)
    [ "$unique" = $((pieces << 26)) ] || say "wrong: $unique bytes are distinct, not $((pieces << 26))"
    printf '| %s | %.1f | %d | %d | %d |\n' "$memory" "$time" "$peak" $((peak - unit)) $((spilled >> 20))
done
