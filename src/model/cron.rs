//! `cron`: times of the wall clock in a time zone, and the next one of them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chrono::offset::{LocalResult, Offset};
use chrono::{DateTime, NaiveDateTime, TimeDelta, TimeZone, Timelike, Utc};
use chrono_tz::Tz;
use cron::Schedule;

/// The longest that a clock is put back at once: an hour nearly everywhere, two in Antarctica.
const LONGEST_PUT_BACK: TimeDelta = TimeDelta::hours(3);

/// The longest that a clock skips, in minutes: a whole day when a zone changes sides of the date line (Samoa, 2011).
const LONGEST_GAP: i64 = 25 * 60;

/// Starts by the wall clock. Pure: what `now` is comes in as an argument.
///
/// The `cron` crate is only asked for times on the wall (as if in UTC, where every time exists once); which instants
/// they are, when the clock is put forward or back, is decided here.
#[derive(Clone, Debug)]
pub struct Cron {
    /// A time on the wall is one of ours if it is in any of these.
    any_of: Vec<Schedule>,
    /// These are fixed times: each is met exactly once. Otherwise they are a rhythm that follows the clock.
    fixed: bool,
    zone: Tz,
}

impl Cron {
    /// The times of `any_of` on the walls of `zone`. With `fixed` each is met exactly once, also when the clock skips
    /// it (then right after) or shows it twice (then the first time).
    pub fn new(any_of: Vec<Schedule>, fixed: bool, zone: Tz) -> Self {
        Self {
            any_of,
            fixed,
            zone,
        }
    }

    /// The first start that is later than `now`, on a whole second; `None` when there is none any more.
    pub fn next_after(&self, now: SystemTime) -> Option<SystemTime> {
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = DateTime::from_timestamp(i64::try_from(since.as_secs()).ok()?, 0)?;
        let next = self.next_instant(now)?;
        let seconds = u64::try_from(next.timestamp()).ok()?;
        Some(UNIX_EPOCH + Duration::from_secs(seconds))
    }

    /// Whether one of its times lies in the minute of `now`.
    pub fn matches_minute(&self, now: SystemTime) -> bool {
        let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let minute = seconds - seconds % 60;
        // Starts are later than what is asked about.
        let before = UNIX_EPOCH + Duration::from_secs(minute.saturating_sub(1));
        let next = self.next_after(before);
        next.is_some_and(|next| next < UNIX_EPOCH + Duration::from_secs(minute + 60))
    }

    fn next_instant(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        // Where the clock is about to be put back, times that the wall shows already will come again.
        let mut wall = now.with_timezone(&self.zone).naive_local() - self.put_back_soon(now);
        let mut again: Option<DateTime<Utc>> = None;
        while let Some(next) = self.next_on_wall(wall) {
            wall = next;
            let Some((first, last)) = self.instants(wall) else {
                continue;
            };
            if first > now {
                return Some(again.map_or(first, |again| again.min(first)));
            }
            if last > now && again.is_none() {
                again = Some(last);
            }
        }
        again
    }

    fn next_on_wall(&self, wall: NaiveDateTime) -> Option<NaiveDateTime> {
        let next = |schedule: &Schedule| schedule.after(&wall.and_utc()).next();
        Some(self.any_of.iter().filter_map(next).min()?.naive_utc())
    }

    fn put_back_soon(&self, now: DateTime<Utc>) -> TimeDelta {
        let offset = |at: DateTime<Utc>| {
            let offset = self.zone.offset_from_utc_datetime(&at.naive_utc()).fix();
            TimeDelta::seconds(i64::from(offset.local_minus_utc()))
        };
        (offset(now) - offset(now + LONGEST_PUT_BACK)).max(TimeDelta::zero())
    }

    /// When the wall shows this time: the first time and the last, mostly the same.
    fn instants(&self, wall: NaiveDateTime) -> Option<(DateTime<Utc>, DateTime<Utc>)> {
        let (first, last) = match self.zone.from_local_datetime(&wall) {
            LocalResult::Single(only) => (only, only),
            LocalResult::Ambiguous(first, _) if self.fixed => (first, first),
            LocalResult::Ambiguous(first, last) => (first, last),
            LocalResult::None if self.fixed => {
                let after = self.end_of_gap(wall)?;
                (after, after)
            }
            LocalResult::None => return None,
        };
        Some((first.to_utc(), last.to_utc()))
    }

