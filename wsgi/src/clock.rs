//! The time of day as text, written once per second and thread.

use std::{
    cell::RefCell,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

#[derive(Default)]
struct Cached {
    second: u64,
    http: String,
    log: String,
}

thread_local! {
    static CACHED: RefCell<Cached> = RefCell::default();
}

/// Calls `f` with the time as `Date` headers have it (RFC 9110 section 5.6.7). `f` must not block.
pub(crate) fn with_http_date<R>(f: impl FnOnce(&str) -> R) -> R {
    with(|cached| f(&cached.http))
}

/// Calls `f` with the time as the access log has it: `2026-11-22 14:35:38`, in UTC. `f` must not
/// block.
pub(crate) fn with_log_date<R>(f: impl FnOnce(&str) -> R) -> R {
    with(|cached| f(&cached.log))
}

fn with<R>(f: impl FnOnce(&Cached) -> R) -> R {
    // A clock before 1970 counts as 1970.
    let second = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    CACHED.with_borrow_mut(|cached| {
        if cached.second != second || cached.http.is_empty() {
            cached.second = second;
            cached.http = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(second));
            cached.log = log_date(second);
        }
        f(cached)
    })
}

/// A time in seconds since 1970 as `YYYY-MM-DD hh:mm:ss`.
fn log_date(seconds: u64) -> String {
    let (days, time) = (seconds / 86_400, seconds % 86_400);
    // Days are counted from March 1st of a year 0, so that a leap day ends its year; an era is the
    // 400 years after which the calendar repeats.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_date_knows_leap_years() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00:00"),
            (951_782_399, "2000-02-28 23:59:59"),
            (951_782_400, "2000-02-29 00:00:00"),
            (951_868_800, "2000-03-01 00:00:00"),
            (1_709_164_800, "2024-02-29 00:00:00"),
            (1_795_358_138, "2026-11-22 14:35:38"),
            (4_107_542_400, "2100-03-01 00:00:00"),
        ] {
            assert_eq!(log_date(seconds), text);
        }
    }
}
