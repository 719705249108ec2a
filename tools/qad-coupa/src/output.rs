//! How a result is shown: one value, its form for people as wide as the place it is read in, its form for programs.
//!
//! A verb that answers with a list says its columns and rows once ([`Listing`]); sorting, cutting off, CSV, JSON and the
//! table that fits the width are made from that here.

use crate::{Failure, nearest, terminal};
use clap::Args;
use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, LineStyle, Table, TableStyle, Width};
use domain::csv::csv;
use domain::money::Currency;
use domain::problem::Problem;
use domain::time::{Date, Timestamp};
use domain::words::{self, PlantClock};
use rust_decimal::Decimal;
use serde_json::Value;
use std::cmp::Ordering;
use std::io::IsTerminal;

/// Letters of a line where nobody says how wide it may be: a file, a pipe.
const WIDTH: usize = 120;
/// Fewest letters of a line that anything is laid out for.
const WIDTH_MIN: usize = 40;
/// Fewest letters of a column that holds sentences; below that every row is shown as a card.
const SENTENCE_MIN: usize = 14;
/// Letters between two columns: what a column is padded with, and the line between two, which is blank.
const GAP: usize = 2;
const PADDING: usize = 1;

/// How a result is wanted; the same for every verb.
#[derive(Debug, Clone, Args)]
pub(crate) struct OutputArguments {
    /// As JSON, for programs; the names in it are stable.
    #[arg(long, global = true, help_heading = "Output")]
    pub(crate) json: bool,
    /// Letters of a line; left out, the terminal's, and 120 in a file or a pipe.
    #[arg(long, global = true, value_name = "LETTERS", help_heading = "Output")]
    width: Option<usize>,
    /// Shows instants by the clock of this place, for example Europe/Berlin.
    #[arg(long, global = true, value_name = "ZONE", env = "QAD_COUPA_TIME_ZONE", hide_env_values = true, default_value = "UTC",
          value_parser = clock, help_heading = "Output")]
    time_zone: PlantClock,
}

/// What a shell says of its own width. It is no word of ours: what is no number says nothing.
#[expect(
    clippy::disallowed_methods,
    reason = "the width of a terminal is no setting of a function"
)]
fn columns() -> Option<usize> {
    std::env::var("COLUMNS").ok()?.trim().parse().ok()
}

/// The clock of a zone; a variable that is set to nothing says nothing.
fn clock(name: &str) -> Result<PlantClock, String> {
    let name = if name.trim().is_empty() { "UTC" } else { name };
    PlantClock::new(name).map_err(|problem| problem.expected)
}

/// What is wanted of a list.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ListOptions {
    /// As CSV, for spreadsheets.
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    /// Shows at most this many rows, and says how many there are.
    #[arg(long, value_name = "ROWS")]
    pub(crate) limit: Option<usize>,
    /// Sorts by this column; with a minus sign before it the other way round.
    #[arg(long, value_name = "COLUMN", allow_hyphen_values = true)]
    sort: Option<String>,
}

impl ListOptions {
    /// Whether a spreadsheet reads it.
    pub(crate) fn is_csv(&self) -> bool {
        self.csv
    }
}

/// How the result of this command is shown.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    json: bool,
    width: usize,
    clock: PlantClock,
}

impl From<OutputArguments> for Output {
    fn from(wanted: OutputArguments) -> Self {
        let told = wanted.width.or_else(columns).or_else(|| {
            let out = std::io::stdout();
            out.is_terminal()
                .then(|| terminal_size::terminal_size_of(out))
                .flatten()
                .map(|(width, _)| usize::from(width.0))
        });
        Self {
            json: wanted.json,
            width: told.unwrap_or(WIDTH).max(WIDTH_MIN),
            clock: wanted.time_zone,
        }
    }
}

impl Output {
    /// Whether a program reads it.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Shows one value to programs.
    pub(crate) fn json(&self, value: &Value) {
        terminal::say(&value.to_string());
    }

    /// Shows one value: as JSON, or in words.
    pub(crate) fn value(&self, json: impl FnOnce() -> Value, words: impl FnOnce(&Self)) {
        if self.json {
            self.json(&json());
        } else {
            words(self);
        }
    }

