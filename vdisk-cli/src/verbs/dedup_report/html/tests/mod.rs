//! The page is well-formed, whole, small, and draws what the figures say.

#[path = "../../../../../tests/support/browser.rs"]
mod browser;
mod samples;

use super::page;
use crate::verbs::dedup_report::report::FarmReport;
use quick_xml::{Reader, events::Event};
use samples::GIB;
use std::{collections::HashMap, path::Path};

/// An element of the page: its name and attributes.
struct Element {
    name: String,
    attributes: HashMap<String, String>,
}

impl Element {
    fn number(&self, name: &str) -> f64 {
        self.attributes[name].parse().unwrap()
    }

    fn class(&self) -> &str {
        self.attributes.get("class").map_or("", String::as_str)
    }
}

/// All elements, in the order in which they start. Fails if the page is not well-formed.
fn elements(page: &str) -> Vec<Element> {
    let mut reader = Reader::from_str(page);
    reader.config_mut().check_end_names = true;
    let (mut all, mut open): (Vec<Element>, Vec<usize>) = (Vec::new(), Vec::new());
    loop {
        match reader.read_event().unwrap() {
            Event::Start(tag) => {
                open.push(all.len());
                all.push(element(&tag));
            }
            Event::Empty(tag) => all.push(element(&tag)),
            Event::End(_) => {
                open.pop().unwrap();
            }
            Event::Eof => break,
            _ => {}
        }
    }
    assert!(open.is_empty(), "{} elements are not closed", open.len());
    all
}

fn element(tag: &quick_xml::events::BytesStart<'_>) -> Element {
    let attributes = tag.attributes().map(|a| {
        let a = a.unwrap();
        (a.key.as_ref().to_owned(), a.value.into_owned())
    });
    Element {
        name: tag.name().as_ref().to_owned(),
        attributes: attributes.collect(),
    }
}

fn all() -> Vec<(&'static str, FarmReport)> {
    vec![
        ("empty", samples::empty()),
        ("one", samples::farm(1)),
        ("zeros", samples::zeros()),
        ("wide", samples::wide()),
        ("small", samples::everything(12)),
        ("incomplete", samples::incomplete()),
        ("sampled", samples::sampled()),
        ("big", samples::everything(300)),
    ]
}

#[test]
fn pages_are_well_formed_and_refer_to_nothing() {
    for (name, report) in all() {
        let page = page(&report);
        let elements = elements(&page);
        for word in [
            "NaN",
            "inf\"",
            "inf ",
            "infinity",
            "://",
            "src=",
            "href=",
            "@import",
            "javascript",
        ] {
            let hostile = name == "incomplete" && ["://", "src="].contains(&word);
            assert!(hostile || !page.contains(word), "{word} in {name}");
        }
        assert!(
            elements
                .iter()
                .all(|e| !["script", "img", "link", "iframe"].contains(&e.name.as_str()))
        );
        let urls = page.matches("url(").count();
        assert_eq!(urls, page.matches("url(#").count(), "{name}");
        assert_eq!(elements[0].attributes["lang"], "en");
    }
}

#[test]
fn names_of_images_stay_text() {
    let page = page(&samples::incomplete());
    assert!(page.contains("&lt;script src=&quot;http://evil&quot;&gt;&amp;"));
    assert!(!page.contains("<script") && !page.contains(['\u{202e}', '\u{7}']));
}

#[test]
fn headings_are_in_order_and_charts_speak() {
    for (name, report) in all() {
        let elements = elements(&page(&report));
        let mut level = 0;
        for heading in elements
            .iter()
            .filter(|e| ["h1", "h2", "h3", "h4"].contains(&e.name.as_str()))
        {
            let next: usize = heading.name[1..].parse().unwrap();
            assert!(next <= level + 1, "{name}: {} after h{level}", heading.name);
            level = next;
        }
        assert_eq!(
            elements.iter().filter(|e| e.name == "h1").count(),
            1,
            "{name}"
        );
        for chart in elements.iter().filter(|e| e.name == "svg") {
            assert_eq!(chart.attributes["role"], "img");
            let label = &chart.attributes["aria-label"];
            assert!(
                label.contains(|c: char| c.is_ascii_digit()),
                "{name}: {label}"
            );
        }
    }
}

