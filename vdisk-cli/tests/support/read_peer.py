#!/usr/bin/env python3
"""Prints the SHA-256 of a disk's contents as another reader sees them.

    read_peer.py READER FILE [PARENT...]    parents from the nearest to the base
    read_peer.py --has READER               exit 0 if the reader is installed, else 1

READER is one of libvmdk, libvhdi, dissect-vmdk, dissect-vhd, dissect-vhdx, dissect-qcow2, dissect-vdi,
7zip-vmdk, 7zip-vhd, 7zip-vhdx. libvmdk and libvhdi are handed the parents. dissect (VMDK, VHDX) and
7-Zip (VHD, VHDX) find them by the recorded names.
"""

import hashlib
import importlib.util
import shutil
import subprocess
import sys

CHUNK = 1 << 20


def digest(read):
    """SHA-256 of all that `read(length)` returns until it returns nothing."""
    hasher = hashlib.sha256()
    while piece := read(CHUNK):
        hasher.update(piece)
    return hasher.hexdigest()


def libvmdk(file, parents):
    import pyvmdk

    below = None
    for path in [*reversed(parents), file]:
        handle = pyvmdk.handle()
        handle.open(path)
        handle.open_extent_data_files()
        if below is not None:
            handle.set_parent(below)
        below = handle
    return digest(below.read)


def libvhdi(file, parents):
    import pyvhdi

    below = None
    for path in [*reversed(parents), file]:
        image = pyvhdi.file()
        image.open(path)
        if below is not None:
            image.set_parent(below)
        below = image
    return digest(below.read)


def dissect_vmdk(file, _parents):
    from pathlib import Path

    from dissect.hypervisor.disk.vmdk import VMDK

    return digest(VMDK(Path(file)).read)


def dissect_vhd(file, parents):
    from dissect.hypervisor.disk.vhd import VHD

    if parents:
        sys.exit("dissect reads a differencing VHD without its parent")
    with open(file, "rb") as image:
        return digest(VHD(image).read)


def dissect_vhdx(file, _parents):
    from pathlib import Path

    from dissect.hypervisor.disk.vhdx import VHDX

    return digest(VHDX(Path(file)).read)


def dissect_qcow2(file, parents):
    from pathlib import Path

    from dissect.hypervisor.disk.qcow2 import QCow2

    if parents:
        sys.exit("dissect is tried on qcow2 without parents")
    return digest(QCow2(Path(file)).open().read)


def dissect_vdi(file, parents):
    from dissect.hypervisor.disk.vdi import VDI

    if parents:
        sys.exit("dissect is tried on VDI without parents")
    with open(file, "rb") as image:
        return digest(VDI(image).open().read)


def seven_zip():
    return shutil.which("7zz") or shutil.which("7z")


def with_seven_zip(kind):
    def read(file, _parents):
        command = [seven_zip(), "e", "-so", "-bso0", f"-t{kind}", file]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as run:
            result = digest(run.stdout.read)
        if run.returncode != 0:
            sys.exit(f"7-Zip failed with {run.returncode}")
        return result

    return read


def module(name):
    def found():
        try:
            return importlib.util.find_spec(name) is not None
        except ModuleNotFoundError:
            return False

    return found


READERS = {
    "libvmdk": (module("pyvmdk"), libvmdk),
    "libvhdi": (module("pyvhdi"), libvhdi),
    "dissect-vmdk": (module("dissect.hypervisor"), dissect_vmdk),
    "dissect-vhd": (module("dissect.hypervisor"), dissect_vhd),
    "dissect-vhdx": (module("dissect.hypervisor"), dissect_vhdx),
    "dissect-qcow2": (module("dissect.hypervisor"), dissect_qcow2),
    "dissect-vdi": (module("dissect.hypervisor"), dissect_vdi),
    "7zip-vmdk": (seven_zip, with_seven_zip("vmdk")),
    "7zip-vhd": (seven_zip, with_seven_zip("vhd")),
    "7zip-vhdx": (seven_zip, with_seven_zip("vhdx")),
}


def main(arguments):
    match arguments:
        case ["--has", reader] if reader in READERS:
            sys.exit(0 if READERS[reader][0]() else 1)
        case [reader, file, *parents] if reader in READERS:
            print(READERS[reader][1](file, parents))
        case _:
            sys.exit(__doc__)


main(sys.argv[1:])
