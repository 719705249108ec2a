//! When two invoice numbers are one: what the eye takes for the same number is the same, and what only resembles it is near.

use icu_normalizer::ComposingNormalizerBorrowed;

/// Characters that no reader sees and every comparison of bytes does (Unicode's default ignorable code points), each range with
/// both ends.
const INVISIBLE: [(char, char); 17] = [
    ('\u{ad}', '\u{ad}'),
    ('\u{34f}', '\u{34f}'),
    ('\u{61c}', '\u{61c}'),
    ('\u{115f}', '\u{1160}'),
    ('\u{17b4}', '\u{17b5}'),
    ('\u{180b}', '\u{180f}'),
    ('\u{200b}', '\u{200f}'),
    ('\u{202a}', '\u{202e}'),
    ('\u{2060}', '\u{206f}'),
    ('\u{3164}', '\u{3164}'),
    ('\u{fe00}', '\u{fe0f}'),
    ('\u{feff}', '\u{feff}'),
    ('\u{ffa0}', '\u{ffa0}'),
    ('\u{fff0}', '\u{fff8}'),
    ('\u{1bca0}', '\u{1bca3}'),
    ('\u{1d173}', '\u{1d17a}'),
    ('\u{e0000}', '\u{e0fff}'),
];

/// The form in which two invoice numbers are compared: composed (NFC), without invisible characters and surrounding blanks, case
/// folded letter by letter. No letter becomes two, so that `MASSE` and `MAßE` stay two numbers. For what is written in ASCII it is
/// what [`crate::ids::fold`] makes of it, under which claims were kept before.
pub fn fold(text: &str) -> String {
    let visible: String = text.chars().filter(|letter| !is_invisible(*letter)).collect();
    let folded: String = composed(visible.trim()).chars().map(fold_letter).collect();
    // A letter may compose otherwise in its other case.
    composed(&folded)
}

/// The form in which two invoice numbers are near: letters and digits alone, without leading zeros. `None` for a number that
/// has none of either and is near to nothing.
pub fn near(text: &str) -> Option<String> {
    let bare: String = fold(text)
        .chars()
        .filter(|letter| letter.is_alphanumeric())
        .collect();
    if bare.is_empty() {
        return None;
    }
    let number = bare.trim_start_matches('0');
    Some(if number.is_empty() { "0" } else { number }.to_owned())
}

fn composed(text: &str) -> String {
    ComposingNormalizerBorrowed::new_nfc()
        .normalize(text)
        .into_owned()
}

fn is_invisible(letter: char) -> bool {
    INVISIBLE
        .iter()
        .any(|(first, last)| (*first..=*last).contains(&letter))
}

/// One letter for all its cases: the capital one, where there is a single one.
fn fold_letter(letter: char) -> char {
    // The dotless i is a letter of its own and no case of `I` (CaseFolding.txt has it for Turkic languages alone).
    if letter == 'ı' {
        return letter;
    }
    let capital = |letter: char| single(letter.to_uppercase(), letter);
    let small = |letter: char| single(letter.to_lowercase(), letter);
    // Down and up again: some capitals (ẞ, the Kelvin sign) are nobody's capital.
    capital(small(capital(letter)))
}

/// The one letter of a mapping; the letter itself where it becomes several.
fn single(mut mapped: impl Iterator<Item = char>, letter: char) -> char {
    match (mapped.next(), mapped.next()) {
        (Some(one), None) => one,
        _ => letter,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_the_eye_takes_for_one_number_is_one() {
        for (one, other) in [
            ("ZW-7001", "ZW-7001\u{200b}"),
            ("ZW-7001", "\u{feff} zw-\u{ad}7001\u{a0}"),
            ("Rechnung-\u{c4}7", "RECHNUNG-A\u{308}7"),
            ("stra\u{df}e", "STRA\u{1e9e}E"),
            ("10 \u{212a}", "10 k"),
            ("ΟΔΟΣ-1", "οδος-1"),
            ("ОТ-15", "от-15"),
        ] {
            assert_eq!(fold(one), fold(other), "{one:?} and {other:?}");
        }
    }

    #[test]
    fn what_only_resembles_a_number_is_another_one() {
        for (one, other) in [
            ("MA\u{df}E", "MASSE"),
            ("ZW-7001", "ZW7001"),
            ("ZW-7001", "ZW-07001"),
            ("ZW-7001", "ZW -7001"),
            ("\u{fb01}x", "fix"),
            ("\u{131}x", "Ix"),
            ("A1", "\u{391}1"),
        ] {
            assert_ne!(fold(one), fold(other), "{one:?} and {other:?}");
        }
    }

    #[test]
    fn a_number_is_near_to_the_same_letters_and_digits() {
        assert_eq!(near("3856/GST23-24"), near("03856/GST23-24"));
        assert_eq!(near("INV 17"), near("inv-17"));
        assert_ne!(near("INV-17"), near("INV-71"));
        assert_ne!(near("170"), near("17"), "zeros at the end mean something");
        assert_ne!(near("INV-017"), near("INV-17"), "and so do those inside");
        assert_eq!(near("000").as_deref(), Some("0"));
        for nothing in ["---", " / ", "\u{200b}", ""] {
            assert_eq!(near(nothing), None, "{nothing:?}");
        }
    }

    proptest! {
        #[test]
        fn folding_again_changes_nothing(text in "\\PC{0,30}") {
            let once = fold(&text);
            prop_assert_eq!(fold(&once), once);
        }

        #[test]
        fn of_ascii_it_is_what_codes_are_folded_to(text in "[ -~]{0,40}") {
            prop_assert_eq!(fold(&text), crate::ids::fold(&text));
        }
    }
}