#[test]
fn charts_stay_inside_their_frames() {
    for (name, report) in all() {
        let elements = elements(&page(&report));
        let mut frame = (0.0, 0.0);
        for e in &elements {
            if e.name == "svg" {
                let sides: Vec<f64> = e.attributes["viewBox"]
                    .split(' ')
                    .map(|n| n.parse().unwrap())
                    .collect();
                frame = (sides[2], sides[3]);
            }
            if e.name == "rect" && e.attributes.contains_key("x") && e.attributes.contains_key("y")
            {
                assert!(e.number("width") >= 0.0, "{name}");
                assert!(e.number("x") + e.number("width") <= frame.0 + 1.0, "{name}");
                assert!(e.number("y") + e.number("height") <= frame.1, "{name}");
            }
        }
    }
}

/// Bars are as long as their figures say, with one scale a chart.
#[test]
fn bars_are_proportional_to_their_figures() {
    let report = samples::farm(12);
    let elements = elements(&page(&report));
    let bars = |class: &str| -> Vec<f64> {
        let bars = elements
            .iter()
            .filter(|e| e.name == "rect" && e.class() == class);
        bars.map(|e| e.number("width")).collect()
    };
    let all = &report.total.steps;
    let compressed = all.compressed_bytes.unwrap();
    // The first of each class is the waterfall's.
    let whole = bars("bar whole")[0];
    let unit = whole / all.total_bytes as f64;
    let expect = |found: f64, bytes: u64| {
        assert!(
            (found - bytes as f64 * unit).abs() < 0.11,
            "{found} for {bytes}"
        );
    };
    let cuts = bars("bar cut");
    expect(cuts[0], all.zero_bytes);
    expect(cuts[1], all.duplicate_bytes);
    expect(bars("bar cut guess")[0], all.unique_bytes - compressed);
    expect(bars("bar rest guess")[0], compressed);

    let (data, unique) = (&bars("bar whole")[1..], bars("bar rest"));
    let used: Vec<_> = report
        .references
        .iter()
        .filter(|r| r.data_bytes > 0)
        .collect();
    assert_eq!((data.len(), unique.len()), (used.len(), used.len()));
    let most = used.iter().map(|r| r.data_bytes).max().unwrap() as f64;
    let longest = data.iter().copied().fold(0.0, f64::max);
    for (i, r) in used.iter().enumerate() {
        for (width, bytes) in [(data[i], r.data_bytes), (unique[i], r.unique_bytes)] {
            let expected = bytes as f64 / most * longest;
            assert!(
                (width - expected).abs() < 0.11 || (expected < 0.9 && width <= 0.9),
                "{width} {expected}"
            );
        }
    }
}

#[test]
fn the_curve_goes_through_its_figures() {
    let report = samples::everything(12);
    let elements = elements(&page(&report));
    let dots: Vec<&Element> = elements.iter().filter(|e| e.class() == "dot").collect();
    assert_eq!(dots.len(), report.sweep.len());
    // Logarithmic: each doubling takes the same room. Linear: each percent does.
    let step = dots[1].number("cx") - dots[0].number("cx");
    for (dot, s) in dots.iter().zip(&report.sweep) {
        let doublings = f64::from((s.block_size / 4096).ilog2());
        assert!((dot.number("cx") - dots[0].number("cx") - doublings * step).abs() < 1.0);
    }
    let slope = |a: usize, b: usize| {
        let percents = report.sweep[a].saving_percent - report.sweep[b].saving_percent;
        (dots[b].number("cy") - dots[a].number("cy")) / percents
    };
    assert!((slope(0, 7) - slope(3, 6)).abs() < 0.05);
    assert!(slope(0, 7) > 0.0, "up is more");
}

