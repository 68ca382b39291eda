//! What images share, two by two.

use super::{figures::Counted, report::ImageRow};
use serde::{Serialize, Serializer};

/// What any two images share. There can be millions: each is small, and gets its names when shown.
pub(crate) struct Pairs {
    /// The paths of the images, in their order.
    pub(crate) paths: Vec<String>,
    pub(crate) list: Vec<Pair>,
}

/// Two images by their numbers in the report, the lower one first.
pub(crate) struct Pair {
    pub(crate) a: u32,
    pub(crate) b: u32,
    pub(crate) shared_bytes: u64,
}

impl Pairs {
    /// The paths of the images of `pair`.
    pub(crate) fn paths(&self, pair: &Pair) -> [&str; 2] {
        let path = |number: u32| self.paths.get(number as usize).map_or("", String::as_str);
        [path(pair.a), path(pair.b)]
    }
}

impl Serialize for Pairs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Named<'a> {
            a: &'a str,
            b: &'a str,
            shared_bytes: u64,
        }
        serializer.collect_seq(self.list.iter().map(|pair| {
            let [a, b] = self.paths(pair);
            let shared_bytes = pair.shared_bytes;
            Named { a, b, shared_bytes }
        }))
    }
}

impl Counted<'_> {
    /// The pairs of the rows `images`.
    pub(super) fn pairs(&self, images: &[ImageRow]) -> Option<Pairs> {
        let pairs = self.outcome.pairs.as_ref()?;
        let nodes = self.nodes();
        let found = || {
            let rows = (0u32..).zip(&nodes);
            rows.clone().flat_map(move |(a, first)| {
                let others = rows.clone().skip(a as usize + 1);
                others.filter_map(move |(b, second)| {
                    let shared_bytes = pairs.get(*first, *second).filter(|bytes| *bytes > 0)?;
                    Some(Pair { a, b, shared_bytes })
                })
            })
        };
        // There can be millions: counted first, so that the list does not double while it grows.
        let mut list = Vec::with_capacity(found().count());
        list.extend(found().map(|pair| {
            let shared = |row: u32| images.get(row as usize).map_or(0, |i| i.shared_bytes);
            let most = shared(pair.a).min(shared(pair.b));
            Pair {
                shared_bytes: pair.shared_bytes.min(most),
                ..pair
            }
        }));
        Some(Pairs {
            paths: images.iter().map(|i| i.path.clone()).collect(),
            list,
        })
    }
}
