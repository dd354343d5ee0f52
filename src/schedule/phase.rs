//! Where in its interval a target is probed.

use std::time::Duration;

/// The offset of `name` in an interval of `every`: a stable function of the name, so that a fleet is spread
/// evenly over the interval and stays so across restarts, without anybody keeping count.
pub fn phase(name: &str, every: Duration) -> Duration {
    let share = u128::from(mix(fnv1a(name)));
    let nanos = (every.as_nanos() * share) >> 64;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or_default())
}

/// When `name` is due first, from now on, if the wall clock is at `unix` since the epoch: the phases are those of
/// the wall clock, so that a restart does not move them.
pub fn first_due(name: &str, every: Duration, unix: Duration) -> Duration {
    let into = unix.as_nanos() % every.as_nanos().max(1);
    let into = Duration::from_nanos(u64::try_from(into).unwrap_or_default());
    let phase = phase(name, every);
    phase
        .checked_sub(into)
        .unwrap_or_else(|| phase + every - into)
}

/// FNV-1a. Not the standard library's hasher: that one may change between releases.
fn fnv1a(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// FNV leaves the high bits of similar names ("server-1", "server-2") close together; this is the
/// finalizer of MurmurHash3, which spreads every bit over all.
fn mix(mut hash: u64) -> u64 {
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_name_keeps_its_phase_over_releases() {
        assert_eq!(phase("weather", MINUTE).as_millis(), 4_642);
        assert!(phase("weather", Duration::from_secs(1)) < Duration::from_secs(1));
    }

    #[test]
    fn a_restart_does_not_move_the_phases() {
        let start = Duration::from_secs(1_795_000_000);
        for later in [0, 1, 59, 61, 3_601].map(Duration::from_secs) {
            let due = start + later + first_due("weather", MINUTE, start + later);
            assert_eq!(
                (due - phase("weather", MINUTE)).as_nanos() % MINUTE.as_nanos(),
                0
            );
        }
    }

    #[test]
    fn a_thousand_similar_names_are_spread_evenly() {
        let mut starts = [0; 60];
        for n in 0..1_000 {
            let at = phase(&format!("server-{n}"), MINUTE);
            starts[usize::try_from(at.as_secs()).unwrap()] += 1;
        }
        // 16.7 a second on average; a random spread stays within five standard deviations.
        assert!(starts.iter().all(|n| (2..=38).contains(n)), "{starts:?}");
    }
}