#[test]
fn the_matrix_shades_what_is_shared() {
    let mut report = samples::farm(2);
    let shades = |report: &FarmReport| -> Vec<String> {
        let elements = elements(&page(report));
        let first = elements
            .iter()
            .position(|e| e.class() == "chart matrix")
            .unwrap();
        let rects = elements[first..].iter().take_while(|e| e.name != "section");
        let rects = rects.filter(|e| e.name == "rect");
        rects.map(|e| e.class().to_owned()).collect()
    };
    let smaller = report
        .images
        .iter()
        .map(|i| i.distinct_bytes)
        .min()
        .unwrap();
    for (shared, shade) in [(smaller, "h10"), (smaller / 2, "h5"), (1, "h1"), (0, "h0")] {
        let pair = report.pairs.as_mut().unwrap().list.first_mut().unwrap();
        pair.shared_bytes = shared;
        assert_eq!((pair.a, pair.b), (0, 1));
        assert_eq!(shades(&report), ["self", shade, shade, "self"]);
    }
}

#[test]
fn what_is_not_there_is_said() {
    let shows = |report: &FarmReport, text: &str| {
        let page = page(report);
        assert!(page.contains(text), "no '{text}'");
    };
    let report = samples::incomplete();
    shows(&report, "8 images could not be read");
    shows(&report, "desk-5.vmdk");
    shows(&report, "and 3 more");
    shows(&report, "Guarantee not met");
    shows(&report, "did not fit the memory");
    let report = samples::sampled();
    shows(&report, "One block in 64");
    shows(&samples::everything(300), "200 of 300 images");
    shows(&samples::everything(300), "300 images in 60 rows");
    shows(&samples::empty(), "No image was read");
    shows(&samples::zeros(), "There is no data");
    assert!(!page(&samples::farm(1)).contains("Which images"));
    assert!(!page(&samples::farm(3)).contains("Incomplete"));
}

#[test]
fn a_thousand_images_make_a_page_below_a_megabyte() {
    let mut report = samples::everything(1000);
    let (size, images) = (page(&report).len(), report.images.len());
    assert!(size < 1 << 20, "{size} bytes for {images} images");
    // Long names and many errors are cut, not the page's bound.
    for image in &mut report.images {
        image.path.push_str(&"<&>\"".repeat(300));
        report.errors.push(crate::farm::Trouble {
            path: image.path.clone(),
            error: "e".repeat(5000),
        });
    }
    let size = page(&report).len();
    assert!(size < 2 << 20, "{size} bytes");
}

#[test]
fn pages_are_good_to_read_in_a_browser() {
    let Some(browser) = browser::Browser::find() else {
        return;
    };
    let pages: Vec<String> = all().iter().map(|(_, report)| page(report)).collect();
    let widths = [320, 360, 768, 1280];
    let pages: Vec<(&str, u32)> = pages
        .iter()
        .flat_map(|page| widths.map(|width| (page.as_str(), width)))
        .collect();
    browser.check(&pages);
}

/// For eyes: `VDISK_PAGES=folder cargo test -p vdisk-cli sample_pages -- --ignored`.
#[test]
#[ignore = "writes sample pages to the folder that VDISK_PAGES names"]
fn sample_pages() {
    let folder = std::env::var_os("VDISK_PAGES").unwrap();
    for (name, report) in all() {
        std::fs::write(
            Path::new(&folder).join(format!("{name}.html")),
            page(&report),
        )
        .unwrap();
    }
    let huge = samples::everything(1000);
    assert!(huge.total.steps.total_bytes > GIB);
    std::fs::write(Path::new(&folder).join("huge.html"), page(&huge)).unwrap();
}