    /// The first instant after the gap that swallows this time; clocks are put forward on whole minutes.
    fn end_of_gap(&self, wall: NaiveDateTime) -> Option<DateTime<Tz>> {
        let wall = wall.with_second(0)?;
        (1..=LONGEST_GAP).find_map(|minutes| {
            self.zone
                .from_local_datetime(&(wall + TimeDelta::minutes(minutes)))
                .earliest()
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::str::FromStr;

    use chrono::Datelike;
    use proptest::prelude::*;

    use super::*;

    fn cron(expressions: &[&str], fixed: bool, zone: &str) -> Cron {
        let any_of = expressions.iter().map(|e| Schedule::from_str(e).unwrap());
        Cron::new(any_of.collect(), fixed, zone.parse().unwrap())
    }

    fn at(text: &str) -> SystemTime {
        humantime::parse_rfc3339(text).unwrap()
    }

    /// The starts after `from` up to `to`.
    fn starts(cron: &Cron, from: &str, to: &str) -> Vec<String> {
        let next = |now: &SystemTime| cron.next_after(*now).filter(|next| *next <= at(to));
        std::iter::successors(next(&at(from)), next)
            .map(|start| humantime::format_rfc3339(start).to_string())
            .collect()
    }

    #[test]
    fn a_start_is_later_than_now_and_in_the_zone() {
        let workdays = cron(&["0 */30 8-9 * * Mon-Fri"], false, "America/New_York");
        assert_eq!(
            // A Friday and the Monday after; New York is at -5.
            starts(&workdays, "2026-11-20T14:00:00.7Z", "2026-11-23T14:00:00Z"),
            [
                "2026-11-20T14:30:00Z",
                "2026-11-23T13:00:00Z",
                "2026-11-23T13:30:00Z",
                "2026-11-23T14:00:00Z"
            ]
        );
    }

    #[test]
    fn a_fixed_time_in_the_skipped_hour_is_met_right_after_it_and_once() {
        // In Berlin 02:00 to 03:00 is skipped on 2027-03-28, at 01:00 UTC.
        let fixed = cron(&["0 10,30 2 * * *"], true, "Europe/Berlin");
        assert_eq!(
            starts(&fixed, "2027-03-27T02:00:00Z", "2027-03-29T00:40:00Z"),
            [
                "2027-03-28T01:00:00Z",
                "2027-03-29T00:10:00Z",
                "2027-03-29T00:30:00Z"
            ]
        );
    }

    #[test]
    fn a_fixed_time_in_the_repeated_hour_is_met_the_first_time_only() {
        // In Berlin 02:00 to 03:00 comes twice on 2026-10-25, from 00:00 UTC on.
        let fixed = cron(&["0 30 2 * * *"], true, "Europe/Berlin");
        assert_eq!(
            starts(&fixed, "2026-10-24T00:00:00Z", "2026-10-26T02:00:00Z"),
            [
                "2026-10-24T00:30:00Z",
                "2026-10-25T00:30:00Z",
                "2026-10-26T01:30:00Z"
            ]
        );
    }

    #[test]
    fn a_rhythm_goes_on_in_the_repeated_hour_and_is_not_made_up_for_in_the_skipped_one() {
        let rhythm = cron(&["0 */20 * * * *"], false, "Europe/Berlin");
        for (from, to) in [
            ("2026-10-24T23:30:00Z", "2026-10-25T02:20:00Z"),
            ("2027-03-28T00:30:00Z", "2027-03-28T02:20:00Z"),
        ] {
            let starts = starts(&rhythm, from, to);
            let seconds: Vec<_> = starts.iter().map(|start| at(start)).collect();
            assert!(seconds.len() > 4);
            for pair in seconds.windows(2) {
                let gap = pair[1].duration_since(pair[0]).unwrap();
                assert_eq!(gap, Duration::from_secs(20 * 60), "{starts:?}");
            }
        }
        let hourly = cron(&["0 5 * * * *"], false, "Europe/Berlin");
        assert_eq!(
            starts(&hourly, "2027-03-28T00:00:00Z", "2027-03-28T01:30:00Z"),
            ["2027-03-28T00:05:00Z", "2027-03-28T01:05:00Z"]
        );
    }

    #[test]
    fn other_zones_have_other_gaps() {
        // Half an hour back on Lord Howe Island; a whole day skipped in Samoa.
        let rhythm = cron(&["0 */10 1 * * *"], false, "Australia/Lord_Howe");
        let count = starts(&rhythm, "2027-04-03T13:00:00Z", "2027-04-03T15:29:00Z").len();
        assert_eq!(count, 9, "six in the hour, three again");
        let fixed = cron(&["0 0 12 * * *"], true, "Pacific/Apia");
        assert_eq!(
            starts(&fixed, "2011-12-29T00:00:00Z", "2011-12-31T00:00:00Z"),
            [
                "2011-12-29T22:00:00Z",
                "2011-12-30T10:00:00Z",
                "2011-12-30T22:00:00Z"
            ]
        );
    }

    #[test]
    fn what_never_comes_again_has_no_next_start() {
        for never in ["0 0 0 30 2 *", "0 0 0 1 1 * 2020"] {
            let never = cron(&[never], true, "UTC");
            assert_eq!(never.next_after(at("2026-11-21T00:00:00Z")), None);
        }
    }

    fn set(values: std::ops::Range<u32>) -> impl Strategy<Value = BTreeSet<u32>> {
        proptest::collection::btree_set(values, 1..4)
    }

    fn list(values: &BTreeSet<u32>) -> String {
        let words: Vec<_> = values.iter().map(u32::to_string).collect();
        words.join(",")
    }

    proptest! {
        /// Against looking at every minute of the wall.
        #[test]
        fn the_next_start_of_a_rhythm_is_the_first_minute_that_matches(
            minutes in set(0..60), hours in set(0..24), days in set(1..32), weekdays in set(1..8), either: bool,
            // Around the switches of 2026 and 2027.
            day in prop_oneof![1_774_569_600i64..1_774_800_000, 1_792_800_000i64..1_793_000_000, 1_806_100_000i64..1_806_300_000],
        ) {
            let (m, h, d, w) = (list(&minutes), list(&hours), list(&days), list(&weekdays));
            let expressions = if either {
                vec![format!("0 {m} {h} {d} * *"), format!("0 {m} {h} * * {w}")]
            } else {
                vec![format!("0 {m} {h} {d} * {w}")]
            };
            let expressions: Vec<_> = expressions.iter().map(String::as_str).collect();
            let cron = cron(&expressions, false, "Europe/Berlin");
            let zone: Tz = "Europe/Berlin".parse().unwrap();
            let now = DateTime::from_timestamp(day, 0).unwrap();
            let matches = |at: &DateTime<Utc>| {
                let wall = at.with_timezone(&zone);
                let (day, weekday) = (days.contains(&wall.day()), weekdays.contains(&wall.weekday().number_from_sunday()));
                minutes.contains(&wall.minute()) && hours.contains(&wall.hour())
                    && if either { day || weekday } else { day && weekday }
            };
            let whole = DateTime::from_timestamp(day - day % 60, 0).unwrap();
            let found = (1..60 * 24 * 12).map(|n| whole + TimeDelta::minutes(n)).find(|at| *at > now && matches(at));
            let next = cron.next_instant(now);
            match found {
                Some(found) => prop_assert_eq!(next, Some(found)),
                None => prop_assert!(next.is_none_or(|next| next > now + TimeDelta::days(11))),
            }
        }

        #[test]
        fn fixed_times_come_once_a_day_in_every_zone(
            zone in 0..chrono_tz::TZ_VARIANTS.len(), hour in 0u32..24, minute in 0u32..60, year in 2020i32..2030,
        ) {
            let zone = chrono_tz::TZ_VARIANTS[zone];
            let schedule = Schedule::from_str(&format!("0 {minute} {hour} * * * {year}")).unwrap();
            let cron = Cron::new(vec![schedule], true, zone);
            let begin = at(&format!("{}-12-25T00:00:00Z", year - 1));
            let starts = std::iter::successors(cron.next_after(begin), |now| cron.next_after(*now));
            let leap = year % 4 == 0;
            prop_assert_eq!(starts.count(), if leap { 366 } else { 365 }, "{}", zone);
        }
    }
}