    /// A line beside the result where that is JSON; else a line of it.
    pub(crate) fn tell(&self, text: &str) {
        if self.json {
            terminal::note(text);
        } else {
            self.line(text);
        }
    }

    /// What is being done now, for somebody who waits at a terminal.
    pub(crate) fn progress(&self, text: &str) {
        if std::io::stderr().is_terminal() {
            terminal::note(text);
        }
    }

    /// Shows a list. What is said beside it stands below the table, and is no part of the CSV.
    ///
    /// # Errors
    /// There is no column of the name it is to be sorted by.
    pub(crate) fn list(&self, listing: Listing, options: &ListOptions) -> Result<(), Failure> {
        let mut listing = listing;
        if let Some(wanted) = &options.sort {
            sort(&listing.columns, &mut listing.rows, wanted)?;
        }
        let all = listing.rows.len();
        listing.rows.truncate(options.limit.unwrap_or(all));
        if self.json {
            let items: Vec<Value> = listing.rows.into_iter().map(|row| row.json).collect();
            self.json(&(listing.whole)(items));
        } else if options.csv {
            terminal::say(&listing.to_csv());
        } else {
            self.table(&listing.columns, &listing.rows);
            if listing.rows.len() < all {
                self.line(&format!("{} of {all} rows are shown.", listing.rows.len()));
            }
            for line in &listing.below {
                self.line(line);
            }
        }
        Ok(())
    }

    /// One sentence or more; broken between words, what follows set in, and instants by the clock that was asked for.
    pub(crate) fn line(&self, text: &str) {
        let text = self.clock.stamps(text);
        let indent: String = text.chars().take_while(|letter| *letter == ' ').collect();
        let follows = format!("{indent}  ");
        for line in self.wrapped(&text, "", &follows) {
            terminal::say(&line);
        }
    }

    /// A text as wide as the place, broken between words alone.
    fn wrapped(&self, text: &str, first: &str, follows: &str) -> Vec<String> {
        let options = textwrap::Options::new(self.width)
            .initial_indent(first)
            .subsequent_indent(follows)
            .break_words(false)
            .word_splitter(textwrap::WordSplitter::NoHyphenation);
        let lines = textwrap::wrap(text, options).into_iter();
        lines.map(std::borrow::Cow::into_owned).collect()
    }

    /// A text in lines that the place is wide enough for.
    pub(crate) fn fitted(&self, text: &str) -> Vec<String> {
        self.wrapped(text, "", "")
    }

    /// As much of a line as the place is wide enough for.
    pub(crate) fn clipped(&self, line: &str) -> String {
        line.chars().take(self.width).collect()
    }

    /// An empty line.
    pub(crate) fn gap(&self) {
        terminal::say("");
    }

    /// A table of texts without more to it.
    pub(crate) fn texts(&self, columns: &[Column], rows: Vec<Vec<Cell>>) {
        let rows: Vec<Row> = rows
            .into_iter()
            .map(|cells| Row::new(Value::Null, cells))
            .collect();
        self.table(columns, &rows);
    }

    /// Rows under their columns; as cards, one below the other, where the width does not hold a row without breaking what
    /// somebody may want to search for or copy.
    fn table(&self, columns: &[Column], rows: &[Row]) {
        let clock = &self.clock;
        let shown: Vec<Vec<String>> = rows
            .iter()
            .map(|row| {
                let cells = row.cells.iter().map(|cell| cell.shown(clock));
                cells.map(|text| clock.stamps(&text)).collect()
            })
            .collect();
        for line in self.laid_out(columns, &shown) {
            terminal::say(&line);
        }
    }

