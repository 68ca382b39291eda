//! Guarantees, and samples beside exact counts of the same farm.

use crate::{
    builder::Farm,
    compare::{array, figure, text},
    large::sectors,
    truth::truth,
};
use serde_json::Value;

fn args(farm: &Farm, flags: &str) -> String {
    let names = farm.listed().join(" ");
    format!("dedup-report {names} --json --block-size 512 {flags}")
}

#[test]
fn a_guarantee_is_met_or_not() {
    let Some(farm) = sectors(61, 4) else { return };
    let total = &truth(&farm, &farm.listed(), &[512])[0]["total"];
    let duplicate = figure(total, "duplicate_bytes") as f64;
    let saving = 100.0 * duplicate / figure(total, "data_bytes") as f64;
    for (wanted, code) in [(saving - 0.01, 0), (saving + 0.01, 3), (0.0, 0), (100.0, 3)] {
        let flags = format!("--guarantee {wanted}");
        let report = farm.folder.run(&args(&farm, &flags)).code(code).json();
        let guarantee = &report["guarantee"];
        assert_eq!(guarantee["met"], code == 0, "{guarantee}");
        let found = guarantee["saving_percent"].as_f64().unwrap();
        assert!((found - saving).abs() < 0.01, "{guarantee}");
    }
}

/// How far off `report` is, by its stated error, for the farm's unique bytes.
fn off(report: &Value, truth: &Value) -> f64 {
    let found = figure(&report["total"], "unique_bytes") as f64;
    let wanted = figure(&truth["total"], "unique_bytes") as f64;
    (found - wanted).abs() / figure(&report["sample"], "unique_error_bytes") as f64
}

#[test]
fn samples_are_as_close_as_they_say() {
    let (mut within, mut all) = (0, 0);
    for seed in 0..5 {
        let Some(farm) = sectors(70 + seed, 16) else {
            return;
        };
        let names = farm.listed();
        let truth = &truth(&farm, &names, &[512])[0];
        for one_in in [2_u64, 16, 64] {
            let flags = format!("--sample 1/{one_in}");
            let report = farm.folder.run(&args(&farm, &flags)).code(0).json();
            assert_eq!(figure(&report["sample"], "one_in"), one_in);
            // What needs no comparing is exact.
            for field in ["total_bytes", "zero_bytes", "data_bytes"] {
                let wanted = figure(&truth["total"], field);
                assert_eq!(figure(&report["total"], field), wanted, "{flags}");
            }
            let unique = figure(&report["total"], "unique_bytes");
            let duplicate = figure(&report["total"], "duplicate_bytes");
            let data = figure(&report["total"], "data_bytes");
            assert_eq!(unique + duplicate, data);
            let off = off(&report, truth);
            assert!(off < 2.0, "{flags}: {off} times the error");
            within += usize::from(off <= 1.0);
            all += 1;
            for (image, wanted) in array(&report, "images").iter().zip(array(truth, "images")) {
                let (found, exact) = (
                    figure(image, "distinct_bytes") as f64,
                    figure(wanted, "distinct_bytes") as f64,
                );
                let far = 4.0 * (one_in as f64 / (exact / 512.0)).sqrt();
                assert!(
                    (found / exact - 1.0).abs() < far,
                    "{flags}: {} has {found}, not {exact}",
                    text(image, "path")
                );
            }
        }
    }
    // 95 of 100 in the long run; the contents are the same in each run of this test.
    assert!(within * 10 >= all * 8, "{within} of {all}");
}

/// Of a sample, what is saved at least must reach the guarantee.
#[test]
fn a_sample_near_the_guarantee_does_not_meet_it() {
    let Some(farm) = sectors(62, 8) else { return };
    let total = &truth(&farm, &farm.listed(), &[512])[0]["total"];
    let duplicate = figure(total, "duplicate_bytes") as f64;
    let saving = 100.0 * duplicate / figure(total, "data_bytes") as f64;
    for (less, code) in [(0.1, 3), (20.0, 0)] {
        let flags = format!("--sample 1/64 --guarantee {}", saving - less);
        farm.folder.run(&args(&farm, &flags)).code(code);
    }
}
