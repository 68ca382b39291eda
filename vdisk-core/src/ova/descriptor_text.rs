//! The OVF descriptor of a new package: one disk, and the least machine that can boot from it.
//!
//! The elements and their order are those of the schema of DSP0243 (DSP8023), which VMware and
//! VirtualBox check: what the sections require, and nothing else. Whoever imports the package
//! chooses memory and processors anew.

use crate::format::Options;

/// Names and numbers of a new package.
pub(super) struct Names {
    /// Name of the machine, and of all members up to their endings.
    stem: String,
}

/// What an item of a SCSI controller says of it.
fn scsi(subtype: &str) -> String {
    format!(
        "<rasd:ResourceSubType>{subtype}</rasd:ResourceSubType>\n        <rasd:ResourceType>6</rasd:ResourceType>"
    )
}

/// Most bytes of a stem: the names fit the 100 bytes that tar has for them.
const STEM: usize = 80;

impl Names {
    /// Names after the file that the package will be. What archives, URLs or manifests of any
    /// system could take amiss becomes `_`.
    pub(super) fn of(file_name: &str) -> Self {
        let stem = match file_name.rsplit_once('.') {
            Some((stem, _)) if !stem.is_empty() => stem,
            _ => file_name,
        };
        let plain = |c: char| match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '_' | '.' => c,
            _ => '_',
        };
        let mut stem: String = stem.chars().map(plain).take(STEM).collect();
        if stem.trim_matches(['.', '_']).is_empty() {
            stem = "disk".to_owned();
        }
        Self { stem }
    }

    pub(super) fn descriptor(&self) -> String {
        format!("{}.ovf", self.stem)
    }

    pub(super) fn disk(&self) -> String {
        format!("{}-disk1.vmdk", self.stem)
    }

    pub(super) fn manifest(&self) -> String {
        format!("{}.mf", self.stem)
    }
}

/// The parts of the machine that the caller may choose.
pub(super) struct Machine {
    /// Elements of the controller's item that say what it is.
    controller: String,
    /// VMware's version of the virtual hardware.
    version: u32,
}

impl Machine {
    /// A machine with the adapter that the disk's own descriptor names.
    pub(super) fn of(options: &Options) -> Self {
        // ResourceType 5 is IDE and 6 SCSI (CIM_ResourceAllocationSettingData); the subtypes are
        // the words of VMware, which VirtualBox knows, too.
        let controller = match options.adapter.as_deref() {
            Some("ide") => "<rasd:ResourceType>5</rasd:ResourceType>".to_owned(),
            Some("buslogic") => scsi("buslogic"),
            Some("lsisas1068") => scsi("lsilogicsas"),
            Some("pvscsi") => scsi("VirtualSCSI"),
            _ => scsi("lsilogic"),
        };
        Self {
            controller,
            version: options.hardware_version.unwrap_or(7),
        }
    }
}

/// The descriptor of a package whose disk has `capacity` bytes, in a file of `stored` bytes.
pub(super) fn descriptor(names: &Names, machine: &Machine, capacity: u64, stored: u64) -> String {
    let (name, disk) = (&names.stem, names.disk());
    let Machine {
        controller,
        version,
    } = machine;
    // Elements of an Item are in alphabetical order: the schema says so.
    format!(
        r#"<?xml version="1.0" encoding="UTF-8"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1" xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData" xmlns:vssd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData">
  <References>
    <File ovf:href="{disk}" ovf:id="file1" ovf:size="{stored}"/>
  </References>
  <DiskSection>
    <Info>Virtual disks</Info>
    <Disk ovf:capacity="{capacity}" ovf:capacityAllocationUnits="byte" ovf:diskId="vmdisk1" ovf:fileRef="file1" ovf:format="http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"/>
  </DiskSection>
  <VirtualSystem ovf:id="{name}">
    <Info>A virtual machine</Info>
    <Name>{name}</Name>
    <OperatingSystemSection ovf:id="1">
      <Info>The guest operating system</Info>
      <Description>Other</Description>
    </OperatingSystemSection>
    <VirtualHardwareSection>
      <Info>Virtual hardware</Info>
      <System>
        <vssd:ElementName>Virtual Hardware Family</vssd:ElementName>
        <vssd:InstanceID>0</vssd:InstanceID>
        <vssd:VirtualSystemIdentifier>{name}</vssd:VirtualSystemIdentifier>
        <vssd:VirtualSystemType>vmx-{version:02}</vssd:VirtualSystemType>
      </System>
      <Item>
        <rasd:AllocationUnits>hertz * 10^6</rasd:AllocationUnits>
        <rasd:Description>Number of processors</rasd:Description>
        <rasd:ElementName>1 virtual CPU</rasd:ElementName>
        <rasd:InstanceID>1</rasd:InstanceID>
        <rasd:ResourceType>3</rasd:ResourceType>
        <rasd:VirtualQuantity>1</rasd:VirtualQuantity>
      </Item>
      <Item>
        <rasd:AllocationUnits>byte * 2^20</rasd:AllocationUnits>
        <rasd:Description>Memory</rasd:Description>
        <rasd:ElementName>1024 MiB of memory</rasd:ElementName>
        <rasd:InstanceID>2</rasd:InstanceID>
        <rasd:ResourceType>4</rasd:ResourceType>
        <rasd:VirtualQuantity>1024</rasd:VirtualQuantity>
      </Item>
      <Item>
        <rasd:Address>0</rasd:Address>
        <rasd:Description>Disk controller</rasd:Description>
        <rasd:ElementName>Disk controller 0</rasd:ElementName>
        <rasd:InstanceID>3</rasd:InstanceID>
        {controller}
      </Item>
      <Item>
        <rasd:AddressOnParent>0</rasd:AddressOnParent>
        <rasd:ElementName>Hard disk 1</rasd:ElementName>
        <rasd:HostResource>ovf:/disk/vmdisk1</rasd:HostResource>
        <rasd:InstanceID>4</rasd:InstanceID>
        <rasd:Parent>3</rasd:Parent>
        <rasd:ResourceType>17</rasd:ResourceType>
      </Item>
    </VirtualHardwareSection>
  </VirtualSystem>
</Envelope>
"#
    )
}
