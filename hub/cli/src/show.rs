//! Tables and pages for people.

mod boinc;
mod deposits;
mod hubs;

use std::io::IsTerminal as _;

use comfy_table::{Attribute, Cell, ContentArrangement, Table, presets};
use std::collections::BTreeMap;

use sosna_api::{
    device::{Device, DeviceDetail, DeviceSystem},
    job::{Job, JobDetail},
    ledger::Ledger,
    owner::Owner,
    task::{Assignment, Task},
    wallet::{PayoutList, PayoutProof, Wallet},
};
use sosna_host::clock::{Clock as _, SystemClock};

pub use boinc::{boinc_payment, boinc_payments};
pub use deposits::{deposit, deposits};
pub use hubs::{entries, owed, state};

use crate::quantity::{show_duration, show_size};

/// The image that a device runs.
fn image(system: &DeviceSystem) -> String {
    let DeviceSystem { board, slot, version, boot_image } = system;
    let warning = if boot_image.starts_with("differs") { "WARNING: " } else { "" };
    format!("{board} {version}, slot {slot}; {warning}boot image {boot_image}")
}

/// A terminal that is narrower than this wraps by itself: columns of a few letters cannot be read.
const LEAST_WIDTH: u16 = 40;

/// A table without lines, its columns aligned.
fn table(header: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    let live = std::io::stdout().is_terminal();
    table.load_style(presets::NOTHING);
    // Only a terminal has a width, and serial consoles say that theirs is 0; what is piped is never wrapped.
    let has_width = live && table.width().is_some_and(|width| width >= LEAST_WIDTH);
    table.set_content_arrangement(if has_width {
        ContentArrangement::Dynamic
    } else {
        ContentArrangement::Disabled
    });
    table.set_header(header.iter().map(|title| {
        let cell = Cell::new(title);
        if live { cell.add_attribute(Attribute::Bold) } else { cell }
    }));
    table.add_rows(rows.into_iter().map(|row| row.iter().map(|cell| plain(cell)).collect::<Vec<_>>()));
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let lines = table.lines().map(|line| line.trim_end().to_owned());
    lines.collect::<Vec<_>>().join("\n")
}