    fn laid_out(&self, columns: &[Column], shown: &[Vec<String>]) -> Vec<String> {
        if shown.is_empty() {
            return Vec::new();
        }
        if let Some(widths) = widths(columns, shown, self.width) {
            return as_table(columns, shown, &widths);
        }
        let kept = |cells: &[String]| -> Vec<String> {
            let pairs = columns.iter().zip(cells).filter(|(column, _)| !column.is_spare);
            pairs.map(|(_, text)| text.clone()).collect()
        };
        let (spare, needed): (Vec<Column>, Vec<Column>) = columns.iter().partition(|column| column.is_spare);
        let rest: Vec<Vec<String>> = shown.iter().map(|cells| kept(cells)).collect();
        match widths(&needed, &rest, self.width) {
            Some(widths) if !spare.is_empty() => {
                let mut lines = as_table(&needed, &rest, &widths);
                let names: Vec<&str> = spare.iter().map(|column| column.name).collect();
                let left_out = format!("Too narrow here for: {} (--width, --csv).", names.join(", "));
                lines.extend(self.fitted(&left_out));
                lines
            }
            _ => self.as_cards(columns, shown),
        }
    }

    fn as_cards(&self, columns: &[Column], rows: &[Vec<String>]) -> Vec<String> {
        let names = columns.iter().map(|column| length(column.name));
        let longest = names.max().unwrap_or_default();
        let follows = " ".repeat(longest.saturating_add(GAP));
        let mut lines = Vec::new();
        for row in rows {
            if !lines.is_empty() {
                lines.push(String::new());
            }
            for (column, text) in columns.iter().zip(row).filter(|(_, text)| !text.is_empty()) {
                let head = format!("{:<longest$}{}", column.name, " ".repeat(GAP));
                lines.extend(self.wrapped(text, &head, &follows));
            }
        }
        lines
    }
}

/// What a column holds, and so how it is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Codes, numbers, names: never broken, so that they can be searched for and copied.
    Word,
    /// Figures: to the right, and never broken.
    Figure,
    /// Sentences: broken between words.
    Sentence,
}

/// One column of a list.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    name: &'static str,
    kind: Kind,
    /// Left out of a table that would not fit the place with it.
    is_spare: bool,
}

impl Column {
    /// A column of codes, numbers or names.
    pub(crate) const fn word(name: &'static str) -> Self {
        Self {
            name,
            kind: Kind::Word,
            is_spare: false,
        }
    }

    /// A column of figures.
    pub(crate) const fn figure(name: &'static str) -> Self {
        Self {
            name,
            kind: Kind::Figure,
            is_spare: false,
        }
    }

    /// A column of sentences.
    pub(crate) const fn sentence(name: &'static str) -> Self {
        Self {
            name,
            kind: Kind::Sentence,
            is_spare: false,
        }
    }
}

impl Column {
    /// The same, and left out where the place is too narrow for it.
    pub(crate) const fn spare(self) -> Self {
        Self {
            is_spare: true,
            ..self
        }
    }
}

/// What stands in one place of a list.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Cell {
    /// A text.
    Text(String),
    /// A number of things.
    Count(u64),
    /// An amount; CSV has its currency in a column of its own.
    Money(Option<(Decimal, Currency)>),
    /// When something was.
    Instant(Option<Timestamp>),
    /// A day.
    Day(Option<Date>),
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}
impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}
impl From<u64> for Cell {
    fn from(count: u64) -> Self {
        Self::Count(count)
    }
}
impl From<usize> for Cell {
    fn from(count: usize) -> Self {
        Self::Count(u64::try_from(count).unwrap_or(u64::MAX))
    }
}

