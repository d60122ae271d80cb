//! Reports for people: the audit as a table.

use audit::Report;
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{Cell, CellAlignment, Table};

/// How many findings are listed.
const LISTED: usize = 50;

/// The report as a table and a verdict.
pub fn rendered(report: &Report) -> String {
    let mut table = Table::new();
    table.load_preset(UTF8_HORIZONTAL_ONLY);
    table.set_header([
        "symbol",
        "hour",
        "issued",
        "log",
        "tables",
        "archive",
        "missing",
        "duplicates",
        "dropped",
        "differing",
    ]);
    for hour in &report.hours {
        let figures = [
            hour.issued,
            hour.log,
            hour.tables,
            hour.archive,
            hour.missing,
            hour.duplicates,
            hour.dropped,
            hour.differing,
        ];
        let mut row = vec![Cell::new(&hour.symbol), Cell::new(hour.hour)];
        row.extend(figures.map(|figure| Cell::new(grouped(figure)).set_alignment(CellAlignment::Right)));
        table.add_row(row);
    }
    let mut text = format!("{table}\n");
    for finding in report.findings.iter().take(LISTED) {
        text.push_str(&format!("{finding}\n"));
    }
    if report.findings.len() > LISTED {
        text.push_str(&format!("… and {} more\n", report.findings.len() - LISTED));
    }
    text.push_str(&verdict(report));
    text
}

fn verdict(report: &Report) -> String {
    let log = grouped(report.total(|hour| hour.log));
    let pending = match report.pending {
        0 => String::new(),
        pending => format!(", {} pending", grouped(pending)),
    };
    let unusable = match report.unusable {
        0 => String::new(),
        unusable => format!(", {} unusable records kept as dead letters", grouped(unusable)),
    };
    let dropped = grouped(report.total(|hour| hour.dropped));
    let word = if report.is_complete() { "complete" } else { "NOT COMPLETE" };
    let missing = grouped(report.total(|hour| hour.missing));
    format!("{word}: {log} trades, {missing} missing, {dropped} duplicates dropped{pending}{unusable}\n")
}

/// A number with its thousands set apart.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_thousands() {
        assert_eq!(
            ["0", "999", "1,000", "19,904", "1,234,567"],
            [0, 999, 1000, 19_904, 1_234_567].map(grouped).each_ref().map(String::as_str)
        );
    }
}