/// A text from strangers for a terminal: what would steer it is written out.
#[must_use]
pub fn plain(text: &str) -> String {
    // Marks that turn the direction of writing make one text look like another.
    let steers = |letter: char| {
        letter.is_control()
            || matches!(letter, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    let write =
        |letter: char| if steers(letter) { letter.escape_default().to_string() } else { letter.into() };
    text.chars().map(write).collect()
}

/// The same of several lines, which stay lines.
#[must_use]
pub fn plain_lines(text: &str) -> String {
    text.split('\n').map(plain).collect::<Vec<_>>().join("\n")
}

/// How long ago, in words.
fn ago(at_ms: u64) -> String {
    ago_by(at_ms, SystemClock::default().now_ms())
}

/// The same by another clock.
fn ago_by(at_ms: u64, now_ms: u64) -> String {
    match now_ms.checked_sub(at_ms) {
        None | Some(0..1000) => "now".to_owned(),
        Some(age) => {
            let text = show_duration(age);
            // The largest unit says enough.
            format!("{} ago", text.split(' ').next().unwrap_or(&text))
        }
    }
}

/// When, before or after now, in words.
fn when(at_ms: u64) -> String {
    when_by(at_ms, SystemClock::default().now_ms())
}

/// The same by another clock.
fn when_by(at_ms: u64, now_ms: u64) -> String {
    match at_ms.checked_sub(now_ms) {
        None | Some(0) => ago_by(at_ms, now_ms),
        Some(left) => {
            let text = show_duration(left);
            format!("in {}", text.split(' ').next().unwrap_or(&text))
        }
    }
}

/// The beginning of a name: enough to tell it from others, and to say to other commands.
fn short(name: &impl std::fmt::Display) -> String {
    name.to_string().chars().take(12).collect()
}

fn or_dash(text: Option<impl std::fmt::Display>) -> String {
    text.map_or_else(|| "-".to_owned(), |text| text.to_string())
}

/// `key  value` lines, the values aligned; without those that have none.
#[must_use]
pub fn facts(pairs: &[(&str, String)]) -> String {
    let shown: Vec<_> = pairs.iter().filter(|(_, value)| !value.is_empty()).collect();
    let width = shown.iter().map(|(key, _)| key.len()).max().unwrap_or_default();
    shown.iter().map(|(key, value)| format!("{key:width$}  {}", plain(value))).collect::<Vec<_>>().join("\n")
}

/// Jobs, one a line.
#[must_use]
pub fn jobs(jobs: &[Job]) -> String {
    if jobs.is_empty() {
        return "no jobs".to_owned();
    }
    let row = |job: &Job| {
        let done = job.counts.succeeded + job.counts.failed + job.counts.cancelled;
        vec![
            short(&job.id),
            job.name.clone().unwrap_or_else(|| "-".to_owned()),
            job.state.to_string(),
            format!("{done}/{}", job.counts.total),
            job.verification.to_string(),
            job.price.spent.to_string(),
            job.buyer.clone(),
            ago(job.created_ms),
            job.image.clone(),
        ]
    };
    let header = ["JOB", "NAME", "STATE", "DONE", "VERIFY", "SNM", "BUYER", "SUBMITTED", "IMAGE"];
    table(&header, jobs.iter().map(row).collect())
}

/// One job with tasks and assignments.
#[must_use]
pub fn job(detail: &JobDetail) -> String {
    let job = &detail.job;
    let counts = &job.counts;
    let states = [
        (counts.queued, "queued"),
        (counts.running, "running"),
        (counts.succeeded, "succeeded"),
        (counts.failed, "failed"),
        (counts.cancelled, "cancelled"),
    ];
    let states: Vec<String> = states
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, word)| format!("{count} {word}"))
        .collect();
    let max = job.price.max.map(|max| format!(", at most {max}")).unwrap_or_default();
    let needs = &detail.spec.resources;
    let took = job.finished_ms.map(|end| format!(" ({})", show_duration(end.saturating_sub(job.created_ms))));
    let head = facts(&[
        ("job", job.id.to_string()),
        ("name", job.name.clone().unwrap_or_default()),
        ("state", format!("{}{}", job.state, took.unwrap_or_default())),
        ("note", job.explanation.clone().unwrap_or_default()),
        ("image", job.image.clone()),
        ("command", detail.spec.command.join(" ")),
        ("verification", job.verification.to_string()),
        ("buyer", format!("{}, {}", job.buyer, ago(job.created_ms))),
        ("price", format!("{} SNM spent, {} reserved{max}", job.price.spent, job.price.reserved)),
        (
            "each task",
            format!(
                "{} cores, {} memory, {} disk, {}",
                cores(needs.cpu_millis),
                show_size(needs.memory),
                show_size(needs.disk),
                show_duration(detail.spec.timeout_ms)
            ),
        ),
        ("tasks", format!("{}: {}", counts.total, states.join(", "))),
    ]);
    let mut text = format!("{head}\n\n{}", tasks(&detail.tasks));
    for task in &detail.tasks {
        if let Some(reason) = &task.unplaced_reason {
            text.push_str(&format!("\n\ntask {} waits: {}", task.index, plain(&reason.explanation)));
            for excluded in &reason.excluded {
                text.push_str(&format!(
                    "\n  {:>5} of {} devices: {}",
                    excluded.devices, reason.devices, excluded.constraint
                ));
            }
        }
    }
    text
}

