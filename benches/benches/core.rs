//! The inner loops: looking for zeros, deflating grains, reading through a chain.
#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "a benchmark that cannot go on stops; criterion's macros document nothing"
)]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::{hint::black_box, num::NonZeroUsize, path::Path};
use vdisk_core::{
    Disk, FileResolver, Ids, Job, OpenOptions, format,
    format::{ParentSpec, Spec},
    ops::{changes, convert},
    target::{Output, OutputOptions},
};

const MIB: usize = 1 << 20;

/// Bytes like those of programs: half of each sector repeats, half is noise.
fn data(len: usize) -> Vec<u8> {
    let noise = |i: usize| (i.wrapping_mul(2_654_435_761) >> 15).to_le_bytes()[0];
    (0..len)
        .map(|i| if i % 512 < 256 { 7 } else { noise(i) })
        .collect()
}

fn zeros(c: &mut Criterion) {
    let mut group = c.benchmark_group("is_zero");
    group.throughput(Throughput::Bytes(MIB as u64));
    let zero = vec![0_u8; MIB];
    group.bench_function("1 MiB of zeros", |b| {
        b.iter(|| vdisk_core::is_zero(black_box(&zero)));
    });
    let bytes = data(MIB);
    group.bench_function("256 units of 4 KiB of data", |b| {
        b.iter(|| {
            black_box(&bytes)
                .chunks(4096)
                .filter(|u| vdisk_core::is_zero(u))
                .count()
        });
    });
    group.finish();
}

fn spec(size: u64, subformat: Option<&str>) -> Spec<'static> {
    let vmdk = format::named("vmdk").unwrap();
    Spec {
        size,
        subformat: format::subformat(vmdk, subformat).unwrap(),
        name: "bench.vmdk",
        ids: Ids::derived(&[1; 32], "bench", 0),
        level: 6,
        parent: None,
        options: vdisk_core::format::Options::default(),
    }
}

fn one_thread() -> Job<'static> {
    Job {
        threads: NonZeroUsize::MIN,
        ..Job::default()
    }
}

fn deflate(c: &mut Criterion) {
    let bytes = data(8 * MIB);
    let mut group = c.benchmark_group("streamOptimized");
    group.throughput(Throughput::Bytes(bytes.size()));
    group.sample_size(10);
    group.bench_function("128 grains deflated, one thread", |b| {
        b.iter(|| {
            let mut image: Vec<u8> = Vec::new();
            let spec = spec(bytes.size(), Some("streamOptimized"));
            let writer = format::named("vmdk")
                .unwrap()
                .create(&mut image, &spec)
                .unwrap();
            convert::copy(&bytes, writer, &one_thread()).unwrap();
            image.len()
        });
    });
    group.finish();
}

/// Writes `0.vmdk`, `1.vmdk`, ... into `folder`, each a child of the one before that changes every
/// `depth`th grain, so that every layer holds some of the disk. Returns the top's name.
fn chain(folder: &Path, depth: usize) -> String {
    let mut bytes = data(32 * MIB);
    let vmdk = format::named("vmdk").unwrap();
    let resolver = FileResolver::default();
    let options = OpenOptions::new(&resolver);
    let mut below: Option<String> = None;
    for level in 0..depth {
        let name = format!("{level}.vmdk");
        let mut spec = spec(bytes.size(), None);
        spec.ids = Ids::derived(&[level.to_le_bytes()[0]; 32], "bench", 0);
        let options_out = OutputOptions {
            sync: false,
            ..OutputOptions::default()
        };
        let mut output = Output::create(&folder.join(&name), options_out).unwrap();
        match &below {
            None => {
                let writer = vmdk.create(&mut output, &spec).unwrap();
                convert::copy(&bytes, writer, &Job::default()).unwrap();
            }
            Some(parent) => {
                let parent_disk = vdisk_core::open(&folder.join(parent), &options).unwrap();
                spec.parent = Some(ParentSpec {
                    relative: parent.into(),
                    absolute: None,
                    identity: parent_disk.top().facts().identity,
                    modified: 0,
                });
                for grain in bytes.chunks_mut(64 << 10).skip(level).step_by(depth) {
                    grain.fill(1 + level.to_le_bytes()[0]);
                }
                let writer = vmdk.create(&mut output, &spec).unwrap();
                changes::write(&parent_disk, &bytes, writer, &Job::default()).unwrap();
            }
        }
        output.publish().unwrap();
        below = Some(name);
    }
    below.unwrap_or_default()
}

fn read(c: &mut Criterion) {
    let mut group = c.benchmark_group("read 32 MiB in pieces of 64 KiB");
    group.sample_size(10);
    for depth in [1, 3, 10] {
        let folder = tempfile::tempdir().unwrap();
        let top = folder.path().join(chain(folder.path(), depth));
        let resolver = FileResolver::default();
        let disk = vdisk_core::open(&top, &OpenOptions::new(&resolver)).unwrap();
        group.throughput(Throughput::Bytes(disk.size()));
        group.bench_function(BenchmarkId::new("layers", depth), |b| {
            let mut buffer = vec![0; 64 << 10];
            b.iter(|| {
                for pos in (0..disk.size()).step_by(64 << 10) {
                    disk.read_at(pos, &mut buffer).unwrap();
                }
                buffer[0]
            });
        });
    }
    group.finish();
}

criterion_group!(benches, zeros, deflate, read);
criterion_main!(benches);
