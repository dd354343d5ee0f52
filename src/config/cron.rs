//! `cron` as it is typed: cron(5)'s five fields, or the six or seven of the `cron` crate.

use std::str::FromStr;

use chrono_tz::Tz;
use cron::Schedule;

use crate::model::Cron;

/// What an expression looks like.
pub(super) const EXAMPLE: &str =
    "minute, hour, day of month, month, day of week, such as \"*/5 8-18 * * Mon-Fri\"";

/// cron(5)'s words for whole expressions.
const WORDS: [(&str, &str); 5] = [
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
];

/// The fields of the crate, with what stands in each.
const FIELDS: [(&str, &str); 7] = [
    ("second", "0-59"),
    ("minute", "0-59"),
    ("hour", "0-23"),
    ("day of month", "1-31"),
    ("month", "1-12 or Jan-Dec"),
    ("day of week", "Sun-Sat, or 1-7 from Sunday on"),
    ("year", "1970-2100"),
];

const WEEKDAYS: [&str; 7] = [
    "sunday",
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
];

/// The times that `text` means on the walls of `zone`.
///
/// # Errors
/// What is wrong with it.
pub(super) fn parse(text: &str, zone: Tz) -> Result<Cron, String> {
    let word = WORDS.iter().find(|(word, _)| *word == text.trim());
    let text = word.map_or(text, |(_, fields)| fields);
    let fields: Vec<_> = text.split_whitespace().collect();
    let (any_of, minute, hour) = match fields[..] {
        [minute, hour, day, month, weekday] => {
            let expressions = five(minute, hour, day, month, weekday)?;
            (expressions, minute, hour)
        }
        [_, minute, hour, _, _, _] | [_, minute, hour, _, _, _, _] => {
            (vec![fields.join(" ")], minute, hour)
        }
        _ => return Err(format!("has {} fields, not five", fields.len())),
    };
    let any_of = any_of.iter().map(|expression| schedule(expression));
    let any_of = any_of.collect::<Result<_, _>>()?;
    // cron(5)'s own distinction: what says `*` for the minute or the hour is a rhythm, the rest are fixed times.
    let fixed = !minute.starts_with('*') && !hour.starts_with('*');
    Ok(Cron::new(any_of, fixed, zone))
}

/// cron(5)'s fields as the crate's: a second in front, weekdays by other numbers. When the day of month and the day of
/// week are both restricted, one of them is enough, which takes two expressions.
fn five(
    minute: &str,
    hour: &str,
    day: &str,
    month: &str,
    weekday: &str,
) -> Result<Vec<String>, String> {
    let is_restricted = |field: &str| !field.starts_with(['*', '?']);
    let weekdays = weekdays(weekday)?;
    if is_restricted(day) && is_restricted(weekday) {
        return Ok(vec![
            format!("0 {minute} {hour} {day} {month} *"),
            format!("0 {minute} {hour} * {month} {weekdays}"),
        ]);
    }
    Ok(vec![format!("0 {minute} {hour} {day} {month} {weekdays}")])
}

/// cron(5)'s day of week (0 and 7 are Sunday) as a list of the crate's numbers (1 is Sunday).
fn weekdays(field: &str) -> Result<String, String> {
    let mut days = [false; 7];
    for item in field.split(',') {
        let wrong = || {
            format!(
                "`{}` cannot stand for the day of week: Sun-Sat, or 0-7 where 0 and 7 are Sunday",
                item.escape_debug()
            )
        };
        let (range, step) = match item.split_once('/') {
            Some((range, step)) => (range, step.parse::<usize>().map_err(|_| wrong())?),
            None => (item, 1),
        };
        let (first, last) = match range.split_once('-') {
            Some((first, last)) => (weekday(first), weekday(last)),
            None if matches!(range, "*" | "?") => (Some(0), Some(6)),
            None => (weekday(range), weekday(range)),
        };
        let (Some(first), Some(last)) = (first, last) else {
            return Err(wrong());
        };
        // `Sat-Sun` ends with the Sunday after it.
        let last = if last == 0 && first > 0 { 7 } else { last };
        if first > last || !(1..=7).contains(&step) {
            return Err(wrong());
        }
        for day in (first..=last).step_by(step) {
            if let Some(day) = days.get_mut(day % 7) {
                *day = true;
            }
        }
    }
    let numbers = (1..).zip(days).filter(|(_, day)| *day);
    let numbers: Vec<_> = numbers.map(|(number, _)| number.to_string()).collect();
    Ok(numbers.join(","))
}

/// 0 for Sunday to 7 for Sunday, or by at least the first three letters of its name.
fn weekday(word: &str) -> Option<usize> {
    if let Ok(number) = word.parse::<usize>() {
        return (number <= 7).then_some(number);
    }
    let word = word.to_ascii_lowercase();
    let is_meant = |name: &&str| word.len() >= 3 && name.starts_with(&word);
    WEEKDAYS.iter().position(is_meant)
}

