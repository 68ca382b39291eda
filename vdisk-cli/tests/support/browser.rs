//! A page as a browser shows it: headless Chromium lays it out, and a script outside the page measures.
//!
//! `VDISK_CHROMIUM` names the program; otherwise it is `chromium` on the search path. If it is not
//! installed, that is said and the check skipped, unless `VDISK_REQUIRE_PEERS=1` makes it a failure.

use std::{
    env, fs,
    io::{self, Write},
    path::PathBuf,
    process::{Command, Stdio},
};

/// Each page is in a frame of its width; what is wrong with them is written into the title.
const PROBE: &str = r#"<script>
onload = () => {
    const frames = [...document.querySelectorAll("iframe")];
    document.title = JSON.stringify(frames.map(measured));
};
function measured(frame) {
    const page = frame.contentDocument;
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
    return {wrong, charts: charts.length, texts, smallest};
}
</script>"#;

/// What the browser said of a page.
#[derive(Debug, serde::Deserialize)]
pub(crate) struct Seen {
    /// What is not as it should be, in words.
    pub(crate) wrong: Vec<String>,
    pub(crate) charts: usize,
    pub(crate) texts: usize,
    /// Size of the smallest text in a chart, in pixels.
    pub(crate) smallest: f64,
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

    /// Shows each page in a frame so many pixels wide. Also returns the lines on the console: errors,
    /// and what the policies of the pages refused to load.
    #[track_caller]
    pub(crate) fn show(&self, pages: &[(&str, u32)]) -> (Vec<Seen>, Vec<String>) {
        let folder = tempfile::tempdir().unwrap();
        let mut all = "<!DOCTYPE html><meta charset=\"utf-8\"><title>-</title>".to_owned();
        for (page, width) in pages {
            let page = page.replace('&', "&amp;").replace('"', "&quot;");
            let size = format!("width=\"{width}\" height=\"2000\" style=\"border: 0\"");
            all.push_str(&format!("<iframe {size} srcdoc=\"{page}\"></iframe>\n"));
        }
        all.push_str(PROBE);
        let file = folder.path().join("frames.html");
        fs::write(&file, all).unwrap();
        let profile = folder.path().join("profile");
        let output = Command::new("timeout")
            .arg("300")
            .arg(&self.0)
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
            ])
            .args([
                "--no-first-run",
                "--disable-background-networking",
                "--disable-sync",
            ])
            .args(["--disable-component-update", "--hide-scrollbars"])
            .args([
                "--enable-logging=stderr",
                "--virtual-time-budget=5000",
                "--dump-dom",
            ])
            .arg(format!("--user-data-dir={}", profile.display()))
            .arg(format!("file://{}", file.display()))
            .env("HOME", folder.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let dom = String::from_utf8_lossy(&output.stdout);
        let title = dom.split("<title>").nth(1);
        let title = title.and_then(|t| t.split("</title>").next());
        let mut title = title.unwrap_or_default().to_owned();
        for (escaped, plain) in [("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&")] {
            title = title.replace(escaped, plain);
        }
        let seen = serde_json::from_str(&title)
            .unwrap_or_else(|e| panic!("{e}: '{title}' {:?} {said}", output.status));
        let console = said.lines().filter(|l| l.contains("CONSOLE"));
        (seen, console.map(str::to_owned).collect())
    }

    /// Fails unless each of `pages` is good to read at its width: nothing is cut or lies over something
    /// else, no text of a chart is too small; and unless it asks for nothing.
    #[track_caller]
    pub(crate) fn check(&self, pages: &[(&str, u32)]) {
        let (seen, console) = self.show(pages);
        assert!(console.is_empty(), "{console:#?}");
        assert_eq!(seen.len(), pages.len());
        for ((page, width), seen) in pages.iter().zip(seen) {
            let title = page.split("<title>").nth(1).unwrap_or_default();
            let title = title.split('<').next().unwrap_or_default();
            let place = format!("'{title}', {width} wide: {seen:#?}");
            assert!(seen.wrong.is_empty(), "{place}");
            let charts = page.matches("<svg").count();
            // The narrowest phones show everything, but are not what charts are drawn for.
            let least = if *width < 360 { 8.0 } else { 9.0 };
            assert_eq!(seen.charts, charts, "{place}");
            assert!(seen.texts > 4 * charts && seen.smallest >= least, "{place}");
        }
    }
}
