//! How long the hot parts take: `cargo bench --bench parts [-- NAME]`.
//!
//! What they are is in the crate, `haypile::benchmarks`: most of them are private. Group commit needs threads and a disk, and
//! is here. A figure is the time of one operation.

mod group_commit;

use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use haypile::benchmarks::{Benchmark, all};

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(20)
        .configure_from_args();
    for benchmark in all() {
        measure(&mut criterion, benchmark);
    }
    group_commit::measure(&mut criterion);
    criterion.final_summary();
}

fn measure(criterion: &mut Criterion, benchmark: &Benchmark) {
    let mut group = criterion.benchmark_group(benchmark.group);
    if benchmark.bytes > 0 {
        group.throughput(Throughput::Bytes(benchmark.bytes));
    }
    // This is called for each sample; the part is made by the first, if there is one.
    let mut part = None;
    group.bench_function(benchmark.name, |bencher| {
        let part = part.get_or_insert_with(benchmark.make);
        bencher.iter_custom(|operations| {
            // A run is many operations: as many runs as hold these, and their share of the time.
            let runs = operations.div_ceil(benchmark.operations);
            let mut time = Duration::ZERO;
            for _ in 0..runs {
                part.prepare();
                let began = Instant::now();
                part.run();
                time += began.elapsed();
            }
            time.mul_f64(operations as f64 / (runs * benchmark.operations) as f64)
        });
    });
    group.finish();
}
