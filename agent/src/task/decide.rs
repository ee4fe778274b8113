//! Whether to accept an assignment. A pure function of what the device knows, so that every reason can be tested.

use std::time::Duration;

use sosna_protocol::{
    Amount, Hash,
    message::work::{Assign, Network, Reason},
    resources::{Ask, Resources},
};
use sosna_runtime::{ContainerId, ContainerSpec, Limits, UserSpec};

use crate::{store::Exposure, wallet::reader::Backing};

/// What the device knows at the moment of the decision.
#[derive(Debug, Clone)]
pub(crate) struct Situation {
    /// Its price list.
    pub(crate) ask: Ask,
    /// All that it lends.
    pub(crate) lent: Resources,
    /// What of it is taken.
    pub(crate) taken: Resources,
    /// Bytes of disk that the output of its tasks may still take.
    pub(crate) output: u64,
    /// What the hub owes and has not signed for.
    pub(crate) exposure: Exposure,
    /// How far the hub's wallet can pay what it has signed for, or why it gets no work at all.
    pub(crate) backing: Result<Backing, String>,
    /// What the device is willing to be owed.
    pub(crate) exposure_limit: Amount,
    /// The same while there is doubt about the hub.
    pub(crate) exposure_start: Amount,
    /// Free bytes on the disk.
    pub(crate) disk_free: u64,
    /// What must stay free.
    pub(crate) disk_reserve: u64,
    /// What one task may have fetched, where traffic costs money.
    pub(crate) allowance: Option<u64>,
    /// Whether the device takes no more work.
    pub(crate) is_draining: bool,
}

/// A refusal, with the reason for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The protocol's reason.
    pub(crate) reason: Reason,
    /// What a person should know.
    pub(crate) explanation: String,
}

/// Accepts, or says why not. That the hub signed it is settled before.
///
/// # Errors
/// The [`Refusal`].
pub(crate) fn decide(assign: &Assign<'_>, situation: &Situation) -> Result<(), Refusal> {
    let refuse = |reason, explanation: String| Err(Refusal { reason, explanation });
    if situation.is_draining {
        return refuse(
            Reason::Draining,
            "the device is being shut down; it takes no work until it is back".into(),
        );
    }
    if let Err(problem) = check_form(assign) {
        return refuse(Reason::Malformed, problem);
    }
    if assign.network != Network::None {
        let problem = "containers have no network on this device; ask for --network none".to_owned();
        return refuse(Reason::Unsupported, problem);
    }
    let asked = situation.ask.price(&assign.resources, assign.timeout_ms);
    if asked.is_none_or(|asked| assign.price < asked) {
        let asked = asked.map_or_else(|| "more than can exist".to_owned(), |asked| format!("{asked:?}"));
        let problem =
            format!("{:?} is offered and {asked} asked for these resources and this time", assign.price);
        return refuse(Reason::Price, problem);
    }
    let backing = match &situation.backing {
        Ok(backing) => backing,
        Err(problem) => return refuse(Reason::Wallet, problem.clone()),
    };
    check_exposure(assign.price, situation, backing)?;
    if !situation.lent.covers(&assign.resources) {
        let problem = format!("the device lends {} in all", describe(&situation.lent));
        return refuse(Reason::NoRoom, problem);
    }
    let free = situation.lent.minus(&situation.taken);
    if !free.covers(&assign.resources) {
        return refuse(Reason::NoRoom, format!("{} are free now", describe(&free)));
    }
    // Inputs lie on the disk beside what the task writes.
    let inputs = assign.inputs.iter().fold(0_u64, |sum, input| sum.saturating_add(input.length));
    if let Some(allowance) = situation.allowance.filter(|allowance| inputs > *allowance) {
        let problem = format!(
            "the device pays for its traffic: it fetches at most {allowance} bytes for a task, and the inputs have {inputs}"
        );
        return refuse(Reason::NoRoom, problem);
    }
    let output = assign.log_bytes.saturating_mul(2).saturating_add(situation.output);
    let needed =
        [inputs, output, situation.disk_reserve].into_iter().fold(assign.resources.disk, u64::saturating_add);
    if situation.disk_free < needed {
        let problem = format!("the disk is full: {} bytes are free, {needed} needed", situation.disk_free);
        return refuse(Reason::NoRoom, problem);
    }
    Ok(())
}

