//! Who an image is, and whom a child expects its parent to be.

use crate::format::Facts;
use serde::{Deserialize, Serialize};
use std::{ffi::OsString, fmt};

/// What a child records of its parent and checks when it is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Identity {
    /// VMDK content ID: changes whenever the contents do.
    Cid(u32),
    /// VHD unique ID in the byte order of the file, or the one that VirtualBox gave to a VMDK.
    Uuid([u8; 16]),
    /// Who a VDI is and in which state, both in the byte order of the file.
    Vdi {
        /// UUID of the image.
        uuid: [u8; 16],
        /// UUID that is renewed whenever the contents change.
        modified: [u8; 16],
    },
    /// VHDX data write GUID, in the byte order of the file: changes whenever the contents do.
    Linkage([u8; 16]),
}

impl Identity {
    /// False for values that many images have: zeros, and the CID of a disk never written to.
    pub fn tells_apart(&self) -> bool {
        match self {
            Self::Cid(cid) => !matches!(cid, 0 | 0xffff_fffe..),
            Self::Uuid(id) | Self::Linkage(id) | Self::Vdi { uuid: id, .. } => *id != [0; 16],
        }
    }

    /// Who an image of this kind of identity is after it was given `ids`, as a format records them.
    ///
    /// ```
    /// use vdisk_core::{Identity, Ids};
    /// let ids = Ids::random(0);
    /// assert_eq!(Identity::Cid(7).renewed(&ids), Identity::Cid(ids.cid));
    /// ```
    #[must_use]
    pub fn renewed(self, ids: &Ids) -> Self {
        let guid = uuid::Uuid::from_bytes(ids.uuid).to_bytes_le();
        match self {
            Self::Cid(_) => Self::Cid(ids.cid),
            Self::Uuid(_) => Self::Uuid(ids.uuid),
            Self::Vdi { uuid, .. } => Self::Vdi {
                uuid,
                modified: guid,
            },
            Self::Linkage(_) => Self::Linkage(guid),
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cid(cid) => write!(f, "CID {cid:08x}"),
            Self::Uuid(bytes) => write!(f, "UUID {}", uuid::Uuid::from_bytes(*bytes)),
            Self::Vdi { uuid, modified } => write!(
                f,
                "UUID {}, state {}",
                uuid::Uuid::from_bytes_le(*uuid),
                uuid::Uuid::from_bytes_le(*modified)
            ),
            Self::Linkage(bytes) => {
                write!(f, "data write GUID {}", uuid::Uuid::from_bytes_le(*bytes))
            }
        }
    }
}

/// The parent that a differencing image names. Untrusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParentRef {
    /// Path names as written in the image, the most promising first.
    pub hints: Vec<OsString>,
    /// Who the parent must be; `None` if that is not recorded or the parent has no identity, as
    /// for a raw disk.
    pub identity: Option<Identity>,
    /// Who else the parent may be: VHDX children name two while their parent is being changed.
    pub alternative: Option<Identity>,
    /// Name of the parent's format, where the image records it or it does not follow from the
    /// identity. With neither, name and contents of the parent must agree on one.
    pub format: Option<&'static str>,
}

impl ParentRef {
    /// True if an image of which `facts` tell is the parent, by one of its identities. Never for a
    /// parent of which none is recorded.
    pub fn is(&self, facts: &Facts) -> bool {
        self.is_any_of(&[facts.identity, facts.other_identity])
    }

    /// Who an image is to this child, if it goes by `identity` and, to some, by `other`: children of
    /// VirtualBox go by the UUID of a VMDK, and all others by its CID.
    pub(crate) fn sees(
        &self,
        identity: Option<Identity>,
        other: Option<Identity>,
    ) -> Option<Identity> {
        match (self.identity, other) {
            (Some(Identity::Uuid(_)), Some(uuid)) => Some(uuid),
            _ => identity,
        }
    }

    /// True if one of `own` is a recorded identity of the parent.
    pub(crate) fn is_any_of(&self, own: &[Option<Identity>]) -> bool {
        let wanted = [self.identity, self.alternative];
        let mut wanted = wanted.iter().filter(|w| w.is_some());
        wanted.any(|w| own.contains(w))
    }
}

/// The identities and the time that a new image is stamped with.
///
/// ```
/// use vdisk_core::Ids;
/// let ids = Ids::derived(&[7; 32], "vhd", 0);
/// assert_eq!(ids, Ids::derived(&[7; 32], "vhd", 0)); // reproducible
/// assert_ne!(ids, Ids::random(0));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ids {
    /// RFC 9562 UUID, for formats that have one.
    pub uuid: [u8; 16],
    /// VMDK content ID. Neither 0 nor one of the two reserved values.
    pub cid: u32,
    /// Seconds since 1970-01-01 UTC.
    pub created: u64,
}

impl Ids {
    /// Fresh identities.
    pub fn random(created: u64) -> Self {
        Self::new(uuid::Uuid::new_v4(), created)
    }

    /// Identities that follow from `digest` and `salt` alone (UUID version 5).
    pub fn derived(digest: &[u8; 32], salt: &str, created: u64) -> Self {
        let mut name = salt.as_bytes().to_vec();
        name.push(0);
        name.extend(digest);
        Self::new(
            uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, &name),
            created,
        )
    }

    fn new(uuid: uuid::Uuid, created: u64) -> Self {
        let [a, b, c, d, ..] = *uuid.as_bytes();
        // fffffffe marks a disk that was never written, ffffffff "no parent".
        let cid = match u32::from_be_bytes([a, b, c, d]) {
            0 | 0xffff_fffe.. => 1,
            cid => cid,
        };
        Self {
            uuid: *uuid.as_bytes(),
            cid,
            created,
        }
    }
}