/// Tasks with the assignments of each below it.
fn tasks(tasks: &[Task]) -> String {
    let mut rows = Vec::new();
    for task in tasks {
        rows.push(vec![
            task.index.to_string(),
            task.state.to_string(),
            or_dash(task.exit_code),
            or_dash(task.cause),
            task.price.to_string(),
            task.result_root.map_or_else(|| "-".to_owned(), |root| short(&root)),
            task.explanation.clone().unwrap_or_default(),
        ]);
        for assignment in &task.assignments {
            rows.push(self::assignment(assignment));
        }
    }
    table(&["TASK", "STATE", "EXIT", "CAUSE", "SNM", "ROOT", ""], rows)
}

fn assignment(assignment: &Assignment) -> Vec<String> {
    let progress = match (assignment.phase, assignment.permille) {
        (Some(phase), Some(permille)) if permille > 0 => format!("{phase} {}%", permille / 10),
        (Some(phase), _) => phase.to_string(),
        (None, _) => assignment.state.to_string(),
    };
    let state = match assignment.verdict {
        Some(verdict) => verdict.to_string(),
        None if assignment.ended_ms.is_some() => assignment.state.to_string(),
        None => progress,
    };
    let shown = assignment.root.or(assignment.commitment).map_or_else(|| "-".to_owned(), |root| short(&root));
    let note = assignment.explanation.clone().or_else(|| assignment.refusal.map(|reason| reason.to_string()));
    vec![
        "└".to_owned(),
        state,
        or_dash(assignment.exit_code),
        or_dash(assignment.cause),
        or_dash(assignment.owed),
        shown,
        format!("{} {}", short(&assignment.device), note.unwrap_or_default()).trim_end().to_owned(),
    ]
}

fn cores(millis: u32) -> String {
    match millis % 1000 {
        0 => (millis / 1000).to_string(),
        part => format!("{}.{}", millis / 1000, format!("{part:03}").trim_end_matches('0')),
    }
}

fn standing(device: &Device) -> String {
    match (device.online, device.last_seen_ms) {
        (true, _) => "online".to_owned(),
        (false, Some(at)) => ago(at),
        (false, None) => "never".to_owned(),
    }
}

/// Devices, one a line.
#[must_use]
pub fn devices(devices: &[Device]) -> String {
    if devices.is_empty() {
        return "no devices; `sosna owner delegate` makes a token by which they join".to_owned();
    }
    let row = |device: &Device| {
        let amount = |of: fn(&sosna_api::device::ResourceAmounts) -> String| {
            let total = device.total.as_ref().map_or_else(|| "-".to_owned(), of);
            match &device.free {
                Some(free) => format!("{}/{total}", of(free)),
                None => total,
            }
        };
        vec![
            short(&device.address),
            device.hostname.clone(),
            device.state.to_string(),
            standing(device),
            device.class.to_string(),
            amount(|resources| cores(resources.cpu_millis)),
            amount(|resources| show_size(resources.memory)),
            device.assignments.to_string(),
            format!("{}/{}", device.reputation.valid, device.reputation.valid + device.reputation.invalid),
            device.earned.to_string(),
            short(&device.owner),
        ]
    };
    let header =
        ["DEVICE", "HOST", "STATE", "SEEN", "CLASS", "CORES", "MEMORY", "TASKS", "VALID", "EARNED", "OWNER"];
    table(&header, devices.iter().map(row).collect())
}