/// Whether the device is willing to be owed so much more.
fn check_exposure(price: Amount, situation: &Situation, backing: &Backing) -> Result<(), Refusal> {
    let exposure = &situation.exposure;
    let limit = match backing.doubt {
        None => situation.exposure_limit,
        Some(_) => situation.exposure_start,
    };
    let total = exposure.total().checked_add(backing.unbacked);
    if total.and_then(|total| total.checked_add(price)).is_some_and(|owed| owed <= limit) {
        return Ok(());
    }
    let mut explanation = format!("the hub owes {:?} without a voucher", exposure.total());
    if backing.unbacked > Amount::ZERO {
        explanation += &format!(", and its vouchers are good for {:?} less than they say", backing.unbacked);
    }
    explanation += &format!("; with this it would be more than the limit of {limit:?}");
    if let Some(doubt) = &backing.doubt {
        explanation += &format!(" ({doubt})");
    }
    Err(Refusal { reason: Reason::Exposure, explanation })
}

fn describe(resources: &Resources) -> String {
    format!(
        "{}.{:03} cores, {} MiB of memory, {} MiB of disk, {} files, {} processes",
        resources.cpu_millis / 1000,
        resources.cpu_millis % 1000,
        resources.memory >> 20,
        resources.disk >> 20,
        resources.inodes,
        resources.pids
    )
}

/// Whether a container could be made of it: the runtime's own rules, asked before anything is fetched.
fn check_form(assign: &Assign<'_>) -> Result<(), String> {
    if assign.image == Hash::ZERO {
        return Err("it names no image".into());
    }
    if assign.sources.is_empty() {
        return Err("it names no place to fetch the image from".into());
    }
    if assign.count == 0 || assign.index >= assign.count {
        return Err(format!("it is task {} of {}", assign.index, assign.count));
    }
    let id = ContainerId::new(assign.assignment.to_string()).map_err(|error| error.to_string())?;
    let spec = ContainerSpec {
        id,
        layers: vec!["/".into()],
        args: vec!["program".into()],
        env: texts(&assign.environment),
        cwd: if assign.working_dir.is_empty() { "/".into() } else { (*assign.working_dir).to_owned() },
        user: UserSpec::default(),
        limits: limits(assign),
        inputs: assign
            .inputs
            .iter()
            .map(|input| sosna_runtime::Input {
                source: "/".into(),
                destination: (*input.destination).to_owned(),
            })
            .collect(),
        outputs: texts(&assign.outputs),
        network: sosna_runtime::Network::None,
        read_only_root: true,
        hostname: String::new(),
    };
    if texts(&assign.entrypoint).iter().chain(&texts(&assign.command)).any(|text| text.contains('\0')) {
        return Err("a zero byte cannot be passed to a program".into());
    }
    spec.validate().map_err(|error| sosna_host::report::line(&error))
}

