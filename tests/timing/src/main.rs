//! Whether the time of a refusal tells how close a forged signature was: the method of dudect (Reparaz, Balasch,
//! Verbauwhede, "Dude, is my code constant time?").
//!
//! Two classes of requests are verified in random order: in one the first byte of the signature is wrong, in the other the
//! last. Welch's t of their times says whether they differ; as dudect does, it is also computed over the fastest parts of
//! the samples, where a leak is not drowned by interruptions. Beside it, in the same run and with the same requests, runs a
//! verification that compares byte by byte and stops at the first difference: it must be caught, or the run proves nothing.
//!
//! `cargo run --release -p timing -- --samples 10000000`
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::disallowed_methods,
    reason = "a measuring tool: it owns its clock and its floats, prints, and ends when something is wrong with it"
)]

use domain::ids::ConnectionId;
use domain::time::Timestamp;
use flows::webhook::settings::WebhookSettings;
use flows::webhook::{Body, Headers, Unverified};
use hmac::{Hmac, KeyInit, Mac};
use secrecy::SecretString;
use serde_json::json;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::hint::black_box;
use std::process::ExitCode;
use std::time::Instant;

/// Samples per measurement unless told otherwise.
const SAMPLES_DEFAULT: u64 = 10_000_000;
/// Samples that set the limits of the fastest parts.
const CALIBRATION_SAMPLES: usize = 20_000;
/// Samples before anything counts.
const WARM_UP_SAMPLES: usize = 10_000;
/// The fastest shares of the samples over which t is computed too, in per mille.
const FASTEST_PER_MILLE: [usize; 6] = [1000, 990, 950, 900, 700, 500];
/// Beyond this a difference counts as found; dudect's own limit is 10.
const T_MAX: f64 = 4.5;
/// The leaking comparison must exceed this.
const T_CAUGHT_MIN: f64 = 10.0;

const SECRET: &str = "fictional-secret-of-the-timing-test";
const TAG_BYTES: usize = 32;

type Tag = [u8; TAG_BYTES];

fn tag(parts: &[&[u8]]) -> Tag {
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

/// SplitMix64.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let once = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let twice = (once ^ (once >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        twice ^ (twice >> 31)
    }
}

/// Mean and variance, one pass (Welford).
#[derive(Default, Clone, Copy)]
struct Moments {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Moments {
    fn add(&mut self, value: f64) {
        self.count += 1.0;
        let delta = value - self.mean;
        self.mean += delta / self.count;
        self.squares += delta * (value - self.mean);
    }