impl Cell {
    fn shown(&self, clock: &PlantClock) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Count(count) => words::figure(Decimal::from(*count)),
            Self::Money(amount) => amount.map_or_else(String::new, |(amount, currency)| {
                words::money(amount, currency.as_str())
            }),
            Self::Instant(at) => at.map_or_else(String::new, |at| clock.stamp(at)),
            Self::Day(day) => day.map_or_else(String::new, |day| day.to_string()),
        }
    }

    /// As a spreadsheet wants it: figures without separators, instants in UTC.
    fn plain(&self) -> Vec<String> {
        match self {
            Self::Text(text) => vec![text.clone()],
            Self::Count(count) => vec![count.to_string()],
            Self::Money(None) => vec![String::new(), String::new()],
            Self::Money(Some((amount, currency))) => {
                vec![amount.normalize().to_string(), currency.to_string()]
            }
            Self::Instant(at) => vec![at.map_or_else(String::new, |at| at.to_string())],
            Self::Day(day) => vec![day.map_or_else(String::new, |day| day.to_string())],
        }
    }

    fn order(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Count(one), Self::Count(two)) => one.cmp(two),
            (Self::Money(one), Self::Money(two)) => one.map(|(sum, _)| sum).cmp(&two.map(|(sum, _)| sum)),
            (Self::Instant(one), Self::Instant(two)) => one.cmp(two),
            (Self::Day(one), Self::Day(two)) => one.cmp(two),
            (Self::Text(one), Self::Text(two)) => match (one.parse::<u64>(), two.parse::<u64>()) {
                (Ok(one), Ok(two)) => one.cmp(&two),
                _ => one.to_lowercase().cmp(&two.to_lowercase()),
            },
            _ => Ordering::Equal,
        }
    }
}

/// One row of a list: what people see, and what programs are told.
#[derive(Debug)]
pub(crate) struct Row {
    cells: Vec<Cell>,
    json: Value,
}

impl Row {
    /// A row with as many cells as there are columns.
    pub(crate) fn new(json: Value, cells: Vec<Cell>) -> Self {
        Self { cells, json }
    }
}

/// A list.
pub(crate) struct Listing {
    columns: Vec<Column>,
    rows: Vec<Row>,
    whole: Box<dyn FnOnce(Vec<Value>) -> Value>,
    below: Vec<String>,
}

impl Listing {
    /// A list of rows under these columns. Programs get an array of what each row says.
    pub(crate) fn new(columns: &[Column], rows: Vec<Row>) -> Self {
        Self {
            columns: columns.to_vec(),
            rows,
            whole: Box::new(Value::Array),
            below: Vec::new(),
        }
    }

    /// With more for programs than the rows.
    pub(crate) fn within(mut self, whole: impl FnOnce(Vec<Value>) -> Value + 'static) -> Self {
        self.whole = Box::new(whole);
        self
    }

    /// As a spreadsheet reads it.
    pub(crate) fn to_csv(&self) -> String {
        as_csv(&self.columns, &self.rows)
    }

    /// With lines below the table.
    pub(crate) fn below(mut self, lines: impl IntoIterator<Item = String>) -> Self {
        self.below.extend(lines);
        self
    }
}

/// A name of a column as it is typed: `Waits for` is `waits-for`.
fn typed(name: &str) -> String {
    name.trim().to_lowercase().replace(' ', "-")
}

fn sort(columns: &[Column], rows: &mut [Row], wanted: &str) -> Result<(), Failure> {
    let (name, down) = wanted
        .strip_prefix('-')
        .map_or((wanted, false), |name| (name, true));
    let Some(place) = columns
        .iter()
        .position(|column| typed(column.name) == typed(name))
    else {
        let known: Vec<String> = columns.iter().map(|column| typed(column.name)).collect();
        let hint = nearest::hint(name, known.iter().map(String::as_str));
        let fix = format!("{hint}Sort by one of the columns.");
        return Err(Failure::Usage(
            Problem::new("COLUMN_UNKNOWN", fix)
                .field("--sort")
                .expected(known.join(", "))
                .actual(name),
        ));
    };
    rows.sort_by(|one, two| {
        let order = match (one.cells.get(place), two.cells.get(place)) {
            (Some(one), Some(two)) => one.order(two),
            _ => Ordering::Equal,
        };
        if down { order.reverse() } else { order }
    });
    Ok(())
}

fn as_csv(columns: &[Column], rows: &[Row]) -> String {
    let is_money = |place: usize| {
        rows.iter()
            .any(|row| matches!(row.cells.get(place), Some(Cell::Money(_))))
    };
    let header: Vec<&str> = columns
        .iter()
        .enumerate()
        .flat_map(|(place, column)| {
            if is_money(place) {
                vec![column.name, "Currency"]
            } else {
                vec![column.name]
            }
        })
        .collect();
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| row.cells.iter().flat_map(Cell::plain).collect())
        .collect();
    csv(&header, &rows)
}