/// One device.
#[must_use]
pub fn device(detail: &DeviceDetail) -> String {
    let device = &detail.device;
    let resources = |amounts: &sosna_api::device::ResourceAmounts| {
        format!(
            "{} cores, {} memory, {} disk",
            cores(amounts.cpu_millis),
            show_size(amounts.memory),
            show_size(amounts.disk)
        )
    };
    let pairs = |labels: &BTreeMap<String, String>| {
        let pairs: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        pairs.join(" ")
    };
    let reputation = &device.reputation;
    let ask = device.ask.map(|ask| {
        format!(
            "{} a core second, {} a GiB second, at least {}",
            ask.core_second, ask.gib_second, ask.minimum
        )
    });
    let mut text = facts(&[
        ("device", device.address.to_string()),
        ("host", device.hostname.clone()),
        ("owner", device.owner.to_string()),
        ("state", format!("{}, {}", device.state, standing(device))),
        ("class", device.class.to_string()),
        ("agent", device.agent.clone()),
        ("image", device.system.as_ref().map(image).unwrap_or_default()),
        ("network", if device.metered { "metered: no large downloads" } else { "" }.to_owned()),
        ("enrolled", ago(device.enrolled_ms)),
        ("labels", pairs(&device.labels)),
        ("owner says", pairs(&device.owner_labels)),
        ("lends", device.total.as_ref().map(resources).unwrap_or_default()),
        ("free", device.free.as_ref().map(resources).unwrap_or_default()),
        ("asks", ask.unwrap_or_default()),
        (
            "results",
            format!(
                "{} right ({} in a row), {} wrong, {} lost; score {} of 1000",
                reputation.valid,
                reputation.consecutive_valid,
                reputation.invalid,
                reputation.lost,
                reputation.score
            ),
        ),
        (
            "earned",
            format!("{} SNM, {} in vouchers, {} confirmed", device.earned, device.vouchered, device.held),
        ),
        (
            "voucher",
            detail.voucher.as_ref().map_or_else(String::new, |voucher| {
                format!(
                    "{} SNM, signed {}; --json shows it whole",
                    voucher.cumulative,
                    ago(voucher.issued_ms)
                )
            }),
        ),
        (
            "trusts for",
            device.exposure_limit.map(|limit| format!("{limit} SNM without a voucher")).unwrap_or_default(),
        ),
        ("cannot limit", device.missing_limits.join("; ")),
    ]);
    if !detail.classes.is_empty() {
        let rows = detail.classes.iter().map(|one| {
            vec![
                one.class.clone(),
                one.reputation.valid.to_string(),
                one.reputation.invalid.to_string(),
                one.reputation.lost.to_string(),
                one.reputation.score.to_string(),
            ]
        });
        text.push_str("\n\n");
        text.push_str(&table(&["IMAGES", "RIGHT", "WRONG", "LOST", "SCORE"], rows.collect()));
    }
    if !detail.claims.is_empty() {
        let rows = detail.claims.iter().map(|one| {
            vec![
                short(&one.assignment),
                one.price.to_string(),
                if one.proven { "yes" } else { "no" }.to_owned(),
                if one.vouchered { "yes" } else { "no" }.to_owned(),
                ago(one.shown_ms),
                one.explanation.clone(),
            ]
        });
        text.push_str("\n\n");
        text.push_str(&table(&["CLAIM", "SNM", "PROVEN", "VOUCHER", "SHOWN", "WHY"], rows.collect()));
    }
    if !detail.current.is_empty() {
        let rows = detail.current.iter().map(|current| {
            vec![
                short(&current.job),
                current.index.to_string(),
                or_dash(current.phase),
                ago(current.offered_ms),
            ]
        });
        text.push_str("\n\n");
        text.push_str(&table(&["JOB", "TASK", "PHASE", "SINCE"], rows.collect()));
    }
    text
}

/// Owners, one a line.
#[must_use]
pub fn owners(owners: &[Owner]) -> String {
    if owners.is_empty() {
        return "no owners".to_owned();
    }
    let row = |owner: &Owner| {
        vec![
            owner.address.to_string(),
            if owner.admitted { "yes" } else { "no" }.to_owned(),
            owner.devices.to_string(),
            owner.earned.to_string(),
            ago(owner.since_ms),
        ]
    };
    table(&["OWNER", "ADMITTED", "DEVICES", "EARNED", "SINCE"], owners.iter().map(row).collect())
}

/// From when on a root can be claimed by.
fn claimable(at_ms: u64) -> String {
    if at_ms <= SystemClock::default().now_ms() { "now".to_owned() } else { when(at_ms) }
}