    fn variance(self) -> f64 {
        self.squares / (self.count - 1.0)
    }
}

fn welch([one, two]: [Moments; 2]) -> f64 {
    let spread = one.variance() / one.count + two.variance() / two.count;
    if spread > 0.0 {
        (one.mean - two.mean) / spread.sqrt()
    } else {
        0.0
    }
}

/// Verifies a body with a tag: whether it is believed, and how many nanoseconds the verification alone took.
type Verification = Box<dyn Fn(&[u8], &Tag) -> (bool, u64)>;

/// What is measured: a request whose wrong byte is the class's.
struct Case {
    name: &'static str,
    /// The right proof for a body, as a tag.
    right: fn(&[u8]) -> Tag,
    verification: Verification,
    must_leak: bool,
}

/// Measures a case; the largest |t| over all shares.
fn measure(case: &Case, samples: u64) -> f64 {
    let body = [7; 8];
    assert!(
        (case.verification)(&body, &(case.right)(&body)).0,
        "{}: the right tag is believed",
        case.name
    );
    let mut numbers = Numbers(7);
    let mut sample = || {
        let random = numbers.next();
        let class = usize::try_from(random & 1).unwrap();
        // A new body each time: the right tag, and so every other byte of the wrong one, is random in both classes.
        let body = random.to_le_bytes();
        let mut tag = (case.right)(&body);
        let wrong = if class == 0 { 0 } else { TAG_BYTES - 1 };
        tag[wrong] ^= 1 << ((random >> 1) % 8);
        let (believed, nanoseconds) = (case.verification)(&body, &tag);
        assert!(!believed, "{}: a wrong tag is not", case.name);
        (class, nanoseconds)
    };
    for _ in 0..WARM_UP_SAMPLES {
        sample();
    }
    let mut first: Vec<u64> = (0..CALIBRATION_SAMPLES).map(|_| sample().1).collect();
    first.sort_unstable();
    let limits = FASTEST_PER_MILLE.map(|share| match share {
        1000 => u64::MAX,
        _ => first[CALIBRATION_SAMPLES * share / 1000],
    });
    let mut moments = [[Moments::default(); 2]; FASTEST_PER_MILLE.len()];
    for _ in 0..samples {
        let (class, nanoseconds) = sample();
        for (share, limit) in moments.iter_mut().zip(limits) {
            if nanoseconds <= limit {
                share[class].add(nanoseconds as f64);
            }
        }
    }
    let t = moments.map(welch);
    let [one, two] = moments[0];
    println!(
        "{:<46} mean {:>7.1} / {:>7.1} ns   t by share {}",
        case.name,
        one.mean,
        two.mean,
        t.map(|t| format!("{t:+.2}")).join(" ")
    );
    t.iter().fold(0.0, |most, t| most.max(t.abs()))
}

fn settings(document: &serde_json::Value) -> WebhookSettings {
    WebhookSettings::parse(&SecretString::from(document.to_string()))
        .ok()
        .unwrap()
}

/// Verifies a request with one header and times it.
fn verifies(
    settings: WebhookSettings,
    header: &'static str,
    value: impl Fn(&[u8], &Tag) -> String + 'static,
) -> Verification {
    let connection: ConnectionId = "example".parse().unwrap();
    Box::new(move |body, tag| {
        let headers = Headers::new(BTreeMap::from([(header.to_owned(), value(body, tag))]), None);
        let text = hex::encode(body);
        let started = Instant::now();
        let request = Unverified {
            connection: &connection,
            headers: &headers,
            body: Body::Text(&text),
        };
        let believed = request.verify(black_box(&settings), Timestamp(0)).is_ok();
        let took = started.elapsed();
        (black_box(believed), u64::try_from(took.as_nanos()).unwrap())
    })
}

/// What the same verification would be if it compared as `==` does on a slice: byte by byte, up to the first difference.
fn leaks() -> Verification {
    Box::new(|body, claimed| {
        let offered = hex::encode(claimed);
        let text = hex::encode(body);
        let started = Instant::now();
        let right = tag(&[text.as_bytes()]);
        let same = match hex::decode(&offered) {
            Ok(offered) => offered.iter().zip(&right).all(|(one, two)| black_box(one) == two),
            Err(_) => false,
        };
        let took = started.elapsed();
        (black_box(same), u64::try_from(took.as_nanos()).unwrap())
    })
}

/// An expiry of ten digits, another one for each body, so that the right tag of a bearer is random too.
fn expiry(body: &[u8]) -> String {
    let number = body
        .iter()
        .fold(0_u64, |sum, byte| (sum * 256 + u64::from(*byte)) % 999_999_999);
    (9_000_000_000 + number).to_string()
}

fn call_out_tag(body: &[u8]) -> Tag {
    let client = Sha256::digest(b"fictional-client:fictional-secret-of-the-client-01");
    tag(&[
        b"qad-coupa call-out token 1\nexample\n",
        expiry(body).as_bytes(),
        b"\n",
        &client,
    ])
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let samples = arguments
        .iter()
        .position(|argument| argument == "--samples")
        .and_then(|at| arguments.get(at + 1))
        .map_or(Some(SAMPLES_DEFAULT), |text| text.parse().ok());
    let Some(samples) = samples else {
        println!("--samples takes a whole number");
        return ExitCode::FAILURE;
    };
    let hmac = json!({"scheme": "coupa-hmac", "secrets": [SECRET]});
    let call_out = json!({
        "scheme": "coupa-call-out",
        "secrets": [SECRET],
        "call_out": {"clients": [{"id": "fictional-client", "secret": "fictional-secret-of-the-client-01"}]},
    });
    let cases = [
        Case {
            name: "our comparison of a signature",
            right: |body| tag(&[hex::encode(body).as_bytes()]),
            verification: verifies(settings(&hmac), "x-coupa-signature", |_, tag| hex::encode(tag)),
            must_leak: false,
        },
        Case {
            name: "our comparison of a bearer token",
            right: call_out_tag,
            verification: verifies(settings(&call_out), "authorization", |body, tag| {
                format!("Bearer {}.{}", expiry(body), hex::encode(tag))
            }),
            must_leak: false,
        },
        Case {
            name: "a comparison that stops at the first difference",
            right: |body| tag(&[hex::encode(body).as_bytes()]),
            verification: leaks(),
            must_leak: true,
        },
    ];
    println!(
        "{samples} samples each; classes: first byte wrong, last byte wrong; shares {FASTEST_PER_MILLE:?} per mille"
    );
    let mut good = true;
    for case in &cases {
        let t = measure(case, samples);
        let as_it_should = if case.must_leak {
            t > T_CAUGHT_MIN
        } else {
            t < T_MAX
        };
        let limit = if case.must_leak {
            format!("> {T_CAUGHT_MIN}")
        } else {
            format!("< {T_MAX}")
        };
        let word = if as_it_should { "ok" } else { "NOT SO" };
        println!("{:<46} max |t| = {t:.2}, must be {limit}: {word}", case.name);
        good &= as_it_should;
    }
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
