//! Lists for spreadsheets.

/// Comma-separated values (RFC 4180), without the last line break.
pub fn csv(header: &[&str], rows: &[Vec<String>]) -> String {
    // A text that a spreadsheet would take for a formula is kept a text.
    let cell = |text: &str| {
        let begins_one = text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']);
        let guarded = if begins_one && crate::money::parse_decimal(text).is_err() {
            format!("'{text}")
        } else {
            text.to_owned()
        };
        if guarded.contains([',', '"', '\n', '\r']) {
            format!("\"{}\"", guarded.replace('"', "\"\""))
        } else {
            guarded
        }
    };
    let line = |cells: Vec<&str>| cells.into_iter().map(cell).collect::<Vec<_>>().join(",");
    let mut lines = vec![line(header.to_vec())];
    lines.extend(
        rows.iter()
            .map(|row| line(row.iter().map(String::as_str).collect())),
    );
    lines.join("\r\n")
}

#[cfg(test)]
mod tests {
    use super::csv;

    #[test]
    fn csv_quotes_what_it_must_and_gives_a_spreadsheet_no_formula() {
        let text = csv(
            &["a", "b"],
            &[
                vec!["x, \"y\"".into(), "=1+1".into()],
                vec!["-5".into(), "".into()],
                vec!["\t=1+1".into(), "-1+1".into()],
            ],
        );
        assert_eq!(text, "a,b\r\n\"x, \"\"y\"\"\",'=1+1\r\n-5,\r\n'\t=1+1,'-1+1");
    }
}