/// The texts of a list, owned.
pub(crate) fn texts(list: &sosna_protocol::message::work::Texts<'_>) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

/// The runtime's limits for an assignment.
pub(crate) fn limits(assign: &Assign<'_>) -> Limits {
    Limits {
        cpu_millis: assign.resources.cpu_millis,
        memory_bytes: assign.resources.memory,
        pids: assign.resources.pids,
        disk_bytes: assign.resources.disk,
        disk_inodes: assign.resources.inodes,
        wall: Duration::from_millis(assign.timeout_ms),
        log_bytes: assign.log_bytes,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use sosna_protocol::{
        Address,
        codec::{Bounded, List, Text},
        identity::{AssignmentId, JobId, TaskId},
        message::work::{Input, MAX_TEXT, Source, SourceKind},
    };

    use super::*;
    use crate::wallet::reader::Doubt;

    const SOURCES: &[Source<'static>] = &[Source { kind: SourceKind::Hub, name: Bounded("") }];

    pub(crate) fn sample() -> Assign<'static> {
        Assign {
            assignment: AssignmentId([7; 16]),
            task: TaskId([8; 16]),
            job: JobId([9; 16]),
            index: 0,
            count: 1,
            price: Amount::SNM,
            chain_id: 0,
            wallet: Address([1; 20]),
            image: Hash([2; 32]),
            sources: List::new(SOURCES),
            entrypoint: List::default(),
            command: List::default(),
            environment: List::default(),
            working_dir: Bounded(""),
            resources: Resources {
                cpu_millis: 1000,
                memory: 64 << 20,
                disk: 16 << 20,
                inodes: 1000,
                pids: 64,
            },
            timeout_ms: 60_000,
            log_bytes: 1 << 20,
            network: Network::None,
            inputs: List::default(),
            outputs: List::default(),
            stdout_counts: true,
            commits: false,
            lease_until_ms: 0,
        }
    }

    fn situation() -> Situation {
        Situation {
            ask: Ask {
                core_second: "0.001".parse().unwrap(),
                gib_second: Amount::ZERO,
                minimum: Amount::ZERO,
            },
            lent: Resources { cpu_millis: 2000, memory: 1 << 30, disk: 1 << 30, inodes: 10_000, pids: 1000 },
            taken: Resources::default(),
            output: 0,
            exposure: Exposure::default(),
            backing: Ok(Backing { unbacked: Amount::ZERO, doubt: None }),
            exposure_limit: "2".parse().unwrap(),
            exposure_start: "1.5".parse().unwrap(),
            disk_free: 1 << 30,
            disk_reserve: 1 << 20,
            allowance: None,
            is_draining: false,
        }
    }

    fn reason(assign: &Assign<'_>, situation: &Situation) -> Reason {
        let refusal = decide(assign, situation).unwrap_err();
        assert!(!refusal.explanation.is_empty());
        refusal.reason
    }

    #[test]
    fn a_fair_assignment_is_accepted() {
        assert_eq!(decide(&sample(), &situation()), Ok(()));
        // One core for a minute at 0.001 a second: exactly the price is enough.
        let exact = Assign { price: "0.06".parse().unwrap(), ..sample() };
        assert_eq!(decide(&exact, &situation()), Ok(()));
    }

    #[test]
    fn a_price_below_the_ask_is_refused() {
        let cheap = Assign { price: Amount::from_units(59_999_999_999_999_999), ..sample() };
        assert_eq!(reason(&cheap, &situation()), Reason::Price);
        let endless = Assign { timeout_ms: u64::MAX, ..sample() };
        assert_eq!(reason(&endless, &situation()), Reason::Price);
    }

    #[test]
    fn more_debt_than_the_limit_is_refused() {
        let open = Exposure { open: Amount::SNM, uncovered: Amount::from_units(1) };
        assert_eq!(reason(&sample(), &Situation { exposure: open, ..situation() }), Reason::Exposure);
        let room = Exposure { open: Amount::SNM, uncovered: Amount::ZERO };
        assert_eq!(decide(&sample(), &Situation { exposure: room, ..situation() }), Ok(()));
    }

    #[test]
    fn what_the_wallet_does_not_cover_is_debt_and_doubt_halves_nothing_but_the_limit() {
        let with = |unbacked: &str, doubt| Situation {
            backing: Ok(Backing { unbacked: unbacked.parse().unwrap(), doubt }),
            ..situation()
        };
        assert_eq!(decide(&sample(), &with("1", None)), Ok(()));
        let refusal = decide(&sample(), &with("1.000000000000000001", None)).unwrap_err();
        assert_eq!(refusal.reason, Reason::Exposure);
        assert!(refusal.explanation.contains("less than they say"), "{}", refusal.explanation);
        assert_eq!(decide(&sample(), &with("0.5", Some(Doubt::NoEndpoints))), Ok(()));
        let refusal = decide(&sample(), &with("0.6", Some(Doubt::NoEndpoints))).unwrap_err();
        assert!(refusal.explanation.contains("the settings `chain`"), "{}", refusal.explanation);
        let huge = Situation {
            exposure: Exposure { open: Amount::from_units(u128::MAX), uncovered: Amount::ZERO },
            ..with("1", None)
        };
        assert_eq!(reason(&sample(), &huge), Reason::Exposure);
    }

    #[test]
    fn a_wallet_that_nobody_answers_for_gets_no_work() {
        let refusal =
            decide(&sample(), &Situation { backing: Err("suspected".into()), ..situation() }).unwrap_err();
        assert_eq!((refusal.reason, refusal.explanation.as_str()), (Reason::Wallet, "suspected"));
    }

    #[test]
    fn a_lack_of_room_is_refused() {
        let taken = Resources { cpu_millis: 1001, ..Resources::default() };
        assert_eq!(reason(&sample(), &Situation { taken, ..situation() }), Reason::NoRoom);
        let huge = Assign { resources: Resources { memory: 2 << 30, ..sample().resources }, ..sample() };
        assert_eq!(reason(&huge, &situation()), Reason::NoRoom);
        let full = Situation { disk_free: 16 << 20, ..situation() };
        assert_eq!(reason(&sample(), &full), Reason::NoRoom);
        // Output lies beside what the task writes, and hubs say how much of it is kept.
        let endless = Assign { log_bytes: u64::MAX, ..sample() };
        assert_eq!(reason(&endless, &situation()), Reason::NoRoom);
        let long = Assign { log_bytes: 400 << 20, ..sample() };
        assert_eq!(decide(&long, &situation()), Ok(()));
        assert_eq!(reason(&long, &Situation { output: 400 << 20, ..situation() }), Reason::NoRoom);
    }

    #[test]
    fn where_traffic_costs_money_large_inputs_are_refused() {
        let inputs: &[Input<'_>] = &[Input { sha256: Hash::ZERO, length: 1001, destination: Bounded("/in") }];
        let assign = Assign { inputs: List::new(inputs), ..sample() };
        let with = |allowance| Situation { allowance, ..situation() };
        assert_eq!(reason(&assign, &with(Some(1000))), Reason::NoRoom);
        assert_eq!(decide(&assign, &with(Some(1001))), Ok(()));
        assert_eq!(decide(&assign, &with(None)), Ok(()));
    }

    #[test]
    fn a_network_is_unsupported_and_draining_is_said() {
        let networked = Assign { network: Network::Internet, ..sample() };
        assert_eq!(reason(&networked, &situation()), Reason::Unsupported);
        assert_eq!(reason(&sample(), &Situation { is_draining: true, ..situation() }), Reason::Draining);
    }

    #[test]
    fn what_no_container_can_be_made_of_is_malformed() {
        let outside: &[Text<'_, MAX_TEXT>] = &[Bounded("/a/../../etc")];
        let nameless: &[Text<'_, MAX_TEXT>] = &[Bounded("=x")];
        let device: &[Input<'_>] =
            &[Input { sha256: Hash::ZERO, length: 1, destination: Bounded("/dev/sda") }];
        let wrong = [
            Assign { index: 1, ..sample() },
            Assign { count: 0, ..sample() },
            Assign { image: Hash::ZERO, ..sample() },
            Assign { sources: List::default(), ..sample() },
            Assign { timeout_ms: 0, ..sample() },
            Assign { working_dir: Bounded("tmp"), ..sample() },
            Assign { outputs: List::new(outside), ..sample() },
            Assign { environment: List::new(nameless), ..sample() },
            Assign { inputs: List::new(device), ..sample() },
            Assign { resources: Resources { pids: 0, ..sample().resources }, ..sample() },
        ];
        for assign in wrong {
            assert_eq!(reason(&assign, &situation()), Reason::Malformed, "{assign:?}");
        }
    }
}
