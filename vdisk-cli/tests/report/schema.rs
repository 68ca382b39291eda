//! Reports against `docs/dedup-report.schema.json`, as a validator of others reads it.

use super::{Folder, MIB, desktops, noise, write};
use crate::support::{
    peers::{need, program},
    run,
};
use serde_json::Value;
use std::{env, fs, path::PathBuf};

/// A Python that can validate.
struct Validator(PathBuf);

impl Validator {
    fn find() -> Option<Self> {
        let python = match env::var_os("VDISK_PEER_PYTHON") {
            Some(path) => Some(PathBuf::from(path)),
            None => program(&["python3"]),
        };
        let python = need("python3", python)?;
        let said = run(&python, ".".as_ref(), &["-c", "import jsonschema"]);
        need("jsonschema", (said.code == Some(0)).then_some(Self(python)))
    }

    /// What is wrong with `report`; nothing if it is valid.
    fn errors(&self, folder: &Folder, report: &Value) -> String {
        folder.write("report.json", report.to_string().as_bytes());
        let script = "import json, sys, jsonschema
schema, report = (json.load(open(name)) for name in sys.argv[1:])
validator = jsonschema.Draft202012Validator
validator.check_schema(schema)
for error in validator(schema).iter_errors(report):
    print(error.json_path, error.message)";
        let schema = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../docs/dedup-report.schema.json"
        );
        run(
            &self.0,
            &folder.path("."),
            &["-c", script, schema, "report.json"],
        )
        .good()
    }
}

#[test]
fn reports_are_as_the_schema_says() {
    let Some(validator) = Validator::find() else {
        return;
    };
    let folder = desktops();
    let mut old = noise(1, MIB);
    old.splice(446..462, [0, 1, 1, 0, 7, 1, 1, 0, 63, 0, 0, 0, 0, 4, 0, 0]);
    old[462..510].fill(0);
    old.splice(510..512, [0x55, 0xaa]);
    write(&folder, "old/old.raw", &old);
    write(&folder, "bad/broken.vmdk", b"KDMV");
    let all = "--sweep --cdc --alignment --group-by folder --guarantee 10";
    let mut full = Value::Null;
    for (args, code) in [
        (format!("win lin old {all}"), 0),
        (format!("win bad {all}"), 1),
        ("win lin --sample 1/4 --block-size 512".to_owned(), 0),
        ("win --block-size 512".to_owned(), 0),
        (format!("bad {all}"), 3),
    ] {
        let ran = folder
            .run(&format!("dedup-report {args} --json"))
            .code(code);
        let json = ran.json();
        assert_eq!(validator.errors(&folder, &json), "", "{args}");
        if full.is_null() {
            full = json;
        }
    }
    // Nothing that can be there was missing, and the schema refuses what it does not know.
    for part in [
        "images",
        "groups",
        "pairs",
        "clusters",
        "references",
        "sweep",
        "misaligned",
    ] {
        assert!(!full[part].as_array().unwrap().is_empty(), "{part}");
    }
    for part in ["chunks", "alignment", "compression", "guarantee"] {
        assert!(full[part].is_object(), "{part}");
    }
    for pointer in [
        "",
        "/images/0",
        "/total",
        "/total/ratios",
        "/pairs/0",
        "/method",
    ] {
        let mut more = full.clone();
        more.pointer_mut(pointer).unwrap()["surprise"] = Value::from(1);
        let errors = validator.errors(&folder, &more);
        assert!(errors.contains("surprise"), "{pointer}: {errors}");
        let mut less = full.clone();
        let object = less.pointer_mut(pointer).unwrap().as_object_mut().unwrap();
        let first = object.keys().next().unwrap().clone();
        object.remove(&first);
        let errors = validator.errors(&folder, &less);
        assert!(errors.contains(&first), "{pointer}: {errors}");
    }
}

#[test]
fn the_documentation_names_every_field() {
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/");
    let text = fs::read_to_string(format!("{docs}dedup-report.md")).unwrap();
    let schema = fs::read_to_string(format!("{docs}dedup-report.schema.json")).unwrap();
    let schema: Value = serde_json::from_str(&schema).unwrap();
    let parts = schema["properties"].as_object().unwrap();
    for name in parts.keys() {
        assert!(text.contains(&format!("`{name}`")), "{name}");
    }
}
