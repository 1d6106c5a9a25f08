//! The fuzz targets over the inputs that are kept of them: see `fuzz/README.md`.
#![expect(clippy::disallowed_methods, reason = "inputs are files that the engine knows nothing of")]
#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests")]

use std::fs;
use std::path::{Path, PathBuf};

use haypile::fuzzing::{TARGETS, Target};

/// What is kept of a target: a directory each.
fn directory(kind: &str, target: &Target) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(kind).join(target.name)
}

/// Runs a target over all inputs of a kind; gives their number. The name of the one that fails is printed.
fn run_over(kind: &str, target: &Target) -> usize {
    let Ok(entries) = fs::read_dir(directory(kind, target)) else { return 0 };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in &paths {
        eprintln!("{}", path.display());
        (target.run)(&fs::read(path).unwrap());
    }
    paths.len()
}

#[test]
fn no_target_fails_on_its_seeds() {
    for target in TARGETS {
        assert!(run_over("seeds", target) >= 10, "{} has no seeds", target.name);
    }
}

/// What fuzzing has found: the target, the input's name, and what went wrong.
const FOUND: &[(&str, &str, &str)] = &[
    (
        "records",
        "a-generation-without-a-next",
        "the generation behind the last of all was calculated, for a superblock whose checksum was right: it would have been \
         the oldest",
    ),
    (
        "records",
        "a-generation-whose-next-is-the-last",
        "the last generation of all was written, which from then on was refused: the store would not have opened again",
    ),
    (
        "recovery",
        "a-damaged-part-twice",
        "two findings began at the same place and reached beyond the end of a file that was cut off; the second copy of \
         the same bytes found the first one there, and the store could not be repaired at all",
    ),
    (
        "recovery",
        "a-directory-that-no-repair-has-made",
        "the number behind that of the directory `repair-18446744073709551615` was calculated",
    ),
    (
        "recovery",
        "a-last-group-that-makes-no-sense",
        "an open that takes the last group up anew found only then that it could not be a group of the engine's, when the          store had been changed already",
    ),
    (
        "recovery",
        "a-message-in-a-dead-segment",
        "the list of a message was damaged, and its record found in a segment that nothing needed any more, because it had \
         been moved; the repair looked for it in the segments in use, and was never finished",
    ),
    (
        "recovery",
        "a-place-that-no-queue-has",
        "the place behind the last of all places was calculated, for a record whose checksum was right",
    ),
    (
        "recovery",
        "a-segment-without-a-header",
        "a segment's file that was cut off within its header was told as a failure of the disk, so that neither verify nor \
         repair could look at the store",
    ),
    (
        "recovery",
        "a-short-segment-that-a-repair-goes-back-to",
        "a segment that nothing needed any more had lost its end, and the only record of a message: the repair brought it back \
         into use, and said of its size only afterwards",
    ),
];

#[test]
fn what_fuzzing_has_found_stays_found() {
    for target in TARGETS {
        let stories = FOUND.iter().filter(|(name, ..)| *name == target.name).count();
        assert_eq!(run_over("regressions", target), stories, "{}: each has a story", target.name);
    }
    for (target, input, story) in FOUND {
        let target = TARGETS.iter().find(|known| known.name == *target);
        let path = target.map(|target| directory("regressions", target).join(input));
        assert!(path.is_none_or(|path| path.is_file()), "{input}: {story}");
    }
}

#[test]
fn the_seeds_are_those_that_the_targets_make() {
    for target in TARGETS {
        for (name, seed) in (target.seeds)() {
            let path = directory("seeds", target).join(&name);
            assert!(fs::read(&path).ok() == Some(seed), "{}: make the seeds again", path.display());
        }
    }
}

#[test]
fn no_input_is_too_short_and_none_too_foolish() {
    for target in TARGETS {
        for length in 0..6 {
            for byte in [0, 1, 2, 0x7f, 0xff] {
                (target.run)(&vec![byte; length]);
            }
        }
    }
}
