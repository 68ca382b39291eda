//! A page as a browser shows it: headless Chromium lays it out, and a script outside the page measures.
//!
//! `VDISK_CHROMIUM` names the program; otherwise it is `chromium` on the search path. If it is not
//! installed, that is said and the check skipped, unless `VDISK_REQUIRE_PEERS=1` makes it a failure.

use serde_json::Value;
use std::{
    env, fs,
    io::{self, Write},
    path::PathBuf,
    process::{Command, Stdio},
};

/// The page goes into a frame of the wanted width; what is wrong is written into the title.
const PROBE: &str = r#"<script>
onload = () => {
    const frame = document.querySelector("iframe"), page = frame.contentDocument;
    const root = page.documentElement, wide = root.clientWidth, wrong = [];
    if (root.scrollWidth > wide) wrong.push(`the page is ${root.scrollWidth} wide in a frame of ${wide}`);
    const charts = [...page.querySelectorAll("svg")];
    let smallest = 99, texts = 0;
    for (const chart of charts) {
        const box = chart.getBoundingClientRect(), name = chart.getAttribute("aria-label").slice(0, 20);
        if (box.width < 200 || box.height < 50) wrong.push(`${name}: ${box.width} by ${box.height}`);
        const scale = box.width / chart.viewBox.baseVal.width, placed = [];
        for (const text of chart.querySelectorAll("text")) {
            texts += 1;
            const at = text.getBoundingClientRect(), says = text.textContent.trim();
            smallest = Math.min(smallest, parseFloat(getComputedStyle(text).fontSize) * scale);
            if (at.left < 0 || at.right > wide) wrong.push(`${name}: '${says}' leaves the page`);
            for (const [other, said] of placed) {
                const x = Math.min(at.right, other.right) - Math.max(at.left, other.left);
                const y = Math.min(at.bottom, other.bottom) - Math.max(at.top, other.top);
                if (x > 1 && y > 4) wrong.push(`${name}: '${says}' lies over '${said}'`);
            }
            placed.push([at, says]);
        }
    }
    for (const block of page.querySelectorAll("section, aside, .tile, p, pre, li, dd")) {
        const box = block.getBoundingClientRect(), scrolls = block.closest(".scroll");
        if (!scrolls && box.right > wide + 1) wrong.push(`'${block.textContent.trim().slice(0, 40)}' is cut`);
    }
    frame.remove();
    document.title = JSON.stringify({wrong, charts: charts.length, texts, smallest});
};
</script>"#;

/// What the browser said of a page.
#[derive(Debug)]
pub(crate) struct Seen {
    /// What is not as it should be, in words.
    pub(crate) wrong: Vec<String>,
    pub(crate) charts: usize,
    pub(crate) texts: usize,
    /// Size of the smallest text in a chart, in pixels.
    pub(crate) smallest: f64,
    /// Lines on the console: errors, and what the page's policy refused to load.
    pub(crate) console: Vec<String>,
}

/// The browser.
pub(crate) struct Browser(PathBuf);

impl Browser {
    pub(crate) fn find() -> Option<Self> {
        let named = env::var_os("VDISK_CHROMIUM").map(PathBuf::from);
        let path = env::var_os("PATH").unwrap_or_default();
        let found = named.or_else(|| {
            let folders = env::split_paths(&path);
            folders.map(|f| f.join("chromium")).find(|p| p.is_file())
        });
        if found.is_none() {
            let required = env::var_os("VDISK_REQUIRE_PEERS").is_some_and(|v| v == "1");
            assert!(
                !required,
                "chromium is not installed, and peers are required"
            );
            // Past the capture of the test harness: a skipped test must not look like one that passed.
            let _ = writeln!(io::stderr(), "skipped: chromium is not installed");
        }
        found.map(Self)
    }

    /// Shows `page` in a frame `width` pixels wide.
    #[track_caller]
    pub(crate) fn show(&self, page: &str, width: u32) -> Seen {
        let folder = tempfile::tempdir().unwrap();
        let page = page.replace('&', "&amp;").replace('"', "&quot;");
        let frame = format!(
            "<!DOCTYPE html><meta charset=\"utf-8\"><title>-</title><style>body {{ margin: 0 }}</style>\
             <iframe width=\"{width}\" height=\"2000\" style=\"border: 0\" srcdoc=\"{page}\"></iframe>{PROBE}"
        );
        let file = folder.path().join("frame.html");
        fs::write(&file, frame).unwrap();
        let output = Command::new("timeout")
            .arg("120")
            .arg(&self.0)
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--no-first-run",
            ])
            .args([
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
            ])
            .args([
                "--hide-scrollbars",
                "--enable-logging=stderr",
                "--virtual-time-budget=5000",
            ])
            .arg(format!(
                "--user-data-dir={}",
                folder.path().join("profile").display()
            ))
            .args(["--window-size=1600,2000", "--dump-dom"])
            .arg(format!("file://{}", file.display()))
            .env("HOME", folder.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let dom = String::from_utf8_lossy(&output.stdout);
        let title = dom
            .split("<title>")
            .nth(1)
            .and_then(|t| t.split("</title>").next());
        let title = title
            .unwrap_or_default()
            .replace("&lt;", "<")
            .replace("&gt;", ">")
            .replace("&amp;", "&");
        let seen: Value = serde_json::from_str(&title)
            .unwrap_or_else(|e| panic!("{e}: '{title}' {:?} {said}", output.status));
        let number = |name: &str| seen[name].as_f64().unwrap();
        Seen {
            wrong: seen["wrong"]
                .as_array()
                .unwrap()
                .iter()
                .map(Value::to_string)
                .collect(),
            charts: number("charts") as usize,
            texts: number("texts") as usize,
            smallest: number("smallest"),
            console: said
                .lines()
                .filter(|l| l.contains("CONSOLE"))
                .map(str::to_owned)
                .collect(),
        }
    }

    /// Fails unless `page` is good to read at `width`: nothing is cut or lies over something else, no
    /// text of a chart is too small, and the page asks for nothing.
    #[track_caller]
    pub(crate) fn check(&self, page: &str, width: u32, charts: usize) {
        let seen = self.show(page, width);
        assert!(
            seen.wrong.is_empty() && seen.console.is_empty(),
            "{width} wide: {seen:#?}"
        );
        assert_eq!(seen.charts, charts, "{width} wide: {seen:#?}");
        // The narrowest phones show everything, but are not what charts are drawn for.
        let least = if width < 360 { 8.0 } else { 9.0 };
        assert!(
            seen.smallest >= least && seen.texts > 4 * charts,
            "{width} wide: {seen:#?}"
        );
    }
}
