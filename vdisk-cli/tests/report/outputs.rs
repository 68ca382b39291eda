//! Report files: whole or not at all, and never in the place of something else.

use super::desktops;
use std::{fs, os::unix::fs::symlink};

#[test]
fn csv_has_the_figures_of_json() {
    let folder = desktops();
    let json = folder
        .run("dedup-report . --json --csv images.csv --group-by folder")
        .code(0)
        .json();
    let text = String::from_utf8(folder.read("images.csv")).unwrap();
    let mut lines = text.lines();
    let columns: Vec<&str> = lines.next().unwrap().split(',').collect();
    let images = json["images"].as_array().unwrap();
    assert_eq!(lines.clone().count(), images.len());
    for (line, image) in lines.zip(images) {
        for (column, value) in columns.iter().zip(line.split(',')) {
            let expected = match &image[column] {
                serde_json::Value::String(text) => text.clone(),
                serde_json::Value::Null => String::new(),
                number => number.to_string(),
            };
            assert_eq!(value.parse::<f64>().ok(), expected.parse().ok(), "{column}");
            if value.parse::<f64>().is_err() {
                assert_eq!(value, expected, "{column}");
            }
        }
    }
}

#[test]
fn report_files_replace_nothing_unless_forced() {
    let folder = desktops();
    folder.write("report", b"precious");
    for flag in ["--csv report", "--html report"] {
        folder
            .run(&format!("dedup-report win {flag}"))
            .code(2)
            .says("error: report: output: exists already")
            .says("hint: --force replaces it");
        assert_eq!(folder.read("report"), b"precious");
        folder
            .run(&format!("dedup-report win {flag} --force"))
            .code(0);
        assert_ne!(folder.read("report"), b"precious");
        folder.write("report", b"precious");
    }
    assert_eq!(folder.names(), ["lin", "report", "win"]);
}

#[test]
fn an_image_is_never_replaced_by_its_report() {
    let folder = desktops();
    let before = folder.read("win/a.raw");
    fs::hard_link(folder.path("win/a.raw"), folder.path("hard")).unwrap();
    symlink("win/a.raw", folder.path("soft")).unwrap();
    for name in ["hard", "soft"] {
        for paths in ["win/a.raw", "win"] {
            folder
                .run(&format!("dedup-report {paths} --csv {name} --force"))
                .code(2)
                .says("is also an input");
        }
    }
    assert_eq!(folder.read("win/a.raw"), before);
}

/// Also if nothing but another image names it.
#[test]
fn a_parent_is_never_replaced_by_a_report() {
    let folder = desktops();
    fs::rename(folder.path("win/a.raw"), folder.path("gold")).unwrap();
    folder
        .run("clone gold --input-format raw -o child.vhd")
        .code(0);
    let before = folder.read("gold");
    for flag in ["--csv gold", "--html gold"] {
        folder
            .run(&format!("dedup-report child.vhd {flag} --force"))
            .code(2)
            .says("is also an input");
    }
    assert_eq!(folder.read("gold"), before);
}

/// The report is worth more than the file: it is shown even if the file cannot be written.
#[test]
fn a_page_goes_to_its_file_and_the_report_to_standard_output() {
    let folder = desktops();
    let run = folder
        .run("dedup-report win --html page.html --csv images.csv")
        .code(0);
    assert!(run.out.starts_with("2 images show"), "{}", run.out);
    let page = String::from_utf8(folder.read("page.html")).unwrap();
    assert!(page.starts_with("<!DOCTYPE html>"));
    assert!(page.contains("win/a.raw"));
}
