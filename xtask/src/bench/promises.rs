//! What is promised of which figure: the rows of docs/specification.md that a bench can judge.

use super::{Figure, Measured};

/// A bound, of the value itself or of its ratio to the peer's.
#[derive(Debug, Clone, Copy)]
enum Bound {
    AtMost(f64),
    AtLeast(f64),
    RatioAtMost(f64),
    RatioAtLeast(f64),
}

#[derive(Debug)]
struct Promise {
    bench: &'static str,
    metric: &'static str,
    peer: Option<&'static str>,
    bound: Bound,
}

const fn promise(
    bench: &'static str,
    metric: &'static str,
    peer: Option<&'static str>,
    bound: Bound,
) -> Promise {
    Promise { bench, metric, peer, bound }
}

const PROMISES: &[Promise] = &[
    promise("agent", "binary x86_64", None, Bound::AtMost(8.0)),
    promise("agent", "binary aarch64", None, Bound::AtMost(6.5)),
    promise("agent", "binary arm", None, Bound::AtMost(6.5)),
    promise("agent", "idle PSS", None, Bound::AtMost(7.0)),
    promise("agent", "idle private dirty", None, Bound::AtMost(1.5)),
    promise("agent", "with a task PSS", None, Bound::AtMost(11.0)),
    promise("containers", "oci run p50", Some("crun"), Bound::RatioAtMost(0.7)),
    promise("containers", "oci run p50", Some("runc"), Bound::RatioAtMost(0.4)),
    promise("device", "x86_64-uefi: network up to enrolled", None, Bound::AtMost(1.0)),
    promise("device", "x86_64-uefi-cloud: network up to enrolled", None, Bound::AtMost(1.0)),
    promise("device", "x86_64-uefi: PID 1 to enrolled", None, Bound::AtMost(5.0)),
    promise("device", "x86_64-uefi-cloud: PID 1 to enrolled", None, Bound::AtMost(5.0)),
    promise("device", "arm64-uefi: network up to enrolled", None, Bound::AtMost(1.0)),
    promise("device", "rpi: network up to enrolled", None, Bound::AtMost(1.0)),
    promise("device", "x86_64-uefi: agent PSS", None, Bound::AtMost(7.0)),
    promise("payouts", "root, repeated", None, Bound::AtMost(33_000.0)),
    promise("payouts", "64 by one proof, each, first", None, Bound::AtMost(51_300.0)),
    promise("payouts", "64 by one proof, each, repeated", None, Bound::AtMost(17_100.0)),
    promise(
        "payouts",
        "one, signed and relayed, repeated",
        Some("whitepaper's way"),
        Bound::RatioAtMost(1.0),
    ),
    promise("placements", "single", None, Bound::AtLeast(50_000.0)),
    promise("placements", "replicated", None, Bound::AtLeast(50_000.0)),
    promise("placements", "regional", None, Bound::AtLeast(50_000.0)),
    promise("hub", "idle hub RSS", None, Bound::AtMost(32.0)),
    promise("hub", "18000 devices: RSS each", None, Bound::AtMost(48.0)),
    promise("hub", "handshakes, in the herd after a restart", None, Bound::AtLeast(500.0)),
    promise("hub", "durable, 1 on their way each", None, Bound::AtLeast(10_000.0)),
    promise("hub", "durable, 1 on their way each: p99", None, Bound::AtMost(50.0)),
    promise("hub", "durable, 4 on their way each", None, Bound::AtLeast(10_000.0)),
    promise("hub", "durable, 4 on their way each: p99", None, Bound::AtMost(50.0)),
    promise("hub", "durable, 16 on their way each", None, Bound::AtLeast(10_000.0)),
    promise("hub", "durable, 16 on their way each: p99", None, Bound::AtMost(50.0)),
    promise("hub", "assignments dispatched, no results coming", None, Bound::AtLeast(4_000.0)),
    promise("hub", "telemetry", Some("mosquitto"), Bound::RatioAtLeast(1.0)),
    promise("ingest", "telemetry", Some("mosquitto"), Bound::RatioAtLeast(1.0)),
];

/// Puts a measured figure beside its promise.
pub(super) fn judge(bench: &str, measured: Measured) -> Figure {
    let ratio = measured.peer_value.filter(|value| *value > 0.0).map(|value| measured.value / value);
    let found = PROMISES.iter().find(|one| {
        one.bench == bench && one.metric == measured.metric && one.peer == measured.peer.as_deref()
    });
    let (promise, holds) = match found.map(|one| one.bound) {
        None => (None, None),
        Some(Bound::AtMost(most)) => (Some(format!("at most {most}")), Some(measured.value <= most)),
        Some(Bound::AtLeast(least)) => (Some(format!("at least {least}")), Some(measured.value >= least)),
        Some(Bound::RatioAtMost(most)) => {
            (Some(format!("ratio at most {most}")), ratio.map(|ratio| ratio <= most))
        }
        Some(Bound::RatioAtLeast(least)) => {
            (Some(format!("ratio at least {least}")), ratio.map(|ratio| ratio >= least))
        }
    };
    Figure { bench: bench.to_owned(), measured, ratio, promise, holds }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn against(peer: &str, value: f64, peer_value: f64) -> Figure {
        let measured = Measured {
            peer: Some(peer.into()),
            peer_value: Some(peer_value),
            ..Measured::new("oci run p50", value, "ms")
        };
        judge("containers", measured)
    }

    #[test]
    fn a_ratio_is_judged_against_the_peer_that_the_promise_names() {
        assert_eq!(against("crun", 7.0, 10.0).holds, Some(true));
        assert_eq!(against("crun", 7.1, 10.0).holds, Some(false));
        assert_eq!(against("runc", 7.0, 10.0).holds, Some(false));
        assert_eq!(against("podman", 1.0, 10.0).holds, None, "nothing was promised about it");
        assert_eq!(against("crun", 1.0, 0.0).holds, None, "a peer that took no time measured nothing");
    }

    #[test]
    fn values_are_judged_in_both_directions() {
        assert_eq!(judge("agent", Measured::new("idle PSS", 7.0, "MB")).holds, Some(true));
        assert_eq!(judge("agent", Measured::new("idle PSS", 7.01, "MB")).holds, Some(false));
        assert_eq!(judge("placements", Measured::new("single", 49_999.0, "1/s")).holds, Some(false));
        assert_eq!(judge("agent", Measured::new("something", 1.0, "MB")).promise, None);
    }
}
