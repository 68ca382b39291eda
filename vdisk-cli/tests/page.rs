//! The page of `vdisk dedup-report --html`, as a browser shows it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

#[path = "support/browser.rs"]
mod browser;
mod run;

use browser::Browser;
use run::{Folder, noise};
use std::fs;

const MIB: usize = 1 << 20;

/// Three desktops of one base, and one disk of its own, in two folders.
fn farm() -> Folder {
    let folder = Folder::new();
    let base = noise(1, 3 * MIB);
    for (name, seed) in [("win/a.raw", 2), ("win/b.raw", 3), ("lin/c.raw", 4)] {
        fs::create_dir_all(folder.path(name).parent().unwrap()).unwrap();
        let mut disk = base.clone();
        disk[MIB..MIB + MIB / 4].copy_from_slice(&noise(seed, MIB / 4));
        disk.resize(8 * MIB, 0);
        folder.write(name, &disk);
    }
    folder.write("lin/<b onclick=\"x\">&.raw", &noise(9, MIB));
    folder
}

fn page(folder: &Folder, args: &str, code: i32) -> String {
    folder
        .run(&format!("dedup-report {args} --html page.html --force"))
        .code(code);
    String::from_utf8(folder.read("page.html")).unwrap()
}

#[test]
fn the_page_is_good_to_read_in_a_browser() {
    let Some(browser) = Browser::find() else {
        return;
    };
    let folder = farm();
    let full = page(
        &folder,
        ". --sweep --cdc --alignment --group-by folder --guarantee 10",
        0,
    );
    assert_eq!(full.matches("<svg").count(), 4);
    folder.write("lost.vmdk", b"KDMV");
    let part = page(&folder, ". --sample 1/4", 1);
    assert!(part.contains("lost.vmdk") && part.contains("Incomplete"));
    assert_eq!(part.matches("<svg").count(), 3);
    let pages = [320, 360, 412, 768, 1280, 1600].map(|width| (full.as_str(), width));
    browser.check(&pages);
    browser.check(&[(&part, 360), (&part, 1280)]);
}

#[test]
fn names_of_images_do_nothing_in_the_page() {
    let folder = farm();
    let page = page(&folder, ".", 0);
    assert!(page.contains("&lt;b onclick=&quot;x&quot;&gt;&amp;"));
    assert!(!page.contains("<b ") && !page.contains("<script"));
    assert!(!page.contains("://") && !page.contains("src="));
}

/// The checks see what they look for.
#[test]
fn a_bad_page_is_found() {
    let Some(browser) = Browser::find() else {
        return;
    };
    let policy = "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">";
    let chart = |text: &str| {
        format!(
            "<svg role=img aria-label=c width=300 height=100 viewBox=\"0 0 300 100\">{text}</svg>"
        )
    };
    let words = |body: &str| {
        let page = format!("<!DOCTYPE html><html><head>{policy}</head><body>{body}</body></html>");
        let (seen, console) = browser.show(&[(&page, 360)]);
        (seen[0].wrong.join(" "), console.join(" "), seen[0].smallest)
    };
    let text = "<text x=9 y=50 font-size=8>one</text>";
    let (wrong, console, smallest) = words(&chart(text));
    assert_eq!((wrong.as_str(), console.as_str(), smallest), ("", "", 8.0));

    let (wrong, ..) = words(&chart(&format!("{text}<text x=12 y=51>two</text>")));
    assert!(wrong.contains("'two' lies over 'one'"), "{wrong}");
    let (wrong, ..) = words(&chart("<text x=-50 y=51>outside</text>"));
    assert!(wrong.contains("'outside' leaves the page"), "{wrong}");
    let (wrong, ..) = words(&chart("").replace("width=300", "width=3"));
    assert!(wrong.contains("3 by 100"), "{wrong}");
    let (wrong, ..) = words("<p style=width:500px>long</p>");
    assert!(wrong.contains("wide in a frame of 360"), "{wrong}");
    let (_, console, _) = words("<img src=\"http://127.0.0.1:9/x.png\">");
    assert!(console.contains("127.0.0.1:9"), "{console}");
}