/// An expression of the crate's; the first field that it does not understand is complained about.
fn schedule(expression: &str) -> Result<Schedule, String> {
    let mut fields = expression.split_whitespace().zip(FIELDS).enumerate();
    let wrong = fields.find(|(index, (field, _))| {
        // With all seven fields there, a field cannot be taken for two.
        let mut alone = ["*"; 7];
        if let Some(place) = alone.get_mut(*index) {
            *place = field;
        }
        Schedule::from_str(&alone.join(" ")).is_err()
    });
    if let Some((_, (field, (name, range)))) = wrong {
        return Err(format!(
            "`{}` cannot stand for the {name}: {range}, also as `*`, `1,2`, `1-5`, `*/2`",
            field.escape_debug()
        ));
    }
    Schedule::from_str(expression).map_err(|_| "is no cron expression".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::SystemTime;

    /// The first `count` starts from a Wednesday on, to the minute.
    fn starts(text: &str, count: usize) -> Vec<String> {
        let cron = parse(text, Tz::UTC).unwrap_or_else(|why| panic!("{text}: {why}"));
        let from = humantime::parse_rfc3339("2026-06-30T23:59:59Z").unwrap();
        let next = |now: &SystemTime| cron.next_after(*now);
        std::iter::successors(next(&from), next)
            .take(count)
            .map(|at| humantime::format_rfc3339(at).to_string()[5..16].to_owned())
            .collect()
    }

    #[test]
    fn weekdays_have_the_numbers_of_cron_5() {
        // The 5th of July 2026 is a Sunday.
        for sunday in ["0", "7", "Sun", "sunday", "SUN"] {
            assert_eq!(
                starts(&format!("0 8 * * {sunday}"), 2),
                ["07-05T08:00", "07-12T08:00"]
            );
        }
        let days = |weekday: &str| -> Vec<_> {
            let starts = starts(&format!("0 8 * * {weekday}"), 7);
            starts
                .iter()
                .map(|at| at[3..5].parse::<u32>().unwrap())
                .collect()
        };
        assert_eq!(days("1"), [6, 13, 20, 27, 3, 10, 17]);
        assert_eq!(days("1-5"), [1, 2, 3, 6, 7, 8, 9]);
        assert_eq!(days("Mon-Fri"), days("1-5"));
        assert_eq!(days("5-7"), [3, 4, 5, 10, 11, 12, 17]);
        assert_eq!(days("Sat-Sun"), days("0,6"));
        assert_eq!(days("*/2"), days("0,2,4,6"));
        assert_eq!(days("1-5/2"), days("Mon,Wed,Fri"));
        assert_eq!(days("?"), [1, 2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn six_and_seven_fields_are_the_crates_own() {
        assert_eq!(starts("0 0 8 * * 1", 2), starts("0 8 * * Sun", 2));
        assert_eq!(starts("0 0 8 1 1 * 2030", 9), ["01-01T08:00"]);
        let every_second = parse("* * * * * *", Tz::UTC).unwrap();
        let now = SystemTime::UNIX_EPOCH;
        let next = every_second.next_after(now).unwrap();
        assert_eq!(next.duration_since(now).unwrap().as_secs(), 1);
    }

    #[test]
    fn one_of_two_restricted_days_is_enough_in_five_fields_only() {
        assert_eq!(
            starts("0 8 13 * Fri", 4),
            ["07-03T08:00", "07-10T08:00", "07-13T08:00", "07-17T08:00"]
        );
        assert_eq!(starts("0 8 */2 * Fri", 2), ["07-03T08:00", "07-17T08:00"]);
        assert_eq!(starts("0 0 8 13 * Fri", 1), ["11-13T08:00"]);
    }

    #[test]
    fn words_are_expressions() {
        assert_eq!(starts("@hourly", 2), ["07-01T00:00", "07-01T01:00"]);
        assert_eq!(starts(" @weekly", 2), ["07-05T00:00", "07-12T00:00"]);
        assert!(WORDS.iter().all(|(word, _)| parse(word, Tz::UTC).is_ok()));
    }

    #[test]
    fn says_which_field_is_wrong() {
        for (text, words) in [
            ("", "0 fields"),
            ("60s", "1 fields"),
            ("* * * *", "4 fields"),
            ("* * * * * * * *", "8 fields"),
            ("60 * * * *", "`60` cannot stand for the minute"),
            ("* 24 * * *", "`24` cannot stand for the hour"),
            ("* * 0 * *", "`0` cannot stand for the day of month"),
            ("* * * 13 *", "`13` cannot stand for the month"),
            ("* * L * *", "`L` cannot stand for the day of month"),
            ("*/90 * * * *", "`*/90` cannot stand for the minute"),
            ("*/0 * * * *", "`*/0` cannot stand for the minute"),
            ("18-8 * * * *", "`18-8` cannot stand for the minute"),
            ("** * * * *", "`**` cannot stand for the minute"),
            ("* * * * 8", "`8` cannot stand for the day of week"),
            ("* * * * Fri-Mon", "`Fri-Mon` cannot"),
            ("* * * * */0", "`*/0` cannot"),
            ("* * * * Mo", "`Mo` cannot"),
            ("* * * * ", "4 fields"),
            ("0 * * * * 0", "`0` cannot stand for the day of week"),
            ("0 * * * * * 1969", "`1969` cannot stand for the year"),
        ] {
            let why = parse(text, Tz::UTC).unwrap_err();
            assert!(why.contains(words), "{text}: {why}");
        }
    }

    proptest! {
        #[test]
        fn nothing_that_is_typed_makes_it_panic(text in "[-*/?,0-9@ A-Za-z]{0,30}", other in any::<String>()) {
            for text in [text, other] {
                if let Ok(cron) = parse(&text, Tz::UTC) {
                    cron.next_after(SystemTime::UNIX_EPOCH);
                }
            }
        }
    }
}
