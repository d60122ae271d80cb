//! Reports for people: the audit as a table.

use std::collections::BTreeSet;

use audit::{Finding, Mended, Report, Verdict};
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{Cell, CellAlignment, Table};
use serde::Serialize;

/// How many findings are listed.
const LISTED: usize = 50;

/// The report for machines.
#[derive(Serialize)]
pub struct Json<'a> {
    complete: bool,
    #[serde(flatten)]
    report: &'a Report,
    hints: BTreeSet<&'static str>,
    mended: Vec<String>,
}

impl<'a> Json<'a> {
    /// Of a report, and what was mended before it.
    pub fn new(report: &'a Report, mended: &[Mended]) -> Self {
        let mended = mended.iter().map(Mended::to_string).collect();
        Self { complete: report.is_complete(), report, hints: hints(report), mended }
    }
}

fn hints(report: &Report) -> BTreeSet<&'static str> {
    report.findings.iter().map(Finding::hint).collect()
}

/// The report as a table and a verdict, behind what was mended.
pub fn rendered(report: &Report, mended: &[Mended]) -> String {
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
    let mut text: String = mended.iter().map(|mended| format!("mended {mended}\n")).collect();
    text.push_str(&format!("{table}\n"));
    for finding in report.findings.iter().take(LISTED) {
        text.push_str(&format!("{finding}\n"));
    }
    if report.findings.len() > LISTED {
        text.push_str(&format!("… and {} more\n", report.findings.len() - LISTED));
    }
    for hint in hints(report) {
        text.push_str(&format!("→ {hint}\n"));
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
    let effort = report.effort;
    let before = match (effort.files_proved_before, effort.hours_proved_before) {
        (0, 0) => String::new(),
        (files, hours) => {
            let (all_files, all_hours) = (files + effort.files, hours + effort.hours);
            format!("proved before: {files} of {all_files} files, {hours} of {all_hours} hours of the tables\n")
        }
    };
    let word = match report.verdict() {
        Verdict::Complete => "complete",
        Verdict::Different => "NOT COMPLETE",
        Verdict::Nothing => "nothing to compare",
    };
    let missing = grouped(report.total(|hour| hour.missing));
    format!("{word}: {log} trades, {missing} missing, {dropped} duplicates dropped{pending}{unusable}\n{before}")
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