/// A wallet, and its roots.
#[must_use]
pub fn wallet(wallet: &Wallet) -> String {
    let mut rows = vec![("wallet", wallet.address.to_string()), ("chain", wallet.chain_id.to_string())];
    if let Some(state) = &wallet.state {
        let payday = state.payday_ms.map_or_else(|| "-".to_owned(), when);
        rows.extend([
            ("owner", state.owner.to_string()),
            ("phase", state.phase.to_string()),
            ("payday", payday),
            ("free", format!("{} SNM", state.free)),
            ("committed", format!("{} SNM, {} of it paid", state.committed, state.paid)),
            ("locked", format!("{} SNM, and {} frozen", state.locked, state.frozen)),
            ("for gas", format!("{} ether", state.ether)),
            ("as of", format!("block {}, {}", state.block, ago(state.seen_ms))),
        ]);
    }
    if let Some(trouble) = &wallet.trouble {
        rows.push(("TROUBLE", trouble.clone()));
    }
    let mut text = facts(&rows);
    if !wallet.roots.is_empty() {
        let roots = wallet.roots.iter().map(|root| {
            let state = root.transactions.first().map(|one| one.state.to_string());
            vec![
                short(&root.root),
                ago(root.made_ms),
                root.devices.to_string(),
                root.total.to_string(),
                root.active_ms.map_or_else(|| or_dash(state.as_ref()), claimable),
            ]
        });
        text.push_str("\n\n");
        text.push_str(&table(&["ROOT", "MADE", "DEVICES", "SNM", "CLAIMABLE"], roots.collect()));
    }
    text
}

/// Of a root that the hub may still have to post again.
const UNCERTAIN: &str = "when it is certain to be on the chain";

/// What everybody is owed by a root.
#[must_use]
pub fn payouts(list: &PayoutList) -> String {
    let rows =
        list.lines.iter().map(|line| vec![line.device.to_string(), line.cumulative.to_string()]).collect();
    format!(
        "{}\n\n{} devices, {} SNM in all; root 0x{}, claimed by from {}",
        table(&["DEVICE", "OWED IN ALL"], rows),
        list.lines.len(),
        list.total,
        list.root,
        list.active_ms.map_or_else(|| UNCERTAIN.to_owned(), claimable)
    )
}

/// What one device is owed by it.
#[must_use]
pub fn payout(proof: &PayoutProof) -> String {
    facts(&[
        ("device", proof.device.to_string()),
        ("owed in all", format!("{} SNM", proof.cumulative)),
        ("wallet", format!("{} on chain {}", proof.wallet, proof.chain_id)),
        ("root", format!("0x{}, over {} devices", proof.root, proof.count)),
        ("claimable", proof.active_ms.map_or_else(|| UNCERTAIN.to_owned(), claimable)),
        ("proof", format!("{} hashes, right (--json prints them)", proof.path.len())),
    ])
}

/// Accounts, and what happened on them.
#[must_use]
pub fn ledger(ledger: &Ledger) -> String {
    let accounts = ledger.accounts.iter().map(|account| {
        vec![
            account.buyer.clone(),
            account.available.to_string(),
            account.reserved.to_string(),
            account.spent.to_string(),
            account.granted.to_string(),
        ]
    });
    let mut text = table(&["BUYER", "AVAILABLE", "RESERVED", "SPENT", "GRANTED"], accounts.collect());
    if !ledger.entries.is_empty() {
        let entries = ledger.entries.iter().map(|entry| {
            vec![
                entry.id.to_string(),
                ago(entry.at_ms),
                entry.kind.to_string(),
                entry.amount.to_string(),
                or_dash(entry.buyer.as_ref()),
                entry.job.map_or_else(|| "-".to_owned(), |job| short(&job)),
                entry.device.map_or_else(|| "-".to_owned(), |device| short(&device)),
            ]
        });
        let header = ["ENTRY", "WHEN", "WHAT", "SNM", "BUYER", "JOB", "DEVICE"];
        text.push_str("\n\n");
        text.push_str(&table(&header, entries.collect()));
    }
    text
}
