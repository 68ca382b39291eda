//! Findings as SARIF 2.1.0, which code scanning and pull request tools show.
//!
//! Only the properties that a report of ours needs; the standard has many more.

use serde::Serialize;
use std::{
    os::unix::ffi::OsStrExt,
    path::{Component, Path},
};
use vdisk_core::{check::Finding, profile::Rule};

/// A report of one run.
#[derive(Serialize)]
pub(crate) struct Sarif {
    #[serde(rename = "$schema")]
    schema: &'static str,
    version: &'static str,
    runs: [Run; 1],
}

#[derive(Serialize)]
struct Run {
    tool: Tool,
    results: Vec<Outcome>,
}

#[derive(Serialize)]
struct Tool {
    driver: Driver,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Driver {
    name: &'static str,
    version: &'static str,
    rules: Vec<Descriptor>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    id: &'static str,
    short_description: Text,
    full_description: Text,
    help: Text,
    default_configuration: Configuration,
}

#[derive(Serialize)]
struct Configuration {
    level: String,
}

#[derive(Serialize)]
struct Text {
    text: String,
}

/// What the standard calls a result.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Outcome {
    rule_id: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule_index: Option<usize>,
    level: String,
    message: Text,
    locations: [Location; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Location {
    physical_location: PhysicalLocation,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PhysicalLocation {
    artifact_location: ArtifactLocation,
    #[serde(skip_serializing_if = "Option::is_none")]
    region: Option<Region>,
}

#[derive(Serialize)]
struct ArtifactLocation {
    uri: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Region {
    byte_offset: u64,
}

impl Sarif {
    /// The findings of a run that went by `rules`.
    pub(crate) fn new(rules: &[Rule], findings: &[Finding]) -> Self {
        let text = |text: &str| Text {
            text: format!("{text}."),
        };
        let descriptors = rules.iter().map(|rule| Descriptor {
            id: rule.id,
            short_description: text(rule.demand),
            full_description: text(rule.reason),
            help: Text {
                text: rule.fix.to_owned(),
            },
            default_configuration: Configuration {
                level: rule.severity.to_string(),
            },
        });
        let results = findings.iter().map(|finding| Outcome {
            rule_id: finding.rule,
            rule_index: rules.iter().position(|r| r.id == finding.rule),
            // SARIF has the same three words.
            level: finding.severity.to_string(),
            message: text(&format!("{}: {}", finding.part, finding.detail)),
            locations: [Location {
                physical_location: PhysicalLocation {
                    artifact_location: ArtifactLocation {
                        uri: uri(&finding.file),
                    },
                    region: finding.at.map(|byte_offset| Region { byte_offset }),
                },
            }],
        });
        Self {
            schema: "https://json.schemastore.org/sarif-2.1.0.json",
            version: "2.1.0",
            runs: [Run {
                tool: Tool {
                    driver: Driver {
                        name: "vdisk",
                        version: env!("CARGO_PKG_VERSION"),
                        rules: descriptors.collect(),
                    },
                },
                results: results.collect(),
            }],
        }
    }
}

/// `path` as a URI reference (RFC 3986): relative if it is, else of a file.
fn uri(path: &Path) -> String {
    let mut uri = String::new();
    for part in path.components() {
        let bytes = match part {
            Component::RootDir => {
                uri.push_str("file://");
                continue;
            }
            Component::CurDir => continue,
            other => other.as_os_str().as_bytes(),
        };
        let absolute = uri.starts_with("file://");
        if !uri.is_empty() || absolute {
            uri.push('/');
        }
        for byte in bytes {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                    uri.push(char::from(*byte));
                }
                _ => uri.push_str(&format!("%{byte:02X}")),
            }
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_uri_references() {
        for (path, wanted) in [
            ("a.vhd", "a.vhd"),
            ("./d/a b.vhd", "d/a%20b.vhd"),
            ("../a:1.vhd", "../a%3A1.vhd"),
            ("/images/ä%.vhd", "file:///images/%C3%A4%25.vhd"),
        ] {
            assert_eq!(uri(Path::new(path)), wanted);
        }
    }
}
