#!/bin/bash
# Fills the corpora with small images of every kind that qemu-img writes, and the fixtures.
# Needs qemu-img. Then, for example: cargo fuzz run open -- -max_len=600000 -max_total_time=600
set -euo pipefail
cd "$(dirname "$0")"
mkdir -p corpus/open corpus/descriptor
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
seq 10000 30000 >"$work/in.raw"
truncate -s 64K "$work/in.raw"

for subformat in monolithicSparse streamOptimized monolithicFlat twoGbMaxExtentSparse twoGbMaxExtentFlat; do
    qemu-img convert -f raw -O vmdk -o subformat=$subformat "$work/in.raw" "$work/$subformat.vmdk"
done
mv "$work"/{monolithicSparse,streamOptimized,*-s001}.vmdk corpus/open/
rm "$work"/*-flat.vmdk "$work"/*-f001.vmdk
cp "$work"/*.vmdk corpus/descriptor/
qemu-img create -q -f vmdk -o zeroed_grain=on corpus/open/zeroed.vmdk 1M
qemu-img create -q -f vpc -o subformat=dynamic,force_size=on corpus/open/dynamic.vhd 4M
qemu-img convert -f raw -O vpc -o subformat=fixed,force_size=on "$work/in.raw" corpus/open/fixed.vhd
for options in compat=0.10 cluster_size=512 extended_l2=on,cluster_size=16k; do
    qemu-img convert -f raw -O qcow2 -o $options "$work/in.raw" "corpus/open/$options.qcow2"
done
for kind in zlib zstd; do
    qemu-img convert -c -f raw -O qcow2 -o compression_type=$kind "$work/in.raw" corpus/open/$kind.qcow2
done
qemu-img convert -f raw -O vdi "$work/in.raw" corpus/open/dynamic.vdi
cp ../fixtures/*.vmdk corpus/open/
for image in ../fixtures/*.vmdk; do
    # The descriptor of a hosted sparse image starts at sector 1.
    dd if="$image" bs=512 skip=1 count=2 status=none | tr -d '\0' >"corpus/descriptor/$(basename "$image").txt"
done
ls -l corpus/open corpus/descriptor
