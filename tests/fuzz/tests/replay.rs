//! The corpus of every target, and a fixed number of mutations of it: the part of fuzzing that runs with every test.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a failing test may say so by panicking"
)]

use fuzz::TARGETS;
use std::path::{Path, PathBuf};

/// Mutations per target; `.ci/fuzz` does many more, guided by coverage.
const MUTATIONS: u32 = 400;
/// Longest input that is made, in bytes.
const INPUT_BYTES_MAX: usize = 16 * 1024;
/// What is put into inputs: what parsers of this kind trip over.
const WORDS: [&[u8]; 24] = [
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b"\\u0000",
    b"\\ud800",
    b",",
    b":",
    b"null",
    b"-0",
    b"1e999",
    b"\n",
    b"\r\n",
    b"\0",
    b"<errors><error>",
    b"</error>",
    b"\xff\xfe",
    "\u{feff}".as_bytes(),
    "é".as_bytes(),
    b"9223372036854775808",
    b"0.0000000000000000000000000001",
    b"79228162514264337593543950336",
    b"%00",
];

fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
        .into_iter()
        .map(|path| {
            let bytes = std::fs::read(&path).unwrap();
            (path, bytes)
        })
        .collect()
}

#[test]
fn every_corpus_file_is_harmless() {
    for (name, target) in TARGETS {
        let files = corpus(name);
        assert!(files.len() >= 2, "{name} has hardly a corpus");
        for (path, bytes) in files {
            let ended = std::panic::catch_unwind(|| target(&bytes));
            assert!(ended.is_ok(), "{}", path.display());
        }
    }
}

#[test]
fn every_folder_has_its_target() {
    let folders = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")).unwrap();
    for folder in folders {
        let name = folder.unwrap().file_name().into_string().unwrap();
        assert!(TARGETS.iter().any(|(target, _)| *target == name), "{name}");
    }
}

/// SplitMix64: the same mutations every time.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let once = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let twice = (once ^ (once >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((twice ^ (twice >> 31)) % u64::try_from(below.max(1)).unwrap()).unwrap()
    }
}

fn mutate(seeds: &[(PathBuf, Vec<u8>)], numbers: &mut Numbers) -> Vec<u8> {
    let mut input = seeds[numbers.next(seeds.len())].1.clone();
    for _ in 0..=numbers.next(4) {
        let at = numbers.next(input.len() + 1);
        let upto = (at + numbers.next(16)).min(input.len());
        match numbers.next(7) {
            0 if at < input.len() => input[at] ^= 1 << numbers.next(8),
            1 if at < input.len() => input[at] = u8::try_from(numbers.next(256)).unwrap(),
            2 => drop(input.drain(at..upto)),
            3 => drop(input.splice(at..upto, WORDS[numbers.next(WORDS.len())].iter().copied())),
            4 => {
                let piece = input[at..upto].repeat(1 + numbers.next(50));
                drop(input.splice(at..at, piece));
            }
            5 => {
                let other = &seeds[numbers.next(seeds.len())].1;
                let from = numbers.next(other.len() + 1);
                drop(input.splice(at.., other[from..].iter().copied()));
            }
            _ => input.truncate(at),
        }
        input.truncate(INPUT_BYTES_MAX);
    }
    input
}

#[test]
fn mutations_of_the_corpus_are_harmless_too() {
    let previous = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let mut found = Vec::new();
    for (name, target) in TARGETS {
        let seeds = corpus(name);
        let mut numbers = Numbers(7);
        for _ in 0..MUTATIONS {
            let input = mutate(&seeds, &mut numbers);
            if std::panic::catch_unwind(|| target(&input)).is_err() {
                found.push(format!("{name}: {}", input.escape_ascii()));
                break;
            }
        }
    }
    std::panic::set_hook(previous);
    assert!(
        found.is_empty(),
        "put each into the corpus and repair it: {found:#?}"
    );
}

#[test]
fn a_target_that_panics_is_noticed() {
    let previous = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    // The shape of the mistake that the targets are there to find.
    let slips: fn(&[u8]) = |bytes| {
        assert!(
            bytes.first() != Some(&b'{') || bytes.contains(&b'}'),
            "unbalanced"
        )
    };
    let seeds = corpus("gateway-event");
    let mut numbers = Numbers(7);
    let noticed = (0..MUTATIONS).any(|_| {
        let input = mutate(&seeds, &mut numbers);
        std::panic::catch_unwind(|| slips(&input)).is_err()
    });
    std::panic::set_hook(previous);
    assert!(noticed);
}