/// The letters of the longest line of a text.
fn length(text: &str) -> usize {
    text.lines()
        .map(textwrap::core::display_width)
        .max()
        .unwrap_or_default()
}

/// How wide each column is; `None` when no table of that width holds the rows unbroken.
fn widths(columns: &[Column], rows: &[Vec<String>], width: usize) -> Option<Vec<usize>> {
    let needed: Vec<usize> = columns
        .iter()
        .enumerate()
        .map(|(place, column)| {
            let longest = rows
                .iter()
                .filter_map(|row| row.get(place))
                .map(|text| length(text))
                .max();
            longest.unwrap_or_default().max(length(column.name))
        })
        .collect();
    let gaps = GAP.saturating_mul(columns.len().saturating_sub(1));
    let sum = |widths: &[usize]| widths.iter().copied().fold(gaps, usize::saturating_add);
    if sum(&needed) <= width {
        return Some(needed);
    }
    // The sentences share what the others leave, the shortest first, so that none gets more than it needs.
    let mut given = needed.clone();
    let mut sentences: Vec<usize> = (0..columns.len())
        .filter(|place| {
            columns
                .get(*place)
                .is_some_and(|column| column.kind == Kind::Sentence)
        })
        .collect();
    for place in &sentences {
        if let Some(one) = given.get_mut(*place) {
            *one = 0;
        }
    }
    let mut left = width.checked_sub(sum(&given))?;
    sentences.sort_by_key(|place| needed.get(*place).copied());
    let mut waiting = sentences.len();
    for place in sentences {
        let wanted = needed.get(place).copied()?;
        let share = left.checked_div(waiting)?;
        let gets = wanted.min(share);
        let words = rows.iter().filter_map(|row| row.get(place));
        let longest = words.flat_map(|text| text.split_whitespace()).map(length).max();
        if gets < wanted && gets < longest.unwrap_or_default().max(SENTENCE_MIN) {
            return None;
        }
        *given.get_mut(place)? = gets;
        left = left.saturating_sub(gets);
        waiting = waiting.saturating_sub(1);
    }
    (sum(&given) <= width).then_some(given)
}

