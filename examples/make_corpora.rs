//! Writes the fuzz targets' seeds to `fuzz/seeds/`: `cargo run --example make_corpora --features fuzzing`.
//!
//! What is there under other names is left alone: `fuzz/README.md` says how the recorded sessions came about.
#![expect(clippy::disallowed_methods, reason = "seeds are files that the engine knows nothing of")]

use std::fs;
use std::io;
use std::path::Path;

use haypile::fuzzing::TARGETS;

fn main() -> io::Result<()> {
    for target in TARGETS {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target.name);
        fs::create_dir_all(&dir)?;
        for (name, seed) in (target.seeds)() {
            fs::write(dir.join(name), seed)?;
        }
    }
    Ok(())
}
