#!/usr/bin/env python3
"""Looks at an OVA, or makes one, with nothing but Python's own library.

    ova_peer.py check FILE                    members, descriptor and digests; prints capacity and disk
    ova_peer.py make FILE FORMAT ALG DISK...  an archive (ustar, gnu or pax) of disks, each with the
                                              options it wants: NAME[,gzip][,chunk=BYTES]
"""

import gzip
import hashlib
import io
import os
import re
import sys
import tarfile
import xml.etree.ElementTree as xml

OVF = "{http://schemas.dmtf.org/ovf/envelope/1}"
RASD = "{http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData}"
VSSD = "{http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData}"


def the(elements, what):
    found = list(elements)
    assert len(found) == 1, f"{len(found)} of {what}"
    return found[0]


def check(path):
    with tarfile.open(path, "r:") as archive:
        members = archive.getmembers()
        data = {m.name: archive.extractfile(m).read() for m in members}
    names = [m.name for m in members]
    assert len(set(names)) == len(names) == 3, names
    assert all(m.isreg() and m.mode == 0o644 for m in members)
    ovf, disk, mf = names
    assert ovf.endswith(".ovf") and mf.endswith(".mf"), names
    assert ovf[:-4] == mf[:-3], "one stem"

    digests = {}
    for line in data[mf].decode("ascii").splitlines():
        algorithm, name, digits = re.fullmatch(r"(SHA256)\((.+)\)= ([0-9a-f]{64})", line).groups()
        assert hashlib.new(algorithm, data[name]).hexdigest() == digits, name
        digests[name] = digits
    assert set(digests) == {ovf, disk}, digests

    root = xml.fromstring(data[ovf])
    assert root.tag == OVF + "Envelope"
    # Section order of the schema.
    sections = [child.tag.removeprefix(OVF) for child in root]
    assert sections == ["References", "DiskSection", "VirtualSystem"], sections
    file = the(root.iter(OVF + "File"), "File")
    assert file.get(OVF + "href") == disk
    assert int(file.get(OVF + "size")) == len(data[disk])
    entry = the(root.iter(OVF + "Disk"), "Disk")
    assert entry.get(OVF + "fileRef") == file.get(OVF + "id")
    assert entry.get(OVF + "format").endswith("vmdk.html#streamOptimized")
    assert entry.get(OVF + "capacityAllocationUnits") == "byte"
    for section in [*root.iter(OVF + "VirtualHardwareSection"), *root.iter(OVF + "DiskSection"),
                    *root.iter(OVF + "OperatingSystemSection"), *root.iter(OVF + "VirtualSystem")]:
        assert section[0].tag == OVF + "Info", "Info comes first in " + section.tag
    system = the(root.iter(OVF + "System"), "System")
    assert system.find(VSSD + "VirtualSystemType").text
    items = {}
    for item in root.iter(OVF + "Item"):
        tags = [child.tag for child in item]
        assert tags == sorted(tags), "alphabetical, as the schema has it"
        for needed in ("ElementName", "InstanceID", "ResourceType"):
            assert item.find(RASD + needed).text, needed
        items[item.find(RASD + "InstanceID").text] = item
    by_type = {item.find(RASD + "ResourceType").text: item for item in items.values()}
    assert {"3", "4", "6", "17"} <= set(by_type), "processor, memory, controller, disk"
    drive = by_type["17"]
    assert drive.find(RASD + "HostResource").text == "ovf:/disk/" + entry.get(OVF + "diskId")
    parent = items[drive.find(RASD + "Parent").text]
    assert parent.find(RASD + "ResourceType").text == "6"
    print(entry.get(OVF + "capacity"), disk)


def make(path, kind, algorithm, disks):
    files, entries, members, manifest = [], [], [], []
    for number, text in enumerate(disks):
        source, *options = text.split(",")
        with open(source, "rb") as file:
            data = file.read()
        name, attributes = os.path.basename(source), ""
        if "gzip" in options:
            data, name = gzip.compress(data, 6), name + ".gz"
            attributes += ' ovf:compression="gzip"'
        attributes += f' ovf:size="{len(data)}"'
        chunk = next((int(o[6:]) for o in options if o.startswith("chunk=")), 0)
        if chunk:
            attributes += f' ovf:chunkSize="{chunk}"'
            for at in range(0, len(data), chunk):
                members.append((f"{name}.{at // chunk:09}", data[at:at + chunk]))
        else:
            members.append((name, data))
        files.append(f'<File ovf:id="f{number}" ovf:href="{name}"{attributes}/>')
        uri = "http://example.org/#raw" if source.endswith(".bin") else "http://example.org/#other"
        entries.append(f'<Disk ovf:diskId="d{number}" ovf:fileRef="f{number}" ovf:format="{uri}"'
                       ' ovf:capacity="${size}"/>')
    namespace = OVF.strip("{}")
    text = (f'<?xml version="1.0"?><Envelope xmlns="{namespace}" xmlns:ovf="{namespace}">'
            f'<References>{"".join(files)}</References>'
            f'<DiskSection><Info/>{"".join(entries)}</DiskSection></Envelope>').encode()
    members.insert(0, ("vm.ovf", text))
    for name, data in members:
        manifest.append(f"{algorithm}({name})= {hashlib.new(algorithm, data).hexdigest()}\n")
    members.append(("vm.mf", "".join(manifest).encode()))
    kinds = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
    with tarfile.open(path, "w:", format=kinds[kind]) as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            info.mtime = 1.5 if kind == "pax" else 1  # a fraction makes a pax header
            archive.addfile(info, io.BytesIO(data))


if sys.argv[1] == "check":
    check(sys.argv[2])
else:
    make(sys.argv[2], sys.argv[3], sys.argv[4], sys.argv[5:])