fn as_table(columns: &[Column], rows: &[Vec<String>], widths: &[usize]) -> Vec<String> {
    let mut table = Table::new();
    table
        .load_style(TableStyle::new().header_separator(LineStyle::none().fill('-').junction(' ')))
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(columns.iter().map(|column| column.name));
    for row in rows {
        table.add_row(row);
    }
    let last = columns.len().saturating_sub(1);
    let fixed: Vec<ColumnConstraint> = widths
        .iter()
        .enumerate()
        .map(|(place, width)| {
            let gap = if place == last { 0 } else { PADDING };
            let width = u16::try_from(width.saturating_add(gap)).unwrap_or(u16::MAX);
            ColumnConstraint::Absolute(Width::Fixed(width))
        })
        .collect();
    table.set_constraints(fixed);
    for (place, column) in columns.iter().enumerate() {
        if let Some(laid) = table.column_mut(place) {
            let gap = if place == last { 0 } else { PADDING };
            laid.set_padding((0, u16::try_from(gap).unwrap_or_default()));
            if column.kind == Kind::Figure {
                laid.set_cell_alignment(CellAlignment::Right);
            }
        }
    }
    table.trim_fmt().lines().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHY: &str = "Invoice line 1 is billed at 12.90 USD per EA, expected at most 12.75 USD per EA.";

    fn output(width: usize) -> Output {
        Output {
            json: false,
            width,
            clock: PlantClock::new("UTC").unwrap(),
        }
    }

    fn columns() -> [Column; 4] {
        [
            Column::word("Invoice"),
            Column::figure("Total"),
            Column::word("Code"),
            Column::sentence("Why"),
        ]
    }

    fn rows() -> Vec<Vec<String>> {
        let row = |cells: [&str; 4]| cells.map(str::to_owned).to_vec();
        vec![
            row(["92014", "1,296.00 USD", "PRICE_OVER_TOLERANCE", WHY]),
            row(["92015", "7.00 USD", "RECEIPT_MISSING", "Nothing is received."]),
        ]
    }

    #[test]
    fn a_table_fits_the_place_and_breaks_no_word() {
        for width in WIDTH_MIN..200 {
            let lines = output(width).laid_out(&columns(), &rows());
            for line in &lines {
                assert!(length(line) <= width, "{width}: {line}");
            }
            let told: Vec<&str> = lines.iter().flat_map(|line| line.split_whitespace()).collect();
            for word in [
                "PRICE_OVER_TOLERANCE",
                "92014",
                "RECEIPT_MISSING",
                "1,296.00",
                "received.",
            ] {
                assert!(told.contains(&word), "{width}: {word} in {lines:#?}");
            }
        }
    }

    #[test]
    fn what_no_table_holds_is_shown_as_cards() {
        let wide = output(140).laid_out(&columns(), &rows());
        assert!(wide[0].starts_with("Invoice "), "{wide:#?}");
        assert!(
            wide[2].starts_with("92014    1,296.00 USD  PRICE_OVER_TOLERANCE"),
            "{wide:#?}"
        );
        assert!(
            wide.iter().any(|line| line.contains("    7.00 USD  ")),
            "figures to the right: {wide:#?}"
        );
        let narrow = output(50).laid_out(&columns(), &rows());
        assert_eq!(narrow[0], "Invoice  92014");
        assert_eq!(narrow[2], "Code     PRICE_OVER_TOLERANCE");
        assert!(narrow[4].starts_with("         "), "{narrow:#?}");
    }

    #[test]
    fn a_spare_column_is_left_out_by_name_before_anything_becomes_a_card() {
        let mut columns = columns();
        columns[1] = columns[1].spare();
        let lines = output(50).laid_out(&columns, &rows());
        assert!(lines[0].starts_with("Invoice  Code"), "{lines:#?}");
        assert!(lines.last().unwrap().contains("Total"), "{lines:#?}");
        assert!(
            !output(140)
                .laid_out(&columns, &rows())
                .last()
                .unwrap()
                .contains("narrow")
        );
    }

    fn listing() -> (Vec<Column>, Vec<Row>) {
        let row = |invoice: &str, sum: &str| {
            let amount = sum.parse::<Decimal>().unwrap();
            let cells = vec![
                invoice.into(),
                Cell::Money(Some((amount, "USD".parse().unwrap()))),
            ];
            Row::new(Value::Null, cells)
        };
        let columns = vec![Column::word("Invoice"), Column::figure("Total due")];
        (
            columns,
            vec![row("9", "1000"), row("10", "-5"), row("100", "20.5")],
        )
    }

    #[test]
    fn a_list_is_sorted_by_what_its_column_holds() {
        let first = |wanted: &str| {
            let (columns, mut rows) = listing();
            sort(&columns, &mut rows, wanted).map(|()| rows[0].cells[0].clone())
        };
        assert_eq!(first("invoice").unwrap(), "9".into(), "numbers by their size");
        assert_eq!(first("-invoice").unwrap(), "100".into());
        assert_eq!(first("total-due").unwrap(), "10".into());
        assert_eq!(first("-Total due").unwrap(), "9".into());
        let Err(Failure::Usage(problem)) = first("totl-due") else {
            panic!("a column that is none")
        };
        assert!(problem.fix.contains("`total-due`"), "{problem}");
    }

    #[test]
    fn a_zone_that_is_none_is_refused_and_none_at_all_is_utc() {
        assert_eq!(clock("").unwrap().name(), "UTC");
        assert_eq!(clock("Europe/Berlin").unwrap().name(), "Europe/Berlin");
        assert!(clock("Mars/Olympus").unwrap_err().contains("Europe/Berlin"));
    }

    #[test]
    fn a_spreadsheet_gets_figures_that_it_can_add() {
        let (columns, rows) = listing();
        assert_eq!(
            as_csv(&columns, &rows),
            "Invoice,Total due,Currency\r\n9,1000,USD\r\n10,-5,USD\r\n100,20.5,USD"
        );
    }
}
